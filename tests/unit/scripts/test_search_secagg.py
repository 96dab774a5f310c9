"""Does the long search report what it did, go on where it stopped, and fail when it finds?"""

from __future__ import annotations

import json

import pytest

from scripts import search_secagg
from tests.search.mutants import MUTANTS


@pytest.fixture(autouse=True)
def report(tmp_path, monkeypatch):
    path = tmp_path / "search" / "secagg.json"
    monkeypatch.setattr(search_secagg, "REPORT", path)
    return path


def run(*arguments: str) -> int:
    return search_secagg.main(["--processes", "1", *arguments])


def test_a_quiet_search_writes_what_it_searched(report, capsys) -> None:
    assert run("--schedules", "12", "--first", "4000") == 0
    written = json.loads(report.read_text())
    assert (written["first"], written["schedules"], written["violations"]) == (4000, 12, 0)
    assert written["counts"]["CohortCall answered"] > 10
    assert "no rule was broken" in capsys.readouterr().out


def test_a_violation_is_told_with_its_messages_and_ends_the_search(report, capsys) -> None:
    (mutant,) = [each for each in MUTANTS if each.name == "share or seed"]
    with mutant.patch():
        assert run("--schedules", "200") == 1
    told = capsys.readouterr().out
    assert "VIOLATION in schedule" in told and "either-or" in told and "UnmaskCall site-" in told
    assert not report.exists()


def test_an_interrupted_search_says_where_to_go_on(report, monkeypatch, capsys) -> None:
    def stopped(blocks, _processes):
        yield search_secagg.Block(blocks[0][0], search_secagg.Counter(), 0.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(search_secagg, "searched", stopped)
    assert run("--schedules", "1000", "--first", "500") == 130
    assert "--first 750 --schedules 750" in capsys.readouterr().out
    assert not report.exists()
