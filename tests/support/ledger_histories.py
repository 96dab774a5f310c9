"""How do tests get any history of a ledger at all, and which rules must each keep?

A history mixes plans of every kind (full batch, subsampled, prepared, local noise, one or two
hospitals) with charges and settlements in and out of order. Entries the ledger or the filter
refuses are written nowhere, as at a site; the rest must keep the rules.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from schemas.errors import CohortiumError
from schemas.privacy.budget import Budget, Caps, budget_of, check_reserve
from schemas.privacy.events import MechanismEvent
from schemas.privacy.ledger import (
    Charge,
    LedgerEntry,
    LedgerState,
    Reserve,
    Settle,
    parse_entry,
    replay,
    step,
)

CAPS = Caps(epsilon=3.0, delta=1e-5, delta_total=4e-5)
SALT = "5a" * 16
_ROUNDING = 2e-3  # of epsilon: the reported one is rounded up, and its grid is pessimistic
PLANS = tuple(f"{i:02x}" * 32 for i in range(1, 7))
ROSTERS = ("1a" * 32, "1b" * 32)


def mechanism(
    name: str, sigma: float, rate: float, attempts: int, **more: object
) -> MechanismEvent:
    """Give one mechanism of a plan."""
    values = {
        "name": name,
        "noise_multiplier": sigma,
        "sampling_rate": rate,
        "is_local": False,
        "releases_per_attempt": 1,
        "attempts": attempts,
    }
    return MechanismEvent.model_validate(values | more)


# Few kinds, so that conversions are cached; together they pass the cap soon.
KINDS: tuple[tuple[MechanismEvent, ...], ...] = (
    (mechanism("training", 6.0, 1.0, 4),),
    (mechanism("training", 3.0, 1.0, 3),),
    (mechanism("training", 2.0, 0.1, 5),),
    (mechanism("training", 1.2, 0.05, 6),),
    (mechanism("preparation", 8.0, 1.0, 2), mechanism("training", 6.0, 1.0, 4)),
    (mechanism("preparation", 8.0, 1.0, 2), mechanism("training", 2.0, 0.1, 5)),
    (mechanism("training", 5.0, 1.0, 2, is_local=True, releases_per_attempt=3),),
)


def reserve(plan: str, kind: int, hospitals: int = 1) -> Reserve:
    """Reserve a plan of one of the kinds."""
    return Reserve(
        plan_digest=plan,
        study_id="study",
        mechanisms=KINDS[kind],
        delta=1e-5,
        hospitals_per_patient=hospitals,
        collusion_bound=None if KINDS[kind][-1].is_local else 1,
        has_initial_weights=False,
        salt=SALT,
    )


def random_history(chance: random.Random, longest: int = 40) -> list[LedgerEntry]:
    """Draw entries, many of which contradict those before them."""
    entries: list[LedgerEntry] = []
    # Two hospitals of one patient only beside full batches: a mixture takes seconds to convert.
    is_wide = chance.random() < 0.2
    kinds = [i for i, kind in enumerate(KINDS) if not is_wide or _is_full(kind)]
    for _ in range(chance.randrange(1, longest)):
        plan, what = chance.choice(PLANS), chance.random()
        if what < 0.25:
            hospitals = chance.choice([1, 1, 2]) if is_wide else 1
            entries.append(reserve(plan, chance.choice(kinds), hospitals))
        elif what < 0.92:
            kind = chance.choice(["preparation", "training", "training", "evaluation"])
            entries.append(charge(plan, kind, chance.randrange(9), chance.randrange(3), chance))
        else:
            entries.append(Settle(plan_digest=plan, salt=SALT))
    return entries


def _is_full(kind: tuple[MechanismEvent, ...]) -> bool:
    return all(event.sampling_rate == 1.0 for event in kind)


def charge(
    plan: str, mechanism: str, round_: int, attempt: int, chance: random.Random | None = None
) -> Charge:
    """Open an attempt; by either roster if chance is given."""
    return Charge.model_validate(
        {
            "plan_digest": plan,
            "kind": "evaluate" if mechanism == "evaluation" else "train",
            "mechanism": mechanism,
            "round": round_,
            "attempt": attempt,
            "roster_hash": ROSTERS[0] if chance is None else chance.choice(ROSTERS),
            "salt": SALT,
        }
    )


def accepted(entries: Sequence[LedgerEntry], caps: Caps = CAPS) -> list[LedgerEntry]:
    """Give those a site would have written."""
    state, kept = LedgerState(), list[LedgerEntry]()
    for entry in entries:
        try:
            after = step(state, entry)
            if isinstance(entry, Reserve):
                check_reserve(state, caps, entry)
        except CohortiumError:
            continue
        state = after
        kept.append(entry)
    return kept


def broken_rule(entries: Sequence[LedgerEntry], caps: Caps = CAPS, *, every: int = 1) -> str:
    """Name the first rule a history breaks; empty if it keeps all of them.

    The rules: replay is total and equals its steps; storage changes nothing; what is spent, and
    the attempts opened, never fall; the filter and the sum of deltas never pass their limits;
    what is committed falls only by settling. Budgets are compared at every so many entries, and
    around every settlement.
    """
    written = accepted(entries, caps)
    state, before = LedgerState(), budget_of(LedgerState(), caps)
    for number, entry in enumerate(written):
        if parse_entry(entry.canonical()) != entry:
            return f"entry {number} is not what was stored"
        following = step(state, entry)
        broken = _attempts_lost(state, following)
        settles = isinstance(entry, Settle)
        if settles:
            before = budget_of(state, caps)
        if settles or number % every == 0 or number + 1 == len(written):
            now = budget_of(following, caps)
            broken = broken or _broken(before, now, settles=settles)
            before = now
        if broken:
            return f"entry {number} ({entry.entry}): {broken}"
        state = following
    return "" if replay(written) == state else "the replay is not its steps"


def _attempts_lost(state: LedgerState, after: LedgerState) -> str:
    for digest, account in state.accounts.items():
        for name, count in account.opened.items():
            if after.accounts[digest].opened[name] < count:
                return f"{name} attempts came back"
    return ""


def _broken(before: Budget, now: Budget, *, settles: bool) -> str:
    rules = {
        "spent fell": now.spent < before.spent,
        "less is committed than was spent": now.committed < now.spent - _ROUNDING,
        "the filter's limit is passed": not now.is_admitted or now.after > now.limit + 1e-6,
        "the deltas' limit is passed": now.delta_sum > now.delta_limit * (1 + 1e-9),
        "committed fell": now.committed < before.committed - 1e-12 and not settles,
        "committed rose by settling": now.committed > before.committed + 1e-12 and settles,
    }
    return next((name for name, is_broken in rules.items() if is_broken), "")
