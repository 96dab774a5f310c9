"""Does the vendor read what each mode of adding costs, before the plan is signed?"""

from __future__ import annotations

import pytest

from coordinator.client.aggregation import aggregation_lines, aggregation_values
from coordinator.client.render import plan_lines
from tests.support.factories import make_plan, recoverable


def test_an_atomic_plan_says_that_a_lost_hospital_voids_the_attempt() -> None:
    plan, _ = make_plan(4)
    text = " ".join(aggregation_lines(plan))
    assert "atomic: a hospital lost in an attempt voids it" in text
    assert "2 retries" in text
    assert "sigma^2 C^2 / 3" in text
    assert "is at most 0.2, here p up to 5 % for 4 hospitals" in text
    values = aggregation_values(plan)
    assert (values["survivor_threshold"], values["dropouts_allowed"]) == (None, 0)
    assert values["noise_ratio"] == 1.0


@pytest.mark.parametrize(
    ("sites", "lost", "threshold", "sharers", "atomic"), [(4, 1, 3, 2, 3), (10, 4, 6, 5, 9)]
)
def test_a_recoverable_plan_says_threshold_losses_and_price(
    sites: int, lost: int, threshold: int, sharers: int, atomic: int
) -> None:
    plan, _ = make_plan(sites, **recoverable(lost))
    values = aggregation_values(plan)
    assert values["noise_share_variance_ratio"] == atomic / sharers
    assert values["noise_ratio"] ** 2 == pytest.approx(atomic / sharers)
    text = " ".join(aggregation_lines(plan))
    for part in (
        f"recoverable: up to {lost} of {sites} hospitals may be lost",
        f"tau = {threshold} hospitals sign",
        f"sigma^2 C^2 / {sharers}, in atomic mode / {atomic}: {atomic / sharers:.3g} times",
        "two more exchanges an attempt",
        "atomic mode is better while hospitals times the chance p",
    ):
        assert part in text, part


def test_the_previewed_plan_holds_these_lines() -> None:
    plan, _ = make_plan(4, **recoverable(1))
    shown = [line.strip() for line in plan_lines(plan)]
    first, *rest = aggregation_lines(plan)
    start = shown.index(f"adding up   {first}")
    assert shown[start + 1 : start + 1 + len(rest)] == rest


def test_the_pair_root_is_named() -> None:
    assert "pair keys: X25519" in " ".join(aggregation_lines(make_plan(4)[0]))
    hybrid, _ = make_plan(4, aggregation={"pair_root": "x25519-ml-kem-768"})
    assert "pair keys: X25519 with ML-KEM-768" in " ".join(aggregation_lines(hybrid))
