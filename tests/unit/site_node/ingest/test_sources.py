from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.errors import ConfigError, ErrorCode
from site_node.ingest import sources
from site_node.ingest.sources import image_files, open_table, read_image_file


def _table(tmp_path: Path, raw: bytes) -> sources.RawTable:
    (tmp_path / "extract.csv").write_bytes(raw)
    return open_table(tmp_path, "extract.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_a_table_is_read_in_the_encodings_hospitals_use(tmp_path: Path, encoding: str) -> None:
    table = _table(tmp_path, 'name,note\n홍길동,"흉통, 호소\n다음 줄"\n김똠방,x\n'.encode(encoding))
    assert table.header == ("name", "note")
    rows = list(table.rows())
    assert [row.line for row in rows] == [3, 4]
    assert rows[0].cells == ["홍길동", "흉통, 호소\n다음 줄"]
    assert rows[1].cells == ["김똠방", "x"]


def test_rows_of_another_width_have_no_cells_and_the_rest_goes_on(tmp_path: Path) -> None:
    table = _table(tmp_path, b"a,b\n1,2\n1,2,3\n1\n\n3,4\n")
    assert [row.cells for row in table.rows()] == [["1", "2"], None, None, ["3", "4"]]


def test_broken_csv_is_a_row_without_cells(tmp_path: Path) -> None:
    table = _table(tmp_path, b'a,b\n1,2\n1,"x"y\n3,4\n' + b"5," + b"6" * 200_000 + b"\n7,8\n")
    cells = [row.cells for row in table.rows()]
    assert cells[0] == ["1", "2"] and cells[-1] == ["7", "8"] and ["3", "4"] in cells
    assert cells.count(None) == 2


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ErrorCode.FILE_EMPTY),
        (b"a,b\n\xff\xff\xff,2\n", ErrorCode.FILE_ENCODING),
        (b"\n", ErrorCode.FILE_UNREADABLE),
    ],
)
def test_a_table_that_cannot_be_read_says_why_and_has_no_rows(
    tmp_path: Path, raw: bytes, code: ErrorCode
) -> None:
    table = _table(tmp_path, raw)
    assert table.problem is code and list(table.rows()) == []


def test_a_table_past_the_limit_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_TABLE_BYTES", 3)
    assert _table(tmp_path, b"a,b\n1,2\n").problem is ErrorCode.FILE_TOO_LARGE


def test_absent_sources_are_refused(tmp_path: Path) -> None:
    for call in (lambda: open_table(tmp_path, "extract.csv"), lambda: image_files(tmp_path / "no")):
        with pytest.raises(ConfigError) as caught:
            call()
        assert caught.value.code is ErrorCode.SOURCE_MISSING


def test_image_files_come_in_one_order_and_without_the_labels(tmp_path: Path) -> None:
    for name in ("b/2.dcm", "b/10.dcm", "a.dcm", "labels.csv"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"x")
    names = [str(p.relative_to(tmp_path / "images")) for p in image_files(tmp_path)]
    assert names == ["a.dcm", "b/10.dcm", "b/2.dcm"]


def test_image_files_that_cannot_be_read_give_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, pipe, good = tmp_path / "empty", tmp_path / "pipe", tmp_path / "good"
    empty.touch()
    os.mkfifo(pipe)
    good.write_bytes(b"12345")
    assert read_image_file(empty) is ErrorCode.FILE_EMPTY
    assert read_image_file(pipe) is ErrorCode.FILE_UNREADABLE
    assert read_image_file(tmp_path / "absent") is ErrorCode.FILE_UNREADABLE
    assert read_image_file(good) == b"12345"
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 4)
    assert read_image_file(good) is ErrorCode.FILE_TOO_LARGE
