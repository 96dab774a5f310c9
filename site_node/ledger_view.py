"""What do people at the hospital, and auditors, read of the privacy ledger?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.errors import CohortiumError
from schemas.ids import format_time
from schemas.privacy.accounting import total_epsilon
from schemas.privacy.budget import Budget, ledger_scope
from schemas.privacy.export import (
    ExportedBalance,
    ExportedEntry,
    ExportedFloors,
    LedgerExport,
    SignedExport,
    VerifiedExport,
    sign_export,
)
from schemas.privacy.statement import rounded_up
from site_node.screen import Screen

if TYPE_CHECKING:
    from schemas.privacy.budget import Caps
    from schemas.privacy.ledger import LedgerState, PlanAccount
    from site_node.context import SiteContext


def show_ledger(screen: Screen, site: SiteContext) -> CohortiumError | None:
    """Show every plan's account, mechanism by mechanism, and the totals of this hospital.

    Returns:
        What is wrong with the ledger by its witness, which was shown too; None if nothing is.
    """
    state, point = site.ledger.state(), site.ledger.point()
    screen.title("Privacy ledger of this hospital")
    show_balance(screen, state, site.ledger.budget(), site.ledger.caps)
    screen.facts([("Head", f"{point.head} after {point.entries} entries")])
    screen.put(head=point.head, entries=point.entries)
    return show_witness_problem(screen, site)


def show_witness_problem(screen: Screen, site: SiteContext) -> CohortiumError | None:
    """Say, below a ledger's numbers, if its witness does not know it; give the problem."""
    problem: CohortiumError | None = None
    try:
        site.ledger.check_witness()
    except CohortiumError as error:
        problem = error
        screen.line(
            f"These numbers are not to be relied on. {error.sentence} {error.hint} "
            f"[{error.code.value}]",
            style="red",
        )
    screen.put(
        witness_problem=problem
        and {"code": problem.code.value, "sentence": problem.sentence, "hint": problem.hint}
    )
    return problem


def show_balance(screen: Screen, state: LedgerState, budget: Budget, caps: Caps) -> None:
    """Show what a replayed ledger says, each number with its scope."""
    if state.accounts:
        screen.table(
            ("study", "plan", "t", "mechanism", "reserved", "opened", "left", "eps opened",
             "eps reserved", ""),
            [row for digest, account in state.accounts.items() for row in _rows(digest, account)],
        )  # fmt: skip
        screen.line(
            "t: hospitals that may collude with the coordinator. reserved, opened, left: attempts. "
            "eps: epsilon of a mechanism alone, at its plan's own delta and hospitals."
        )
    else:
        screen.line("Nothing was spent here yet.")
    weighted = [digest[:16] for digest, account in state.accounts.items()
                if account.reserve.has_initial_weights]  # fmt: skip
    if weighted:
        screen.line(
            "Started from initial weights of a file, whose patients lie outside epsilon: plan "
            f"{', '.join(weighted)}."
        )
    scope = ledger_scope(state, caps)
    screen.facts(
        [
            ("Spent", f"epsilon {budget.spent:.4f}, every attempt ever opened (composed by PLD)"),
            ("Committed", f"epsilon {rounded_up(budget.committed)} if every approved plan runs to "
                          "its end (by the filter that decides about the next plan)"),
            ("Limit", f"epsilon {budget.limit:g}, set by this hospital"),
            ("Deltas", f"{budget.delta_sum:g} of at most {budget.delta_limit:g}, the plans' own "
                       "added up"),
            ("Scope", scope),
        ]
    )  # fmt: skip
    screen.put(
        accounts=[_values(digest, account) for digest, account in state.accounts.items()],
        spent=budget.spent,
        committed=budget.committed,
        limit=budget.limit,
        delta=budget.delta,
        delta_sum=budget.delta_sum,
        delta_limit=budget.delta_limit,
        unit="patient",
        adjacency="add-remove",
        hospitals_per_patient=state.hospitals_per_patient,
        t=state.collusion_bound,
        has_initial_weights=state.has_initial_weights,
        scope=scope,
    )


def make_export(site: SiteContext) -> SignedExport:
    """Write down the whole ledger for auditors, signed by this site."""
    from site_node.enrol import own_card

    with site.db.snapshot():
        rows, head, state = site.ledger.rows(), site.ledger.head(), site.ledger.state()
        signatures = site.ledger.signatures()
    caps, floors, budget = site.ledger.caps, site.config.floors, site.ledger.budget_of(state)
    return sign_export(
        site.keys.identity,
        LedgerExport(
            site_id=site.config.site_id,
            exported_at=format_time(site.clock()),
            card=own_card(site),
            floors=ExportedFloors(
                maximum_epsilon_per_study=floors.maximum_epsilon_per_study,
                maximum_epsilon_total=floors.maximum_epsilon_total,
                maximum_delta=floors.maximum_delta,
                maximum_delta_total=floors.maximum_delta_total,
            ),
            entries=tuple(
                ExportedEntry(
                    body=row.entry.canonical().decode("utf-8"),
                    head=row.head,
                    written_at=row.written_at,
                    signature=signature,
                )
                for row, signature in zip(rows, signatures, strict=True)
            ),
            head=head,
            balance=ExportedBalance(
                scope=ledger_scope(state, caps),
                spent=budget.spent,
                committed=budget.committed,
                delta_sum=budget.delta_sum,
            ),
        ),
    )


def show_verified(screen: Screen, verified: VerifiedExport) -> None:
    """Show an export that holds, with the fingerprint people must compare."""
    from schemas.identity import fingerprint, fingerprint_words

    export, mark = verified.export, fingerprint(verified.card)
    screen.title(f"Exported ledger of {verified.card.name} ({export.site_id})")
    screen.line(
        f"It is whole: {len(export.entries)} entries; chain, signatures, rules and balance hold."
    )
    screen.facts(
        [
            ("Exported", export.exported_at),
            ("Head", export.head),
            ("Fingerprint", mark),
            ("In words", fingerprint_words(mark)),
        ]
    )
    show_balance(screen, verified.state, verified.budget, export.floors.caps)
    screen.line(
        "Compare the fingerprint with the hospital by telephone. That the ledger did not go on "
        "since, and that it is the newest, this file cannot show."
    )
    screen.put(
        intact=True,
        entries=len(export.entries),
        head=export.head,
        site_id=export.site_id,
        exported_at=export.exported_at,
        fingerprint=mark,
    )


def _rows(digest: str, account: PlanAccount) -> list[tuple[str, ...]]:
    reserve, delta = account.reserve, account.reserve.delta
    rows: list[tuple[str, ...]] = []
    for event in reserve.mechanisms:
        opened = account.opened.get(event.name, 0)
        epsilons = [
            total_epsilon(
                [event.mechanism(attempts)],
                delta=delta,
                hospitals_per_patient=reserve.hospitals_per_patient,
            )
            for attempts in (opened, event.attempts)
        ]
        rows.append(
            (
                reserve.study_id,
                digest[:16],
                "any" if event.is_local else str(reserve.collusion_bound),
                event.name,
                str(event.attempts),
                str(opened),
                str(account.remaining_of(event.name)),
                *(f"{epsilon:.4f}" for epsilon in epsilons),
                "settled" if account.settled else "open",
            )
        )
    if evaluations := account.opened.get("evaluation", 0):
        rows.append(
            (reserve.study_id, digest[:16], "-", "evaluation", "-", str(evaluations), "-",
             "outside", "outside", "no noise")
        )  # fmt: skip
    return rows


def _values(digest: str, account: PlanAccount) -> dict[str, Any]:
    reserve = account.reserve
    return {
        "study_id": reserve.study_id,
        "digest": digest,
        "reserved": reserve.attempts,
        "charged": account.charged,
        "remaining": account.remaining,
        "epsilon_charged": account.epsilon_charged(),
        "epsilon_reserved": account.epsilon_reserved(),
        "delta": reserve.delta,
        "hospitals_per_patient": reserve.hospitals_per_patient,
        "t": reserve.collusion_bound,
        "has_initial_weights": reserve.has_initial_weights,
        "settled": account.settled,
        "mechanisms": [
            {
                **event.model_dump(mode="json"),
                "opened": account.opened.get(event.name, 0),
                "remaining": account.remaining_of(event.name),
            }
            for event in reserve.mechanisms
        ],
        "evaluations": account.opened.get("evaluation", 0),
    }
