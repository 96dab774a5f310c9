"""The scheduled faults of the ledger: what is broken ends a run badly, and can be repeated."""

from __future__ import annotations

import pytest

from scripts import fault_ledger


@pytest.fixture(autouse=True)
def _no_write_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write point is killed in tests/privacy/test_ledger_faults.py already."""
    monkeypatch.setattr(fault_ledger, "_every_point", lambda _folder: [])


def test_a_run_kills_as_often_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert fault_ledger.main(["--points", "20", "--histories", "5", "--seed", "1"]) == 0
    shown = capsys.readouterr().out
    assert "random times: 20 kills" in shown
    assert "histories: 5" in shown


def test_a_broken_rule_ends_it_with_the_seed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault_ledger, "broken_rule", lambda _history: "spent fell")
    assert fault_ledger.main(["--points", "0", "--histories", "5", "--seed", "7"]) == 1
    assert "BROKEN (seed 7): history 0: spent fell" in capsys.readouterr().out


def test_a_lost_charge_ends_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = fault_ledger.Story

    def reckless(*arguments: object, **more: object) -> fault_ledger.Story:
        return honest(*arguments, charge_first=False, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(fault_ledger, "Story", reckless)
    monkeypatch.setattr(fault_ledger, "_LONGEST_SECONDS", 0.05)
    assert fault_ledger.main(["--points", "400", "--histories", "0", "--seed", "7"]) == 1
    assert "computed without a charge" in capsys.readouterr().out
