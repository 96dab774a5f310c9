"""Do stored rows become the plan's features, from the plan alone, and is anything else refused?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.errors import DataRejected, ErrorCode
from schemas.models.scattering import scatter
from site_node.cohort import load_features
from tests.support.factories import make_plan
from tests.support.learning import plan_for

PLAN, _ = make_plan()
IMAGES = np.random.default_rng(5).integers(0, 256, (4, 12, 12), dtype=np.uint8)


def table(**changes: Any) -> pa.Table:
    """Four rows of three patients."""
    columns = {
        "patient": ["b", "a", "c", "a"],
        "split": ["train", "train", "test", "train"],
        "label": pa.array([1, 0, 1, 0], pa.int8()),
        "age": [55.0, 20.0, 90.0, 125.0],
        "chol": [100.0, 250.0, 400.0, 0.0],
        "cp": ["2", "4", "1", "3"],
    }
    return pa.table(columns | changes)


def image_table(**changes: Any) -> pa.Table:
    """Four images of three patients."""
    columns = {
        "patient": ["b", "a", "c", "a"],
        "split": ["train", "train", "test", "train"],
        "label": pa.array([1, 0, 1, 0], pa.int8()),
        "pixels": [image.tobytes() for image in IMAGES],
    }
    return pa.table(columns | changes)


def test_rows_are_scaled_by_the_plan_and_grouped_by_patient() -> None:
    plan, _ = make_plan(training={"max_images_per_patient": 2})
    features = load_features(table(), plan, "train")
    assert features.patients == 2
    assert features.patient.tolist() == [0, 0, 1]
    assert features.y.tolist() == [0, 0, 1]
    # age 20…90 and chol 100…400 to -1…1, cut at the ends; cp "2", "4" one-hot, "3" all zeros
    expected = [[-1, 0, 0, 1], [1, -1, 0, 0], [0, -1, 1, 0]]
    assert features.x.tolist() == expected
    assert features.x.dtype == np.float32


def test_scaling_does_not_depend_on_other_rows() -> None:
    """A statistic of the rows would be an unpaid-for release."""
    alone = load_features(table().slice(0, 1), PLAN, "train")
    together = load_features(table(), PLAN, "train")
    assert together.x[-1].tolist() == alone.x[0].tolist()


def test_images_beyond_the_cap_are_left_out_in_training_only() -> None:
    assert load_features(table(), PLAN, "train").patient.tolist() == [0, 1]
    tested = table(split=["test"] * 4)
    assert load_features(tested, PLAN, "test").patient.tolist() == [0, 0, 1, 2]


def test_the_first_stored_rows_are_the_ones_kept() -> None:
    kept = load_features(table(), PLAN, "train")
    assert kept.x[0].tolist() == [-1, 0, 0, 1]


def test_more_training_patients_than_the_plan_has_room_for_are_refused() -> None:
    """Their sum could leave its 32 bits; a refusal then would depend on their gradients."""
    limits = {"maximum_patients": 2, "divisor": 2}
    plan, _ = make_plan(training=limits, privacy={"smallest_site_patients": 2})
    assert load_features(table(), plan, "train").patients == 2
    with pytest.raises(DataRejected) as caught:
        load_features(table(split=["train"] * 4), plan, "train")
    assert caught.value.code is ErrorCode.FEATURES_INVALID
    assert load_features(table(split=["test"] * 4), plan, "test").patients == 3


def test_split_without_rows_gives_no_patients() -> None:
    nobody = load_features(table(split=["train"] * 4), PLAN, "test")
    assert (nobody.patients, nobody.x.shape, nobody.y.shape) == (0, (0, 4), (0,))


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("boolean", [True, False, True, True], [0, 1]),
        ("integer", [3, 5, 1, 2], [5, 3]),
    ],
)
def test_identity_keeps_numbers_and_booleans(
    kind: str, values: list[Any], expected: list[float]
) -> None:
    columns = [
        {"name": "age", "kind": kind},
        {"name": "num", "kind": "integer"},
    ]
    model = {"features": [{"column": "age", "encoding": "identity"}], "parameters": 2}
    plan, _ = make_plan(data={"columns": columns}, model=model)
    assert load_features(table(age=values), plan, "train").x[:, 0].tolist() == expected


def test_images_become_grey_values_for_the_network() -> None:
    plan = plan_for("small-cnn", max_images_per_patient=2)
    features = load_features(image_table(), plan, "train")
    assert features.x.shape == (3, 1, 12, 12)
    np.testing.assert_allclose(features.x[2, 0], IMAGES[0] / 255, rtol=1e-6)
    assert features.y.tolist() == [0, 0, 1]


def test_images_become_fixed_features_for_the_linear_model() -> None:
    plan = plan_for("scattering-logistic", max_images_per_patient=2)
    features = load_features(image_table(), plan, "train")
    expected = scatter((IMAGES / 255).astype(np.float32))[[1, 3, 0]]
    np.testing.assert_allclose(features.x, expected, atol=1e-6)
    assert features.x.shape[1] + 1 == plan.model.parameters


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(table().drop_columns(["label"]), id="no label column"),
        pytest.param(table().drop_columns(["split"]), id="no split column"),
        pytest.param(table().drop_columns(["patient"]), id="no patient column"),
        pytest.param(table().drop_columns(["chol"]), id="no feature column"),
        pytest.param(table(label=pa.array([1, None, 1, 0])), id="missing label"),
        pytest.param(table(label=[2, 0, 1, 0]), id="label neither 0 nor 1"),
        pytest.param(table(label=[1, 1, 1, 0]), id="patient with two labels"),
        pytest.param(table(age=[1.0, None, 1.0, 1.0]), id="missing value"),
        pytest.param(table(age=[1.0, float("nan"), 1.0, 1.0]), id="not a number"),
        pytest.param(table(age=[1.0, float("inf"), 1.0, 1.0]), id="infinite"),
        pytest.param(table(age=["x", "y", "z", "x"]), id="text for a number"),
        pytest.param(table(cp=["2", "9", "1", "3"]), id="unknown level"),
    ],
)
def test_rows_that_do_not_give_the_features_are_refused(rows: pa.Table) -> None:
    plan, _ = make_plan(training={"max_images_per_patient": 2})
    with pytest.raises(DataRejected) as refusal:
        load_features(rows, plan, "train")
    assert refusal.value.code is ErrorCode.FEATURES_INVALID


@pytest.mark.parametrize("blob", [b"", bytes(143), bytes(145), None])
def test_image_of_another_size_is_refused(blob: bytes | None) -> None:
    rows = image_table(pixels=pa.array([blob, *(i.tobytes() for i in IMAGES[1:])], pa.binary()))
    with pytest.raises(DataRejected):
        load_features(rows, plan_for("small-cnn"), "train")


def test_a_refusal_never_quotes_a_value() -> None:
    with pytest.raises(DataRejected) as refusal:
        load_features(table(cp=["SECRET", "9", "1", "3"]), PLAN, "train")
    told = f"{refusal.value} {refusal.value.detail} {refusal.value.hint}"
    assert "SECRET" not in told
