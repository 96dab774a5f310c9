"""What came in, what was stored, what was set aside and why? Counts and codes, never a value."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.canonical import Document
from schemas.errors import ErrorCode
from schemas.tables.contract import Finding

Count = Annotated[int, Field(ge=0)]


class SplitCounts(Document):
    """Count what is stored of one split."""

    patients: Count = 0
    rows: Count = 0
    positive: Count = 0  # rows with a positive label
    negative: Count = 0


class DeidCounts(Document):
    """Count what de-identification did, by action and by refusal code."""

    records: Count
    actions: dict[str, int]
    refused: dict[str, int]


class IngestReport(Document):
    """Account for every record of one ingest. It stays at the hospital.

    `read` counts rows of a table or image files; `stored` plus all of `quarantined` is `read`. With
    images, label rows are accounted beside them in the same way.
    """

    version: Literal[1] = 1
    study_id: str
    source: Literal["table", "dicom"]
    data_terms_sha256: str  # the data contract that the rows were checked against
    read: Count
    stored: Count
    quarantined: dict[str, int]  # records, by code
    label_rows_read: Count = 0
    label_rows_joined: Count = 0
    label_rows_quarantined: dict[str, int] = Field(default_factory=dict)
    train: SplitCounts
    test: SplitCounts
    findings: tuple[Finding, ...]
    deid: DeidCounts
    deid_profile: str
    deid_profile_sha256: str
    snapshot: str | None  # None: nothing could be stored
    seconds: float

    @model_validator(mode="after")
    def _adds_up(self) -> IngestReport:
        if self.stored + sum(self.quarantined.values()) != self.read:
            raise ValueError("stored and quarantined records do not add up to those read")
        joined = self.label_rows_joined + sum(self.label_rows_quarantined.values())
        if joined != self.label_rows_read:
            raise ValueError("joined and quarantined label rows do not add up to those read")
        if self.train.rows + self.test.rows != self.stored:
            raise ValueError("the rows of train and test do not add up to those stored")
        return self

    @property
    def accepted(self) -> bool:
        """Tell whether data were stored."""
        return self.snapshot is not None

    @property
    def warnings(self) -> tuple[ErrorCode, ...]:
        """Give the codes of everything found, in order, once each."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings))

    def to_json(self) -> str:
        """Give the report as canonical JSON."""
        return self.canonical().decode("utf-8")
