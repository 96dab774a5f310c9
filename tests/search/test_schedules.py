"""Can any coordinator, with up to t hospitals on its side, see too small a sum? Search and be sure.

A short run of `scripts/search_secagg.py`: the same schedules, the first few only. What makes its
silence worth something is `test_mutants`: with one defence taken away the same search speaks up.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.search.adversary import play
from tests.search.hospital import hospitals
from tests.search.mutants import MUTANTS, Mutant
from tests.search.oracle import Violation
from tests.search.scenes import SCENES

SHORT = 8 * len(SCENES)
PATIENCE = 600  # schedules; the rarest mutant shows about once in 40


@pytest.fixture(scope="module", autouse=True)
def in_memory():
    with hospitals():
        yield


@pytest.fixture(scope="module")
def counted() -> Counter[str]:
    total: Counter[str] = Counter()
    for seed in range(SHORT):
        outcome, _ = play(seed)
        total.update(outcome.counts)
        total["opened"] += outcome.opened
    return total


def test_no_schedule_opens_too_small_a_sum(counted) -> None:
    """SECAGG-4 to -9 and -12 to -15, all checks of a site together."""
    assert counted["opened"] > SHORT // 2  # sums that hospitals agreed to do open


@pytest.mark.parametrize(
    "outcome",
    [
        "CohortCall answered",
        "CohortCall cohort.duplicate_member",
        "CohortCall cohort.ready_stale",
        "CohortCall cohort.too_small",
        "CohortCall evaluation.roster_changed",
        "CohortCall signature.invalid",
        "Open attempt.spent",
        "Result answered",
        "Result sum.altered",
        "Close sum.altered",
        "SurvivorsCall answered",
        "SurvivorsCall recovery.not_offered",
        "SurvivorsCall recovery.own_upload",
        "SurvivorsCall recovery.survivors_changed",
        "SurvivorsCall recovery.too_few",
        "UnmaskCall answered",
        "UnmaskCall recovery.confirmations_too_few",
        "UnmaskCall recovery.done",
        "evaluation opened",
        "sum applied",
        "sum opened",
        "sum recovered",
    ],
)
def test_schedules_reach(counted, outcome) -> None:
    """A search whose messages were all refused at the door would find nothing anywhere."""
    assert counted[outcome] > 0


def test_a_seed_is_one_schedule() -> None:
    first, second = (play(7)[1].log for _ in range(2))
    assert first == second and len(first) > 5


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_mutants(mutant: Mutant) -> None:
    """Taking one defence away is seen, and as the fault it is."""
    assert first_seen(mutant) <= mutant.rules


def first_seen(mutant: Mutant) -> set[str]:
    """Rules seen broken, up to the first that the missing defence is there for."""
    seen: set[str] = set()
    with mutant.patch():
        for seed in range(PATIENCE):
            try:
                play(seed, mutant.scenes)
            except Violation as violation:
                if violation.rule in mutant.rules:
                    return {violation.rule}
                seen.add(violation.rule)
    return seen | {"nothing of what was expected"}
