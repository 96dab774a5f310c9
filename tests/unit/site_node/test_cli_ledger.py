"""`cohortium-site ledger`: show, verify, export and witness, in words and in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.governance.study import StudyPlan
from site_node.cli import run
from site_node.context import SiteContext
from tests.support.prepared import preparation
from tests.support.sites import approve, real_plan, tamper


class Shell:
    """A terminal in front of one hospital, or of none."""

    def __init__(self, home: Path | None, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = [] if home is None else ["--home", str(home)]
        self.capsys = capsys

    def __call__(self, *arguments: str, exit_code: int = 0) -> str:
        status = run([*arguments, *self.home])
        shown = self.capsys.readouterr()
        assert status == exit_code, shown.out + shown.err
        return " ".join((shown.out + shown.err).split())

    def json(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        status = run(["--json", *arguments, *self.home])
        shown = self.capsys.readouterr()
        assert status == exit_code, shown.out + shown.err
        assert shown.err == ""
        values: dict[str, Any] = json.loads(shown.out)
        return values


@pytest.fixture
def shell(site: SiteContext, approved: StudyPlan, capsys: pytest.CaptureFixture[str]) -> Shell:
    """After one training attempt and one evaluation."""
    site.charge(approved, "train", 0, 0, approved.site_ids)
    site.charge(approved, "evaluate", 0, 0, approved.site_ids)
    site.db.close()
    return Shell(site.home, capsys)


@pytest.fixture
def elsewhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """An auditor's machine without any site."""
    monkeypatch.delenv("COHORTIUM_SITE_HOME", raising=False)
    return Shell(None, capsys)


def test_show_has_every_mechanism_and_the_whole_scope(shell: Shell) -> None:
    """PRIVACY-15: no number without what it depends on; the evaluation is said to lie outside."""
    shown = shell("ledger", "show")
    assert "training 12 1 11" in shown
    assert "evaluation - 1 - outside" in shown
    for words in ("delta 1e-05", "unit patient", "adjacency add-remove", "of 2: epsilon"):
        assert words in shown, words
    values = shell.json("ledger", "show")
    (account,) = values["accounts"]
    assert (account["reserved"], account["charged"], account["remaining"]) == (12, 1, 11)
    assert account["evaluations"] == 1
    (training,) = account["mechanisms"]
    assert (training["name"], training["opened"], training["remaining"]) == ("training", 1, 11)
    assert 0 < values["spent"] < values["committed"] <= values["limit"]
    assert values["delta_sum"] == 1e-5
    assert values["unit"] == "patient"


def test_a_preparation_has_a_line_of_its_own(
    sites: list[SiteContext], capsys: pytest.CaptureFixture[str]
) -> None:
    """PRIVACY-8: balances by mechanism."""
    site, plan = (
        sites[0],
        real_plan(sites, **preparation(), privacy={"epsilon": 2.0, "epsilon_two_hospitals": 5.0}),
    )
    approve(site, plan)
    site.charge(plan, "train", 0, 0, plan.site_ids)
    site.charge(plan, "train", 0, 1, plan.site_ids)
    site.charge(plan, "train", 1, 0, plan.site_ids)
    site.db.close()
    (account,) = Shell(site.home, capsys).json("ledger", "show")["accounts"]
    opened = {each["name"]: each["opened"] for each in account["mechanisms"]}
    assert opened == {"preparation": 2, "training": 1}
    assert account["charged"] == 3


def test_verify_looks_at_chain_and_witness(shell: Shell, site: SiteContext) -> None:
    assert "newest there was" in shell("ledger", "verify")
    assert shell.json("ledger", "verify")["intact"]
    site.folders.witness.unlink()
    refused = shell("ledger", "verify", exit_code=3)
    assert "ledger.witness_missing" in refused
    assert "ledger witness --accept" in refused


def test_an_export_verifies_on_a_machine_without_a_site(
    shell: Shell, elsewhere: Shell, tmp_path: Path
) -> None:
    """PRIVACY-9: for auditors, offline."""
    file = tmp_path / "ledger.json"
    assert "ledger.exported" in shell("ledger", "export", "-o", str(file))
    mark = shell.json("card", "show")["fingerprint"]
    values = elsewhere.json("ledger", "verify", str(file))
    assert values["intact"]
    assert (values["entries"], values["fingerprint"]) == (3, mark)
    assert values["spent"] == shell.json("ledger", "show")["spent"]
    assert mark in elsewhere("ledger", "verify", str(file))
    raw = file.read_bytes()
    changed = raw.replace(b'\\"attempt\\":0', b'\\"attempt\\":9', 1)
    assert changed != raw
    file.write_bytes(changed)
    refused = elsewhere("ledger", "verify", str(file), exit_code=3)
    assert "ledger.export_invalid" in refused
    assert "entry 1 " in refused


def test_a_lost_witness_is_accepted_knowingly(shell: Shell, site: SiteContext) -> None:
    """PRIVACY-17: by a command of its own, in the audit log."""
    assert "They agree" in shell("ledger", "witness")
    site.folders.witness.unlink()
    assert "ledger.witness_missing" in shell("ledger", "witness", exit_code=3)
    assert "ledger.witness_accepted" in shell("ledger", "witness", "--accept")
    values = shell.json("ledger", "witness")
    assert values["witness"]["confirmed"] == values["ledger"]
    assert shell.json("ledger", "verify")["intact"]


def test_nothing_is_exported_from_a_ledger_that_does_not_verify(
    shell: Shell, site: SiteContext, tmp_path: Path
) -> None:
    tamper(site, "DELETE FROM ledger WHERE idx = 1")
    file = tmp_path / "ledger.json"
    assert "ledger.broken" in shell("ledger", "export", "-o", str(file), exit_code=3)
    assert not file.exists()
