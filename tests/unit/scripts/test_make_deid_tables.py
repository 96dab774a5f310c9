from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from scripts import make_deid_tables as tables


@pytest.mark.parametrize("part", [part for part in tables.PARTS if part != "all"])
def test_what_is_shipped_is_up_to_date(part: str) -> None:
    assert tables.main([part, "--check"]) == 0


def test_a_stale_table_is_reported_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in tables.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    stale = tmp_path / "annex_e.json"
    stale.write_text("{}")
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.main(["annex", "--check"]) == 1
    assert "annex_e.json" in capsys.readouterr().out and stale.read_text() == "{}"


def test_checksums_are_those_of_the_files() -> None:
    lines = (tables.FOLDER / "SHA256SUMS").read_text().splitlines()
    named = {line.split("  ")[1] for line in lines}
    assert named == {path.name for path in tables.FOLDER.iterdir()} - {"SHA256SUMS"}
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((tables.FOLDER / name).read_bytes()).hexdigest() == digest


def test_two_editions_that_disagree_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (tables.SOURCE_2026C, tables.SOURCE_2024E):
        (tmp_path / name).write_bytes((tables.FOLDER / name).read_bytes())
    rows = json.loads((tmp_path / tables.SOURCE_2024E).read_text())
    rows[0]["basicProfile"] = "K"
    (tmp_path / tables.SOURCE_2024E).write_text(json.dumps(rows))
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="disagree"):
        tables.annex()


def test_a_type_is_the_strictest_of_the_modules_and_conditions_count_as_held() -> None:
    module = [
        {"keyword": "StudyDate", "type": "2", "path": []},
        {"keyword": "StudyDate", "type": "1C", "path": []},
        {"keyword": "PersonName", "type": "2C", "path": ["ContentSequence"]},
        {"keyword": "NoSuchKeyword", "type": "1", "path": []},
    ]
    found = list(tables._attributes(module))
    assert found == [(0x00080020, 0, 2), (0x00080020, 0, 1), (0x0040A123, 0x0040A730, 2)]
    packed = tables._pack({"ct": 1, "mr": 2}, {0x0040A730: 2, 0x00400555: 3}, ["ct", "mr", "us"])
    assert packed == {"top1": "1", "top2": "2", "in": 2, "but": {"00400555": 3}}


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / tables.WHEEL
    wheel.write_bytes(b"not it")
    with pytest.raises(ValueError, match="this is not"):
        tables.types(wheel)
