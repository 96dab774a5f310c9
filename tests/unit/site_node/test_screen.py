"""Progress of long work: a bar for a person, lines in a log, silence in JSON."""

from __future__ import annotations

import io
import sys

import pytest

from site_node.screen import Screen


class Terminal(io.StringIO):
    """A standard output in front of which a person sits."""

    def isatty(self) -> bool:
        return True


def work(screen: Screen, total: int) -> None:
    with screen.progress("Records") as progress:
        for done in range(1, total + 1):
            progress(done, total)


def test_long_work_says_every_tenth_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    work(Screen(), 2000)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "Records: 2,000 of 2,000"


def test_short_work_and_json_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    work(Screen(), 100)
    work(Screen(as_json=True), 2000)
    assert capsys.readouterr().out == ""


def test_a_terminal_shows_a_bar_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    work(Screen(), 2000)
    assert "Records" in terminal.getvalue()
    assert "2000/2000" in terminal.getvalue() or "/2000" in terminal.getvalue()


def test_facts_stand_in_two_columns_whatever_their_length(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Screen().facts([("One", "short"), ("A longer name", "word " * 60), ("Two", "word " * 30)])
    lines = capsys.readouterr().out.splitlines()
    assert {len(line) - len(line[2:].lstrip()) for line in lines if line.startswith("   ")} == {17}
    assert {line[17] for line in lines} == {"s", "w"}
    assert max(len(line) for line in lines) <= 96


def test_a_long_light_is_wrapped_beside_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().light("red", "privacy ledger", "word " * 60)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert max(len(line) for line in lines) <= 96
