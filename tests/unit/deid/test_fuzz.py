"""Short runs of the fuzzer, and proof that it would notice each kind of fault."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from deid.dicom import CleanObject, DicomDeidentifier
from scripts import fuzz_deid
from scripts.fuzz_deid import Fuzzer, Tally, fuzz, seeds
from scripts.fuzz_mutations import mutate, places
from scripts.fuzz_seeds import built_seeds

FILES = seeds()
SEED = 8  # its first 400 cases hold two bombs, but none of a gigabyte


def _run(cases: int) -> Tally:
    return Fuzzer(SEED, FILES).run(range(cases), lambda case: None)


def test_damaged_files_end_as_a_release_or_a_refusal() -> None:
    tally = _run(400)
    assert tally.findings == []
    assert tally.outcomes.total() == 400
    assert 40 < tally.outcomes["released"] < 360
    assert len(tally.outcomes) > 6


def test_sound_files_are_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the fuzzer would look at refusals only."""
    monkeypatch.setattr(fuzz_deid, "mutate", lambda raw, others, rng: raw)
    tally = Fuzzer(SEED, built_seeds()).run(range(40), lambda case: None)
    assert tally.findings == []
    assert tally.outcomes["released"] >= 20


def _raises(*_: object) -> CleanObject:
    raise ValueError("a library's words")


def _sleeps(*_: object) -> CleanObject:
    time.sleep(5)
    raise AssertionError


def _logs(*_: object) -> CleanObject:
    logging.getLogger("some.library").warning("invalid value 'HONG'")
    raise fuzz_deid.DeidRefusal(fuzz_deid.engine.ErrorCode.DICOM_UNREADABLE)


def _prints(*_: object) -> CleanObject:
    os.write(2, b"decoder: bad marker in HONG")
    raise fuzz_deid.DeidRefusal(fuzz_deid.engine.ErrorCode.DICOM_UNREADABLE)


def _quotes(*_: object) -> CleanObject:
    try:
        raise ValueError("HONG")
    except ValueError as error:
        raise fuzz_deid.DeidRefusal(fuzz_deid.engine.ErrorCode.DICOM_UNREADABLE) from error


def _passes_all(_: object, raw: bytes) -> CleanObject:
    return CleanObject("p", "r", "u", "s", raw, None, "CT", ())


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        (_raises, "ValueError"),
        (_sleeps, "hang"),
        (_logs, "said something"),
        (_prints, "said something"),
        (_quotes, "a refusal quotes something"),
    ],
)
def test_each_fault_is_a_finding(
    fault: Callable[..., CleanObject], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DicomDeidentifier, "clean", fault)
    monkeypatch.setattr(fuzz_deid, "CASE_SECONDS", 0.1)
    assert [finding.rule for finding in _run(3).findings] == [rule] * 3


def test_a_release_that_keeps_what_must_go_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_deid, "mutate", lambda raw, others, rng: raw)
    monkeypatch.setattr(DicomDeidentifier, "clean", _passes_all)
    findings = Fuzzer(SEED, built_seeds()).run(range(9), lambda case: None).findings
    assert {finding.rule for finding in findings} == {"released against the rules"}
    assert len(findings) == 9


def test_a_process_that_dies_is_a_finding_and_no_case_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dies(self: DicomDeidentifier, raw: bytes) -> CleanObject:
        if raw == fatal:
            os._exit(9)
        raise fuzz_deid.DeidRefusal(fuzz_deid.engine.ErrorCode.DICOM_UNREADABLE)

    fatal = Fuzzer(SEED, FILES).file(7)[0]
    monkeypatch.setattr(DicomDeidentifier, "clean", dies)
    total = Tally()
    for tally in fuzz(SEED, FILES, range(20), workers=2):
        total.add(tally)
    assert [(finding.case, finding.rule) for finding in total.findings] == [(7, "the process died")]
    assert total.outcomes.total() == 20


def test_a_case_is_its_number() -> None:
    one, two = Fuzzer(SEED, FILES), Fuzzer(SEED, FILES)
    assert [one.file(n)[0] for n in range(30)] == [two.file(n)[0] for n in reversed(range(30))][
        ::-1
    ]
    assert one.file(3)[0] != Fuzzer(SEED + 1, FILES).file(3)[0]


def test_most_changes_change_something() -> None:
    rng = Random("changes")
    raw = built_seeds()[0]
    assert len({mutate(raw, FILES, rng) for _ in range(300)}) > 250


def test_elements_are_found_where_they_are() -> None:
    raw = built_seeds()[0]
    found = places(raw)
    assert found[0].start == 132
    assert found[-1].end == len(raw)
    assert all(a.end == b.start for a, b in pairwise(found))


def test_the_report_counts_every_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz_deid, "REPORT", tmp_path / "fuzz" / "deid.json")
    assert fuzz_deid.main(["--cases", "10", "--workers", "2", "--seed", str(SEED)]) == 0
    assert '"cases": 10,' in (tmp_path / "fuzz" / "deid.json").read_text()
    assert "n_findings: 0" in capsys.readouterr().out
