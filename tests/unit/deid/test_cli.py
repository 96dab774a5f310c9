from __future__ import annotations

import json
from pathlib import Path

import pytest

from deid import cli
from schemas.errors import CohortiumError, ErrorCode
from tests.support.forge import PLANTED, SECRET, dicom_bytes


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "Hong_Gildong.dcm").write_bytes(dicom_bytes())
    (folder / "other.dcm").write_bytes(b"no dicom at all")
    (tmp_path / "secret").write_bytes(SECRET)
    return folder


def _run(*arguments: object) -> None:
    cli.app([str(a) for a in arguments], standalone_mode=False)


def test_run_then_verify_a_folder(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, secret = raw.parent / "out", raw.parent / "secret"
    _run("run", "--source", raw, "--out", out, "--secret-file", secret, "--project", "p", "--json")
    counts = json.loads(capsys.readouterr().out)
    assert counts["records"] == 1 and counts["refused"] == {ErrorCode.FILE_NOT_DICOM.value: 1}
    assert [path.name.startswith("2.25.") for path in out.iterdir()] == [True]
    _run("verify", "--source", raw, "--out", out, "--json")
    assert json.loads(capsys.readouterr().out)["files_with_a_find"] == 0


def test_verify_finds_what_was_left(raw: Path) -> None:
    with pytest.raises(CohortiumError) as caught:
        _run("verify", "--source", raw, "--out", raw)
    assert caught.value.code is ErrorCode.IDENTIFIER_LEFT


def test_run_then_verify_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out, secret = tmp_path / "t.csv", tmp_path / "out", tmp_path / "secret"
    secret.write_bytes(SECRET)
    table.write_text("name,chart_no,age,split\n홍길동입니다,K10482213,61,train\n", encoding="cp949")
    common = ("--source", table, "--out", out, "--profile", "ehr-table", "--json")
    _run("run", *common, "--secret-file", secret, "--project", "p", "--patient-column", "chart_no")
    assert json.loads(capsys.readouterr().out)["records"] == 1
    clean = (out / "table.csv").read_text(encoding="utf-8")
    assert clean.splitlines()[0] == "chart_no,age,split"
    assert not any(planted in clean for planted in PLANTED)
    _run("verify", *common)


def test_explain_prints_the_digest(capsys: pytest.CaptureFixture[str]) -> None:
    _run("explain", "--profile", "ehr-table")
    assert "everything else is removed" in capsys.readouterr().out


def test_refusals(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short, out = raw.parent / "short", raw.parent / "out"
    short.write_bytes(b"x")
    secret = raw.parent / "secret"
    cases = [
        (ErrorCode.DEID_SECRET_INVALID, raw, out, short),
        (ErrorCode.KEY_MISSING, raw, out, raw / "absent"),
        (ErrorCode.CONFIG_USAGE, raw, raw, secret),
        (ErrorCode.SOURCE_MISSING, raw / "absent", out, secret),
    ]
    for code, source, target, key in cases:
        arguments = ["--source", source, "--out", target, "--secret-file", key, "--project", "p"]
        with pytest.raises(CohortiumError) as caught:
            _run("run", *arguments)
        assert caught.value.code is code
    command = ["cohortium-deid", "verify", "--source", str(raw), "--out", str(raw)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 5


def test_a_source_of_which_nothing_is_left_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, secret = tmp_path / "t.csv", tmp_path / "secret"
    secret.write_bytes(SECRET)
    table.write_text("chart_no,age\nK10482213,61\n", encoding="utf-8")
    words = ["run", "--source", table, "--out", tmp_path / "out", "--secret-file", secret]
    words += ["--project", "p", "--profile", "ehr-table", "--json"]  # no --patient-column
    monkeypatch.setattr("sys.argv", ["cohortium-deid", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 5
    report, problem = capsys.readouterr().out.splitlines()
    assert json.loads(report)["refused"] == {ErrorCode.PATIENT_MISSING.value: 1}
    assert "--patient-column" in json.loads(problem)["error"]["hint"]
