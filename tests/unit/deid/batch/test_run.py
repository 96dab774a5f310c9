"""Does a run account for every file, give the same folder however it went, and tell nobody?"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deid.batch.chosen import read_key
from deid.batch.mapping import read_mapping
from deid.batch.output import STATE
from deid.batch.pool import Pool
from deid.batch.run import Order, Outcome, run_batch
from deid.residual import find_identifiers
from schemas.errors import ConfigError, ErrorCode
from tests.support.deid_archive import (
    CT_IMAGE,
    FOLDER,
    PATIENTS,
    SET_ASIDE,
    descendants,
    inodes,
    make_archive,
    tree,
)
from tests.support.forge import PLANTED, dicom_bytes

ROOT = Path(__file__).resolve().parents[4]
Setter = Callable[..., Outcome]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_archive(tmp_path)


def _order(raw: Path, name: str = "out", **changes: Any) -> Order:
    base = raw.parent
    order = Order(
        source=raw,
        output=base / name,
        profile="basic",
        key=read_key(base / "key"),
        key_file=base / "key",
        report=base / f"{name}.json",
        mapping=base / f"{name}.map",
        time_limit_seconds=60.0,
    )
    return replace(order, **changes)


def _mapping(order: Order) -> list[tuple[str, str]]:
    assert order.mapping is not None
    text = b"".join(read_mapping(order.mapping, order.key.secret)).decode()
    return [(row[0], row[1]) for row in csv.reader(text.splitlines())][1:]


def _report(order: Order) -> dict[str, Any]:
    assert order.report is not None
    body: dict[str, Any] = json.loads(order.report.read_text("utf-8"))
    return body


def _set_aside(order: Order) -> dict[str, str]:
    text = order.quarantine_path.read_text("utf-8-sig")
    return {row["input_rel"]: row["code"] for row in csv.DictReader(text.splitlines())}


def test_every_file_is_released_or_set_aside_with_a_reason(raw: Path) -> None:
    before = tree(raw)
    order = _order(raw)
    outcome = run_batch(order)
    rows = _mapping(order)
    assert outcome.totals.read == 13 and outcome.totals.released == len(rows) == 10
    assert [row[0] for row in rows] == ["copy_of_K10482213.dcm"] + [
        f"{FOLDER}/{PATIENTS[n % 3]}_{n:04d}" for n in (0, 3, 6, 1, 4, 7, 2, 5, 8)
    ]
    assert {row[1] for row in rows} == {name for name in tree(order.output) if STATE not in name}
    assert rows[0][1] == rows[1][1] and outcome.totals.duplicates == 1
    assert _set_aside(order) == {
        "empty.dcm": "ingest.file_empty",
        "link.dcm": "ingest.file_unreadable",
        "환자목록.txt": "ingest.file_not_dicom",
    }
    assert tree(raw) == before
    for path in (order.quarantine_path, order.mapping):
        assert path is not None and path.stat().st_mode & 0o777 == 0o600


def test_nothing_that_leaves_names_anybody(raw: Path) -> None:
    order = _order(raw)
    run_batch(order)
    planted = [*PLANTED, *PATIENTS, "환자자료", "환자목록", "copy_of"]
    assert find_identifiers(b"".join(tree(raw).values()), planted)  # positive control
    assert order.report is not None
    leaving = {**tree(order.output), "report": order.report.read_bytes()}
    for name, content in leaving.items():
        assert not find_identifiers(name.encode() + b"\n" + content, planted), name
    assert order.key.secret not in b"".join(leaving.values())
    assert order.mapping is not None
    assert not find_identifiers(order.mapping.read_bytes(), planted)


def test_the_report_counts_and_lists_clean_files_only(raw: Path) -> None:
    order = _order(raw)
    outcome = run_batch(order)
    report = _report(order)
    files = report.pop("files")
    assert report == outcome.report
    assert report["counts"] == {
        "read": 13, "released": 10, "quarantined": SET_ASIDE, "duplicates": 1,
        "no_longer_in_input": 0,
    }  # fmt: skip
    assert [entry["output"] for entry in files] == sorted(
        {row[1] for row in _mapping(order)}, key=[e["output"] for e in files].index
    )
    total = sum(entry["actions"].get("remove", 0) for entry in files)
    assert total == report["actions"]["remove"] > 0
    assert report["profile"]["name"] == "basic" and "not anonymous" in report["does_not_prove"]
    assert {each["code"] for each in report["quarantined"]} == set(_set_aside(order).values())
    assert all(each["what_to_do"] for each in report["quarantined"])


def test_one_and_two_workers_give_the_same_bytes(raw: Path) -> None:
    orders = [_order(raw, f"out{n}", workers=n) for n in (1, 2)]
    for order in orders:
        run_batch(order)
    assert tree(orders[0].output) == tree(orders[1].output)
    assert _mapping(orders[0]) == _mapping(orders[1])
    assert _report(orders[0]) == _report(orders[1])


def test_a_second_run_writes_no_file_and_starts_no_worker(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = _order(raw)
    first = run_batch(order)
    # The link is looked at again each time, without a worker; it never is a file of ours.
    before, files, report = tree(order.output), inodes(order.output), _report(order)
    monkeypatch.setattr(Pool, "_start", lambda _self: pytest.fail("a worker was started"))
    second = run_batch(order)
    assert tree(order.output) == before and inodes(order.output) == files
    assert second.totals == first.totals and second.taken_over == 12
    assert _report(order) == report


def test_a_touched_file_is_not_cleaned_again_and_a_changed_one_is(raw: Path) -> None:
    order = _order(raw)
    run_batch(order)
    files = inodes(order.output)
    touched, changed = (raw / FOLDER / f"{PATIENTS[n]}_000{n}" for n in (1, 2))
    os.utime(touched, (1, 1))
    changed.write_bytes(dicom_bytes(PatientID=PATIENTS[2], SOPInstanceUID="1.2.410.3"))
    outcome = run_batch(order)
    assert outcome.totals.released == 10
    after = inodes(order.output)
    kept = files.items() & after.items()
    assert len(kept) == len(files) - 1 and len(after) == len(files)
    fresh = _order(raw, "fresh")
    run_batch(fresh)
    assert tree(fresh.output) == tree(order.output)


def test_an_output_that_a_copy_still_gives_stays(raw: Path) -> None:
    order = _order(raw)
    run_batch(order)
    shared = _mapping(order)[0][1]
    (raw / FOLDER / f"{PATIENTS[0]}_0000").write_bytes(b"no image any more")
    run_batch(order)
    assert (order.output / shared).is_file()
    (raw / "copy_of_K10482213.dcm").write_bytes(b"neither")
    run_batch(order)
    assert not (order.output / shared).exists()


def test_clean_files_of_inputs_that_are_gone_stay_and_are_told(raw: Path) -> None:
    order = _order(raw)
    run_batch(order)
    before = set(tree(order.output))
    (raw / FOLDER / f"{PATIENTS[1]}_0001").unlink()
    for _ in range(2):
        outcome = run_batch(order)
        assert outcome.totals.left_over == 1 and outcome.totals.released == 9
        assert set(tree(order.output)) == before


def test_a_clean_file_that_was_lost_is_made_again(raw: Path) -> None:
    order = _order(raw)
    run_batch(order)
    before = tree(order.output)
    (order.output / _mapping(order)[3][1]).unlink()
    run_batch(order)
    assert tree(order.output) == before


def test_a_folder_of_another_key_is_refused(raw: Path) -> None:
    order = _order(raw)
    run_batch(order)
    before = tree(order.output)
    for other in (replace(order, project="other"), replace(order, profile="research")):
        with pytest.raises(ConfigError) as caught:
            run_batch(other)
        assert caught.value.code is ErrorCode.DEID_OUTPUT_OTHER
    assert tree(order.output) == before


def test_an_input_that_is_not_there_claims_no_folder(raw: Path) -> None:
    with pytest.raises(ConfigError):
        run_batch(replace(_order(raw), source=raw / "absent"))
    assert not (raw.parent / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [{"accept_faces": "  "}, {"profile": "ehr-table"}],
    ids=["no-reason", "table-profile"],
)
def test_orders_that_make_no_sense_are_refused(raw: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        run_batch(replace(_order(raw), **changes))
    assert not (raw.parent / "out").exists()


def test_heads_are_released_only_while_the_steward_says_so(tmp_path: Path) -> None:
    raw = make_archive(tmp_path, files=1)
    head = dicom_bytes(SOPClassUID=CT_IMAGE, Modality="CT", BodyPartExamined="HEAD")
    (raw / "head.dcm").write_bytes(head)
    order = _order(raw, profile="research", detects_text=False)
    order = replace(order, report=None)
    held = run_batch(order)
    assert not order.quarantine_path.with_name("out.report.json").exists()
    assert held.totals.quarantined[ErrorCode.DICOM_FACE_HEAD] == 1
    accepting = replace(order, accept_faces="IRB 2026-17, Dr. Kim")
    accepted = run_batch(accepting)
    assert accepted.totals.quarantined[ErrorCode.DICOM_FACE_HEAD] == 0
    report = json.loads((tmp_path / "out.report.json").read_text("utf-8"))  # unasked: the reason
    assert report["faces"] == {
        "accepted": 1, "held_back": 0, "reason": "IRB 2026-17, Dr. Kim",
    }  # fmt: skip
    assert len(inodes(order.output)) == 2 - (held.totals.released == 0)
    order = replace(order, report=tmp_path / "r.json")
    run_batch(order)
    assert _report(order)["faces"] == {"accepted": 0, "held_back": 1, "reason": None}
    assert len(inodes(order.output)) == len(_report(order)["files"])


def _start(order: Order, workers: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "deid.cli", "run", order.source, order.output]
    words += ["--profile", "basic", "--key-file", order.key_file, "--workers", workers, "--json"]
    words += ["--mapping", order.mapping]
    return subprocess.Popen([str(word) for word in words], cwd=ROOT, stdout=subprocess.DEVNULL)


def _lines(order: Order) -> int:
    path = order.output / STATE / "next.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _wait_for(what: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.002)


def test_a_killed_run_goes_on_and_ends_with_the_same_folder(tmp_path: Path) -> None:
    raw = make_archive(tmp_path, files=240)  # so many that it cannot be done before the kill
    whole, killed = _order(raw, "whole"), _order(raw, "killed")
    run_batch(whole)
    for lines in (1, 30):
        process = _start(killed, 2)
        _wait_for(lambda least=lines: _lines(killed) >= least, process)
        process.kill()
        process.wait()
        done = _lines(killed)
        assert done < 245 and not killed.quarantine_path.exists()
        for path in killed.output.rglob("*.dcm"):  # nothing half-written has a name
            if STATE not in path.parts:
                relative = str(path.relative_to(killed.output))
                assert path.read_bytes() == (whole.output / relative).read_bytes()
    outcome = run_batch(killed)
    assert outcome.taken_over > 0
    assert tree(killed.output) == tree(whole.output)
    assert _mapping(killed) == _mapping(whole)


def test_a_killed_worker_costs_no_file(tmp_path: Path) -> None:
    raw = make_archive(tmp_path, files=240)
    whole, hurt = _order(raw, "whole"), _order(raw, "hurt")
    run_batch(whole)
    process = _start(hurt, 2)
    # a line can be that of a file no worker is needed for; ten cannot
    _wait_for(lambda: _lines(hurt) >= 10, process)
    # below the run: the server that forks, its workers, and Python's tracker of resources
    workers = [pid for child in descendants(process.pid) for pid in descendants(child)]
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait(60) == 5  # three files are set aside, as always
    assert tree(hurt.output) == tree(whole.output)
    assert _mapping(hurt) == _mapping(whole)
