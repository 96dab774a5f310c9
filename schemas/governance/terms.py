"""Which data does a plan expect at a hospital, and how do they become model inputs?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas import limits
from schemas.canonical import Document
from schemas.ids import Code, ColumnName

Bound = Annotated[float, Field(ge=-1e12, le=1e12)]


class Column(Document):
    """One column of the extract as the contract wants it."""

    name: ColumnName
    kind: Literal["integer", "number", "category", "boolean"]
    codes: Annotated[tuple[Code, ...], Field(max_length=limits.MAX_CODES)] = ()
    minimum: Bound | None = None  # in the column's own unit; outside it a row is quarantined
    maximum: Bound | None = None
    required: bool = True
    suspicious: Annotated[tuple[Bound, ...], Field(max_length=20)] = ()  # warned of, kept

    @model_validator(mode="after")
    def _consistent(self) -> Column:
        if (self.kind == "category") != bool(self.codes):
            raise ValueError(f"column {self.name}: codes belong to a category, and only there")
        if len(set(self.codes)) != len(self.codes):
            raise ValueError(f"column {self.name}: a code occurs twice")
        numeric = self.kind in ("integer", "number")
        if not numeric and (
            self.minimum is not None or self.maximum is not None or self.suspicious
        ):
            raise ValueError(f"column {self.name}: only numbers have a range or sentinels")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"column {self.name}: minimum is above maximum")
        return self


class DataTerms(Document):
    """The data contract: what a hospital's extract must hold."""

    source: Literal["table", "dicom"]
    patient_column: ColumnName  # the raw patient identifier; replaced by a pseudonym
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=limits.MAX_COLUMNS)]
    label: ColumnName  # one of ``columns``
    label_positive: Annotated[tuple[Code, ...], Field(min_length=1, max_length=limits.MAX_CODES)]
    split_column: ColumnName  # values "train" and "test"
    minimum_class_count_in_test: Annotated[int, Field(ge=1, le=100_000)]  # patients, all sites
    time_column: ColumnName | None = None  # cox: follow-up until the event or the last contact
    image_rows: Annotated[int, Field(ge=0, le=limits.MAX_IMAGE_SIDE)] = 0  # pixels; dicom only
    image_columns: Annotated[int, Field(ge=0, le=limits.MAX_IMAGE_SIDE)] = 0

    @property
    def label_column(self) -> Column:
        """The contract of the label."""
        return next(column for column in self.columns if column.name == self.label)

    @model_validator(mode="after")
    def _consistent(self) -> DataTerms:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("a column occurs twice in the data contract")
        if self.label not in names:
            raise ValueError("the label is not a column of the data contract")
        if len({self.label, self.patient_column, self.split_column}) != 3:
            raise ValueError("label, patient and split must be three different columns")
        if not self.label_column.required:
            raise ValueError("the label must be a required column")
        if self.time_column is not None:
            self._check_time(self.time_column)
        if len(set(self.label_positive)) != len(self.label_positive):
            raise ValueError("a positive label value occurs twice")
        if self.label_column.kind == "number":
            raise ValueError("the label must be a category, an integer or a boolean")
        if self.label_column.kind == "integer" and not all(map(_is_integer, self.label_positive)):
            raise ValueError("the positive values of an integer label are written as integers")
        codes = ("0", "1") if self.label_column.kind == "boolean" else self.label_column.codes
        if codes and not set(self.label_positive) < set(codes):
            raise ValueError("the positive label values must be some, not all, of its codes")
        if (self.source == "dicom") != (self.image_rows > 0 and self.image_columns > 0):
            raise ValueError("a dicom source, and only that, has image_rows and image_columns")
        if self.source == "table" and (self.image_rows or self.image_columns):
            raise ValueError("a table has no images")
        return self

    def _check_time(self, name: str) -> None:
        column = next((column for column in self.columns if column.name == name), None)
        if column is None or name in (self.label, self.patient_column, self.split_column):
            raise ValueError("time_column is a column of the data contract of its own")
        if column.kind not in ("integer", "number") or not column.required:
            raise ValueError("time_column is a required number")
        if column.minimum is None or column.minimum < 0:
            raise ValueError("time_column has a minimum of at least 0")


class Feature(Document):
    """How one column becomes model inputs; ranges come from the plan, never from the rows.

    | encoding | gives | constants |
    | --- | --- | --- |
    | scale | the range cut and mapped to −1 … 1 | minimum, maximum |
    | standardise | (v − mean)/sd, v cut to the range | minimum, maximum; mean, sd: preparation |
    | bins | one input a bin | edges |
    | quantile-bins | one input a bin | minimum, maximum, bins; edges: preparation |
    | one-hot | one input a level | levels |
    | identity | the number itself | none |
    """

    column: ColumnName
    encoding: Literal["scale", "standardise", "bins", "quantile-bins", "one-hot", "identity"]
    minimum: Bound = 0.0  # scale: becomes -1
    maximum: Bound = 0.0  # scale: becomes 1; values beyond are cut
    levels: Annotated[tuple[Code, ...], Field(max_length=limits.MAX_CODES)] = ()
    edges: Annotated[tuple[Bound, ...], Field(max_length=limits.MAX_FEATURE_BINS - 1)] = ()
    bins: Annotated[int, Field(ge=0, le=limits.MAX_FEATURE_BINS)] = 0
    # of a missing value: refuse the data, take missing_value, or take the preparation's mean
    missing: Literal["refuse", "value", "mean"] = "refuse"
    missing_value: Bound = 0.0  # in the column's own unit; one-hot and bins: all inputs zero

    @property
    def width(self) -> int:
        """Number of model inputs."""
        match self.encoding:
            case "one-hot":
                return len(self.levels)
            case "bins":
                return len(self.edges) + 1
            case "quantile-bins":
                return self.bins
        return 1

    @property
    def has_range(self) -> bool:
        """Whether minimum and maximum bound the values."""
        needed = self.encoding in ("scale", "standardise", "quantile-bins")
        return needed or self.missing == "mean"

    @model_validator(mode="after")
    def _consistent(self) -> Feature:
        name = f"feature {self.column}"
        if self.has_range and not self.minimum < self.maximum:
            raise ValueError(f"{name}: {self.encoding} needs minimum below maximum")
        if self.encoding in ("one-hot", "bins") and (self.minimum, self.maximum) != (0.0, 0.0):
            raise ValueError(f"{name}: {self.encoding} has no range")
        if self.minimum > self.maximum:
            raise ValueError(f"{name}: minimum is above maximum")
        if (self.encoding == "one-hot") != bool(self.levels):
            raise ValueError(f"{name}: levels belong to one-hot, and only there")
        if len(set(self.levels)) != len(self.levels):
            raise ValueError(f"{name}: a level occurs twice")
        return self

    @model_validator(mode="after")
    def _bins(self) -> Feature:
        name = f"feature {self.column}"
        if (self.encoding == "bins") != bool(self.edges):
            raise ValueError(f"{name}: edges belong to bins, and only there")
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"{name}: edges ascend")
        if (self.encoding == "quantile-bins") != (self.bins > 1):
            raise ValueError(f"{name}: bins, at least 2, belong to quantile-bins, and only there")
        return self

    @model_validator(mode="after")
    def _missing(self) -> Feature:
        name = f"feature {self.column}"
        if self.missing == "mean" and self.encoding not in ("scale", "standardise", "identity"):
            raise ValueError(f"{name}: only a number has a mean")
        if self.missing != "value" and self.missing_value != 0.0:
            raise ValueError(f"{name}: missing_value belongs to missing = value")
        return self

    def check_column(self, column: Column) -> None:
        """Refuse an encoding that its column cannot have.

        Raises:
            ValueError: A level is not a code, or a category is used as a number.
        """
        if (
            self.encoding == "one-hot"
            and column.codes
            and not set(self.levels) <= set(column.codes)
        ):
            raise ValueError(f"feature {self.column}: a level is not a code of the column")
        numeric = self.has_range or self.encoding == "bins"
        if numeric and column.kind not in ("integer", "number"):
            raise ValueError(f"feature {self.column}: only a number can be scaled or binned")
        if self.missing != "refuse" and column.required:
            raise ValueError(f"feature {self.column}: a required column misses no value")


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and str(int(text)) == text
