"""Does a data contract refuse what a hospital or a model could not act on?"""

from __future__ import annotations

from typing import Any

import pytest

from schemas.canonical import build
from schemas.errors import ConfigError
from schemas.governance.terms import Column, DataTerms, Feature

AGE = {"name": "age", "kind": "number", "minimum": 0, "maximum": 120, "suspicious": [0]}
SEX = {"name": "sex", "kind": "category", "codes": ["f", "m"]}
NUM = {"name": "num", "kind": "integer"}
TABLE: dict[str, Any] = {
    "source": "table",
    "patient_column": "chart",
    "columns": [AGE, SEX, NUM],
    "label": "num",
    "label_positive": ["1"],
    "split_column": "split",
    "minimum_class_count_in_test": 5,
}
YES = {"label_positive": ["yes"]}
LABEL = {"name": "label", "kind": "category", "codes": ["0", "1"]}
DICOM: dict[str, Any] = {
    **TABLE,
    "source": "dicom",
    "columns": [LABEL],
    "label": "label",
    "image_rows": 28,
    "image_columns": 28,
}


@pytest.mark.parametrize("values", [TABLE, DICOM])
def test_a_plain_contract_passes(values: dict[str, Any]) -> None:
    terms = build(DataTerms, values)
    assert terms.label_column.name == terms.label


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({**SEX, "codes": []}, "codes belong to a category"),
        ({**AGE, "codes": ["1"]}, "codes belong to a category"),
        ({**SEX, "codes": ["f", "f"]}, "a code occurs twice"),
        ({**SEX, "minimum": 0}, "only numbers"),
        ({**SEX, "suspicious": [1]}, "only numbers"),
        ({"name": "flag", "kind": "boolean", "maximum": 1}, "only numbers"),
        ({**AGE, "minimum": 121}, "minimum is above"),
        ({**AGE, "name": "a-b"}, "pattern"),
        ({**AGE, "kind": "date"}, "Input should be"),
        ({**AGE, "maximum": 1e300}, "less than"),
    ],
)
def test_a_column_that_contradicts_itself_is_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        build(Column, values)


@pytest.mark.parametrize(
    ("base", "changes", "why"),
    [
        (TABLE, {"columns": [AGE, AGE, NUM]}, "a column occurs twice"),
        (TABLE, {"label": "other"}, "label is not a column"),
        (TABLE, {"patient_column": "num"}, "three different columns"),
        (TABLE, {"split_column": "chart"}, "three different columns"),
        (TABLE, {"columns": [{**NUM, "required": False}]}, "label must be a required"),
        (TABLE, {"label_positive": ["1", "1"]}, "positive label value occurs twice"),
        (TABLE, {"label_positive": []}, "at least 1"),
        (TABLE, {"label_positive": ["01"]}, "written as integers"),
        (TABLE, {"columns": [{"name": "num", "kind": "boolean"}], **YES}, "some, not all"),
        (TABLE, {"label_positive": ["1.0"]}, "written as integers"),
        (TABLE, {"label_positive": ["--1"]}, "written as integers"),
        (TABLE, {"label_positive": ["yes"]}, "written as integers"),
        (TABLE, {"label": "age"}, "category, an integer or a boolean"),
        (TABLE, {"minimum_class_count_in_test": 0}, "greater than or equal to 1"),
        (TABLE, {"image_rows": 28, "image_columns": 28}, "dicom source"),
        (TABLE, {"image_rows": 28}, "a table has no images"),
        (TABLE, {"columns": []}, "at least 1"),
        (DICOM, {"image_rows": 0}, "dicom source"),
        (DICOM, {"label_positive": ["2"]}, "some, not all"),
        (DICOM, {"label_positive": ["0", "1"]}, "some, not all"),
        (DICOM, {"image_rows": 1025}, "less than or equal to 1024"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(
    base: dict[str, Any], changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        build(DataTerms, {**base, **changes})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"encoding": "scale"}, "minimum below maximum"),
        ({"encoding": "scale", "minimum": 5, "maximum": 5}, "minimum below maximum"),
        ({"encoding": "scale", "maximum": 5, "levels": ["a"]}, "levels belong to one-hot"),
        ({"encoding": "one-hot"}, "levels belong to one-hot"),
        ({"encoding": "one-hot", "levels": ["a", "a"]}, "level occurs twice"),
        ({"encoding": "one-hot", "levels": ["a"], "maximum": 1}, "one-hot has no range"),
        ({"encoding": "identity", "minimum": 2, "maximum": 1}, "minimum is above"),
        ({"encoding": "z-score"}, "Input should be"),
    ],
)
def test_a_feature_that_contradicts_itself_is_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        build(Feature, {"column": "age", **values})


def test_width_counts_model_inputs() -> None:
    scale = build(Feature, {"column": "age", "encoding": "scale", "maximum": 1})
    one_hot = build(Feature, {"column": "sex", "encoding": "one-hot", "levels": ["f", "m"]})
    identity = build(Feature, {"column": "age", "encoding": "identity"})
    assert (scale.width, one_hot.width, identity.width) == (1, 2, 1)
