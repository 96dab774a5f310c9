"""Is nothing forgotten that was written, and nothing believed that was not?"""

from __future__ import annotations

from pathlib import Path

import pytest

from deid.batch.journal import Detail, Entry, Index, Journal, Pixels, parse_entry
from schemas.errors import ErrorCode

RELEASED = Entry(
    "A", "s", "c", "P1/2.25.1/2.25.2-X.dcm", 7, None, "t",
    Detail(modality="US", actions={"remove": 3}, notes=("repaired",),
           pixels=Pixels(frames=2, examined=2, detected=1, ruled=0, removed=0.01, why="examined")),
)  # fmt: skip
SET_ASIDE = Entry("B", "s", "c", code=ErrorCode.FILE_NOT_DICOM)


def _written(folder: Path, *entries: Entry, finish: bool = True) -> None:
    journal = Journal(folder)
    journal.append(entries, is_new=True)
    if finish:
        journal.finish()
    journal.close()


@pytest.mark.parametrize("entry", [RELEASED, SET_ASIDE], ids=["released", "set-aside"])
def test_an_entry_survives_its_line(entry: Entry) -> None:
    assert parse_entry(entry.line()) == entry


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"[]\n", b"{}\n", b"null\n", RELEASED.line()[:-1], RELEASED.line()[:40] + b"\n",
     RELEASED.line().replace(b'"removed"', b'"surprise"'), RELEASED.line().replace(b"P1/", b"../"),
     b'\xff"\n',
     RELEASED.line().replace(b'"x":""', b'"x":"no.such_code"')],
)  # fmt: skip
def test_a_line_that_is_not_whole_is_no_entry(line: bytes) -> None:
    assert parse_entry(line) is None


def test_a_finished_and_an_unfinished_run_are_both_remembered(tmp_path: Path) -> None:
    _written(tmp_path, RELEASED)
    _written(tmp_path, SET_ASIDE, finish=False)
    index = Index(tmp_path)
    assert index.old("A") == RELEASED and index.old("B") == SET_ASIDE and index.old("C") is None
    index.close()


def test_an_unfinished_run_is_kept_when_the_next_begins(tmp_path: Path) -> None:
    _written(tmp_path, RELEASED, finish=False)
    _written(tmp_path, finish=False)  # killed before it wrote anything
    _written(tmp_path, SET_ASIDE, finish=False)
    journal = Journal(tmp_path)
    assert journal.old("A") == RELEASED and journal.old("B") == SET_ASIDE
    journal.close()


@pytest.mark.parametrize("cut", [1, 20])
def test_a_torn_line_costs_that_line_only(tmp_path: Path, cut: int) -> None:
    _written(tmp_path, RELEASED, SET_ASIDE)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    _written(tmp_path, Entry("C", "s", code=ErrorCode.FILE_EMPTY), finish=False)
    journal = Journal(tmp_path)
    assert journal.old("A") == RELEASED and journal.old("B") is None
    assert journal.old("C") is not None
    journal.close()


def test_an_output_is_dropped_only_if_no_input_gives_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.hold("x") and not journal.hold("x")
    journal.drop("x")
    journal.drop("y")
    assert list(journal.dropped()) == ["y"]
    journal.close()


def test_an_override_that_was_cut_short_still_drops_the_older_output(tmp_path: Path) -> None:
    _written(tmp_path, RELEASED)
    changed = Entry("A", "s2", "c2", "P1/2.25.1/2.25.2-Y.dcm", 8)
    _written(tmp_path, changed, finish=False)
    index = Index(tmp_path)
    assert index.old("A") == changed
    assert list(index.dropped()) == [RELEASED.output]
    index.close()


def test_inputs_that_are_gone_are_told(tmp_path: Path) -> None:
    _written(tmp_path, RELEASED, SET_ASIDE)
    index = Index(tmp_path)
    index.old("B")
    assert list(index.left_over()) == [RELEASED]
    index.close()
