"""Do the inputs' constants follow from the sum of the preparation, whatever the noise did to it?"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.limits import QUANTILE_CELLS
from schemas.preparation import LARGEST_WEIGHT, LEAST_SCALE, Prepared, prepare
from tests.support.factories import make_plan
from tests.support.prepared import FEATURES, WORDS, prepared_plan

PLAN = prepared_plan()
UNIT = PLAN.sum_terms(0).clip / PLAN.sum_terms(0).integer_clip
AGE, CHOL, PRESSURE, CLASSES = slice(0, 3), slice(3, 67), slice(67, 69), slice(69, 71)
WHOLE = st.integers(-(2**31), 2**31 - 1)


def words(**groups: list[float]) -> np.ndarray:
    """A sum in grid units, from what the patients of all sites add up to."""
    places = {"age": AGE, "chol": CHOL, "pressure": PRESSURE, "classes": CLASSES}
    out = np.zeros(WORDS)
    for name, values in groups.items():
        out[places[name]] = values
    return np.rint(out / UNIT).astype(np.int64)


def refusal(plan: StudyPlan, summed: np.ndarray) -> ErrorCode:
    with pytest.raises(CohortiumError) as refused:
        prepare(plan, summed)
    return refused.value.code


def check_range(plan: StudyPlan, prepared: Prepared) -> None:
    """What holds of every sum, however noisy."""
    for feature in plan.model.features:
        span = feature.maximum - feature.minimum
        if feature.missing == "mean":
            assert feature.minimum <= prepared.mean(feature.column) <= feature.maximum
        if feature.encoding == "standardise":
            assert 0.01 * span <= prepared.scale(feature.column) * (1 + 1e-12)
            assert prepared.scale(feature.column) <= span / 2
        if feature.encoding == "quantile-bins":
            edges = prepared.edges(feature.column)
            assert len(edges) == feature.bins - 1
            assert list(edges) == sorted(set(edges))
            assert feature.minimum < edges[0]
            assert edges[-1] < feature.maximum
    assert 1 / LARGEST_WEIGHT <= prepared.positive_weight <= LARGEST_WEIGHT


@settings(max_examples=300, deadline=None)
@given(arrays(np.int64, WORDS, elements=WHOLE))
def test_no_sum_gives_a_constant_outside_its_range(summed) -> None:
    """PRIVACY-11: noise alone, the largest words, all zeros: a constant is always one to use."""
    prepared = prepare(PLAN, summed)
    check_range(PLAN, prepared)
    assert prepare(PLAN, summed) == prepared


@pytest.mark.parametrize("bins", [2, 3, 10, 100])
@pytest.mark.parametrize("word", [0, -1, 1, 2**31 - 1, -(2**31)])
def test_a_constant_sum_is_safe_too(bins: int, word: int) -> None:
    features = [{**f, "bins": bins} if f["column"] == "chol" else f for f in FEATURES]
    plan = prepared_plan(model={"features": features, "parameters": 5 + bins})
    check_range(plan, prepare(plan, np.full(WORDS, word, dtype=np.int64)))


def test_one_full_cell_and_a_wide_range_keep_the_edges_apart() -> None:
    """All of the weight in one cell: a hundred edges inside it, each above the one before."""
    features = [
        {"column": "chol", "encoding": "quantile-bins", "minimum": -1e12, "maximum": 1e12,
         "bins": 100},
    ]  # fmt: skip
    plan = prepared_plan(
        model={"features": features, "parameters": 101}, training={"class_weights": "plan"}
    )
    summed = np.full(QUANTILE_CELLS, -(10**6), dtype=np.int64)
    summed[33] = 1
    check_range(plan, prepare(plan, summed))


def test_a_large_sum_without_noise_gives_the_patients_own_constants() -> None:
    """PRIVACY-11: mean, deviation, quantiles and class weight of 3600 patients, as if pooled."""
    generator = np.random.default_rng(7)
    age = generator.normal(55, 9, 3600).clip(20, 90)
    chol = generator.gamma(30, 8, 3600).clip(100, 400)
    pressure = generator.uniform(90, 190, 600)
    u = (age - 20) / 35 - 1
    v = (pressure - 80) / 60 - 1
    histogram, _ = np.histogram(chol, bins=QUANTILE_CELLS, range=(100, 400))
    prepared = prepare(
        PLAN,
        words(
            age=[len(u), u.sum(), (u * u).sum()],
            chol=list(histogram),
            pressure=[len(v), v.sum()],
            classes=[1000, 2600],
        ),
    )
    assert prepared.mean("age") == pytest.approx(age.mean(), abs=1e-3)
    assert prepared.scale("age") == pytest.approx(age.std(), abs=1e-2)
    assert prepared.mean("pressure") == pytest.approx(pressure.mean(), abs=1e-3)
    cell = 300 / QUANTILE_CELLS
    wanted = np.quantile(chol, [0.25, 0.5, 0.75])
    assert np.abs(np.array(prepared.edges("chol")) - wanted).max() < cell
    assert prepared.positive_weight == pytest.approx(2.6, rel=1e-3)
    shares = np.histogram(chol, bins=[100, *prepared.edges("chol"), 400])[0] / len(chol)
    assert np.abs(shares - 0.25).max() < 0.03


def test_edges_are_the_exact_quantiles_of_the_histogram() -> None:
    """Against rational arithmetic: at an edge, k/bins of the (not negative) weight lies below."""
    generator = np.random.default_rng(11)
    for _ in range(50):
        counts = generator.integers(-40, 100, QUANTILE_CELLS)
        summed = np.zeros(WORDS, dtype=np.int64)
        summed[CHOL] = counts
        kept = [max(int(count), 0) for count in counts]
        for number, edge in enumerate(prepare(PLAN, summed).edges("chol"), start=1):
            place = Fraction(edge - 100) / 300 * QUANTILE_CELLS
            whole = math.floor(place)
            below = sum(kept[:whole]) + (place - whole) * kept[whole]
            assert float(below / sum(kept)) == pytest.approx(number / 4, abs=1e-9)


def test_a_variance_lost_in_the_noise_is_as_large_as_the_noise() -> None:
    """Inputs divided by next to nothing would be huge; a negative one has no root at all."""
    noise = 20 * math.sqrt(7)
    for count in (100, 1000, 10_000):
        for square in (-0.8, 0.2501):
            prepared = prepare(PLAN, words(age=[count, count * 0.5, count * square]))
            expected = math.sqrt(noise / count) * 35
            assert prepared.scale("age") == pytest.approx(expected, rel=1e-3)
            assert prepared.mean("age") == pytest.approx(20 + 1.5 * 35, abs=1e-2)
    tiny = prepare(PLAN, words(age=[10**6, 0, 10**2]))
    assert tiny.scale("age") == LEAST_SCALE * 35


@pytest.mark.parametrize(
    ("counts", "weight"),
    [([100, 300], 3.0), ([300, 100], 1 / 3), ([-50, 80], 80.0), ([-50, 800], 100.0),
     ([500, -3], 0.01), ([-9, -9], 1.0)],
)  # fmt: skip
def test_the_weight_of_positives_balances_the_classes(counts, weight) -> None:
    assert prepare(PLAN, words(classes=counts)).positive_weight == pytest.approx(weight, rel=1e-4)


def test_without_a_preparation_the_plans_own_weight_counts() -> None:
    plan, _ = make_plan(training={"positive_weight": 2.5})
    empty = np.zeros(0, dtype=np.int64)
    assert prepare(plan, empty) == Prepared.none(plan)
    assert Prepared.none(plan).positive_weight == 2.5
    with pytest.raises(KeyError):
        Prepared.none(plan).mean("age")


def test_a_plan_with_a_preparation_waits_for_its_sum() -> None:
    """PRIVACY-11: no default stands in for a constant that was not paid for yet."""
    assert refusal(PLAN, np.zeros(0, dtype=np.int64)) is ErrorCode.PREPARATION_MISSING
    with pytest.raises(CohortiumError) as refused:
        Prepared.none(PLAN)
    assert refused.value.code is ErrorCode.PREPARATION_MISSING


@pytest.mark.parametrize(
    "summed",
    [
        np.zeros(WORDS - 1, dtype=np.int64),
        np.zeros((1, WORDS), dtype=np.int64),
        np.zeros(WORDS, dtype=np.float64),
    ],
)
def test_another_vector_is_no_sum_of_the_preparation(summed) -> None:
    assert refusal(PLAN, summed) is ErrorCode.SUM_MALFORMED
    assert refusal(make_plan()[0], np.zeros(3, dtype=np.int64)) is ErrorCode.SUM_MALFORMED


def test_the_document_beside_a_model_says_what_was_derived() -> None:
    prepared = prepare(PLAN, words(age=[100, 50, 30], classes=[100, 300]))
    document = prepared.document(PLAN)
    assert document.plan_digest == PLAN.digest()
    assert document.means == dict(prepared.means)
    assert document.standard_deviations == {"age": prepared.scale("age")}
    assert document.bin_edges == {"chol": prepared.edges("chol")}
    assert document.positive_weight == prepared.positive_weight
    assert (
        document.canonical()
        == prepare(PLAN, words(age=[100, 50, 30], classes=[100, 300])).document(PLAN).canonical()
    )
