"""Do stored rows become the plan's features, from the plan alone, and is anything else refused?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.errors import DataRejected, ErrorCode, ProtocolError
from schemas.models.scattering import scatter
from schemas.preparation import Prepared, prepare
from site_node.cohort import load_features
from tests.support.factories import make_plan
from tests.support.learning import plan_for
from tests.support.prepared import WORDS, gappy_table, prepared_plan

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


def features_of(feature: dict[str, Any], values: list[Any], prepared: Prepared | None = None):
    """The inputs that one feature gives of some values of age, all in training."""
    columns = [
        {"name": "age", "kind": "number", "required": False},
        {"name": "cp", "kind": "category", "codes": ["1", "2", "3"], "required": False},
        {"name": "num", "kind": "integer"},
    ]
    name = feature.setdefault("column", "age")
    model = {"features": [feature], "parameters": 2}
    terms = {"epsilon": 1, "noise_multiplier": 20, "retry_cap": 0, "integer_clip": 2**18}
    needs = feature["encoding"] in ("standardise", "quantile-bins")
    needs |= feature.get("missing") == "mean"
    more = {"preparation": terms} if needs else {}
    plan, _ = make_plan(data={"columns": columns}, model=model, **more)
    rows = pa.table(
        {
            "patient": [f"{i}" for i in range(len(values))],
            "split": ["train"] * len(values),
            "label": [0] * len(values),
            name: pa.array(values),
        }
    )
    return load_features(rows, plan, "train", prepared).x.tolist()


PREPARED = Prepared(1.0, means={"age": 50.0}, scales={"age": 10.0}, bin_edges={"age": (30.0, 45.0)})
RANGE = {"minimum": 20, "maximum": 80}


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        # values 30, 45, 90 (beyond the range), and a missing one
        ({"encoding": "standardise", **RANGE, "missing": "mean"}, [[-2], [-0.5], [3], [0]]),
        (
            {"encoding": "standardise", **RANGE, "missing": "value", "missing_value": 40},
            [[-2], [-0.5], [3], [-1]],
        ),
        ({"encoding": "scale", **RANGE, "missing": "mean"}, [[-2 / 3], [-1 / 6], [1], [0]]),
        (
            {"encoding": "scale", **RANGE, "missing": "value", "missing_value": 500},
            [[-2 / 3], [-1 / 6], [1], [1]],
        ),
        ({"encoding": "identity", **RANGE, "missing": "mean"}, [[30], [45], [90], [50]]),
        ({"encoding": "identity", "missing": "value"}, [[30], [45], [90], [0]]),
        (
            {"encoding": "bins", "edges": [45, 60], "missing": "value"},
            [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]],
        ),
        (
            {"encoding": "quantile-bins", "bins": 3, **RANGE, "missing": "value"},
            [[0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]],
        ),
    ],
)
def test_every_encoding_and_rule_for_a_missing_value(feature, expected) -> None:
    """A value on an edge is in the bin above; a missing one in none; fillers are cut as values."""
    found = features_of(dict(feature), [30.0, 45.0, 90.0, None], PREPARED)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_missing_level_is_all_zeros() -> None:
    feature = {"column": "cp", "encoding": "one-hot", "levels": ["1", "3"], "missing": "value"}
    assert features_of(feature, ["1", "2", None, "3"]) == [[1, 0], [0, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize(
    "feature",
    [
        {"encoding": "scale", **RANGE},
        {"encoding": "standardise", **RANGE},
        {"encoding": "bins", "edges": [45]},
        {"encoding": "identity"},
        {"column": "cp", "encoding": "one-hot", "levels": ["1"]},
    ],
)
def test_a_missing_value_is_refused_unless_the_plan_says_otherwise(feature) -> None:
    values = ["1", None] if feature.get("column") == "cp" else [30.0, None]
    with pytest.raises(DataRejected):
        features_of(dict(feature), values, PREPARED)


def test_a_value_that_is_not_finite_is_not_a_missing_one() -> None:
    feature = {"encoding": "scale", **RANGE, "missing": "value", "missing_value": 40}
    with pytest.raises(DataRejected):
        features_of(feature, [30.0, float("nan")])


def test_no_features_without_the_constants_the_plan_prepares() -> None:
    """PRIVACY-11: no default stands in for a sum that is not there yet."""
    with pytest.raises(ProtocolError) as refused:
        features_of({"encoding": "standardise", **RANGE}, [30.0])
    assert refused.value.code is ErrorCode.PREPARATION_MISSING


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ({"encoding": "identity", "missing": "value"}, [np.inf, -np.inf, 30.0]),
        ({"encoding": "scale", **RANGE, "missing": "value"}, [1.0, -1.0, -2 / 3]),
    ],
)
def test_a_huge_value_is_cut_or_infinite_without_a_warning(
    feature: dict[str, Any], expected: list[float]
) -> None:
    """PRIVACY-2: a warning would be written to a log (here warnings are errors)."""
    assert features_of(feature, [1.7e308, -1.7e308, 30.0]) == [
        [np.float32(each)] for each in expected
    ]


def test_two_preparations_give_two_sets_of_features() -> None:
    """The fingerprint of the evaluation's patients covers what they were prepared by."""
    plan = prepared_plan()
    rows = gappy_table(1)
    first, second = (
        load_features(rows, plan, "test", prepare(plan, summed)).sha256()
        for summed in np.random.default_rng(9).integers(0, 2**24, (2, WORDS))
    )
    assert first != second


def test_times_of_follow_up_come_with_the_rows() -> None:
    plan = plan_for("cox")
    rows = table(days=[3, 0, 5, 9999])
    features = load_features(rows, plan, "train")
    assert features.time is not None
    assert features.time.tolist() == [0.0, 3.0]
    assert load_features(table(days=[3, 1, 5, 9]), plan, "train").sha256() != features.sha256()
    assert load_features(table(), PLAN, "train").time is None
    for wrong in ([3, None, 5, 9], [3.0, -1.0, 5.0, 9.0]):
        with pytest.raises(DataRejected):
            load_features(table(days=wrong), plan, "train")
    both = plan_for("cox", max_images_per_patient=2)
    assert load_features(table(days=[3, 7, 5, 7]), both, "train").time.tolist() == [7, 7, 3]
    with pytest.raises(DataRejected, match="two times"):
        load_features(table(days=[3, 7, 5, 8]), both, "train")
    two_rows, _ = make_plan(
        model=plan.model.model_dump(mode="json"),
        data=plan.data.model_dump(mode="json"),
        training={"max_images_per_patient": 2},
    )
    assert load_features(table(days=[3, 7, 5, 7]), two_rows, "train").patients == 2
    # Rounded to float32, without a warning that a log could show.
    assert load_features(table(days=[3, 1e39, 5, 9]), plan, "train").time.tolist() == [np.inf, 3]
    with pytest.raises(DataRejected):  # "a" was followed for 7 days and for 8
        load_features(table(days=[3, 7, 5, 8]), two_rows, "train")


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
