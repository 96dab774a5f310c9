"""How does raw data become the study's encrypted rows? The inbound spine, step by step.

1 read a record · 2 de-identify it · 3 check it against the contract · 4 drop nobody silently:
what fails goes to quarantine with a code · 5 check patients across records · 6 publish atomically
· 7 report. Every record read is either stored or in quarantine; the report refuses to be built
otherwise.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deid import DeidRefusal, DeidReport, Profile, Pseudonymiser, shipped_profile
from deid.actions import Kind as ActionKind
from deid.dicom import DicomDeidentifier, pixel_plane
from deid.pixels import TextDetector
from deid.tabular import TableDeidentifier
from schemas.errors import ConfigError, ErrorCode
from schemas.governance.study import DataTerms
from schemas.tables.contract import (
    CheckedRow,
    Finding,
    RowRefused,
    Severity,
    check_header,
    check_row,
)
from site_node.ingest.quarantine import Kind, Quarantine
from site_node.ingest.report import DeidCounts, IngestReport, SplitCounts
from site_node.ingest.sources import (
    EXTRACT_NAME,
    LABELS_NAME,
    RawTable,
    image_files,
    open_table,
    read_image_file,
)
from site_node.ingest.table import StudyRow, build_table
from site_node.store import Store

ACCESSION_COLUMN = "AccessionNumber"
Progress = Callable[[int, int], None]
"""Called with (records done, records in all; 0 if unknown)."""

_PROFILES = {"table": "ehr-table", "dicom": "research"}


@dataclass(slots=True)
class _Run:
    """Carry one ingest's terms, tools and counts."""

    data: DataTerms
    profile: Profile
    pseudonyms: Pseudonymiser
    progress: Progress
    quarantine: Quarantine = field(default_factory=Quarantine)
    deid: DeidReport = field(default_factory=DeidReport)
    findings: list[Finding] = field(default_factory=list)
    read: int = 0
    label_rows_read: int = 0
    label_rows_joined: int = 0


def profile_for(data: DataTerms) -> Profile:
    """Give the shipped profile for a study's kind of source; its digest stands in the plan."""
    return shipped_profile(_PROFILES[data.source])


def ingest(
    source: Path,
    *,
    study_id: str,
    data: DataTerms,
    secret: bytes,
    store: Store,
    quarantine: Path,
    progress: Progress | None = None,
    profile: Profile | None = None,
    accept: Callable[[int], None] | None = None,
) -> IngestReport:
    """Take a raw folder in: de-identify, check, store encrypted, report. Safe to repeat.

    Args:
        source: the study's raw folder; read only, never changed.
        study_id: the study; also the project of its pseudonyms.
        data: the plan's data contract.
        secret: the hospital's de-identification secret, at least 32 bytes.
        store: where the rows go.
        quarantine: the folder of quarantine lists.
        progress: called now and then with (records done, records in all; 0 if unknown).
        profile: the keep-list; by default the shipped one for the source.
        accept: called with the number of training patients before anything is stored; may raise.

    Returns:
        The report. If nothing could be stored, `accepted` is False and what was in the store
        before is unchanged.

    Raises:
        ConfigError: the source is not there, or the contract asks for what the keep-list removes.
        InternalError: the store cannot be written.
    """
    started = time.perf_counter()
    run = _Run(
        data=data,
        profile=profile or profile_for(data),
        pseudonyms=Pseudonymiser(secret, study_id),
        progress=progress or (lambda _done, _total: None),
    )
    _check_profile(run)
    kind: Kind = "row" if data.source == "table" else "image"
    rows = list(_table_rows(run, source) if kind == "row" else _image_rows(run, source))
    rows = _check_patients(run, rows, kind)
    rows.sort(key=lambda row: (row.patient, row.order))
    of: dict[Kind, int] = {"row": run.read, "image": run.read, "label": run.label_rows_read}
    findings = (*run.findings, *run.quarantine.findings(of), *_warnings(run, rows))
    body = {
        "version": 1,
        "study_id": study_id,
        "source": data.source,
        "data_terms_sha256": data.digest(),
        "read": run.read,
        "stored": len(rows),
        "quarantined": run.quarantine.by_code(kind),
        "label_rows_read": run.label_rows_read,
        "label_rows_joined": run.label_rows_joined,
        "label_rows_quarantined": run.quarantine.by_code("label"),
        "train": _count(rows, "train"),
        "test": _count(rows, "test"),
        "findings": findings,
        "deid": DeidCounts(
            records=run.deid.records,
            actions={str(k): n for k, n in sorted(run.deid.actions.items())},
            refused={str(k): n for k, n in sorted(run.deid.refused.items())},
        ),
        "deid_profile": run.profile.name,
        "deid_profile_sha256": run.profile.digest,
    }
    counted = IngestReport.model_validate({**body, "snapshot": None, "seconds": 0.0})
    if accept is not None:
        accept(counted.train.patients)
    run.quarantine.write(quarantine, study_id)
    snapshot = None
    if rows:
        kept = counted.model_dump(mode="json", exclude={"snapshot", "seconds"})
        snapshot = store.write(study_id, build_table(data, rows), kept)
    seconds = round(time.perf_counter() - started, 3)
    return IngestReport.model_validate({**body, "snapshot": snapshot, "seconds": seconds})


def _table_rows(run: _Run, source: Path) -> Iterator[StudyRow]:
    """Give the rows of a table that are clean and fulfil the contract."""
    for line, clean in _clean_rows(run, open_table(source, EXTRACT_NAME), "row"):
        try:
            checked = check_row(run.data, clean)
        except RowRefused as refused:
            run.quarantine.add("row", line, refused.code, refused.column)
            continue
        yield StudyRow(clean[run.data.patient_column], f"{line:012d}", line, checked)


def _clean_rows(run: _Run, table: RawTable, kind: Kind) -> Iterator[tuple[int, dict[str, str]]]:
    """Give a table's rows de-identified, with their lines; what cannot be used is set aside."""
    missing = () if table.problem else check_header(run.data, table.header)
    run.findings += missing
    if table.problem is not None:
        run.findings.append(_extract_finding(table.problem))
    cleaner = TableDeidentifier(run.profile, run.pseudonyms, run.data.patient_column, run.deid)
    seen: set[tuple[str, ...]] = set()
    count = 0
    for row in table.rows():
        count += 1
        if kind == "row":
            run.progress(count, table.lines)
        if missing:
            run.quarantine.add(kind, row.line, missing[0].code, missing[0].column)
        elif row.cells is None:
            run.quarantine.add(kind, row.line, ErrorCode.ROW_MALFORMED)
        else:
            try:
                clean = cleaner.clean(dict(zip(table.header, row.cells, strict=True)))
            except DeidRefusal as refused:
                run.quarantine.add(kind, row.line, refused.code)
                continue
            content = tuple(clean.values())
            if content in seen:
                run.quarantine.add(kind, row.line, ErrorCode.ROW_DUPLICATE)
                continue
            seen.add(content)
            yield row.line, clean
    if kind == "row":
        run.read = count
    else:
        run.label_rows_read = count
    if count == 0 and table.problem is None:
        run.findings.append(_extract_finding(ErrorCode.SOURCE_EMPTY))


@dataclass(slots=True)
class _Label:
    """Hold one label row under its (patient, accession) key."""

    line: int
    checked: CheckedRow
    used: bool = False


def _labels(run: _Run, source: Path) -> dict[tuple[str, str], _Label]:
    """Read the label table, keyed by the pseudonyms of PatientID and AccessionNumber."""
    labels: dict[tuple[str, str], _Label] = {}
    conflicts: set[tuple[str, str]] = set()
    for line, clean in _clean_rows(run, open_table(source, LABELS_NAME), "label"):
        key = (clean[run.data.patient_column], clean.get(ACCESSION_COLUMN, ""))
        if not key[1]:
            run.quarantine.add("label", line, ErrorCode.ROW_INCOMPLETE, ACCESSION_COLUMN)
            continue
        if key in labels or key in conflicts:  # two different label rows for one examination
            run.quarantine.add("label", line, ErrorCode.LABEL_CONFLICT)
            if first := labels.pop(key, None):
                run.quarantine.add("label", first.line, ErrorCode.LABEL_CONFLICT)
            conflicts.add(key)
            continue
        try:
            labels[key] = _Label(line, check_row(run.data, clean))
        except RowRefused as refused:
            run.quarantine.add("label", line, refused.code, refused.column)
    return labels


def _image_rows(run: _Run, source: Path) -> Iterator[StudyRow]:
    """Give the images that are clean, have a label and the size the study asks for."""
    labels = _labels(run, source)
    # Faces are held back: a site node has no steward's exception. An image without a patient's
    # number is refused, because patients are what the study protects and counts.
    cleaner = DicomDeidentifier(
        run.profile, run.pseudonyms, run.deid, detector=_text_detector(), require_patient=True
    )
    files = image_files(source)
    if not files:
        run.findings.append(_extract_finding(ErrorCode.SOURCE_EMPTY))
    # A patient's own repetitions only: if two patients claim one UID, both images are kept. Setting
    # the second aside, or both, would let one person's presence take rows from another, and a
    # patient's rows must be a function of this patient's files alone (PRIVACY-19). Nothing after
    # this finds an image by its UID. Which of a patient's own is first, follows the file names.
    seen: set[tuple[str, str]] = set()
    for place, path in enumerate(files, start=1):
        run.read += 1
        run.progress(place, len(files))
        raw = read_image_file(path)
        if isinstance(raw, ErrorCode):
            run.quarantine.add("image", place, raw)
            continue
        try:
            image = cleaner.clean(raw)
            pixels = pixel_plane(image, run.data.image_rows, run.data.image_columns)
        except DeidRefusal as refused:
            run.quarantine.add("image", place, refused.code)
            continue
        instance = (image.patient, image.uid)
        if instance in seen:
            run.quarantine.add("image", place, ErrorCode.DICOM_DUPLICATE)
            continue
        seen.add(instance)
        label = labels.get((image.patient, image.record))
        if label is None:
            run.quarantine.add("image", place, ErrorCode.IMAGE_WITHOUT_LABEL)
            continue
        label.used = True
        yield StudyRow(image.patient, image.uid, place, label.checked, pixels)
    for label in labels.values():
        if label.used:
            run.label_rows_joined += 1
        else:
            run.quarantine.add("label", label.line, ErrorCode.LABEL_WITHOUT_IMAGE)


def _check_patients(run: _Run, rows: list[StudyRow], kind: Kind) -> list[StudyRow]:
    """Keep patients in one split only, and one test record a patient.

    A patient in both would be tested on what trained the model; a second test record would count
    one patient twice where the release promises at least ten patients behind a point.
    """
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.patient, set()).add(row.checked.split)
    kept: list[StudyRow] = []
    tested: set[str] = set()
    for row in rows:
        if len(splits[row.patient]) > 1:
            run.quarantine.add(kind, row.pointer, ErrorCode.SPLIT_OVERLAP)
        elif row.checked.split == "test" and row.patient in tested:
            run.quarantine.add(kind, row.pointer, ErrorCode.TEST_PATIENT_REPEATED)
        else:
            if row.checked.split == "test":
                tested.add(row.patient)
            kept.append(row)
    return kept


def _warnings(run: _Run, rows: list[StudyRow]) -> Iterator[Finding]:
    """Find what is stored but should be looked at: values that are missing, or look like it."""
    contract = [column for column in run.data.columns if column.name != run.data.label]
    for at, column in enumerate(contract):
        missing = sum(row.checked.cells[at] is None for row in rows)
        odd = sum(column.name in row.checked.suspicious for row in rows)
        for code, count in ((ErrorCode.VALUE_MISSING, missing), (ErrorCode.VALUE_SUSPICIOUS, odd)):
            if count:
                yield Finding(
                    code=code,
                    column=column.name,
                    severity=Severity.WARNING,
                    count=count,
                    of=len(rows),
                )
    test = _count(rows, "test")
    rare = min(test.positive, test.negative)
    if rows and rare < run.data.minimum_class_count_in_test:
        yield Finding(
            code=ErrorCode.CLASS_COUNT_LOW,
            column=run.data.label,
            severity=Severity.WARNING,
            count=rare,
            of=test.rows,
        )


def _count(rows: list[StudyRow], split: str) -> SplitCounts:
    chosen = [row for row in rows if row.checked.split == split]
    positive = sum(row.checked.label for row in chosen)
    return SplitCounts(
        patients=len({row.patient for row in chosen}),
        rows=len(chosen),
        positive=positive,
        negative=len(chosen) - positive,
    )


def _check_profile(run: _Run) -> None:
    """Refuse a contract that asks for a column the keep-list would remove."""
    rules = run.profile.table
    wanted = {run.data.split_column, *(column.name for column in run.data.columns)}
    patient = rules.get(run.data.patient_column)
    if (
        patient is None
        or patient.kind is not ActionKind.PATIENT
        or any(name not in rules or rules[name].kind is not ActionKind.KEEP for name in wanted)
    ):
        raise ConfigError(
            ErrorCode.PLAN_DEID_PROFILE_MISMATCH,
            "The study asks for a column that the de-identification profile does not keep.",
            hint="The plan's data terms and its de-identification profile must fit.",
        )


@functools.cache
def _text_detector() -> TextDetector | None:
    """Load the network that finds text in pixels, once; None if it is not installed."""
    return TextDetector.load()


def _extract_finding(code: ErrorCode) -> Finding:
    return Finding(code=code, severity=Severity.QUARANTINED, count=0, of=0)
