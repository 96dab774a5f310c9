"""What have all studies on these patients cost, and may one more be reserved?

Two numbers, never mixed up. *Spent* is what was really released: the PLD of every attempt opened,
for people to read. *Committed* is what decides: the filter's cost of everything that was opened and
everything that still may be, on the scale of the hospital's cap. Both are replayed from the ledger.

    a plan's mechanism     open: counts                        settled: counts
    full batch             all its attempts                    the attempts opened
    subsampled             all its attempts                    all its attempts; none if none opened

A subsampled plan that ends early keeps its whole cost, because its conversion holds for all its
attempts together: whoever may stop at will after a look at the first ones is not covered by a part.
A full batch is converted attempt by attempt.

Slack is for the first 100 subsampled mechanisms that were ever reserved, in the ledger's order; the
later ones count as full batches, all their attempts. One that was settled unopened keeps its place:
else how a mechanism counts would be decided after it has run, which no filter's theorem covers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from schemas.errors import BudgetExceeded, ErrorCode
from schemas.privacy.filter import PLANS_WITH_SLACK, Cost, PrivacyFilter
from schemas.privacy.ledger import LedgerState, PlanAccount, Reserve
from schemas.privacy.statement import rounded_up, scope_sentence


@dataclass(frozen=True, slots=True)
class Caps:
    """What one hospital allows all studies on its patients together.

    Attributes:
        epsilon: by the filter, at ``delta``.
        delta: of that epsilon.
        delta_total: sum of the deltas that the plans state each for itself.
    """

    epsilon: float
    delta: float
    delta_total: float


@dataclass(frozen=True, slots=True)
class Budget:
    """This hospital's privacy budget around one plan, over all studies on its patients.

    Attributes:
        spent: epsilon of every attempt opened so far, by the accountant of record.
        committed: the filter's epsilon if every approved plan uses all its attempts.
        after: the same with the plan in question added (equal if it is approved already).
        limit: the hospital's own cap on ``after``.
        delta: the delta of these four.
        delta_sum: the plans' own deltas added up.
        delta_after: the same with the plan in question added.
        delta_limit: the hospital's own cap on that.
        is_admitted: whether the filter and both caps allow it.
    """

    spent: float
    committed: float
    after: float
    limit: float
    delta: float
    delta_sum: float
    delta_after: float
    delta_limit: float
    is_admitted: bool


def budget_of(state: LedgerState, caps: Caps, also: Reserve | None = None) -> Budget:
    """Compute the budget of a ledger, and with one more plan reserved.

    Args:
        state: the replayed ledger.
        caps: what the hospital allows.
        also: a reservation that is being considered; None, or one that is there already, adds none.
    """
    rule = PrivacyFilter(caps.epsilon, caps.delta)
    then = _with(state, also)
    now_cost, then_cost = ledger_cost(state, rule), ledger_cost(then, rule)
    delta_after = delta_sum(then)
    return Budget(
        spent=state.charged_epsilon(delta=caps.delta),
        committed=rule.epsilon_of(now_cost),
        after=rule.epsilon_of(then_cost),
        limit=caps.epsilon,
        delta=caps.delta,
        delta_sum=delta_sum(state),
        delta_after=delta_after,
        delta_limit=caps.delta_total,
        is_admitted=rule.admits(then_cost) and _is_within(delta_after, caps),
    )


def check_reserve(state: LedgerState, caps: Caps, reserve: Reserve) -> None:
    """Refuse a reservation that the filter or the sum of deltas does not admit.

    Raises:
        BudgetExceeded: LEDGER_INSUFFICIENT or LEDGER_DELTA_SPENT.
    """
    then = _with(state, reserve)
    if not _is_within(delta_sum(then), caps):
        raise BudgetExceeded(
            ErrorCode.LEDGER_DELTA_SPENT,
            f"With this plan the deltas of all plans here would add up to {delta_sum(then):g}; "
            f"the hospital allows {caps.delta_total:g}.",
            hint="Stop a study of which no attempt was opened (its delta comes back), or ask the "
            "vendor for a smaller delta.",
        )
    rule = PrivacyFilter(caps.epsilon, caps.delta)
    cost = ledger_cost(then, rule)
    if rule.admits(cost):
        return
    reached = rule.epsilon_of(cost)
    scope = ledger_scope(then, caps)
    sentence = (
        "With this plan the patients of this hospital could have spent epsilon "
        f"{rounded_up(reached)} by the filter; the hospital allows {caps.epsilon:g} in total "
        f"({scope})."
    )
    raise BudgetExceeded(
        ErrorCode.LEDGER_INSUFFICIENT,
        sentence,
        hint="Stop a study that is not needed any more (attempts of a full batch that were never "
        "opened come back), or let the data steward raise floors.maximum_epsilon_total in "
        "site.toml, never beyond the product's own bound.",
    )


def ledger_scope(state: LedgerState, caps: Caps) -> str:
    """Say what the numbers of a ledger depend on; those for two hospitals may take a second."""
    held = state.hospitals_per_patient
    return scope_sentence(
        caps.delta,
        hospitals_per_patient=held,
        epsilon_two_hospitals=committed_epsilon(state, caps, hospitals=max(2, held)),
        spent_two_hospitals=state.charged_epsilon(delta=caps.delta, hospitals=max(2, held)),
        collusion_bound=state.collusion_bound,
        has_initial_weights=state.has_initial_weights,
    )


def committed_epsilon(state: LedgerState, caps: Caps, *, hospitals: int) -> float:
    """Give the filter's epsilon of what is committed, for a patient of so many hospitals."""
    rule = PrivacyFilter(caps.epsilon, caps.delta)
    return rule.epsilon_of(ledger_cost(state, rule, hospitals))


def ledger_cost(state: LedgerState, rule: PrivacyFilter, hospitals: int | None = None) -> Cost:
    """Give what the filter counts: everything opened and everything that still may be.

    Every plan is counted for a patient of as many hospitals as any plan here says, so that the
    one number holds for such a patient too.
    """
    held = state.hospitals_per_patient if hospitals is None else hospitals
    total, slacks = Cost(), PLANS_WITH_SLACK
    for account in state.accounts.values():  # as they were reserved
        total += account_cost(account, rule, held, slacks)
        slacks -= sum(event.sampling_rate < 1.0 for event in account.reserve.mechanisms)
    return total


def account_cost(account: PlanAccount, rule: PrivacyFilter, hospitals: int, slacks: int) -> Cost:
    """Give one plan's part of it, see the table above; ``slacks`` are left, or less than none."""
    total = Cost()
    for event in account.reserve.mechanisms:
        attempts = event.attempts
        if account.settled:
            opened = account.opened.get(event.name, 0)
            attempts = opened if event.sampling_rate == 1.0 else attempts * bool(opened)
        mechanism = event.mechanism(attempts)
        total += rule.cost(mechanism, hospitals_per_patient=hospitals, has_slack=slacks > 0)
        slacks -= event.sampling_rate < 1.0
    return total


def delta_sum(state: LedgerState) -> float:
    """Add up the deltas that plans state for themselves; settled unopened, a plan has none."""
    return math.fsum(
        account.reserve.delta
        for account in state.accounts.values()
        if account.charged or not account.settled
    )


def _is_within(delta: float, caps: Caps) -> bool:
    return delta <= caps.delta_total * (1 + 1e-9)  # ten times 1e-5 is 1e-4, in floats as well


def _with(state: LedgerState, reserve: Reserve | None) -> LedgerState:
    if reserve is None or reserve.plan_digest in state.accounts:
        return state
    return LedgerState({**state.accounts, reserve.plan_digest: PlanAccount(reserve)})
