"""PRIVACY-15: is a promise said with its whole scope, and what it means said correctly?"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from schemas.governance.study import StudyPlan
from schemas.privacy.costs import cost_lines, cost_values, plan_costs
from schemas.privacy.statement import PrivacyStatement, privacy_statement, scope_sentence
from tests.support.factories import make_plan

PREPARED: dict[str, Any] = {
    "preparation": {
        "epsilon": 0.5, "noise_multiplier": 25, "retry_cap": 1, "integer_clip": 2**14
    },
}  # fmt: skip
LOCAL: dict[str, Any] = {
    "algorithm": "dp-fedavg", "local_steps": 5, "local_learning_rate": 0.1, "local_divisor": 50,
    "update_clip": 1, "divisor": 4,
}  # fmt: skip


def plan(**overrides: Any) -> StudyPlan:
    return make_plan(**overrides)[0]


def prepared(**training: Any) -> StudyPlan:
    return plan(**PREPARED, training={**training, "class_weights": "preparation"})


def statement(epsilon: float, delta: float = 1e-5) -> PrivacyStatement:
    return dataclasses.replace(privacy_statement(plan()), epsilon=epsilon, delta=delta)


# --- the scope -------------------------------------------------------------------------------

SCOPE = (
    "epsilon 1 at delta 1e-05",
    "unit patient",
    "adjacency add-remove",
    "up to t = 1 colluding hospital",
    "for a patient of 1 hospital (of 2: epsilon 2.2)",
    "all 12 attempts (10 steps and 2 retries)",
    "PLD (dp-accounting 0.6.0",
    "test-set metrics",
    "settings",
    "hospital sees",
)


@pytest.mark.parametrize("form", ["sentence", "lines"])
def test_every_form_holds_the_whole_scope(form: str) -> None:
    """PRIVACY-15: in a line and in a list."""
    said = getattr(privacy_statement(plan()), form)()
    text = said if isinstance(said, str) else "\n".join(said)
    for part in SCOPE:
        assert part in text, part


def test_json_holds_the_whole_scope_and_survives_a_round_trip() -> None:
    """PRIVACY-15: a program gets no number without it either."""
    values = privacy_statement(plan()).values()
    assert json.loads(json.dumps(values)) == values
    assert (values["epsilon"], values["delta"], values["t"]) == (1.0, 1e-5, 1)
    assert (values["unit"], values["adjacency"]) == ("patient", "add-remove")
    assert (values["hospitals_per_patient"], values["epsilon_two_hospitals"]) == (1, 2.2)
    assert (values["attempts"], values["steps"], values["retry_cap"]) == (12, 10, 2)
    assert len(values["outside_epsilon"]) == 3 and values["tuning_declaration"]
    assert values["sentence"] == privacy_statement(plan()).sentence()


def test_a_preparation_and_its_retries_are_counted() -> None:
    said = privacy_statement(prepared())
    assert said.covers == "all 14 attempts (1 preparation and 1 retry; 10 steps and 2 retries)"
    lines = "\n".join(said.lines())
    assert "preparation: 2 releases, full batch, noise multiplier 25, shared" in lines
    assert "training: 12 releases, full batch, noise multiplier 13, shared" in lines
    assert [item["name"] for item in said.values()["mechanisms"]] == ["preparation", "training"]


def test_local_noise_holds_against_any_number_of_hospitals() -> None:
    """PRIVACY-13: nobody else's noise is needed."""
    said = privacy_statement(plan(training=LOCAL))
    assert said.collusion_bound is None and said.values()["t"] is None
    assert "any number of other hospitals" in said.sentence()
    assert "training: 60 releases" in "\n".join(said.lines())


def test_a_shared_preparation_limits_what_local_training_withstands() -> None:
    """PRIVACY-13: the weakest mechanism decides, and the stronger one is named."""
    said = privacy_statement(prepared(**LOCAL))
    assert said.collusion_bound == 1
    assert "up to t = 1 colluding hospital (training alone: with any number)" in said.sentence()


def test_weights_from_elsewhere_are_outside() -> None:
    """PRIVACY-15: whoever was in their training data is promised nothing here."""
    start = {
        "initialisation": "file",
        "initialisation_seed": None,
        "initial_weights_origin": "public chest images",
    }
    said = privacy_statement(plan(model=start))
    assert "public chest images" in said.outside[-1]
    assert "initial weights" in said.sentence()


def test_more_hospitals_per_patient_are_named() -> None:
    said = privacy_statement(
        plan(privacy={"hospitals_per_patient": 3, "epsilon_two_hospitals": 1.0})
    )
    assert "a patient of up to 3 hospitals (of 2: epsilon 1)" in said.sentence()


def test_a_broken_promise_is_told_with_the_promise() -> None:
    said = privacy_statement(plan())
    assert said.sentence() in said.breach(3.25, 2)
    assert "gives epsilon 3.25 for a patient of 2 hospitals" in said.breach(3.25, 2)


@pytest.mark.parametrize("two", [None, 2.5])
def test_the_scope_of_a_ledger_holds_the_same_parts(two: float | None) -> None:
    """PRIVACY-15: numbers over all studies have a scope as well."""
    text = scope_sentence(1e-5, hospitals_per_patient=1, epsilon_two_hospitals=two)
    for part in ("delta 1e-05", "unit patient", "add-remove", "(t)", "a patient of 1 hospital",
                 "(of 2:", "retries and void ones", "test-set metrics"):  # fmt: skip
        assert part in text, part


# --- what it means ---------------------------------------------------------------------------


def best_attack(mu: float, delta: float) -> tuple[float, float, float]:
    """Of the best attack there is on one Gaussian: epsilon, success at even odds, share at 1 %."""
    from statistics import NormalDist

    normal = NormalDist()
    low, high = 0.0, 50.0
    for _ in range(100):
        eps = (low + high) / 2
        reached = normal.cdf(mu / 2 - eps / mu) - math.exp(eps) * normal.cdf(-mu / 2 - eps / mu)
        low, high = (eps, high) if reached > delta else (low, eps)
    return high, normal.cdf(mu / 2), normal.cdf(mu - normal.inv_cdf(0.99))


@pytest.mark.parametrize("mu", [0.05, 0.25, 0.5, 1.0, 2.0, 4.0])
def test_no_attack_on_a_gaussian_does_better_than_the_reading_says(mu: float) -> None:
    """PRIVACY-15: the bounds hold for the optimal (likelihood ratio) attacker."""
    eps, success, share = best_attack(mu, 1e-5)
    said = statement(eps)
    assert success <= said.attacker_success
    assert share <= said.attacker_finds


@pytest.mark.parametrize("eps", [0.01, 0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.01])
def test_the_bounds_are_reached_by_an_attack_on_the_worst_mechanism(
    eps: float, delta: float
) -> None:
    """PRIVACY-15: not looser than it must be.

    The mechanism of Kairouz et al. 2015, randomised response with a leak: it says who took part
    with chance delta, and else answers at odds e^eps.
    """
    odds = math.exp(eps)
    # outcome: chance if the patient took part, chance if not
    outcomes = [
        (delta, 0.0),
        ((1 - delta) * odds / (1 + odds), (1 - delta) / (1 + odds)),
        ((1 - delta) / (1 + odds), (1 - delta) * odds / (1 + odds)),
        (0.0, delta),
    ]
    success = sum(max(one, other) for one, other in outcomes) / 2
    found, wrong = 0.0, 0.01  # name the outcomes by likelihood ratio until 1 % is used up
    for one, other in outcomes:
        taken = 1.0 if other <= wrong else wrong / other
        found += one * taken
        wrong -= other * taken
    said = statement(eps, delta)
    assert success == pytest.approx(said.attacker_success, abs=1e-12)
    assert found == pytest.approx(said.attacker_finds, abs=1e-12)


@pytest.mark.parametrize(
    ("eps", "right", "found"),
    [(1.0, 74, "2.8"), (0.5, 63, "1.7"), (2.0, 89, "7.4"), (8.0, 100, "100")],
)
def test_the_reading_is_plain_and_rounded_against_us(eps: float, right: int, found: str) -> None:
    """PRIVACY-15: 73.1 is said as 74, never as 73."""
    text = statement(eps).reading()
    assert f"right in at most {right} of 100 cases instead of 50" in text
    assert f"at most {found} % of those who took part" in text
    assert right >= 100 * statement(eps).attacker_success > right - 1 or right == 100


# --- what each mechanism costs ---------------------------------------------------------------


def test_the_table_of_costs_adds_up_to_the_plan() -> None:
    """PRIVACY-7: shown before anything runs."""
    rows = plan_costs(prepared())
    assert [row.name for row in rows] == ["preparation", "training", "together"]
    first, training, together = rows
    assert first.epsilon < training.epsilon < together.epsilon < first.epsilon + training.epsilon
    assert all(row.epsilon < row.epsilon_two_hospitals for row in rows)
    assert together.releases == first.releases + training.releases == 14
    lines = cost_lines(rows)
    assert len(lines) == 4 and "of 2 hospitals" in lines[0]
    assert f"{together.epsilon:.4f}" in lines[-1]
    assert [value["epsilon"] for value in cost_values(rows)] == [row.epsilon for row in rows]
