"""What is committed, what is spent, and which plan is refused."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import BudgetExceeded, ErrorCode
from schemas.privacy import budget as rules
from schemas.privacy.budget import Budget, Caps, budget_of, check_reserve, committed_epsilon
from schemas.privacy.filter import Cost, PrivacyFilter
from schemas.privacy.ledger import (
    LedgerEntry,
    LedgerState,
    PlanAccount,
    Reserve,
    Settle,
    replay,
)
from tests.support.ledger_histories import (
    CAPS,
    KINDS,
    PLANS,
    SALT,
    broken_rule,
    charge,
    random_history,
    reserve,
)
from tests.support.mutants import without

FULL, POISSON, PREPARED_POISSON = 0, 2, 5
A, B = PLANS[:2]


def committed(*entries: LedgerEntry) -> float:
    return budget_of(replay(entries), CAPS).committed


def settle(plan: str = A) -> Settle:
    return Settle(plan_digest=plan, salt=SALT)


def train(plan: str, *rounds: int) -> list[LedgerEntry]:
    return [charge(plan, "training", round_, 0) for round_ in rounds]


def test_an_empty_ledger_has_everything_left() -> None:
    assert budget_of(LedgerState(), CAPS) == Budget(0, 0, 0, 3.0, 1e-5, 0, 0, 4e-5, True)


def test_a_reservation_commits_every_attempt_at_once() -> None:
    """PRIVACY-10: the plan is one event; charging it changes nothing any more."""
    whole = committed(reserve(A, FULL))
    assert whole > 0
    assert committed(reserve(A, FULL), *train(A, 0, 1, 2)) == whole


def test_a_settled_full_batch_counts_the_attempts_opened() -> None:
    """PRIVACY-10: its conversion holds attempt by attempt."""
    whole = committed(reserve(A, FULL))
    half = committed(reserve(A, FULL), *train(A, 0, 1), settle())
    quarter = committed(reserve(A, FULL), *train(A, 0), settle())
    assert 0 < quarter < half < whole
    assert committed(reserve(A, FULL), settle()) == 0


def test_a_settled_subsampled_plan_keeps_its_whole_cost_once_begun() -> None:
    """PRIVACY-10: its conversion holds for all attempts together, not for a part chosen later."""
    whole = committed(reserve(A, POISSON))
    assert committed(reserve(A, POISSON), *train(A, 0), settle()) == whole
    assert committed(reserve(A, POISSON), settle()) == 0


def test_a_preparation_alone_does_not_begin_the_training() -> None:
    entries = [reserve(A, PREPARED_POISSON), charge(A, "preparation", 0, 0)]
    ended = committed(*entries, settle())
    assert 0 < ended < committed(*entries) == committed(reserve(A, PREPARED_POISSON))


def test_two_plans_add_precisions() -> None:
    """PRIVACY-10: fewer than two epsilons, more than one."""
    one, both = committed(reserve(A, FULL)), committed(reserve(A, FULL), reserve(B, FULL))
    assert one * math.sqrt(2) < both < 2 * one


def test_the_widest_scope_counts_for_every_plan() -> None:
    """PRIVACY-10: the largest h among them, for those approved before as well."""
    before = committed(reserve(A, FULL))
    state = replay([reserve(A, FULL), reserve(B, 6, hospitals=2), settle(B)])
    after = budget_of(state, CAPS).committed
    assert after > 2 * before
    assert after == committed_epsilon(replay([reserve(A, FULL)]), CAPS, hospitals=2)


def test_beyond_a_hundred_a_subsampled_mechanism_counts_as_a_full_batch() -> None:
    """PRIVACY-10: in the ledger's order, and whatever became of those before, so never anew."""
    rule = PrivacyFilter(8.0, CAPS.delta)
    weak = KINDS[POISSON][0].model_copy(update={"noise_multiplier": 100.0})
    whole = rule.cost(weak.mechanism(), hospitals_per_patient=1, has_slack=False)
    converted = rule.cost(weak.mechanism(), hospitals_per_patient=1)
    assert whole.slack == 0 < converted.slack
    assert whole.precision > converted.precision
    plans = [f"{i:064x}" for i in range(103)]
    entries = [reserve(p, POISSON).model_copy(update={"mechanisms": (weak,)}) for p in plans]
    entries.insert(50, reserve(A, FULL))  # needs no slack and takes none
    state = replay(entries)
    each = [
        rules.ledger_cost(LedgerState({p: state.accounts[p] for p in list(state.accounts)[:n]}),
                          rule)
        for n in (101, 102, 104)
    ]  # fmt: skip
    assert each[0].slack == each[1].slack == each[2].slack == pytest.approx(rule.total_slack)
    assert each[1].precision - each[0].precision == pytest.approx(whole.precision)
    assert each[2].precision - each[1].precision == pytest.approx(2 * whole.precision)
    caps = Caps(8.0, CAPS.delta, 1.0)
    assert refused(entries[:101], entries[101], caps) is None
    assert refused(entries[:103], entries[103], caps) is None
    # One of the first, settled unopened, costs nothing more; the last counts as it did.
    after = rules.ledger_cost(replay([*entries, settle(plans[3])]), rule)
    assert after.slack == pytest.approx(each[2].slack - rule.slack)
    assert after.precision == pytest.approx(each[2].precision - converted.precision)


# --- refusals -------------------------------------------------------------------------------


def refused(entries: list[LedgerEntry], also: Reserve, caps: Caps = CAPS) -> ErrorCode | None:
    state = replay(entries)
    assert budget_of(state, caps, also).is_admitted == (_code(state, also, caps) is None)
    return _code(state, also, caps)


def _code(state: LedgerState, also: Reserve, caps: Caps) -> ErrorCode | None:
    try:
        check_reserve(state, caps, also)
    except BudgetExceeded as error:
        return error.code
    return None


def test_a_refusal_rounds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """PRIVACY-15: 8.0000241 is never 8.0000."""
    monkeypatch.setattr(PrivacyFilter, "epsilon_of", lambda self, cost: 8.0000241)
    monkeypatch.setattr(PrivacyFilter, "admits", lambda self, cost: False)
    with pytest.raises(BudgetExceeded) as refused_:
        check_reserve(LedgerState(), Caps(8.0, 1e-5, 1e-4), reserve(A, FULL))
    assert "could have spent epsilon 8.0001 by the filter" in refused_.value.sentence


def test_a_plan_the_filter_does_not_admit_is_refused() -> None:
    """PRIVACY-10: what is left decides, and settling makes room."""
    first = reserve(A, 1)
    tight = Caps(committed(first) * 1.1, 1e-5, 1e-4)
    assert refused([], first, tight) is None
    assert refused([first], reserve(B, 1), tight) is ErrorCode.LEDGER_INSUFFICIENT
    assert refused([first, settle()], reserve(B, 1), tight) is None
    begun = [first, *train(A, 0, 1, 2), settle()]
    assert refused(begun, reserve(B, 1), tight) is ErrorCode.LEDGER_INSUFFICIENT


def test_a_plan_whose_delta_is_too_much_is_refused() -> None:
    """PRIVACY-14: deltas are added up; those of plans never begun come back."""
    few = Caps(16.0, 1e-5, 2e-5)
    full = [reserve(A, FULL), reserve(B, FULL)]
    assert refused(full[:1], full[1], few) is None
    third = reserve(PLANS[2], FULL)
    assert refused(full, third, few) is ErrorCode.LEDGER_DELTA_SPENT
    assert refused([*full, settle()], third, few) is None
    assert refused([*full, *train(A, 0), settle()], third, few) is ErrorCode.LEDGER_DELTA_SPENT


def test_ten_deltas_of_1e_5_are_1e_4() -> None:
    caps = Caps(16.0, 1e-5, 1e-4)
    weak = [KINDS[FULL][0].model_copy(update={"noise_multiplier": 100.0})]
    plans = [
        reserve(f"{i:02x}" * 32, FULL).model_copy(update={"mechanisms": tuple(weak)})
        for i in range(10)
    ]
    assert refused(list(plans[:9]), plans[9], caps) is None


def test_no_plan_of_any_kind_is_admitted_above_the_cap() -> None:
    """PRIVACY-10: whatever the mechanism."""
    for kind in range(len(KINDS)):
        cost = budget_of(LedgerState(), CAPS, reserve(A, kind)).after
        below = Caps(cost * 0.99, 1e-5, 1e-4)
        assert refused([], reserve(A, kind), below) is ErrorCode.LEDGER_INSUFFICIENT


# --- any history ----------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)  # `scripts.fault_ledger` goes through 10,000
@given(st.integers(0, 2**32))
def test_in_any_history_nothing_spent_comes_back_and_no_limit_is_passed(seed: int) -> None:
    """PRIVACY-8: ten thousand of them in `scripts/fault_ledger.py`."""
    assert broken_rule(random_history(random.Random(seed)), every=10) == ""


def test_without_the_filter_a_history_passes_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, rules.check_reserve, ErrorCode.LEDGER_INSUFFICIENT)
    found = {broken_rule(random_history(random.Random(seed)), every=5) for seed in range(20)}
    assert any("the filter's limit is passed" in rule for rule in found)


def test_if_settling_returned_what_was_opened_a_history_would_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = rules.account_cost

    def forgetful(account: PlanAccount, rule: PrivacyFilter, hospitals: int, slacks: int) -> Cost:
        return Cost() if account.settled else honest(account, rule, hospitals, slacks)

    monkeypatch.setattr(rules, "account_cost", forgetful)
    found = {broken_rule(random_history(random.Random(seed)), every=5) for seed in range(20)}
    assert any("less is committed than was spent" in rule for rule in found)
