"""What does ``plan show`` say? What will leave, what it costs, who takes part, what to do next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from schemas.errors import CohortiumError, ErrorCode
from schemas.privacy.budget import ledger_scope
from schemas.privacy.statement import privacy_statement, rounded_up
from site_node.egress.preview import NEVER_LEAVES, what_leaves
from site_node.governance.checks import PlanState
from site_node.ledger_view import show_witness_problem
from site_node.screen import Screen, amount

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from site_node.context import SiteContext
    from site_node.governance.approvals import Review
    from site_node.governance.inbox import ReceivedPlan
    from site_node.governance.ledger import Budget


FINISHED = "finished"


def plan_state_words(site: SiteContext, received: ReceivedPlan) -> str:
    """Give a plan's state as people read it; an approved plan whose ledger is closed is done."""
    state = site.approvals.state(received.digest, received.plan.expires)
    account = site.ledger.state().accounts.get(received.digest)
    if state is PlanState.APPROVED and account is not None and account.settled:
        return FINISHED
    return state.value


def show_plan(screen: Screen, site: SiteContext, review: Review) -> CohortiumError | None:
    """Answer "what will leave this hospital?" for one plan.

    Returns:
        What is wrong with the ledger whose budget was shown, by its witness; None if nothing is.
    """
    plan, digest = review.received.plan, review.received.digest
    state = plan_state_words(site, review.received)
    screen.title(plan.title)
    screen.facts(
        [
            ("Study", f"{plan.study_id}, {state} at this hospital"),
            ("Purpose", plan.purpose),
            ("Vendor", f"{plan.vendor}, key {plan.vendor_key[:16]}… {_vendor_note(site, plan)}"),
            ("Results go to", ", ".join(plan.recipients)),
            ("Written, expires", f"{plan.created}, {plan.expires}"),
            ("Model", _model_words(plan)),
            ("Data used", _data_words(site, plan)),
            (
                "Code from outside",
                "none runs here; the app bundle named by the plan, "
                f"{plan.app_bundle_sha256[:16]}…, is checked and never opened",
            ),
        ]
    )
    _show_leaving(screen, plan)
    scope = ledger_scope(site.ledger.state(), site.ledger.caps)
    _show_privacy(screen, plan)
    _show_budget(screen, review.budget, scope, is_reserved=review.state is PlanState.APPROVED)
    problem = show_witness_problem(screen, site)
    _show_hospitals(screen, site, review)
    _show_problems(screen, review)
    screen.title("Hash of this plan (a changed plan has another one)")
    screen.exact(f"  {digest}")
    screen.title("Next")
    if review.state is PlanState.PENDING and not review.problems:
        screen.exact(f"  cohortium-site plan approve {plan.study_id} --hash {digest}")
        screen.exact(f"  cohortium-site plan refuse {plan.study_id}")
    elif review.state is PlanState.PENDING:
        screen.line("  It cannot be approved as it stands; see above what to do.")
    elif state == FINISHED:
        screen.line("  Nothing; the study is finished here and its budget is closed.")
    elif review.state is PlanState.APPROVED:
        screen.exact(f"  cohortium-site stop {plan.study_id}   stops it at once, for good")
    else:
        screen.line("  Nothing; only a new plan from the vendor can be approved.")
    screen.put(
        study_id=plan.study_id,
        digest=digest,
        state=state,
        expires=plan.expires,
        vendor_key=plan.vendor_key,
        app_bundle_sha256=plan.app_bundle_sha256,
    )
    return problem


def _vendor_note(site: SiteContext, plan: StudyPlan) -> str:
    known = site.config.known_vendors
    if not known:
        return "(this hospital lists no vendors; compare the key with the vendor's own)"
    return "(listed here)" if plan.vendor_key in known else "(NOT LISTED here)"


def _model_words(plan: StudyPlan) -> str:
    training = plan.training
    how = (
        "every training patient in each step"
        if training.sampling == "full"
        else f"each training patient with chance {training.sampling_rate:g} in each step"
    )
    if training.is_local:
        how += f", {training.local_steps} of this hospital's own between two sums (dp-fedavg)"
    before = "" if plan.preparation is None else "one noised sum that prepares the inputs, then "
    origin = plan.model.initial_weights_origin
    start = (
        "" if origin is None else f"; starts from the vendor's own weights, trained on: {origin}"
    )
    return (
        f"{plan.model.architecture.value}, {plan.model.parameters:,} parameters, "
        f"{before}{training.steps} steps, {how}{start}"
    )


def _data_words(site: SiteContext, plan: StudyPlan) -> str:
    if plan.data.source == "dicom":
        what = f"DICOM images as {plan.data.image_rows} x {plan.data.image_columns} grey pixels"
    else:
        what = f"{len(plan.data.columns)} columns: " + ", ".join(c.name for c in plan.data.columns)
    try:
        report = json.loads((site.folders.reports / f"{plan.study_id}.json").read_bytes())
        read, stored = int(report["read"]), int(report["stored"])
    except OSError:
        return f"{what}. NOT INGESTED yet: `cohortium-site ingest {plan.study_id} --source DIR`"
    except (ValueError, KeyError, TypeError):
        return f"{what}. The report of its ingest is DAMAGED; ingest it again"
    return (
        f"{what}. Ingested here: {stored:,} of {read:,} records stored encrypted, pseudonymised "
        f"(not anonymous); {read - stored:,} in quarantine"
    )


def _show_leaving(screen: Screen, plan: StudyPlan) -> None:
    leaving = what_leaves(plan)
    training = plan.training
    screen.title("What will leave this hospital?")
    screen.facts([(line.kind, line.what) for line in leaving])
    screen.line()
    screen.table(
        ("kind", "at most", "bytes each, at most", "bytes in all, at most"),
        [(x.kind, f"{x.at_most:,}", f"{x.bytes_each:,}", f"{x.bytes_total:,}") for x in leaving],
    )
    total = sum(line.bytes_total for line in leaving)
    prepared = ""
    if plan.preparation is not None:
        words = plan.sum_terms(0).words
        prepared = (
            f" The preparation before them is 4 bytes for each of {words:,} sums, with at most "
            f"{plan.preparation.retry_cap} retries."
        )
    screen.line(
        f"  In all at most {amount(total)}. An update is 4 bytes for each of "
        f"{plan.model.parameters:,} parameters and a signed header; there are {training.steps} "
        f"steps and at most {training.retry_cap} retries.{prepared} The gate refuses anything "
        "larger, and "
        "every update or evaluation beyond the number above; the same statement, result or "
        "refusal may be asked for again. "
        "Besides this only signed approvals and stops, and the connection's own polls and "
        "heartbeats, which are counted (`cohortium-site status`)."
    )
    screen.title("What never leaves")
    for text in NEVER_LEAVES:
        screen.line(f"  - {text}")
    screen.put(
        leaves=[
            {
                "kind": line.kind,
                "what": line.what,
                "at_most": line.at_most,
                "bytes_each": line.bytes_each,
                "bytes_total": line.bytes_total,
            }
            for line in leaving
        ],
        leaves_bytes_total=total,
        never_leaves=list(NEVER_LEAVES),
    )


def _show_privacy(screen: Screen, plan: StudyPlan) -> None:
    statement = privacy_statement(plan)
    first, against, patient, covers, accountant, *rest = statement.lines()
    screen.title("What it costs the patients' privacy")
    screen.facts(
        [
            ("Cost", first),
            ("Holds", against),
            ("", patient),
            ("Covers", covers),
            ("Computed by", accountant),
            *(("", line) for line in rest[:-1]),
            ("Means", rest[-1]),
            ("Tuning", plan.tuning_declaration),
            ("A colluding site", "can read the summed test counts of all hospitals together"),
        ]
    )
    screen.put(privacy=statement.values())


def _show_budget(screen: Screen, budget: Budget, scope: str, *, is_reserved: bool) -> None:
    when, after, deltas = "with", "", f"{budget.delta_sum:g}"
    if not is_reserved:
        when, after, deltas = (
            "before",
            f", after it {rounded_up(budget.after)}",
            f"{budget.delta_after:g}",
        )
    screen.facts(
        [
            ("Budget here", f"{when} this plan epsilon {rounded_up(budget.committed)} of "
                            f"{budget.limit:g}{after} (by the filter over all studies); "
                            f"spent so far {rounded_up(budget.spent)}"),
            ("Deltas here", f"of all plans, this one included: {deltas} of {budget.delta_limit:g}"),
            ("Scope of that", scope),
        ]
    )  # fmt: skip
    screen.put(
        budget={
            "spent": budget.spent,
            "before": budget.committed,
            "after": budget.after,
            "limit": budget.limit,
            "delta": budget.delta,
            "delta_sum": budget.delta_sum,
            "delta_after": budget.delta_after,
            "delta_limit": budget.delta_limit,
            "scope": scope,
        }
    )


def _show_hospitals(screen: Screen, site: SiteContext, review: Review) -> None:
    plan = review.received.plan
    screen.title(
        f"Who takes part: {len(plan.sites)} hospitals, never fewer than {plan.cohort_minimum} in "
        "one sum"
    )
    rows = []
    for check in review.peers:
        state = "confirmed here" if check.problem is None else check.problem.meaning
        rows.append((check.site_id, check.name, check.fingerprint[:16] or "-", state))
    screen.table(("hospital", "name", "fingerprint begins", "keys"), rows)
    screen.line(f"  and this hospital, {site.config.site_id}.")
    screen.line(f"  {lost_words(plan)}")
    screen.put(
        aggregation={
            "mode": plan.aggregation.mode,
            "pair_root": plan.aggregation.pair_root,
            "dropouts_allowed": plan.dropouts_allowed(len(plan.sites)),
            "fewest_summed": plan.fewest_summed,
            "survivor_threshold": plan.survivor_threshold if plan.is_recoverable else None,
        },
        peers=[
            {
                "site_id": check.site_id,
                "name": check.name,
                "fingerprint": check.fingerprint,
                "confirmed": check.problem is None,
                "problem": None if check.problem is None else check.problem.value,
            }
            for check in review.peers
        ],
    )


def lost_words(plan: StudyPlan) -> str:
    """Say what happens when a hospital is lost in the middle of an attempt."""
    if not plan.is_recoverable:
        return (
            "If a hospital is lost in the middle of an attempt, there is no sum: the attempt stays "
            f"charged and another one follows, {plan.training.retry_cap} times at most."
        )
    everyone = len(plan.sites)
    lost = plan.dropouts_allowed(everyone)
    noise = "Each hospital's change carries the whole noise, whoever is lost."
    if not plan.training.is_local:
        more = (everyone - plan.collusion_bound) / plan.noise_sharers(everyone)
        noise = (
            "To make up for those that may be lost, each hospital adds "
            f"{more:.3g} times the noise variance."
        )
    return (
        f"Up to {lost} of the {everyone} hospitals may be lost during an attempt. Its sum "
        f"is then shown without them: of at least {plan.fewest_summed} hospitals, and only after "
        f"{plan.survivor_threshold} of them signed the same list of who is in it. {noise} Where "
        "more are lost, the attempt stays charged and another one follows, "
        f"{plan.training.retry_cap} times at most. The evaluation survives no loss."
    )


def _show_problems(screen: Screen, review: Review) -> None:
    decided = {
        ErrorCode.PLAN_ALREADY_APPROVED,
        ErrorCode.PLAN_STOPPED,
        ErrorCode.PLAN_REFUSED,
    }
    problems = [error for error in review.problems if error.code not in decided]
    if problems:
        screen.title("What speaks against approving it")
        for error in problems:
            screen.line(f"  - {error.sentence} {error.hint} [{error.code.value}]", style="red")
    screen.put(
        problems=[
            {"code": error.code.value, "sentence": error.sentence, "hint": error.hint}
            for error in problems
        ]
    )
