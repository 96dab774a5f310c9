"""`cohortium-site ledger`: show, verify, export and witness, in words and in JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.governance.study import StudyPlan
from schemas.privacy.budget import Budget, Caps, budget_of
from schemas.privacy.ledger import LedgerState, replay
from site_node.cli import run
from site_node.context import SiteContext
from site_node.ledger_view import show_balance
from site_node.screen import Screen
from tests.support.ledger_histories import CAPS, PLANS, reserve
from tests.support.prepared import preparation
from tests.support.sites import approve, real_plan, sealed, tamper
from tests.support.starts import FROM_FILE


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


def test_a_restored_ledger_is_shown_as_such_and_never_exported(
    site: SiteContext, approved: StudyPlan, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """PRIVACY-17: its chain is whole, so only the witness can tell."""
    site.inbox.receive("plan", "heart", sealed(approved))
    site.charge(approved, "train", 0, 0, approved.site_ids)
    site.db._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(site.folders.database, tmp_path / "old.db")
    for step in range(1, 6):
        site.charge(approved, "train", step, 0, approved.site_ids)
    site.db.close()
    shell, file = Shell(site.home, capsys), tmp_path / "ledger.json"
    for arguments in (("ledger", "show"), ("plan", "show", "heart")):
        assert "not to be relied on" not in shell(*arguments)
        assert shell.json(*arguments)["witness_problem"] is None
    for end in ("-wal", "-shm"):
        site.folders.database.with_name(site.folders.database.name + end).unlink(missing_ok=True)
    shutil.copyfile(tmp_path / "old.db", site.folders.database)
    for arguments in (("ledger", "show"), ("plan", "show", "heart")):
        shown = shell(*arguments, exit_code=3)
        for part in ("not to be relied on", "a copy was put back", "put the newest database back"):
            assert part in shown, part
        problem = shell.json(*arguments, exit_code=3)["witness_problem"]
        assert problem["code"] == "ledger.witness_rollback" and problem["hint"]
    assert "ledger.witness_rollback" in shell("ledger", "export", "-o", str(file), exit_code=3)
    assert not file.exists()


def test_the_filters_epsilon_is_never_shown_smaller_than_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """PRIVACY-15: rounded up, as the cost of a plan is."""
    budget = Budget(0.5, 8.0000241, 8.0000241, 9.0, 1e-5, 1e-5, 1e-5, 1e-4, True)
    show_balance(Screen(), LedgerState(), budget, Caps(9.0, 1e-5, 1e-4))
    assert "Committed epsilon 8.0001 if" in " ".join(capsys.readouterr().out.split())


def test_a_plan_from_a_vendors_weights_is_named_and_local_noise_holds_against_any(
    sites: list[SiteContext], capsys: pytest.CaptureFixture[str]
) -> None:
    """PRIVACY-15: t by plan and mechanism, and whose patients lie outside."""
    site, dates = sites[0], {"created": "2026-01-01T00:00:00Z", "expires": "2027-12-31T00:00:00Z"}
    approve(site, real_plan(sites, **dates, model=FROM_FILE))
    site.db.close()
    shell = Shell(site.home, capsys)
    shown, values = shell("ledger", "show"), shell.json("ledger", "show")
    for text in (shown, values["scope"]):
        assert "the patients on whose data the initial weights were trained" in text
    assert "Started from initial weights of a file" in shown
    (account,) = values["accounts"]
    assert (account["t"], account["has_initial_weights"]) == (1, True)
    state = replay([reserve(PLANS[0], 6)])  # every mechanism is each hospital's own
    show_balance(Screen(), state, budget_of(state, CAPS), CAPS)
    shown = " ".join(capsys.readouterr().out.split())
    assert "any training 2 0 2" in shown and "for all plans together any number" in shown


def test_an_export_needs_a_file_that_can_be_written(shell: Shell, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "ledger.json"):
        said = shell("ledger", "export", "-o", str(path), exit_code=2)
        assert "config.file_unwritable" in said
        said = shell("card", "export", "-o", str(path), exit_code=2)
        assert "config.file_unwritable" in said


def test_a_file_that_is_no_export_is_named_as_such(
    shell: Shell, elsewhere: Shell, tmp_path: Path
) -> None:
    file, card = tmp_path / "ledger.json", tmp_path / "site.card"
    shell("ledger", "export", "-o", str(file))
    shell("card", "export", "-o", str(card))
    raw = file.read_bytes()
    file.write_bytes(raw + b"\n")  # as mail programs add
    assert elsewhere.json("ledger", "verify", str(file))["intact"]
    for other in (b"", raw[:-40], card.read_bytes(), json.dumps(json.loads(raw)).encode()):
        file.write_bytes(other)
        said = elsewhere("ledger", "verify", str(file), exit_code=7)
        assert "not an exported ledger" in said
        assert "cohortium-site ledger export" in said
