"""Is every row's loss the closed form, for any value, and does a Cox model find Cox's coefficients?

The survival reference is written here from the definitions: the likelihood by brute force over
intervals, and Cox's partial likelihood (Breslow's ties) by its own Newton steps.
"""

from __future__ import annotations

import csv
import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DataRejected, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.models import initial_parameters, split_tensors
from site_node.training.losses import (
    Batch,
    event_logits,
    grouped_hazard_losses,
    row_losses,
)
from site_node.training.networks import build_network
from tests.support.factories import make_plan
from tests.support.learning import plan_for

EDGES = (30.0, 90.0, 180.0)
LUNG = Path(__file__).parents[3] / "data" / "ncctg_lung" / "ncctg_lung.csv"
LUNG_SHA256 = "cf2ddfa766fdc3722364e4a24878162de2facaf71df1b66d48e7126c0a6e1f12"


def by_hand(eta: list[float], event: int, time: float) -> float:
    """Minus the log likelihood, interval by interval, as a person would write it down."""
    loss, start = 0.0, 0.0
    for value, end in zip(eta, EDGES, strict=True):
        hazard = math.exp(value)
        if time > end or (time == end and not event):
            loss += hazard  # survived the interval: log of exp(-hazard)
        elif event:
            assert start <= time <= end
            return loss - math.log(-math.expm1(-hazard))
        else:
            return loss  # censored inside: nothing is known of this interval
        start = end
    return loss


@settings(max_examples=200, deadline=None)
@given(
    eta=st.lists(st.floats(-6, 4), min_size=3, max_size=3),
    event=st.integers(0, 1),
    time=st.one_of(st.floats(0, 400, width=32), st.sampled_from([0.0, *EDGES, 29.0, 31.0])),
)
def test_grouped_hazard_loss_is_the_closed_form(eta: list[float], event: int, time: float) -> None:
    got = grouped_hazard_losses(
        torch.tensor([eta], dtype=torch.float64),
        torch.tensor([float(event)]),
        torch.tensor([time], dtype=torch.float64),
        EDGES,
    )
    assert got.shape == (1,)
    assert float(got) == pytest.approx(by_hand(eta, event, time), rel=1e-9, abs=1e-12)


def test_probabilities_of_everything_that_can_happen_add_up_to_one() -> None:
    """An event in one of the intervals, or none by the horizon."""
    eta = torch.tensor([[-1.0, 0.3, -2.0]], dtype=torch.float64)
    times = [10.0, 90.0, 91.0]
    total = sum(
        math.exp(-float(grouped_hazard_losses(eta, torch.ones(1), torch.tensor([t]), EDGES)))
        for t in times
    )
    total += math.exp(
        -float(grouped_hazard_losses(eta, torch.zeros(1), torch.tensor([180.0]), EDGES))
    )
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("event", "time", "same_as"),
    [
        pytest.param(1, 0.0, (1, 15.0), id="event at once is one in the first interval"),
        pytest.param(1, 30.0, (1, 0.5), id="an edge belongs to the interval it ends"),
        pytest.param(0, 89.0, (0, 30.0), id="a broken interval is not used"),
        pytest.param(0, 29.0, (0, 0.0), id="censored in the first interval: nothing"),
        pytest.param(1, 181.0, (0, 180.0), id="event beyond the horizon is event-free"),
        pytest.param(0, 9999.0, (0, 180.0), id="so is any later follow-up"),
    ],
)
def test_case_of_the_table(event: int, time: float, same_as: tuple[int, float]) -> None:
    eta = torch.tensor([[-1.0, 0.3, -2.0]])
    got = grouped_hazard_losses(eta, torch.tensor([float(event)]), torch.tensor([time]), EDGES)
    other = torch.tensor([float(same_as[0])]), torch.tensor([same_as[1]])
    assert torch.equal(got, grouped_hazard_losses(eta, *other, EDGES))


@pytest.mark.parametrize("value", [-1e30, -1e4, -100.0, -7.0, 0.0, 15.0, 100.0, 1e4, 1e20])
@pytest.mark.parametrize(("event", "time"), [(1.0, 10.0), (1.0, 120.0), (0.0, 100.0), (0.0, 500.0)])
def test_loss_and_gradient_are_finite_anywhere(value: float, event: float, time: float) -> None:
    eta = torch.full((1, 3), value, requires_grad=True)
    loss = grouped_hazard_losses(eta, torch.tensor([event]), torch.tensor([time]), EDGES).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(eta.grad).all()
    assert eta.grad.abs().max() < 2 * math.exp(15)


@pytest.mark.parametrize("centre", [-7.0, 15.0])
def test_stable_branches_meet_without_a_step(centre: float) -> None:
    """Value and slope of both sides agree where one form takes over from the other."""
    around = torch.tensor([centre - 1e-6, centre + 1e-6], dtype=torch.float64)
    eta = around.repeat(3, 1).T.contiguous().requires_grad_(True)
    for event, time in ((1.0, 10.0), (0.0, 180.0)):
        losses = grouped_hazard_losses(
            eta, torch.full((2,), event), torch.full((2,), time, dtype=torch.float64), EDGES
        )
        (gradient,) = torch.autograd.grad(losses.sum(), eta)
        scale = max(1.0, math.exp(centre))
        assert abs(float((losses[1] - losses[0]).detach())) < 1e-5 * scale
        assert float((gradient[1] - gradient[0]).abs().max()) < 1e-5 * scale


def test_slope_is_that_of_the_likelihood() -> None:
    eta = torch.tensor([[-8.0, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    for event, time in ((1.0, 20.0), (1.0, 60.0), (1.0, 100.0), (0.0, 100.0), (0.0, 200.0)):
        who = torch.tensor([event]), torch.tensor([time], dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda e, w=who: grouped_hazard_losses(e, *w, EDGES), (eta,)
        )


@pytest.mark.parametrize("eta", [[-1.0, 0.3, -2.0], [-20.0, -30.0, -25.0], [3.0, 1.0, 2.0]])
def test_event_logit_is_that_of_the_probability(eta: list[float]) -> None:
    p = -math.expm1(-sum(map(math.exp, eta)))
    q = math.exp(-sum(map(math.exp, eta)))
    got = float(event_logits(torch.tensor([eta], dtype=torch.float64)))
    assert got == pytest.approx(math.log(p) - math.log(q), rel=1e-6)


def test_binary_loss_is_the_weighted_cross_entropy() -> None:
    plan = plan_for("logistic")
    logits, y = torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([1.0, 0.0, 1.0])
    got = row_losses(plan, logits, Batch(y, None, 2.5)).tolist()
    p = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    expected = [-2.5 * np.log(p[0]), -np.log(1 - p[1]), -2.5 * np.log(p[2])]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    plain = row_losses(plan, logits, Batch(y, None, 1.0))
    assert plain.tolist() != got


def test_cox_model_without_times_is_refused() -> None:
    with pytest.raises(DataRejected) as refusal:
        row_losses(plan_for("cox"), torch.zeros(2, 3), Batch(torch.zeros(2), None, 1.0))
    assert refusal.value.code is ErrorCode.FEATURES_INVALID


def test_partial_likelihood_would_couple_patients_and_this_loss_does_not() -> None:
    """The reason for the grouped form: here no row's loss moves with another row."""
    plan, eta = plan_for("cox"), torch.tensor([[-1.0, 0.0, 1.0]] * 3)
    event, time = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([40.0, 100.0, 150.0])
    whole = row_losses(plan, eta, Batch(event, time, 1.0))
    for row in range(3):
        alone = slice(row, row + 1)
        got = row_losses(plan, eta[alone], Batch(event[alone], time[alone], 1.0))
        assert torch.equal(got, whole[alone])


# --- fidelity: NCCTG lung ------------------------------------------------------------------------


def lung() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Age, sex and ECOG performance scaled as a plan would; event, days. 227 rows are complete."""
    raw = LUNG.read_bytes()
    assert hashlib.sha256(raw).hexdigest() == LUNG_SHA256
    rows = [r for r in csv.DictReader(raw.decode("ascii").splitlines()) if r["ph.ecog"]]
    assert len(rows) == 227
    x = np.array(
        [[(float(r["age"]) - 62) / 10, float(r["sex"] == "2"), float(r["ph.ecog"])] for r in rows]
    )
    event = np.array([float(r["status"] == "2") for r in rows])
    time = np.array([float(r["time"]) for r in rows])
    return x, event, time


def cox_breslow(x: np.ndarray, event: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, ...]:
    """Maximise Cox's partial likelihood by Newton; give coefficients and standard errors."""
    beta = np.zeros(x.shape[1])
    for _ in range(20):
        risk = np.exp(x @ beta)
        score, information = np.zeros(len(beta)), np.zeros((len(beta), len(beta)))
        for row in np.flatnonzero(event):
            at_risk = time >= time[row]
            weights = risk[at_risk] / risk[at_risk].sum()
            mean = weights @ x[at_risk]
            score += x[row] - mean
            centred = x[at_risk] - mean
            information += (centred * weights[:, None]).T @ centred
        beta = beta + np.linalg.solve(information, score)
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def fit(
    plan: StudyPlan, x: np.ndarray, event: np.ndarray, time: np.ndarray
) -> dict[str, np.ndarray]:
    """Minimise the sum of `row_losses` over the plan's network, without noise or clip."""
    network = build_network(plan.model, initial_parameters(plan.model)).double()
    batch = Batch(torch.tensor(event), torch.tensor(time), 1.0)
    inputs = torch.tensor(x)
    optimiser = torch.optim.LBFGS(
        network.parameters(), max_iter=500, line_search_fn="strong_wolfe",
        tolerance_grad=1e-9, tolerance_change=1e-14,
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = row_losses(plan, network(inputs), batch).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return {name: p.detach().numpy() for name, p in network.named_parameters()}


def lung_plan(edges: tuple[float, ...]) -> StudyPlan:
    columns = [
        {"name": "age", "kind": "number", "minimum": 18, "maximum": 110},
        {"name": "sex", "kind": "integer", "minimum": 1, "maximum": 2},
        {"name": "ecog", "kind": "integer", "minimum": 0, "maximum": 4},
        {"name": "status", "kind": "integer", "minimum": 1, "maximum": 2},
        {"name": "days", "kind": "integer", "minimum": 0, "maximum": 5000},
    ]
    features = [{"column": name, "encoding": "identity"} for name in ("age", "sex", "ecog")]
    model = {
        "architecture": "cox",
        "features": features,
        "time_edges": list(edges),
        "parameters": 3 + len(edges),
    }
    data = {"columns": columns, "label": "status", "label_positive": ["2"], "time_column": "days"}
    return make_plan(model=model, data=data)[0]


MONTHS = tuple(30.0 * month for month in range(1, 35))  # to 1020 days, nearly the last follow-up
QUARTERS = tuple(91.0 * quarter for quarter in range(1, 12))


@pytest.mark.parametrize(("edges", "tolerance"), [(MONTHS, 0.15), (QUARTERS, 0.35)])
def test_grouped_model_finds_coxs_coefficients_on_the_lung_data(
    edges: tuple[float, ...], tolerance: float
) -> None:
    """PRIVACY-20: the model with a gradient per patient answers the question Cox's model answers.

    Tolerance in standard errors of Cox's own estimate: 0.15 with monthly, 0.35 with quarterly
    intervals; what is left is the censoring inside intervals and ties.
    """
    x, event, time = lung()
    beta, errors = cox_breslow(x, event, time)
    # R's coxph(Surv(time, status) ~ age + sex + ph.ecog, ties = "breslow") prints these.
    np.testing.assert_allclose(beta, [0.11, -0.552, 0.463], atol=0.002)
    found = fit(lung_plan(edges), x, event, time)
    distance = (found["linear.weight"][0] - beta) / errors
    assert np.abs(distance).max() < tolerance, distance
    assert found["baseline.weight"].shape == (len(edges), 1)


def test_one_wide_interval_does_not_find_them() -> None:
    """The comparison can fail: with one interval of ten months nothing is left of the ranking."""
    x, event, time = lung()
    beta, errors = cox_breslow(x, event, time)
    found = fit(lung_plan((300.0,)), x, event, time)["linear.weight"][0]
    assert np.abs((found - beta) / errors).max() > 0.35


def test_known_hazard_ratio_is_found_and_a_wrong_one_is_not() -> None:
    """20 000 patients simulated with hazard ratio 2 for the first input, 1 for the second."""
    generator = np.random.default_rng(7)
    x = generator.integers(0, 2, (20_000, 2)).astype(np.float64)
    x = np.column_stack([x, np.zeros(len(x))])
    latent = generator.exponential(300 / 2 ** x[:, 0])
    lost = generator.uniform(0, 900, len(x))
    event, time = (latent <= lost).astype(np.float64), np.minimum(latent, lost)
    found = fit(lung_plan(QUARTERS), x, event, time)["linear.weight"][0]
    assert found[0] == pytest.approx(math.log(2), abs=0.05)
    assert found[1] == pytest.approx(0.0, abs=0.05)
    assert found[0] != pytest.approx(math.log(1.5), abs=0.05)


def test_initial_hazard_is_the_one_the_docstring_names() -> None:
    plan = plan_for("cox")
    flat = initial_parameters(plan.model)
    network = build_network(plan.model, flat)
    x = torch.zeros(1, plan.model.input_width)
    logit = float(event_logits(network(x)).detach())
    assert logit == pytest.approx(0.0, abs=1e-6)  # one half by 180 days
    assert set(split_tensors(plan.model, flat)) == {"linear.weight", "baseline.weight"}
