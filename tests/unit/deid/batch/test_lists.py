"""Do the lists add up, and appear whole or not at all?"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from deid.batch.advice import ADVICE, what_to_do
from deid.batch.journal import Detail, Entry, Pixels
from deid.batch.lists import QuarantineList, ReportWriter, Totals, percent
from schemas.errors import ErrorCode


def _image(removed: float, why: str = "examined") -> Entry:
    pixels = Pixels(
        frames=2, examined=2, detected=1, ruled=0, removed=removed, why=why,
        outside_text=removed / 2,
    )  # fmt: skip
    detail = Detail(modality="US", actions={"keep": 2}, notes=("repaired",), pixels=pixels)
    return Entry("A", "s", "c", "P/1/1.dcm", 7, detail=detail)


def test_totals_count_each_clean_file_once() -> None:
    totals = Totals()
    totals.add(_image(0.1), is_first=True)
    totals.add(_image(0.1), is_first=False)
    totals.add(_image(0.3), is_first=True)
    totals.add(_image(0.0, "too-small"), is_first=True)
    totals.add(Entry("B", "s", code=ErrorCode.FILE_EMPTY), is_first=False)
    body = totals.as_mapping()
    assert body["counts"] == {
        "read": 5, "released": 4, "quarantined": 1, "duplicates": 1, "no_longer_in_input": 0,
    }  # fmt: skip
    assert body["actions"] == {"keep": 6} and body["notes"] == {"repaired": 3}
    pixels = body["pixels"]
    assert (pixels["images"], pixels["images_redacted"], pixels["frames"]) == (3, 2, 6)
    assert (pixels["removed_fraction_mean"], pixels["removed_fraction_max"]) == (0.2, 0.3)
    assert (pixels["outside_text_mean"], pixels["outside_text_max"]) == (0.1, 0.15)
    assert pixels["by_outcome"] == {"examined": 2, "too-small": 1}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_report_is_valid_json_with_any_number_of_files(tmp_path: Path, count: int) -> None:
    path = tmp_path / "r.json"
    with ReportWriter(path) as report:
        for _ in range(count):
            report.add(_image(0.1))
        report.commit({"report": 1, "words": "한빛"})
    body = json.loads(path.read_text("utf-8"))
    assert body["words"] == "한빛" and len(body["files"]) == count
    assert [each.name for each in tmp_path.iterdir()] == ["r.json"]


def test_a_report_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with ReportWriter(tmp_path / "r.json") as report:
        report.add(_image(0.1))
    with ReportWriter(None) as nowhere:
        nowhere.add(_image(0.1))
        nowhere.commit({})
    assert list(tmp_path.iterdir()) == []


def test_the_quarantine_list_opens_in_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    with QuarantineList(path) as quarantine:
        quarantine.add('홍길동/"a,b"\n.dcm', ErrorCode.DICOM_FACE_HEAD)
        quarantine.commit()
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") and path.stat().st_mode & 0o777 == 0o600
    with path.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["input_rel"] == '홍길동/"a,b"\n.dcm' and row["code"] == "ingest.dicom_face"
    assert row["meaning"] == ErrorCode.DICOM_FACE_HEAD.meaning and "steward" in row["what_to_do"]


@pytest.mark.parametrize("name", ["=1+1.dcm", "+1.dcm", "-1.dcm", "@SUM(1).dcm", "\t=1.dcm"])
def test_a_file_name_is_no_formula_in_a_spreadsheet(tmp_path: Path, name: str) -> None:
    path = tmp_path / "q.csv"
    with QuarantineList(path) as quarantine:
        quarantine.add(name, ErrorCode.FILE_EMPTY)
        quarantine.commit()
    with path.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["input_rel"] == f"./{name}"  # still the file's path


def test_every_reason_to_set_a_dicom_file_aside_comes_with_advice() -> None:
    codes = {code for code in ErrorCode if code.name.startswith(("DICOM_", "FILE_"))}
    elsewhere = {ErrorCode.DICOM_DUPLICATE, ErrorCode.DICOM_SHAPE, ErrorCode.FILE_ENCODING}
    assert codes - elsewhere <= set(ADVICE)
    assert all(text.endswith(".") for text in ADVICE.values())
    assert what_to_do(ErrorCode.ROW_MALFORMED)


def test_fractions_are_written_as_people_read_them() -> None:
    shown = [percent(x) for x in (0.0, 0.0001, 0.012, 0.5)]
    assert shown == ["0 %", "less than 0.1 %", "1.2 %", "50 %"]
