"""Does a patient add to the preparation what the plan says, and never more than its norm?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from schemas.errors import DataRejected, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.preparation import prepare
from site_node.cohort import preparation
from site_node.cohort.preparation import preparation_sum
from site_node.cohort.rows import select_rows
from tests.support.prepared import FEATURES, WORDS, gappy_table, prepared_plan

PLAN = prepared_plan(training={"max_images_per_patient": 2})
AGE, CHOL, PRESSURE, CLASSES = slice(0, 3), slice(3, 67), slice(67, 69), slice(69, 71)


def table(**changes: Any) -> pa.Table:
    """Five rows of three patients; the third is tested."""
    columns = {
        "patient": ["b", "a", "c", "a", "a"],
        "split": ["train", "train", "test", "train", "train"],
        "label": pa.array([1, 0, 1, 0, 0], pa.int8()),
        "age": [55.0, 20.0, 90.0, 125.0, 70.0],
        "chol": [100.0, 250.0, 400.0, None, 0.0],
        "cp": ["2", "4", "1", None, "3"],
        "pressure": [None, 140.0, 90.0, 200.0, 80.0],
    }
    return pa.table(columns | changes)


def patient_vectors(table: pa.Table, plan: StudyPlan) -> NDArray[np.float64]:
    """Every patient's vector, (patients, words)."""
    return np.concatenate(list(preparation.patient_vectors(table, plan)))


def test_a_vector_is_the_mean_over_the_patients_kept_rows() -> None:
    """PRIVACY-11: 1, u, u² of what is there; one cell; one class; the third row is over the cap."""
    first, second = patient_vectors(table(), PLAN)
    assert first[AGE].tolist() == [1.0, 0.0, 1.0]  # u of 20 is -1, of 125 (cut) is 1
    assert first[CHOL].nonzero()[0].tolist() == [32]  # 250 is the middle; the other is missing
    assert first[CHOL][32] == 0.5
    assert first[PRESSURE].tolist() == [1.0, 0.5]
    assert first[CLASSES].tolist() == [0.0, 1.0]
    assert second[AGE].tolist() == [1.0, 0.0, 0.0]
    assert second[CHOL].nonzero()[0].tolist() == [0]
    assert second[PRESSURE].tolist() == [0.0, 0.0]
    assert second[CLASSES].tolist() == [1.0, 0.0]


def test_the_largest_value_is_in_the_last_cell() -> None:
    vectors = patient_vectors(table(chol=[400.0, 1e9, None, -5.0, 0.0]), PLAN)
    assert vectors[1][CHOL].nonzero()[0].tolist() == [63]
    assert vectors[0][CHOL].nonzero()[0].tolist() == [0, 63]


def test_no_patient_weighs_more_than_the_plans_norm() -> None:
    """PRIVACY-11: stranger values and more rows make nobody longer; the norm is sharp."""
    generator = np.random.default_rng(3)
    n = 400
    extreme = np.array([-1e300, -1e9, 0.0, 20.0, 55.0, 90.0, 1e9, 1e300])
    rows = pa.table(
        {
            "patient": [f"{i // 2:03d}" for i in range(n)],
            "split": ["train"] * n,
            "label": np.repeat(generator.integers(0, 2, n // 2), 2),
            "cp": ["1"] * n,
            **{
                name: [
                    None if missing else float(value)
                    for missing, value in zip(
                        generator.random(n) < 0.2, generator.choice(extreme, n), strict=True
                    )
                ]
                for name in ("age", "chol", "pressure")
            },
        }
    )
    norm = PLAN.sum_terms(0).clip
    assert norm == math.sqrt(7)
    vectors = patient_vectors(rows, PLAN)
    lengths = np.sqrt((vectors * vectors).sum(axis=1))
    assert lengths.max() <= norm * (1 + 1e-12)
    assert lengths.max() >= norm * (1 - 1e-12)  # somebody with ±1 everywhere


def test_rows_are_those_that_train() -> None:
    chosen = select_rows(table(), PLAN, "train")
    assert chosen.patients == len(patient_vectors(table(), PLAN)) == 2
    assert chosen.table["age"].to_pylist() == [20.0, 125.0, 55.0]


def test_the_sum_over_chunks_is_the_sum_over_patients(monkeypatch) -> None:
    rows = gappy_table(1, 200)
    whole = preparation_sum(rows, PLAN).values
    monkeypatch.setattr(preparation, "_CHUNK_VALUES", 3 * WORDS * 2)
    assert preparation_sum(rows, PLAN).values.tolist() == whole.tolist()
    unit = PLAN.sum_terms(0).clip / PLAN.sum_terms(0).integer_clip
    exact = patient_vectors(rows, PLAN).sum(axis=0)
    assert np.abs(whole * unit - exact).max() <= 100 * unit


def test_a_site_without_training_patients_adds_zeros() -> None:
    empty = preparation_sum(table(split=["test"] * 5), PLAN).values
    assert empty.shape == (WORDS,)
    assert not empty.any()


def test_the_sum_of_sites_gives_the_constants_of_all_patients() -> None:
    """PRIVACY-11: sum, then derive; against the values of all sites together."""
    tables = [gappy_table(site, 400) for site in range(1, 5)]
    plan = prepared_plan()
    prepared = prepare(plan, sum(preparation_sum(each, plan).values for each in tables))
    both = pa.concat_tables(tables)
    train = both.filter(pa.compute.equal(both["split"], "train"))
    age = np.array([v for v in train["age"].to_pylist() if v is not None]).clip(20, 90)
    pressure = np.array([v for v in train["pressure"].to_pylist() if v is not None])
    label = np.array(train["label"].to_pylist())
    assert prepared.mean("age") == pytest.approx(age.mean(), abs=0.02)
    assert prepared.scale("age") == pytest.approx(age.std(), abs=0.05)
    assert prepared.mean("pressure") == pytest.approx(pressure.clip(80, 200).mean(), abs=0.05)
    assert prepared.positive_weight == pytest.approx((label == 0).sum() / label.sum(), rel=1e-3)


@pytest.mark.parametrize("column", ["age", "chol"])
def test_a_missing_value_is_refused_where_the_plan_says_so(column: str) -> None:
    features = [{**f, "missing": "refuse"} if f["column"] == column else f for f in FEATURES]
    plan = prepared_plan(model={"features": features})
    rows = table(**{"chol": [1.0] * 5, column: [1.0, None, 1.0, 1.0, 1.0]})
    with pytest.raises(DataRejected) as refused:
        preparation_sum(rows, plan)
    assert refused.value.code is ErrorCode.FEATURES_INVALID


def test_images_may_have_their_classes_weighted() -> None:
    """A plan over images asks for class weights alone: two words, norm 1."""
    from tests.support.factories import make_plan

    image = {"image_rows": 4, "image_columns": 4}
    plan, _ = make_plan(
        data={"source": "dicom", **image},
        model={"architecture": "small-cnn", "features": [], "parameters": 9, **image},
        training={"class_weights": "preparation"},
        preparation={
            "epsilon": 1, "noise_multiplier": 20, "retry_cap": 1, "integer_clip": 2**18,
        },
    )  # fmt: skip
    rows = pa.table(
        {"patient": ["a", "b", "c"], "split": ["train"] * 3, "label": [1, 0, 0],
         "pixels": [bytes(16)] * 3}
    )  # fmt: skip
    assert preparation_sum(rows, plan).values.tolist() == [2**18, 2**19]
    assert prepare(plan, np.array([2**18, 2**19])).positive_weight == 2.0
