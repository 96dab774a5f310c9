from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ConfigError, ErrorCode, PolicyDenied
from schemas.governance.study import Column, DataTerms
from schemas.tables import Severity
from site_node.ingest import IngestReport, ingest, profile_for
from site_node.store import Store
from tests.support.forge import SECRET, STORE_KEY, table_terms

HEADER = "name,rrn,chart_no,phone,visit_date,note,age,sex,chol,ca,num,split"
GOOD = "홍길동,630412-1234567,K{n},010-2345-6789,2024-03-15,홍길동 내원,63.0,1,233,?,2,train"
IDENTITY = ("홍길동", "630412-1234567", "K10000001", "010-2345-6789", "2024-03-15", "내원")


def _row(n: int, **changes: str) -> str:
    cells = dict(zip(HEADER.split(","), GOOD.format(n=10_000_000 + n).split(","), strict=True))
    return ",".join({**cells, **changes}.values())


def _ingest(
    tmp_path: Path, lines: Iterable[str], data: DataTerms | None = None, **options: Any
) -> IngestReport:
    source = tmp_path / "raw"
    source.mkdir(exist_ok=True)
    (source / "extract.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ingest(
        source,
        study_id="heart",
        data=data or table_terms(),
        secret=SECRET,
        store=_store(tmp_path),
        quarantine=tmp_path / "quarantine",
        **options,
    )


def _store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", STORE_KEY)


def _quarantine(tmp_path: Path) -> list[dict[str, Any]]:
    text = (tmp_path / "quarantine" / "heart.jsonl").read_text("ascii")
    return [json.loads(line) for line in text.splitlines()]


def test_good_rows_are_stored_typed_and_pseudonymised(tmp_path: Path) -> None:
    report = _ingest(tmp_path, [HEADER, _row(1), _row(2, split="test", num="0", chol="0")])
    assert report.accepted and (report.read, report.stored, report.quarantined) == (2, 2, {})
    assert (report.train.patients, report.test.patients, report.test.negative) == (1, 1, 1)
    table = _store(tmp_path).read("heart")
    names = ["patient", "split", "label", "age", "sex", "chol", "ca"]
    assert table.column_names == names
    rows = sorted(table.to_pylist(), key=lambda row: row["split"])
    assert rows[0]["label"] == 0 and rows[1]["age"] == 63 and rows[1]["ca"] is None
    assert all(row["patient"].startswith("P") and len(row["patient"]) == 27 for row in rows)
    assert _store(tmp_path).snapshot("heart") == report.snapshot


def test_every_bad_row_is_quarantined_with_its_reason_and_line(tmp_path: Path) -> None:
    lines = [
        HEADER,
        _row(1),
        _row(2, chol="?"),
        _row(3, age="old"),
        _row(4, sex="7"),
        _row(5, age="200"),
        _row(6, split="val"),
        _row(7, chart_no=""),
        _row(8) + ",extra",
        _row(1),
        _row(9, age="63 010-2345-6789"),
        _row(10, split=""),
    ]
    report = _ingest(tmp_path, lines)
    assert (report.read, report.stored) == (11, 1)
    assert {entry["pointer"]: entry["code"] for entry in _quarantine(tmp_path)} == {
        3: "ingest.row_incomplete",
        4: "ingest.value_type",
        5: "ingest.value_code_unknown",
        6: "ingest.value_range",
        7: "ingest.split_unknown",
        8: "ingest.patient_missing",
        9: "ingest.row_malformed",
        10: "ingest.row_duplicate",
        11: "ingest.identifier_left",
        12: "ingest.row_incomplete",
    }
    found = {(f.code, f.column): f.count for f in report.findings}
    assert found[ErrorCode.ROW_INCOMPLETE, "chol"] == 1
    assert found[ErrorCode.ROW_INCOMPLETE, "split"] == 1


def test_a_patient_in_both_splits_or_tested_twice_is_taken_out(tmp_path: Path) -> None:
    lines = [
        HEADER,
        _row(1),
        _row(1, split="test"),
        _row(2, split="test"),
        _row(2, split="test", age="64"),
        _row(3),
        _row(3, age="64"),
    ]
    report = _ingest(tmp_path, lines)
    codes = {"ingest.split_overlap": 2, "ingest.test_patient_repeated": 1}
    assert report.quarantined == codes
    assert (report.stored, report.train.patients, report.train.rows) == (3, 1, 2)


def test_warnings_count_what_is_stored_but_odd(tmp_path: Path) -> None:
    lines = [HEADER, _row(1, chol="0"), _row(2, chol="0"), _row(3, split="test"), _row(4)]
    report = _ingest(tmp_path, lines, table_terms(minimum_class_count_in_test=2))
    warnings = [f for f in report.findings if f.severity is Severity.WARNING]
    found = [(f.code, f.column, f.count, f.of) for f in warnings]
    assert found == [
        (ErrorCode.VALUE_SUSPICIOUS, "chol", 2, 4),
        (ErrorCode.VALUE_MISSING, "ca", 4, 4),
        (ErrorCode.CLASS_COUNT_LOW, "num", 0, 1),
    ]
    assert set(report.warnings) == {finding[0] for finding in found}


def test_missing_values_of_optional_columns_are_stored_as_such_and_counted(
    tmp_path: Path,
) -> None:
    """PRIVACY-11: what is filled in later is not filled in here, and nobody guesses how often."""
    lines = [HEADER, _row(1, ca="2.0"), _row(2, ca=""), _row(3, ca="?"), _row(4, ca="0")]
    report = _ingest(tmp_path, lines)
    assert (report.stored, report.quarantined) == (4, {})
    assert sorted(_store(tmp_path).read("heart")["ca"].to_pylist(), key=str) == [
        0, 2, None, None,
    ]  # fmt: skip
    missing = [f for f in report.findings if f.code is ErrorCode.VALUE_MISSING]
    assert [(f.column, f.count, f.of, f.severity) for f in missing] == [
        ("ca", 2, 4, Severity.WARNING)
    ]


@pytest.mark.parametrize("column", ["chart_no", "age", "num", "split"])
def test_a_missing_column_refuses_every_row_and_loses_none(tmp_path: Path, column: str) -> None:
    report = _ingest(tmp_path, [HEADER.replace(column, "something"), _row(1), _row(2)])
    assert not report.accepted and (report.read, report.stored) == (2, 0)
    assert report.quarantined == {"ingest.column_missing": 2}
    assert report.findings[0].column == column
    assert not _store(tmp_path).has("heart")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ErrorCode.FILE_EMPTY),
        (HEADER.encode() + b"\n", ErrorCode.SOURCE_EMPTY),
        (b"\xff\xff,\n", ErrorCode.FILE_ENCODING),
    ],
)
def test_an_extract_without_rows_is_reported(tmp_path: Path, raw: bytes, code: ErrorCode) -> None:
    (tmp_path / "extract.csv").write_bytes(raw)
    report = ingest(
        tmp_path / "extract.csv",
        study_id="heart",
        data=table_terms(),
        secret=SECRET,
        store=_store(tmp_path),
        quarantine=tmp_path / "quarantine",
    )
    assert not report.accepted and report.read == 0 and report.warnings == (code,)


def test_an_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ingest(
            tmp_path / "absent",
            study_id="heart",
            data=table_terms(),
            secret=SECRET,
            store=_store(tmp_path),
            quarantine=tmp_path / "quarantine",
        )
    assert caught.value.code is ErrorCode.SOURCE_MISSING


@pytest.mark.parametrize(
    "data",
    [
        table_terms(patient_column="name"),
        table_terms(patient_column="age", columns=table_terms().columns[1:]),
        table_terms(columns=(*table_terms().columns, Column(name="note", kind="number"))),
        table_terms(split_column="phone"),
    ],
    ids=["unlisted-patient", "patient-kept", "unlisted-column", "unlisted-split"],
)
def test_a_contract_that_asks_for_what_the_keep_list_removes_is_refused(
    tmp_path: Path, data: DataTerms
) -> None:
    with pytest.raises(ConfigError) as caught:
        _ingest(tmp_path, [HEADER, _row(1)], data)
    assert caught.value.code is ErrorCode.PLAN_DEID_PROFILE_MISMATCH


def test_a_second_ingest_of_the_same_data_changes_nothing(tmp_path: Path) -> None:
    first = _ingest(tmp_path, [HEADER, _row(1), _row(2)])
    second = _ingest(tmp_path, [HEADER, _row(1), _row(2)])
    assert first.snapshot == second.snapshot
    assert len(list((tmp_path / "store").rglob("data.parquet"))) == 1


def test_a_bad_extract_leaves_the_stored_data_in_force(tmp_path: Path) -> None:
    first = _ingest(tmp_path, [HEADER, _row(1)])
    assert not _ingest(tmp_path, [HEADER]).accepted
    assert _store(tmp_path).snapshot("heart") == first.snapshot


def test_nothing_identifying_is_written_and_the_raw_file_stays_untouched(tmp_path: Path) -> None:
    lines = [HEADER, _row(1), _row(2, age="홍길동"), _row(3, chol="")]
    seen: list[tuple[int, int]] = []
    report = _ingest(tmp_path, lines, progress=lambda done, total: seen.append((done, total)))
    raw = (tmp_path / "raw" / "extract.csv").read_text("utf-8")
    assert raw == "\n".join(lines) + "\n"
    rows = json.dumps(_store(tmp_path).read("heart").to_pylist(), ensure_ascii=False)
    files = b"".join(
        path.read_bytes()
        for folder in ("store", "quarantine")
        for path in (tmp_path / folder).rglob("*")
        if path.is_file()
    )
    for planted in IDENTITY:
        assert planted in raw  # positive control
        assert planted not in rows and planted not in report.to_json()
        assert planted.encode() not in files
    assert seen[-1] == (3, 4)


def test_the_report_names_the_profile_it_used(tmp_path: Path) -> None:
    report = _ingest(tmp_path, [HEADER, _row(1)])
    profile = profile_for(table_terms())
    assert (report.deid_profile, report.deid_profile_sha256) == (profile.name, profile.digest)
    stored = _store(tmp_path).report("heart")
    assert stored["read"] == 1 and stored["deid_profile_sha256"] == profile.digest


def test_who_is_asked_first_may_refuse_and_nothing_is_stored(tmp_path: Path) -> None:
    """PRIVACY-14: a hospital too large for the plan's delta keeps nothing for it."""
    before = _ingest(tmp_path, [HEADER, _row(1)])
    asked: list[int] = []

    def refuse(patients: int) -> None:
        asked.append(patients)
        raise PolicyDenied(ErrorCode.PLAN_DELTA_PATIENTS, "Too many.")

    rows = [_row(1), _row(2), _row(3, split="test")]
    with pytest.raises(PolicyDenied):
        _ingest(tmp_path, [HEADER, *rows], accept=refuse)
    assert asked == [2]  # training patients, not test patients
    assert _store(tmp_path).snapshot("heart") == before.snapshot
