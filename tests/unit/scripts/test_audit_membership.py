"""Does LiRA with shadow models find members where there are some to find, and no others?"""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from schemas.governance.study import StudyPlan
from schemas.privacy.statement import privacy_statement
from scripts import audit_membership
from scripts.audit_membership import (
    Point,
    Report,
    attack,
    chosen,
    freely,
    likelihood_ratios,
    privately,
)
from site_node.membership import allowed_auroc, allowed_rate
from tests.support.learning import plan_for, random_features

PATIENTS = 60


@cache
def plan() -> StudyPlan:
    """A linear layer that can remember everybody; the noise of an epsilon of about one."""
    return plan_for("scattering-logistic", steps=10, average_from_step=10, divisor=PATIENTS)


def test_lira_finds_who_trained_a_model_that_remembers() -> None:
    """PRIVACY-18: labels say nothing about rows, so whoever is fitted was in."""
    everyone = random_features(plan(), [1] * PATIENTS, seed=1)
    aurocs, found = attack(plan(), everyone, models=12, train=freely)
    assert aurocs.mean() > 0.9
    assert found[:, 1].mean() > 0.5


def test_lira_does_not_find_who_trained_a_private_one() -> None:
    """PRIVACY-18: the interval covers guessing, and lies under what the plan allows."""
    everyone = random_features(plan(), [1] * PATIENTS, seed=1)
    aurocs, found = attack(plan(), everyone, models=12, train=privately)
    half = 1.96 * aurocs.std(ddof=1) / np.sqrt(len(aurocs))
    terms = plan().privacy
    assert aurocs.mean() - half <= 0.5 < allowed_auroc(terms.epsilon, terms.delta)
    assert found[:, 1].mean() <= allowed_rate(0.05, terms.epsilon, terms.delta)


def test_the_ratio_is_that_of_two_normal_laws() -> None:
    """Carlini et al. 2022, section VI: one variance, means with and without the patient."""
    inside = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1]], dtype=bool)
    confidence = np.array([[2.0, 0.0], [4.0, 1.0], [0.0, 3.0], [1.0, 3.0], [3.5, 9.0]])
    got = likelihood_ratios(inside, confidence, 4)
    with_, without = np.array([3.0, 3.0]), np.array([0.5, 0.5])
    residual = confidence[:4] - np.where(inside[:4], with_, without)
    variance = (residual**2).mean()
    x = confidence[4]
    expected = ((x - without) ** 2 - (x - with_) ** 2) / (2 * variance)
    np.testing.assert_allclose(got, expected)


def test_a_patient_on_one_side_of_all_models_is_left_open() -> None:
    inside = np.array([[1, 1], [1, 0], [1, 1], [1, 0], [0, 1]], dtype=bool)
    ratios = likelihood_ratios(inside, np.arange(10.0).reshape(5, 2), 4)
    assert ratios[0] == 0.0 and ratios[1] != 0.0


def test_the_chosen_keep_all_their_rows() -> None:
    everyone = random_features(plan(), [2, 1, 3], seed=2)
    kept = chosen(everyone, np.array([True, False, True]))
    assert kept.patient.tolist() == [0, 0, 1, 1, 1] and kept.patients == 2
    assert np.array_equal(kept.x, everyone.x[[0, 1, 3, 4, 5]])
    assert np.array_equal(kept.y, everyone.y[[0, 1, 3, 4, 5]])


def test_fewer_than_four_models_are_refused() -> None:
    with pytest.raises(ValueError, match="four models"):
        attack(plan(), random_features(plan(), [1] * 4), models=3, train=freely)


@pytest.mark.parametrize(("auroc", "status"), [(0.52, 0), (0.99, 1)])
def test_the_command_fails_where_more_is_found_than_allowed(
    auroc: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = Point(0.01, 0.01, 0.03)
    made = Report(
        "heart", True, 32, 486, auroc, (auroc - 0.01, auroc + 0.01), 0.73, (point,),
        privacy_statement(plan()),
    )  # fmt: skip
    monkeypatch.setattr(audit_membership, "report", lambda study, **_: made)
    assert audit_membership.main(["--study", "heart", "--json"]) == status
    values = json.loads(capsys.readouterr().out)
    assert values["within"] is (status == 0)
    assert values["privacy"]["sentence"] == privacy_statement(plan()).sentence()
    assert audit_membership.main(["--study", "heart"]) == status
    shown = capsys.readouterr().out
    assert "the plan allows" in shown
    assert privacy_statement(plan()).sentence() in shown
