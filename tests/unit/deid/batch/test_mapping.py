"""Does the mapping open for its key alone, and never in part?"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest

from deid.batch.mapping import COLUMNS, MAGIC, MappingWriter, read_mapping
from schemas.errors import CohortiumError, ConfigError, DataRejected, ErrorCode

SECRET = bytes(range(32))
ROWS = [("환자/홍길동_K10482213.dcm", "P1/2.25.1/2.25.2-AAAAAAAA.dcm"), ('a,"b"\n.dcm', "P/x.dcm")]


def _write(path: Path, rows: list[tuple[str, str]], secret: bytes | None = SECRET) -> bytes:
    with MappingWriter(path, secret, lambda n: bytes(n)) as mapping:
        for row in rows:
            mapping.add(*row)
        mapping.commit()
    return path.read_bytes()


def _read(path: Path, secret: bytes | None = SECRET) -> list[tuple[str, ...]]:
    text = b"".join(read_mapping(path, secret)).decode("utf-8", "surrogateescape")
    return [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))]


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_what_is_written_is_read_with_the_key(tmp_path: Path, count: int) -> None:
    rows = (ROWS * count)[: count + 1]
    raw = _write(tmp_path / "m", rows)
    assert _read(tmp_path / "m") == [COLUMNS, *rows]
    assert raw.startswith(MAGIC) and "홍길동".encode() not in raw and b"K10482213" not in raw
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_not_utf_8_comes_back_as_its_bytes(tmp_path: Path) -> None:
    name = os.fsdecode("홍길동".encode("cp949"))
    _write(tmp_path / "m", [(name, "x.dcm")])
    assert _read(tmp_path / "m")[1][0] == name


def test_a_changed_cut_or_reordered_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    raw = _write(path, ROWS * 3000)  # several chunks
    head, chunk = len(MAGIC) + 32, 65_536 + 16
    swapped = (
        raw[:head]
        + raw[head + chunk : head + 2 * chunk]
        + raw[head : head + chunk]
        + raw[head + 2 * chunk :]
    )
    whole_chunks = raw[: head + chunk]
    cases = [raw[:end] for end in (head, head + 5, head + chunk - 1, len(raw) - 1)]
    cases += [whole_chunks, swapped, raw + b"x", raw[:head]]
    for at in (len(MAGIC), head, head + chunk + 3, len(raw) - 1):  # salt, text, text, tag
        cases.append(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    for case in cases:
        path.write_bytes(case)
        with pytest.raises(DataRejected) as caught:
            _read(path)
        assert caught.value.code is ErrorCode.DEID_MAPPING_INVALID


def test_another_key_or_none_does_not_open_it(tmp_path: Path) -> None:
    _write(tmp_path / "m", ROWS)
    for secret in (bytes(32), None):
        with pytest.raises(DataRejected):
            _read(tmp_path / "m", secret)


def test_a_plain_mapping_is_csv_for_its_owner_alone(tmp_path: Path) -> None:
    raw = _write(tmp_path / "m.csv", ROWS[:1], None)
    assert raw.decode() == f"input_rel,output_rel\n{ROWS[0][0]},{ROWS[0][1]}\n"
    assert (tmp_path / "m.csv").stat().st_mode & 0o777 == 0o600
    assert _read(tmp_path / "m.csv", None) == [COLUMNS, ROWS[0]]


def test_nothing_is_left_of_a_mapping_that_was_not_finished(tmp_path: Path) -> None:
    _write(tmp_path / "m", ROWS)
    before = (tmp_path / "m").read_bytes()
    with pytest.raises(RuntimeError), MappingWriter(tmp_path / "m", None) as mapping:
        mapping.add(*ROWS[0])
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m").read_bytes() == before


def test_a_file_that_is_no_mapping_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.csv").write_text("ten years of work")
    with pytest.raises(ConfigError):
        MappingWriter(tmp_path / "thesis.csv", SECRET)
    with pytest.raises(ConfigError):
        MappingWriter(tmp_path, SECRET)
    assert (tmp_path / "thesis.csv").read_text() == "ten years of work"


def test_what_is_no_mapping_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("name,rrn\n홍길동,1\n")
    for path, kind in ((tmp_path / "x", DataRejected), (tmp_path / "absent", ConfigError)):
        with pytest.raises(kind) as caught:
            _read(path)
        assert isinstance(caught.value, CohortiumError)
