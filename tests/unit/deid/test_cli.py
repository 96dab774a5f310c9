"""Does the command line do what a hospital's IT asks, say it plainly, and name nobody?"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from deid import cli
from deid.cli_screen import Screen
from deid.residual import find_identifiers
from schemas.errors import ErrorCode
from tests.support.deid_archive import PATIENTS, SET_ASIDE, make_archive, tree
from tests.support.forge import PLANTED, SECRET


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_archive(tmp_path, files=4)


def _run(*arguments: object) -> int:
    return cli.run_command([str(argument) for argument in arguments])


def _clean(raw: Path, *more: object, name: str = "out") -> int:
    place = raw.parent
    return _run("run", raw, place / name, "--key-file", place / "key", "--profile", "basic",
                "--workers", 1, *more)  # fmt: skip


def _columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def test_a_run_says_what_was_done_what_was_not_and_where_things_are(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = raw.parent
    lists = ("--report", place / "r.json", "--mapping", place / "m")
    assert _clean(raw, *lists) == 5  # something was set aside
    shown = capsys.readouterr()
    for words in ("Files read", "Released", "Set aside", "[ingest.file_not_dicom]",
                  "환자자료", str(place / "m"), str(place / "out.quarantine.csv"),
                  "not anonymous", "What this proves"):  # fmt: skip
        assert words.split()[0] in shown.out and words in " ".join(shown.out.split())
    assert shown.err == ""
    for line in shown.out.splitlines():
        assert _columns(line) <= 80 or str(place) in line
    assert not find_identifiers(shown.out.encode(), PLANTED)


def test_the_exit_code_is_zero_only_if_all_was_released(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _clean(raw) == 5
    assert _clean(raw) == 5  # also when there was nothing left to do
    assert "by an earlier run" in capsys.readouterr().out
    (whole,) = raw.glob("copy_of*")
    assert _run("run", whole, raw.parent / "one", "--key-file", raw.parent / "key",
                "--profile", "basic") == 0  # fmt: skip


def test_json_is_one_document_and_nothing_else(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _clean(raw, "--json", "--report", raw.parent / "r.json") == 5
    shown = capsys.readouterr()
    body = json.loads(shown.out)
    assert body["counts"]["quarantined"] == SET_ASIDE and shown.err == ""
    report = json.loads((raw.parent / "r.json").read_text("utf-8"))
    assert report.pop("files") and report == body


def test_the_mapping_is_encrypted_unless_asked_and_opens_with_the_key(
    raw: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    place = raw.parent
    _clean(raw, "--mapping", place / "m", "--json")
    _clean(raw, "--mapping", place / "plain.csv", "--mapping-plain", "--json")
    warning = capsysbinary.readouterr().err
    assert warning.startswith(b"Warning:") and b"in clear" in warning
    assert _run("mapping", place / "m", "--key-file", place / "key") == 0
    printed = capsysbinary.readouterr().out
    assert printed == (place / "plain.csv").read_bytes()
    rows = list(csv.DictReader(io.StringIO(printed.decode())))
    assert list(rows[0]) == ["input_rel", "output_rel"] and len(rows) == 5
    assert all((place / "out" / row["output_rel"]).is_file() for row in rows)
    assert PATIENTS[0].encode() not in (place / "m").read_bytes()


def test_a_mapping_that_was_cut_prints_nothing(
    raw: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    place = raw.parent
    _clean(raw, "--mapping", place / "m", "--json")
    (place / "m").write_bytes((place / "m").read_bytes()[:-3])
    capsysbinary.readouterr()
    assert _run("mapping", place / "m", "--key-file", place / "key") == 5
    shown = capsysbinary.readouterr()
    assert shown.out == b"" and b"deid.mapping_invalid" in shown.err


def test_verify_finds_nothing_in_what_run_wrote(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = raw.parent
    _clean(raw, "--json")
    before = tree(place / "out")
    capsys.readouterr()
    common = ("verify", place / "out", "--profile", "basic")
    assert _run(*common) == 0
    assert _run(*common, "--source", raw, "--key-file", place / "key") == 0
    shown = capsys.readouterr().out
    assert "Nothing was found" in shown
    assert all(_columns(line) <= 80 for line in shown.splitlines()[3:])
    assert tree(place / "out") == before


def test_verify_finds_what_was_put_back(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = raw.parent
    _clean(raw, "--json")
    clean = sorted((place / "out").rglob("*.dcm"))
    for path in clean:  # in the pixels, where no rule is broken
        path.write_bytes(path.read_bytes()[:-9] + PATIENTS[0].encode())
    (place / "out" / "명단.xlsx").write_bytes(b"PK")
    capsys.readouterr()
    words = ("verify", place / "out", "--profile", "basic", "--json")
    assert _run(*words, "--source", raw, "--key-file", place / "key") == 5
    body = json.loads(capsys.readouterr().out)
    assert body["faults"]["identifier"] >= 1 and body["other_files"] == 1
    clean[0].write_bytes(clean[0].read_bytes()[:-4])
    clean[1].unlink()
    assert _run(*words, "--source", raw, "--key-file", place / "key") == 5
    body = json.loads(capsys.readouterr().out)
    assert body["faults"]["unreadable"] == 1 and body["missing"] == 2
    assert _run("verify", place / "out", "--profile", "basic") == 5
    shown = capsys.readouterr().out
    assert "Do not use" in shown and "명단.xlsx" in shown


def test_verify_needs_the_key_of_the_run(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = raw.parent
    _clean(raw, "--json")
    (place / "other").write_bytes(bytes(32))
    words = ("verify", place / "out", "--profile", "basic", "--source", raw)
    assert _run(*words) == 2
    assert _run(*words, "--key-file", place / "other") == 2
    assert ErrorCode.DEID_OUTPUT_OTHER.value in capsys.readouterr().err


def test_a_table_is_cleaned_into_table_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out, key = tmp_path / "t.csv", tmp_path / "out", tmp_path / "key"
    key.write_bytes(SECRET)
    key.chmod(0o600)
    text = "name,chart_no,age,split\n홍길동입니다,K10482213,61,train\n홍길동,,1,test\nx,y\n"
    table.write_text(text, encoding="cp949")
    words = ["run", table, out, "--key-file", key, "--profile", "ehr-table"]
    words += ["--patient-column", "chart_no", "--report", tmp_path / "r.json"]
    for _ in range(2):  # and again, into its own folder
        assert _run(*words) == 5
    assert "Rows read" in capsys.readouterr().out
    clean = (out / "table.csv").read_text(encoding="utf-8")
    assert clean.splitlines()[0] == "chart_no,age,split" and len(clean.splitlines()) == 2
    assert not any(planted in clean for planted in PLANTED)
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["counts"] == {"read": 3, "released": 1, "quarantined": 2}
    aside = (tmp_path / "out.quarantine.csv").read_text("utf-8-sig").splitlines()
    assert [line.split(",")[:2] for line in aside[1:]] == [
        ["3", "ingest.patient_missing"], ["4", "ingest.row_malformed"],
    ]  # fmt: skip
    verify = ["verify", out, "--profile", "ehr-table", "--source", table]
    assert _run(*verify) == 0
    (out / "table.csv").write_text(clean + "홍길동입니다\n", encoding="utf-8")
    assert _run(*verify) == 5


@pytest.mark.parametrize(
    ("text", "more", "status"),
    [
        ("chart_no,age\nK10482213,61\n", (), 5),  # the patient column was not named
        ("chart_no,age\n", (), 5),
        ("age,age\n1,2\n", (), 5),
        ("chart_no,age\nK1,2\n", ("--mapping", "m"), 2),
        ("chart_no,age\nK1,2\n", ("--profile", "basic"), 2),
    ],
    ids=["no-patient-column", "no-row", "column-twice", "mapping", "profile-without-columns"],
)
def test_tables_that_cannot_be_used_are_refused(
    tmp_path: Path, text: str, more: tuple[str, ...], status: int
) -> None:
    (tmp_path / "key").write_bytes(SECRET)
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert _run("run", tmp_path / "t.csv", tmp_path / "out", "--key-file", tmp_path / "key",
                "--profile", "ehr-table", *more) == status  # fmt: skip


def test_explain_lists_the_profile_and_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("explain", "--profile", "ehr-table") == 0
    assert "everything else is removed" in capsys.readouterr().out
    assert _run("explain", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["name"] == "research" and len(body["lines"]) > 100
    assert _run("explain", "--markdown") == 0
    page = capsys.readouterr().out
    assert page == (Path(cli.__file__).parent / "CONFORMANCE.md").read_text("utf-8")


def test_explain_finds_attributes_and_columns_by_name_or_tag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run("explain", "patientsex", "(0010,0010)") == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [
        "PatientName",
        "PatientSex",
        "PatientSexNeutered",
    ]
    assert "items of a sequence" not in lines[1]  # no sequence: just kept
    assert _run("explain", "chart", "--profile", "ehr-table") == 0
    assert "column chart_no" in capsys.readouterr().out
    assert _problem(capsys, "explain", "PatientNaem")["hint"]


def _problem(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    status = _run(*words, "--json")
    problem: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
    assert status == problem["exit_code"]
    return problem


def test_commands_that_cannot_be_followed_are_refused_with_a_hint(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = raw.parent
    (place / "short").write_bytes(b"x" * 31)
    (place / "long").write_bytes(b"x" * 5000)
    (place / "full").mkdir()
    (place / "full" / "x").write_bytes(b"x")
    (place / "bad.toml").write_text("version = 9")
    key, out = ("--key-file", place / "key"), place / "out"
    cases: list[tuple[ErrorCode, tuple[object, ...]]] = [
        (ErrorCode.DEID_SECRET_INVALID, (raw, out, "--key-file", place / "short")),
        (ErrorCode.DEID_SECRET_INVALID, (raw, out, "--key-file", place / "long")),
        (ErrorCode.KEY_MISSING, (raw, out, "--key-file", place / "absent")),
        (ErrorCode.SOURCE_MISSING, (place / "absent", out, *key)),
        (ErrorCode.CONFIG_USAGE, (raw, raw / "out", *key)),
        (ErrorCode.CONFIG_USAGE, (raw, out, *key, "--mapping", out / "m")),
        (ErrorCode.CONFIG_USAGE, (raw, out, *key, "--accept-faces", "")),
        (ErrorCode.CONFIG_USAGE, (raw, out, *key, "--no-such-option")),
        (ErrorCode.CONFIG_USAGE, (raw, out)),
        (ErrorCode.CONFIG_FILE_MISSING, (raw, out, *key, "--profile", place / "absent.toml")),
        (ErrorCode.CONFIG_FILE_UNWRITABLE, (raw, out, *key, "--report", place / "no" / "r.json")),
        (ErrorCode.DEID_PROFILE_INVALID, (raw, out, *key, "--profile", place / "bad.toml")),
        (ErrorCode.DEID_OUTPUT_OTHER, (raw, place / "full", *key)),
    ]
    for code, words in cases:
        problem = _problem(capsys, "run", *words)
        assert problem["code"] == code.value and problem["hint"], words
    assert not list(out.rglob("*.dcm"))


def test_an_empty_input_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "key").write_bytes(SECRET)
    status = _run("run", tmp_path / "in", tmp_path / "out", "--key-file", tmp_path / "key")
    shown = capsys.readouterr()
    assert status == 5 and ErrorCode.SOURCE_EMPTY.value in shown.err and not shown.out
    problem = _problem(capsys, "run", tmp_path / "in", tmp_path / "out", "--key-file",
                       tmp_path / "key")  # fmt: skip
    assert problem["code"] == ErrorCode.SOURCE_EMPTY.value  # one document, not two


def test_a_key_that_others_may_read_is_warned_of(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw.parent / "key").chmod(0o644)
    _clean(raw)
    assert "chmod 600" in capsys.readouterr().err


def test_an_unforeseen_error_shows_no_traceback_and_no_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode(_name: str) -> None:
        raise RuntimeError("홍길동")

    monkeypatch.setattr("deid.batch.chosen.choose_profile", explode)
    assert _run("explain") == 9
    shown = capsys.readouterr()
    assert "홍길동" not in shown.out + shown.err and "COHORTIUM_DEBUG" in shown.err


def test_an_interrupted_run_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deid.batch.chosen.choose_profile", interrupt)
    assert _run("explain") == 130
    assert "again" in capsys.readouterr().err


def test_the_key_is_never_replaced_by_a_list(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = raw.parent / "key"
    before = key.read_bytes()
    for option in ("--report", "--quarantine", "--mapping"):
        assert _clean(raw, option, key) == 2
        assert "--key-file" in capsys.readouterr().err
    assert key.read_bytes() == before


def test_verify_says_that_the_folder_has_another_profile(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _clean(raw)
    assert _run("verify", raw.parent / "out") == 5  # held against research
    assert "basic" in capsys.readouterr().err
    assert _run("verify", raw.parent / "out", "--profile", "basic") == 0
    assert not capsys.readouterr().err


def test_help_is_plain_text_and_a_proposal_is_made_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run("run", "--help") == 0
    shown = capsys.readouterr().out
    assert "INPUT is a folder" in " ".join(shown.split()) and "\\[" not in shown
    assert _problem(capsys, "runn")["sentence"].count("Did you mean") == 1


def test_help_names_every_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "deid.cli"], capture_output=True, text=True, check=False
    )
    assert all(word in shown.stdout for word in ("run", "explain", "verify", "mapping"))


def test_a_name_from_the_disk_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    from deid.cli_screen import quoted

    Screen().exact(quoted("a\nb\x1b[2J홍\udce9"))
    assert capsys.readouterr().out == "a\\nb\\x1b[2J홍\\udce9\n"
