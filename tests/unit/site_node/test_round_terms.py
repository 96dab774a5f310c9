"""Does the way out give each step of the mechanism the plan's own terms, and each answer its pace?

What `dp_sgd`, `sampling` and `pace` do with them is tested beside those; here, that a round hands
over the right ones. Every plan below is one in which a wrong one would be another number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from site_node.pace import Pace
from site_node.round import SiteRounds
from site_node.training import dp_sgd, fedavg, sampling
from tests.support.by_hand import Hand
from tests.support.consortium import memory_consortium
from tests.support.factories import make_plan
from tests.support.learning import LOCAL
from tests.support.prepared import gappy_table, preparation

POISSON = {"sampling": "poisson", "sampling_rate": 0.07}  # of 30 patients about two


def spied(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple[Any, Any]]:
    """Every call of a function: what it was given, and what it gave."""
    honest, calls = getattr(owner, name), []

    def spy(*given: Any) -> Any:
        calls.append((given, honest(*given)))
        return calls[-1][1]

    monkeypatch.setattr(owner, name, spy)
    return calls


@pytest.fixture
def four(tmp_path) -> Hand:
    terms = {"steps": 2, "average_from_step": 1, "retry_cap": 3, **POISSON}
    return Hand(memory_consortium(tmp_path, training=terms))


def test_noise_is_shared_by_the_cohort_and_not_by_all_hospitals_of_the_plan(
    four: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-3: three of four came, and three carry the noise of the whole."""
    noised = spied(monkeypatch, dp_sgd, "noised_update")
    drawn = spied(monkeypatch, dp_sgd, "discrete_gaussian")
    plan = four.consortium.plan
    four.play(0, 0, sites=["site-1", "site-2", "site-4"])
    assert [given[3] for given, _ in noised] == [3, 3, 3]
    whole = plan.privacy.noise_multiplier * plan.training.integer_clip
    expected = whole / np.sqrt(3 - plan.collusion_bound)
    assert [given[0] for given, _ in drawn] == pytest.approx([expected] * 3)


def test_who_trains_is_decided_by_the_plans_coins_alone(
    four: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-4: at the plan's rate, over all patients, and only they are summed."""
    coins = spied(monkeypatch, sampling, "poisson_mask")
    summed = spied(monkeypatch, dp_sgd, "clipped_integer_sum")
    four.play(0, 0)
    four.play(0, 1)  # a retry tosses anew
    assert len(coins) == len(summed) == 8
    for (tossed, mask), (given, _) in zip(coins, summed, strict=True):
        assert tossed[:2] == (given[2].patients, POISSON["sampling_rate"])
        assert given[3] is mask
    assert not all(mask.all() for _, mask in coins)


def test_local_steps_take_the_plans_coins_too(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PRIVACY-13: each local step, at every hospital."""
    training = {"steps": 2, "average_from_step": 1, "retry_cap": 3, **POISSON, **LOCAL}
    coins = spied(monkeypatch, fedavg, "poisson_mask")
    summed = spied(monkeypatch, fedavg, "clipped_integer_sum")
    hand = Hand(memory_consortium(tmp_path, training=training))
    hand.play(0, 0)
    assert len(coins) == len(summed) == 4 * hand.consortium.plan.training.local_steps
    for (tossed, mask), (given, _) in zip(coins, summed, strict=True):
        assert tossed[:2] == (given[2].patients, POISSON["sampling_rate"])
        assert given[3] is mask


def test_each_sum_has_the_noise_of_its_own_mechanism(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-3, PRIVACY-11: the preparation's for the preparation, training's for training."""
    terms = preparation(noise_multiplier=30, training={"steps": 2, "average_from_step": 1})
    noised = spied(monkeypatch, dp_sgd, "noised_update")
    hand = Hand(memory_consortium(tmp_path, table=gappy_table, **terms))
    hand.play(1, 0, previous=hand.play(0, 0))
    plan = hand.consortium.plan
    assert [given[1].noise_multiplier for given, _ in noised] == [30.0] * 4 + [
        plan.privacy.noise_multiplier
    ] * 4
    assert [given[1] for given, _ in noised] == [plan.sum_terms(0)] * 4 + [plan.sum_terms(1)] * 4


class Watched(Pace):
    """A pace that waits for nothing and notes what it was asked to hold."""

    def __init__(self) -> None:
        super().__init__(0.05)
        self.held: list[str] = []

    @contextmanager
    def kept(self, work: str) -> Iterator[None]:
        try:
            yield
        finally:
            self.held.append(work)


def test_every_answer_computed_on_patients_is_held_to_the_pace(tmp_path) -> None:
    """PRIVACY-16: preparation, training, evaluation, and a refusal in their place."""
    terms = preparation(training={"steps": 1, "average_from_step": 1})
    hand = Hand(memory_consortium(tmp_path, table=gappy_table, **terms))
    pace, site = Watched(), hand.consortium.sites["site-2"]
    hand.consortium.rounds["site-2"] = SiteRounds(site, pace=pace)
    sums = hand.train()
    finals = tuple(hand.finals(sums[-1]).values())
    hand.play(0, 0, "evaluate", finals=finals)
    digest = hand.consortium.digest
    names = ("preparation", "training", "evaluate")
    assert pace.held == [f"{digest}/{name}" for name in names]
    assert hand.refusal("site-2", hand.cohort([], 0, 5))
    assert pace.held[3:] == [f"{digest}/preparation"]


def test_the_pace_of_a_service_is_the_one_site_toml_names(tmp_path) -> None:
    """PRIVACY-16: without being told, a site holds its answers to its own quantum."""
    site = memory_consortium(tmp_path, n_sites=3).sites["site-1"]
    quantum = site.config.service.answer_quantum_seconds
    assert SiteRounds(site)._pace._quantum == quantum > 0


def test_a_plan_of_this_page_tells_cohort_and_plan_apart() -> None:
    """The numbers above differ: else no test here could fail."""
    plan, _ = make_plan()
    assert plan.fewest_summed < len(plan.sites)
