"""PRIVACY-18, PRIVACY-13: does each hospital's own noise alone hide a patient in DP-FedAvg?

As `tests/privacy/test_canary.py`, but the coordinator colludes with *all* other hospitals: it knows
everything in the sum but the canary's hospital. One local step must show mu = 1/sigma, k steps
mu = sqrt(k)/sigma, as the accountant composes them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.canonical import build
from schemas.governance.study import ModelTerms
from schemas.models import initial_state, parameter_count
from schemas.models.scattering import scattering_length
from schemas.privacy.events import plan_events
from schemas.secagg import QuantisedUpdate, check_sum
from site_node.cohort.features import Features
from site_node.training import fedavg
from tests.support.audit import Seen, audit_passes, estimate
from tests.support.secure_sum import Consortium, FixedEntropy, summed

SIDE = 48
INPUTS = scattering_length(SIDE, SIDE)
PATIENTS = 2000
MULTIPLIER = 0.35  # mu = 2.86: twenty thousand canaries are enough for 0.3 %
GRID = 1 << 20
CLIP = 0.5


def house(*, multiplier: float = MULTIPLIER, **local: Any) -> Consortium:
    """Four hospitals, one linear layer, a bound on the change that is never reached."""
    image = {"image_rows": SIDE, "image_columns": SIDE}
    model = {
        "architecture": "scattering-logistic", "features": [], **image, "parameters": 1,
        "initialisation_seed": "ab" * 32, "initial_weights_sha256": "00" * 32,
    }  # fmt: skip
    count = parameter_count(build(ModelTerms, model))
    return Consortium.of(
        4,
        data={"source": "dicom", **image},
        model=model | {"parameters": count},
        training={
            "algorithm": "dp-fedavg", "clip": CLIP, "integer_clip": GRID, "divisor": 4,
            "local_learning_rate": 2.0, "local_divisor": 8.0, "update_clip": 100.0, **local,
        },
        privacy={"noise_multiplier": multiplier},
    )  # fmt: skip


def people(count: int) -> Features:
    """Patients with an input of their own each, so large that it is all of the gradient."""
    x = np.zeros((count, INPUTS), dtype=np.float32)
    x[np.arange(count), np.arange(count)] = 1e6
    ones = np.ones(count, dtype=np.int64)
    return Features(x=x, y=ones, patient=np.arange(count), patients=count)


def observed(here: Consortium, patients: int, case: str, number: int) -> NDArray[np.float64]:
    """What is left of a checked sum for those who know all but site-1, in clips of a gradient."""
    plan = here.plan
    keys = here.keys(attempt=number)
    state = initial_state(plan.model, np.zeros(plan.model.parameters))
    vectors = {
        site: fedavg.local_update(
            plan,
            state,
            people(patients if site == "site-1" else 0),
            FixedEntropy(f"local/{case}/{site}/{patients}/{number}"),
        ).values
        for site in keys
    }
    total = check_sum(keys["site-2"], summed(keys, vectors))
    alone = total - sum(vectors[site] for site in keys if site != "site-1")
    training = plan.training
    step = training.clip * training.local_learning_rate / training.local_divisor
    # The gradients point down their axes, the change goes up.
    return alone * (training.update_clip / training.integer_clip / step)


def audited(here: Consortium, case: str, rounds: int = 10) -> Seen:
    """Canaries through features, gradients, clip and local step; their axes without them."""
    present = [observed(here, PATIENTS, case, n)[:PATIENTS] for n in range(rounds)]
    absent = [observed(here, 0, case, rounds + n)[:-1] for n in range(4 * rounds)]
    return Seen(np.concatenate(absent), np.concatenate(present))


def test_a_hospitals_own_noise_hides_its_patient_from_all_others() -> None:
    """PRIVACY-13, PRIVACY-18: mu = 1/sigma for one local step."""
    seen = audited(house(), "as built")
    assert estimate(seen)[0] == pytest.approx(1 / MULTIPLIER, rel=0.02)
    assert audit_passes(seen, 1 / MULTIPLIER)


def test_noise_shared_as_in_dp_fedsgd_fails_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """PRIVACY-18: a share of the noise is enough for the sum, and not for a hospital alone."""
    honest = fedavg.discrete_gaussian
    monkeypatch.setattr(
        fedavg, "discrete_gaussian", lambda sigma, *more: honest(sigma / math.sqrt(3), *more)
    )
    seen = audited(house(), "shared", rounds=6)
    assert estimate(seen)[0] == pytest.approx(math.sqrt(3) / MULTIPLIER, rel=0.02)
    assert not audit_passes(seen, 1 / MULTIPLIER)


@pytest.mark.parametrize("wrong", [1.0, 1 / math.sqrt(2), 1.5])
def test_k_local_steps_are_k_releases(monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    """PRIVACY-18, PRIVACY-12: as the plan's events say; other noise, other steps: refused.

    The canary's gradient is put in place of the sum, as large as it may be in every step.
    """
    steps, multiplier = 4, 0.8
    here = house(multiplier=multiplier, local_steps=steps)
    (event,) = plan_events(here.plan)
    assert event.releases_per_attempt == steps
    is_there = {True: -GRID, False: 0}

    def gradients(plan: Any, state: Any, features: Features, chosen: Any) -> QuantisedUpdate:
        value = is_there[features.patients > 0]
        return QuantisedUpdate(np.full(len(state.parameters), value, dtype=np.int64))

    monkeypatch.setattr(fedavg, "clipped_integer_sum", gradients)
    honest = fedavg.discrete_gaussian
    monkeypatch.setattr(
        fedavg, "discrete_gaussian", lambda sigma, *more: honest(sigma * wrong, *more)
    )
    rounds = math.ceil(100_000 / INPUTS)
    seen = Seen(
        np.concatenate([observed(here, 0, f"k/{wrong}", n) for n in range(rounds)]),
        np.concatenate([observed(here, 1, f"k/{wrong}", rounds + n) for n in range(rounds)]),
    )
    claimed = math.sqrt(event.releases_per_attempt) / multiplier
    assert estimate(seen)[0] == pytest.approx(claimed / wrong, rel=0.02)
    assert audit_passes(seen, claimed) is (wrong == 1.0)
