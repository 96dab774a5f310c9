"""PRIVACY-7: is the noise the smallest that keeps the promise, and found quickly?"""

from __future__ import annotations

import math
from typing import Any

import pytest

from schemas.canonical import build
from schemas.errors import ConfigError, ErrorCode
from schemas.governance.study import TrainingTerms
from schemas.privacy import calibration
from schemas.privacy.accounting import epsilon, total_epsilon
from schemas.privacy.calibration import PreparationTarget, calibrate, calibrate_noise
from schemas.privacy.events import Mechanism
from tests.support.factories import make_keys, plan_values

DELTA = 1e-5
TARGETS: dict[str, dict[str, Any]] = {
    "heart": {"epsilon": 1.0, "sampling_rate": 1.0, "steps": 15},
    "poisson": {"epsilon": 2.0, "sampling_rate": 0.1, "steps": 65},
    "strict": {"epsilon": 0.5, "sampling_rate": 1.0, "steps": 20},
    "loose": {"epsilon": 8.0, "sampling_rate": 0.02, "steps": 60},
    "thousand": {"epsilon": 1.0, "sampling_rate": 0.01, "steps": 1000},
    "odd": {"epsilon": 1.23456, "sampling_rate": 0.5, "steps": 1000},
    "two": {"epsilon": 1.0, "sampling_rate": 0.1, "steps": 40, "hospitals_per_patient": 2},
    "five": {"epsilon": 1.0, "sampling_rate": 0.1, "steps": 40, "hospitals_per_patient": 5},
    "local": {"epsilon": 1.0, "sampling_rate": 0.2, "steps": 60, "is_local": True},
    "local-two": {
        "epsilon": 1.0, "sampling_rate": 1.0, "steps": 60, "is_local": True,
        "hospitals_per_patient": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_calibrated_noise_is_enough_and_its_neighbour_is_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-7: the smallest multiple of 0.0001, in a few looks."""
    looks: list[object] = []
    real = calibration.exact_epsilon
    monkeypatch.setattr(
        calibration, "exact_epsilon", lambda *a, **k: looks.append(a) or real(*a, **k)
    )
    target = TARGETS[name]
    multiplier = calibrate_noise(delta=DELTA, **target)
    how = {key: value for key, value in target.items() if key != "epsilon"} | {"delta": DELTA}
    assert multiplier == round(multiplier, 4)
    assert epsilon(noise_multiplier=multiplier, **how) <= target["epsilon"]
    assert epsilon(noise_multiplier=multiplier - 1e-4, **how) > target["epsilon"]
    assert len(looks) <= 12


def test_an_accountant_that_is_too_cheap_gives_too_little_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PRIVACY-7: the check above would notice; a root of two in the noise is caught."""
    real = calibration.exact_epsilon

    def too_cheap(mechanisms: list[Mechanism], **scope: Any) -> float:
        louder = [
            Mechanism(m.noise_multiplier * math.sqrt(2), m.sampling_rate, m.count, m.is_local)
            for m in mechanisms
        ]
        return real(louder, **scope)

    monkeypatch.setattr(calibration, "exact_epsilon", too_cheap)
    multiplier = calibrate_noise(delta=DELTA, **TARGETS["heart"])
    assert epsilon(noise_multiplier=multiplier, sampling_rate=1.0, steps=15, delta=DELTA) > 1.4


def test_the_least_noise_of_all_may_be_the_answer() -> None:
    """PRIVACY-7: one release that hardly ever samples a patient needs none more."""
    assert calibrate_noise(epsilon=8.0, delta=DELTA, sampling_rate=1e-7, steps=1) == 0.2


@pytest.mark.parametrize(
    "hopeless",
    [
        {"epsilon": 1e-6, "delta": 1e-9, "sampling_rate": 1.0, "steps": 10_000},
        {"epsilon": 1.0, "sampling_rate": 1.0, "steps": 5, "beside": [Mechanism(1.0, 1.0, 1)]},
    ],
    ids=["too-small", "nothing-left"],
)
def test_what_no_noise_can_reach_is_said(hopeless: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        calibrate_noise(**({"delta": DELTA} | hopeless))
    assert refused.value.code is ErrorCode.ACCOUNTING_UNREACHABLE


@pytest.mark.parametrize("bad", [{"epsilon": 0.0}, {"epsilon": math.inf}, {"steps": 0}])
def test_a_target_that_is_none_is_refused(bad: dict[str, float]) -> None:
    usual = {"epsilon": 1.0, "delta": DELTA, "sampling_rate": 1.0, "steps": 5}
    with pytest.raises(ConfigError) as refused:
        calibrate_noise(**(usual | bad))  # type: ignore[arg-type]
    assert refused.value.code is ErrorCode.ACCOUNTING_UNSUPPORTED


# --- whole plans -----------------------------------------------------------------------------


def _training(**changes: Any) -> TrainingTerms:
    values = plan_values({f"site-{n}": make_keys() for n in range(1, 4)})["training"]
    return build(TrainingTerms, values | changes)


_LOCAL = {
    "algorithm": "dp-fedavg", "local_steps": 5, "local_learning_rate": 0.1, "local_divisor": 50,
    "update_clip": 1, "divisor": 4,
}  # fmt: skip


@pytest.mark.parametrize("hospitals", [1, 2])
@pytest.mark.parametrize("changes", [{}, _LOCAL], ids=["shared", "local"])
def test_a_plan_with_a_preparation_keeps_both_promises(
    changes: dict[str, Any], hospitals: int
) -> None:
    """PRIVACY-7: the preparation alone within its own, everything within the whole."""
    training = _training(**changes)
    target = PreparationTarget(epsilon=0.3, attempts=4)
    found = calibrate(
        training, epsilon=1.0, delta=DELTA, hospitals_per_patient=hospitals, preparation=target
    )
    scope = {"delta": DELTA, "hospitals_per_patient": hospitals}
    first = found.preparation_noise_multiplier
    assert first is not None
    assert total_epsilon([Mechanism(first, 1.0, 4)], **scope) <= 0.3
    assert total_epsilon([Mechanism(first - 1e-4, 1.0, 4)], **scope) > 0.3
    releases = training.attempts * training.local_steps

    def whole(sigma: float) -> list[Mechanism]:
        return [Mechanism(first, 1.0, 4), Mechanism(sigma, 1.0, releases, training.is_local)]

    assert total_epsilon(whole(found.noise_multiplier), **scope) == found.epsilon <= 1.0
    assert total_epsilon(whole(found.noise_multiplier - 1e-4), **scope) > 1.0
    two = total_epsilon(whole(found.noise_multiplier), delta=DELTA, hospitals_per_patient=2)
    assert found.epsilon_two_hospitals == (two if hospitals == 1 else 1.0)


def test_a_preparation_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        calibrate(
            _training(), epsilon=1.0, delta=DELTA, preparation=PreparationTarget(1.0, attempts=1)
        )
    assert refused.value.code is ErrorCode.ACCOUNTING_UNREACHABLE
