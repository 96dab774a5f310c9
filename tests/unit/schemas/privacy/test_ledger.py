"""The balance follows from the entries, and never grows by itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import BudgetExceeded, CohortiumError, ErrorCode, ProtocolError
from schemas.privacy.events import MechanismEvent, MechanismName
from schemas.privacy.ledger import (
    GENESIS,
    Charge,
    LedgerEntry,
    LedgerState,
    Reserve,
    Settle,
    append,
    head_of,
    parse_entry,
    replay,
    step,
)

PLAN, OTHER_PLAN = "0a" * 32, "0b" * 32
ROSTER, OTHER_ROSTER = "1a" * 32, "1b" * 32
SALT = "5a" * 16


def reserve(plan: str = PLAN, attempts: int = 3, **changes: object) -> Reserve:
    values = {
        "plan_digest": plan,
        "study_id": "heart",
        "mechanisms": (training(attempts),),
        "delta": 1e-5,
        "collusion_bound": 1,
        "has_initial_weights": False,
        "salt": SALT,
    }
    return Reserve.model_validate(values | changes)


def test_a_reservation_names_t_unless_every_mechanism_is_local() -> None:
    """PRIVACY-15: the weakest t of all plans is that of the ledger."""
    local = training(3).model_copy(update={"is_local": True})
    alone = reserve(OTHER_PLAN, mechanisms=(local,), collusion_bound=None)
    assert replay([alone]).collusion_bound is None
    assert replay([alone, reserve(collusion_bound=2)]).collusion_bound == 2
    assert replay([reserve(OTHER_PLAN, collusion_bound=3), reserve()]).collusion_bound == 1
    for changes in ({"collusion_bound": None}, {"mechanisms": (local,)}):
        with pytest.raises(ValueError, match="collusion_bound"):
            reserve(**changes)


def training(attempts: int, *, sigma: float = 13.0, rate: float = 1.0) -> MechanismEvent:
    return event("training", attempts, sigma, rate)


def preparation(attempts: int) -> MechanismEvent:
    return event("preparation", attempts, 20.0, 1.0)


def event(name: MechanismName, attempts: int, sigma: float, rate: float) -> MechanismEvent:
    return MechanismEvent(
        name=name,
        noise_multiplier=sigma,
        sampling_rate=rate,
        is_local=False,
        releases_per_attempt=1,
        attempts=attempts,
    )


def charge(
    round_: int,
    attempt: int = 0,
    plan: str = PLAN,
    kind: str = "train",
    roster: str = ROSTER,
    mechanism: str = "",
) -> Charge:
    return Charge.model_validate(
        {
            "plan_digest": plan,
            "kind": kind,
            "mechanism": mechanism or {"train": "training", "evaluate": "evaluation"}[kind],
            "round": round_,
            "attempt": attempt,
            "roster_hash": roster,
            "salt": SALT,
        }
    )


def settle(plan: str = PLAN) -> Settle:
    return Settle(plan_digest=plan, salt=SALT)


def refusal(entries: Sequence[LedgerEntry]) -> ErrorCode:
    replay(entries[:-1])  # everything before is in order
    with pytest.raises(CohortiumError) as refused:
        replay(entries)
    return refused.value.code


# --- the rules ------------------------------------------------------------------------------


def test_the_empty_ledger_owes_nothing() -> None:
    assert replay([]) == LedgerState()
    assert replay([]).charged_epsilon(delta=1e-5) == 0.0


def test_every_opened_attempt_counts() -> None:
    state = replay([reserve(attempts=5), charge(0), charge(0, 1), charge(1)])
    account = state.accounts[PLAN]
    assert (account.charged, account.remaining) == (3, 2)


REFUSED = {
    "charge without reserve": ([charge(0)], ErrorCode.LEDGER_NOT_RESERVED),
    "settle without reserve": ([settle()], ErrorCode.LEDGER_NOT_RESERVED),
    "second reserve": ([reserve(), reserve()], ErrorCode.LEDGER_DUPLICATE_RESERVE),
    "second reserve after settling": (
        [reserve(), settle(), reserve()],
        ErrorCode.LEDGER_DUPLICATE_RESERVE,
    ),
    "charge of another plan": (
        [reserve(), charge(0, plan=OTHER_PLAN)],
        ErrorCode.LEDGER_NOT_RESERVED,
    ),
    "beyond the reserve": (
        [reserve(attempts=2), charge(0), charge(1), charge(2)],
        ErrorCode.LEDGER_RESERVE_SPENT,
    ),
    "same attempt twice": ([reserve(), charge(1), charge(1)], ErrorCode.LEDGER_DUPLICATE_CHARGE),
    "earlier round": ([reserve(), charge(1), charge(0, 5)], ErrorCode.LEDGER_OUT_OF_ORDER),
    "earlier attempt": ([reserve(), charge(1, 2), charge(1, 1)], ErrorCode.LEDGER_OUT_OF_ORDER),
    "charge after settling": ([reserve(), settle(), charge(0)], ErrorCode.LEDGER_SETTLED),
    "settled twice": ([reserve(), settle(), settle()], ErrorCode.LEDGER_SETTLED),
    "evaluation by another roster": (
        [reserve(), charge(0, kind="evaluate"), charge(0, 1, kind="evaluate", roster=OTHER_ROSTER)],
        ErrorCode.EVALUATION_ROSTER_CHANGED,
    ),
    "same evaluation twice": (
        [reserve(), charge(0, kind="evaluate"), charge(0, kind="evaluate")],
        ErrorCode.LEDGER_DUPLICATE_CHARGE,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_entries_that_contradict_the_ledger_are_refused(name: str) -> None:
    """PRIVACY-8: no charge without reserve, beyond it, backwards or after settle."""
    entries, code = REFUSED[name]
    assert refusal(entries) is code


def test_an_overdrawn_budget_has_its_own_class() -> None:
    state = replay([reserve(attempts=1), charge(0)])
    with pytest.raises(BudgetExceeded):
        step(state, charge(1))


def test_an_evaluation_costs_no_attempt_and_may_be_retried_by_the_same_sites() -> None:
    """PRIVACY-8: recorded, free, one roster."""
    entries = [reserve(attempts=1), charge(0)]
    entries += [charge(0, attempt, kind="evaluate") for attempt in range(3)]
    assert replay(entries).accounts[PLAN].charged == 1


def test_kinds_are_counted_apart() -> None:
    state = replay([reserve(), charge(2), charge(0, kind="evaluate"), charge(3)])
    (account,) = state.accounts.values()
    assert account.charged == 2


def test_settling_frees_only_attempts_never_opened() -> None:
    """PRIVACY-8: what was charged stays charged."""
    before = replay([reserve(attempts=5), charge(0), charge(0, 1)])
    after = step(before, settle())
    assert after.accounts[PLAN].remaining == 0
    assert after.charged_epsilon(delta=1e-5) == before.charged_epsilon(delta=1e-5)


def test_a_refused_entry_leaves_the_state_as_it_was() -> None:
    state = replay([reserve(), charge(0)])
    with pytest.raises(ProtocolError):
        step(state, charge(0))
    assert state == replay([reserve(), charge(0)])
    with pytest.raises(TypeError):
        state.accounts[PLAN] = None  # type: ignore[index]


# --- epsilon --------------------------------------------------------------------------------


def test_epsilon_of_a_plan_uses_its_own_scope() -> None:
    one = replay([reserve(attempts=12)]).accounts[PLAN]
    two = replay([reserve(attempts=12, hospitals_per_patient=2)]).accounts[PLAN]
    assert one.epsilon_charged() == 0.0
    assert 0.9 < one.epsilon_reserved() < 1.0
    assert two.epsilon_reserved() > 2 * one.epsilon_reserved()


def test_two_studies_on_the_same_patients_compose() -> None:
    """PRIVACY-8: what is spent is one number over all plans on the same patients."""
    first = [reserve(attempts=12), *(charge(i) for i in range(12))]
    poisson = reserve(OTHER_PLAN, mechanisms=(training(12, rate=0.5),))
    second = [poisson, *(charge(i, plan=OTHER_PLAN) for i in range(12))]
    alone = replay(first).charged_epsilon(delta=1e-5)
    both = replay([*first, *second]).charged_epsilon(delta=1e-5)
    assert alone < both < alone + replay(second).charged_epsilon(delta=1e-5)
    assert replay([*second, *first]).charged_epsilon(delta=1e-5) == both


def test_the_widest_scope_holds_for_all() -> None:
    """PRIVACY-10: the largest h among them."""
    narrow = [reserve(attempts=12), *(charge(i) for i in range(12))]
    alone = replay(narrow).charged_epsilon(delta=1e-5)
    wide = reserve(OTHER_PLAN, attempts=1, hospitals_per_patient=2)
    assert replay([*narrow, wide]).charged_epsilon(delta=1e-5) > 2 * alone


# --- mechanisms ------------------------------------------------------------------------------


def prepared(*entries: LedgerEntry) -> list[LedgerEntry]:
    """A plan of two preparations and three training attempts, and what follows."""
    return [reserve(mechanisms=(preparation(2), training(3))), *entries]


def test_a_retry_of_the_preparation_never_eats_a_training_attempt() -> None:
    """PRIVACY-8: a balance for each mechanism."""
    twice = [charge(0, attempt, mechanism="preparation") for attempt in range(2)]
    state = replay(prepared(*twice, charge(1)))
    account = state.accounts[PLAN]
    assert (account.remaining_of("preparation"), account.remaining_of("training")) == (0, 2)
    assert (account.charged, account.remaining) == (3, 2)
    assert refusal(prepared(*twice, charge(0, 2, mechanism="preparation"))) is (
        ErrorCode.LEDGER_RESERVE_SPENT
    )
    assert replay(prepared(*twice, *(charge(1, i) for i in range(3)))).accounts[PLAN].remaining == 0


@pytest.mark.parametrize(
    "wrong",
    [
        prepared(charge(0)),  # round 0 is the preparation
        prepared(charge(1, mechanism="preparation")),
        [reserve(), charge(0, mechanism="preparation")],  # none was reserved
    ],
)
def test_no_mechanism_is_opened_as_another(wrong: list[LedgerEntry]) -> None:
    """PRIVACY-8: neither borrows the other's attempts or noise."""
    assert refusal(wrong) is ErrorCode.LEDGER_NOT_RESERVED


def test_a_mechanism_is_reserved_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        reserve(mechanisms=(training(1), training(1)))


def test_the_evaluation_is_recorded_and_costs_nothing() -> None:
    """PRIVACY-8: outside epsilon, inside the ledger."""
    state = replay([reserve(attempts=1), charge(0, kind="evaluate")])
    assert state.accounts[PLAN].opened == {"evaluation": 1}
    assert state.accounts[PLAN].charged == 0
    assert state.charged_epsilon(delta=1e-5) == 0.0


# --- for any entries at all -----------------------------------------------------------------

ENTRY = st.one_of(
    st.builds(reserve, st.sampled_from([PLAN, OTHER_PLAN]), st.integers(1, 4)),
    st.builds(
        charge,
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from([PLAN, OTHER_PLAN]),
        st.sampled_from(["train", "evaluate"]),
        st.sampled_from([ROSTER, OTHER_ROSTER]),
    ),
    st.builds(settle, st.sampled_from([PLAN, OTHER_PLAN])),
)


@settings(max_examples=300)
@given(st.lists(ENTRY, max_size=25))
def test_replay_is_total_and_the_spent_never_decreases(entries: list[LedgerEntry]) -> None:
    state = LedgerState()
    for entry in entries:
        before = {plan: account.charged for plan, account in state.accounts.items()}
        try:
            state = step(state, entry)
        except CohortiumError:
            continue  # refused: written nowhere
        for plan, account in state.accounts.items():
            assert before.get(plan, 0) <= account.charged <= account.reserve.attempts
            assert account.remaining >= 0


@given(st.lists(ENTRY, max_size=12))
def test_replay_is_the_steps_in_order(entries: list[LedgerEntry]) -> None:
    accepted: list[LedgerEntry] = []
    state = LedgerState()
    for entry in entries:
        try:
            state = step(state, entry)
        except CohortiumError:
            continue
        accepted.append(entry)
    assert replay(accepted) == state


# --- the chain ------------------------------------------------------------------------------


def test_head_follows_from_every_entry_and_its_place() -> None:
    """PRIVACY-9: a chain from 32 zero bytes."""
    entries = [reserve(), charge(0), charge(1), settle()]
    heads = [GENESIS]
    for entry in entries:
        heads.append(append(heads[-1], entry))
    assert len(set(heads)) == 5
    assert head_of(entries) == heads[-1]
    assert head_of([entries[0], entries[2], entries[1], entries[3]]) != heads[-1]
    assert head_of(entries[:-1]) == heads[-2]


@pytest.mark.parametrize("salt", ["00" * 16, "5b" * 16])
def test_salt_changes_the_head(salt: str) -> None:
    """PRIVACY-9: a head says nothing of other studies."""
    salted = charge(0).model_copy(update={"salt": salt})
    assert append(GENESIS, salted) != append(GENESIS, charge(0))


@pytest.mark.parametrize("entry", [reserve(), charge(1, 2), settle()], ids=lambda e: e.entry)
def test_entries_survive_storage(entry: LedgerEntry) -> None:
    assert parse_entry(entry.canonical()) == entry


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        settle().canonical().replace(b"settle", b"refund"),
        settle().canonical().replace(b'"version":2', b'"version":2,"x":1'),
        settle().canonical().replace(b'"version":2', b'"version":1'),
        settle().canonical().replace(b",", b", "),
        charge(1).canonical().replace(b'"round":1', b'"round":-1'),
        reserve().canonical().replace(b'"attempts":3', b'"attempts":0'),
        charge(1).canonical().replace(b'"training"', b'"evaluation"'),
        charge(1).canonical().replace(b'"training"', b'"tuning"'),
        b"\xff\xfe",
    ],
)
def test_an_entry_of_another_kind_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_entry(raw)
    assert refused.value.code is ErrorCode.LEDGER_ENTRY_UNKNOWN
