"""PRIVACY-18: does one whole run, through the functions of a round, stay under its epsilon?

The scheduled run has 5000 canaries (`python -m scripts.audit_one_run`); here a fifth of it.
"""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import pytest

from scripts import audit_one_run
from scripts.audit_one_run import Broken, Report, audit, is_as_expected, lower_bound
from site_node.training.sampling import poisson_mask
from tests.support.secure_sum import FixedEntropy

QUICK = {"canaries": 1000, "steps": 20}


@cache
def report(broken: Broken) -> Report:
    return audit(broken=broken, **QUICK)  # type: ignore[arg-type]


def test_a_sound_run_stays_under_its_claim_and_the_attacker_is_not_blind() -> None:
    """PRIVACY-18: guesses are better than chance, and prove less than the plan admits."""
    sound = report("nothing")
    assert sound.epsilon_claimed == pytest.approx(2.0, abs=0.001)
    assert 0 <= sound.epsilon_bound <= sound.epsilon_claimed and not sound.is_above
    assert sound.right > sound.guesses / 2 + math.sqrt(sound.guesses) / 2
    assert is_as_expected(sound)


@pytest.mark.parametrize("broken", ["full-batch-as-poisson", "no-noise"])
def test_a_broken_run_is_shown_to_be_above_its_claim(broken: Broken) -> None:
    """PRIVACY-18: sampling that did not happen, and noise that was never added."""
    assert report(broken).is_above
    assert report(broken).epsilon_bound > 1.2 * report(broken).epsilon_claimed
    assert is_as_expected(report(broken))


def test_noise_divided_by_n_is_more_than_one_run_can_see() -> None:
    """PRIVACY-18: said plainly, so that nobody takes one run for the white-box audit."""
    assert report("noise-short").right > report("nothing").right
    assert not report("noise-short").is_above


def test_the_bound_is_right_and_tight_for_randomised_response() -> None:
    """PRIVACY-18: answers kept with chance e/(1+e) are exactly (1, 0)-private."""
    canaries = 10_000
    for seed in range(5):
        kept = poisson_mask(canaries, math.e / (1 + math.e), FixedEntropy(f"responses/{seed}"))
        found = lower_bound(canaries, canaries, int(kept.sum()), 0.0)
        assert 0.9 < found < 1.0 + 0.04
    expected = round(canaries * math.e / (1 + math.e))
    assert lower_bound(canaries, canaries, expected, 0.0) < 1.0
    assert lower_bound(canaries, canaries, expected + 200, 0.0) > 1.0


@pytest.mark.parametrize(("right", "delta"), [(0, 1e-5), (50, 1e-5), (58, 1e-5), (100, 0.5)])
def test_guesses_no_better_than_chance_prove_nothing(right: int, delta: float) -> None:
    """PRIVACY-18: nor do perfect ones, where delta allows them."""
    assert lower_bound(1000, 100, right, delta) == 0.0


def test_the_bound_grows_with_right_guesses_and_shrinks_with_delta() -> None:
    bounds = [lower_bound(1000, 200, right, 1e-5) for right in range(0, 201, 10)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(-math.log(0.05 ** (-1 / 200) - 1), abs=0.06)
    assert lower_bound(1000, 200, 180, 1e-3) < lower_bound(1000, 200, 180, 1e-6)


@pytest.mark.parametrize(("broken", "status"), [("nothing", 0), ("noise-short", 0)])
def test_the_command_says_what_was_found(
    broken: Broken, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit_one_run, "audit", lambda **_: report(broken))
    assert audit_one_run.main(["--broken", broken, "--json"]) == status
    values = json.loads(capsys.readouterr().out)
    assert values["broken"] == broken and values["above"] is False and values["expected"] is True
    assert audit_one_run.main(["--broken", broken]) == status
    shown = capsys.readouterr().out
    assert "proves nothing beyond it" in shown
    for part in ("unit patient", "t = 1", "of 2: epsilon", "attempts", "accountant", "outside it"):
        assert part in shown and part in values["scope"], part  # PRIVACY-15


def test_the_command_fails_where_a_sound_run_is_above_its_claim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {name: getattr(report("no-noise"), name) for name in Report.__slots__}
    wrong = Report(**values | {"broken": "nothing"})
    monkeypatch.setattr(audit_one_run, "audit", lambda **_: wrong)
    assert audit_one_run.main([]) == 1
    assert "The claim is false" in capsys.readouterr().out


def test_a_run_is_its_seed() -> None:
    """PRIVACY-18: whoever repeats a run gets the same numbers, whatever keys were drawn."""
    first, second = (audit(canaries=100, steps=3, seed=7) for _ in range(2))
    assert (first.right, first.model_right) == (second.right, second.model_right)
    assert np.isfinite(first.epsilon_bound)
