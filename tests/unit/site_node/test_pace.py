"""Does an answer's time say no more than in which quantum the work ended?"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest

from site_node.pace import MOST_SECONDS, Pace


@dataclass
class FakeTime:
    """A clock that only sleeping and working move."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def pace(self, quantum: float = 0.05) -> Pace:
        return Pace(quantum, clock=self, sleep=self.sleep)


def taken(time: FakeTime, pace: Pace | None, seconds: float, work: str = "study/train") -> float:
    """Seconds until the answer to a request that needs so much work."""
    start = time.now
    with pace.kept(work) if pace else nullcontext():
        time.now += seconds
    return time.now - start


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.049, 0.0501, 0.12, 0.349])
def test_answers_leave_at_whole_multiples_of_the_quantum(seconds: float) -> None:
    """PRIVACY-16: of a request's own time only the multiple is left."""
    time = FakeTime()
    got = taken(time, time.pace(), seconds)
    assert got == pytest.approx(max(1, math.ceil(seconds / 0.05)) * 0.05)


def test_neighbouring_data_sets_answer_at_the_same_time() -> None:
    """PRIVACY-16: and without the pace they do not: what it hides is there."""
    with_patient = [0.031, 0.034, 0.030]
    without = [0.029, 0.033, 0.028]

    def observed(work: list[float], *, paced: bool) -> list[float]:
        time = FakeTime()
        pace = time.pace() if paced else None
        return [round(taken(time, pace, each), 9) for each in work]

    assert observed(with_patient, paced=True) == observed(without, paced=True)
    assert observed(with_patient, paced=False) != observed(without, paced=False)


def test_a_study_never_answers_faster_again() -> None:
    """PRIVACY-16: who comes near the edge of a quantum crosses it once, not in every round."""
    time = FakeTime()
    pace = time.pace()
    answers = [taken(time, pace, each) for each in (0.01, 0.01, 0.12, 0.01, 0.06, 0.18, 0.01)]
    assert answers == pytest.approx([0.05, 0.05, 0.15, 0.15, 0.15, 0.2, 0.2])


def test_the_first_answer_sets_no_mark() -> None:
    """Loading data and libraries takes seconds, once."""
    time = FakeTime()
    pace = time.pace()
    assert taken(time, pace, 2.31) == pytest.approx(2.35)
    assert taken(time, pace, 0.03) == pytest.approx(0.05)


def test_studies_have_marks_of_their_own() -> None:
    time = FakeTime()
    pace = time.pace()
    for work in ("a", "b"):
        taken(time, pace, 0.01, work)
    taken(time, pace, 0.4, "a")
    assert taken(time, pace, 0.01, "a") == pytest.approx(0.4)
    assert taken(time, pace, 0.01, "b") == pytest.approx(0.05)


def test_a_refusal_waits_as_an_answer_does() -> None:
    time = FakeTime()
    pace = time.pace()
    start = time.now
    with pytest.raises(RuntimeError, match="refused"), pace.kept("study"):
        time.now += 0.07
        raise RuntimeError("refused")
    assert time.now - start == pytest.approx(0.1)


def test_one_long_pause_does_not_slow_a_study_for_good() -> None:
    time = FakeTime()
    pace = time.pace()
    taken(time, pace, 0.01)
    assert taken(time, pace, 600.0) == pytest.approx(600.0, abs=0.05)
    assert taken(time, pace, 0.01) == pytest.approx(MOST_SECONDS)


def test_a_sleep_that_ends_early_is_continued() -> None:
    time = FakeTime()
    pace = Pace(0.05, clock=time, sleep=lambda seconds: time.sleep(max(seconds / 2, 1e-4)))
    assert taken(time, pace, 0.001) >= 0.05
    assert len(time.slept) > 1


@pytest.mark.parametrize("quantum", [0.0, -1.0, math.nan, math.inf])
def test_a_quantum_that_is_none_is_refused(quantum: float) -> None:
    with pytest.raises(ValueError, match="quantum"):
        Pace(quantum)
