"""The command line as hospital IT and the steward use it: words, codes, exit codes, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import DataRejected, ErrorCode, InternalError
from schemas.governance.study import StudyPlan
from schemas.identity import fingerprint
from schemas.privacy.statement import privacy_statement
from site_node import cli
from site_node.cli import run
from site_node.context import SiteContext, open_site
from site_node.ingest import profile_for
from tests.support.factories import make_card, make_keys, sealed_card
from tests.support.sites import approve, real_plan, sealed


class Shell:
    """A terminal in front of one hospital."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.capsys = capsys

    def __call__(self, *arguments: str, exit_code: int = 0) -> str:
        status = run([*arguments, "--home", str(self.home)])
        shown = self.capsys.readouterr()
        assert status == exit_code, shown.out + shown.err
        return " ".join((shown.out + shown.err).split())

    def json(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        status = run(["--json", *arguments, f"--home={self.home}"])
        shown = self.capsys.readouterr()
        assert status == exit_code, shown.out + shown.err
        assert shown.err == ""
        values: dict[str, Any] = json.loads(shown.out)
        return values


@pytest.fixture
def shell(site: SiteContext, capsys: pytest.CaptureFixture[str]) -> Shell:
    site.db.close()
    return Shell(site.home, capsys)


@pytest.fixture
def plan_now(sites: list[SiteContext]) -> StudyPlan:
    """A plan that is valid by the machine's own clock, as the commands read it."""
    return real_plan(sites, created="2026-01-01T00:00:00Z", expires="2027-12-31T00:00:00Z")


@pytest.fixture
def plan_file(plan_now: StudyPlan, tmp_path: Path) -> Path:
    path = tmp_path / "heart.plan"
    path.write_bytes(sealed(plan_now))
    return path


def test_a_site_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(tmp_path / "home", capsys)
    shown = shell("init", "--site-id", "site-1", "--name", "서울 병원")
    assert "site.created" in shown
    assert "Next" in shown
    again = shell("init", "--site-id", "site-1", "--name", "x", exit_code=2)
    assert "config.home_exists" in again
    assert shell.json("card", "show")["site_id"] == "site-1"
    assert open_site(shell.home).audit.verify().is_intact


def test_an_error_says_what_why_what_to_do_and_the_code(shell: Shell) -> None:
    shown = shell("plan", "show", "lung", exit_code=3)
    for part in ("What happened", "Why", "What to do", "Code", "plan.unknown"):
        assert part in shown
    error = shell.json("plan", "show", "lung", exit_code=3)["error"]
    assert error["code"] == "plan.unknown"
    assert error["exit_code"] == 3
    assert error["hint"]


def test_a_wrong_command_line_is_a_usage_error(shell: Shell) -> None:
    assert "config.usage" in shell("ingest", "heart", exit_code=2)
    assert "config.usage" in shell("no-such-command", exit_code=2)
    assert shell.json("stop", exit_code=2)["error"]["code"] == "config.usage"


def test_a_group_alone_prints_its_help(shell: Shell) -> None:
    shown = shell("peers", exit_code=2)
    assert "confirm" in shown and "What happened" not in shown
    assert "STUDY [required]" in shell("stop", "--help")
    assert shell.json("peers", exit_code=2)["error"]["code"] == "config.usage"


def test_no_home_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COHORTIUM_SITE_HOME", raising=False)
    assert run(["status"]) == 2
    assert "config.home_missing" in capsys.readouterr().err


def test_plan_show_answers_what_will_leave(
    shell: Shell, plan_file: Path, plan_now: StudyPlan
) -> None:
    assert "document.received" in shell("plan", "import", str(plan_file))
    shown = shell("plan", "show", "heart")
    for part in (
        "What will leave this hospital?",
        "masked-update",
        "masked-evaluation",
        "What never leaves",
        "names, resident registration numbers",
        *(" ".join(line.split()) for line in privacy_statement(plan_now).lines()),
        "before this plan epsilon 0 of 8, after it",
        "Results go to Example Vendor",
        "2027-12-31",
        "confirmed here",
        plan_now.digest(),
        f"plan approve heart --hash {plan_now.digest()}",
    ):
        assert part in shown, part
    values = shell.json("plan", "show", "heart")
    update = values["leaves"][0]
    assert update["kind"] == "masked-update"
    assert update["at_most"] == 12
    assert update["bytes_total"] == 12 * update["bytes_each"]
    assert values["privacy"] == privacy_statement(plan_now).values()
    assert values["budget"]["before"] < values["budget"]["after"] < values["budget"]["limit"]
    assert values["problems"] == []


def test_the_whole_way_from_plan_to_stop(
    shell: Shell, plan_file: Path, plan_now: StudyPlan
) -> None:
    shell("plan", "import", str(plan_file))
    assert "plan.hash_mismatch" in shell("plan", "approve", "heart", "--hash", "00", exit_code=3)
    digest = plan_now.digest()
    assert "plan.approved" in shell("plan", "approve", "heart", "--hash", digest)
    assert shell.json("plan", "list")["plans"][0]["state"] == "approved"
    assert "approved at this hospital" in shell("plan", "show", digest[:16])
    account = shell.json("ledger", "show")["accounts"][0]
    assert (account["reserved"], account["charged"]) == (12, 0)
    assert shell.json("ledger", "verify")["intact"]
    assert shell.json("audit", "verify")["intact"]
    assert shell.json("status")["waiting"] == [{"kind": "approval", "plan_digest": digest}]
    shown = shell("stop", "heart")
    assert "No upload of this plan had been sent" in shown
    assert "plan.stopped" in shown
    assert "plan.stopped" in shell("stop", "heart", exit_code=4)
    assert "plan.stopped" in shell("plan", "approve", "heart", "--hash", digest, exit_code=4)
    assert [each["kind"] for each in shell.json("status")["waiting"]] == ["stop", "approval"]


def test_a_name_means_the_approved_plan_and_not_a_newer_one_that_anybody_may_send(
    shell: Shell, site: SiteContext, sites: list[SiteContext], tmp_path: Path
) -> None:
    """A plan of the same name must not draw the stop, or the ingest, to itself."""
    dates = {"created": "2026-01-01T00:00:00Z", "expires": "2027-12-31T00:00:00Z"}
    profile = profile_for(real_plan(sites).data).digest
    ours = real_plan(sites, **dates, deid_profile_sha256=profile)
    decoy = real_plan(sites, **dates, deid_profile_sha256="ab" * 32)
    for each in (ours, decoy):
        path = tmp_path / f"{each.digest()}.plan"
        path.write_bytes(sealed(each))
        shell("plan", "import", str(path))
    shell("plan", "approve", ours.digest(), "--hash", ours.digest())
    empty = tmp_path / "extract"
    empty.mkdir()
    shown = shell("ingest", "heart", "--source", str(empty), exit_code=2)
    assert "a column that the de-identification profile does not keep" in shown  # ours, not "ab"
    assert shell.json("stop", "heart")["digest"] == ours.digest()
    assert site.approvals.is_stopped(ours.digest())
    assert not site.approvals.is_stopped(decoy.digest())
    assert site.approvals.in_force("heart") == ()


def test_a_plan_with_an_unconfirmed_hospital_says_what_to_do(
    shell: Shell, sites: list[SiteContext], plan_file: Path, plan_now: StudyPlan
) -> None:
    with sites[0].db.write() as connection:
        connection.execute("UPDATE peers SET confirmed_at = NULL WHERE site_id = 'site-2'")
    shell("plan", "import", str(plan_file))
    shown = shell("plan", "show", "heart")
    assert "It cannot be approved as it stands" in shown
    assert "peers confirm site-2 --fingerprint HEX" in shown
    refused = shell("plan", "approve", "heart", "--hash", plan_now.digest(), exit_code=3)
    assert "identity.peer_unconfirmed" in refused


def test_refusing_a_plan_is_written_down(shell: Shell, plan_file: Path) -> None:
    shell("plan", "import", str(plan_file))
    assert "plan.refused" in shell("plan", "refuse", "heart")
    assert shell.json("plan", "list")["plans"][0]["state"] == "refused"


def test_peers_are_imported_shown_and_confirmed(shell: Shell, tmp_path: Path) -> None:
    keys = make_keys()
    card = tmp_path / "nine.card"
    card.write_bytes(sealed_card("site-9", keys).canonical())
    assert "peers confirm site-9" in shell("peers", "import", str(card))
    mark = fingerprint(make_card("site-9", keys))
    assert "NO - compare by telephone" in shell("peers", "show")
    wrong = shell("peers", "confirm", "site-9", "--fingerprint", "00", exit_code=3)
    assert "identity.fingerprint_mismatch" in wrong
    assert "peer.confirmed" in shell("peers", "confirm", "site-9", "--fingerprint", mark)
    peers = {peer["site_id"]: peer for peer in shell.json("peers", "show")["peers"]}
    assert peers["site-9"]["fingerprint"] == mark
    assert peers["site-9"]["confirmed_at"]


def test_the_card_is_exported_without_secrets(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "one.card"
    assert "card.exported" in shell("card", "export", "--output", str(path))
    assert b"PRIVATE" not in path.read_bytes()
    assert "config.file_missing" in shell("peers", "import", str(tmp_path / "no"), exit_code=2)


def test_the_configuration_is_shown_whole(shell: Shell) -> None:
    assert "maximum_epsilon_total = 8.0" in shell("config", "check")
    (shell.home / "site.toml").write_text('site_id = "site-1"\nnam = "x"\n')
    assert "config.unknown_key" in shell("config", "check", exit_code=2)


def test_a_broken_chain_has_its_own_exit_code(shell: Shell, site: SiteContext) -> None:
    from tests.support.sites import tamper

    tamper(site, "DELETE FROM audit WHERE idx = 2")
    assert "audit.broken" in shell("audit", "verify", exit_code=3)
    doctor = shell.json("doctor", exit_code=2)
    assert not doctor["fit"]
    by_name = {each["check"]: each for each in doctor["findings"]}
    assert by_name["audit log"]["colour"] == "red"


def test_status_works_before_anything_else(shell: Shell) -> None:
    assert shell.json("status")["coordinator"] == "not enrolled"
    assert "not enrolled" in shell("status")


def test_status_does_not_believe_a_killed_service(shell: Shell) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    state = shell.home / "state"
    child = {"executor": {"pid": gone.pid, "restarts": 0, "state": "running"}}
    health = {"state": "running", "updated": "", "processes": child}
    (state / "health.json").write_text(json.dumps(health), encoding="utf-8")
    (state / "pids.json").write_text(json.dumps({"service": gone.pid}), encoding="utf-8")
    shown = shell("status")
    assert "killed; start it again: cohortium-site serve" in shown and "executor" not in shown
    (state / "pids.json").write_text(json.dumps({"service": os.getpid()}), encoding="utf-8")
    assert shell.json("status")["health"] == health


def test_ingest_reports_counts_and_refuses_a_foreign_profile(
    shell: Shell, plan_file: Path, tmp_path: Path
) -> None:
    shell("plan", "import", str(plan_file))
    shown = shell("ingest", "heart", "--source", str(tmp_path), exit_code=2)
    assert "plan.deid_profile_mismatch" in shown


def test_ingest_refuses_a_delta_too_large_for_this_hospitals_patients(
    shell: Shell, sites: list[SiteContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-14: counted from the extract itself, before anything of it is stored."""
    dates = {"created": "2026-01-01T00:00:00Z", "expires": "2027-12-31T00:00:00Z"}
    profile = profile_for(real_plan(sites).data).digest
    path = tmp_path / "heart.plan"
    path.write_bytes(sealed(real_plan(sites, **dates, deid_profile_sha256=profile)))
    shell("plan", "import", str(path))
    monkeypatch.setattr("site_node.ingest.ingest", lambda *_a, accept, **_k: accept(10_001))
    shown = shell("ingest", "heart", "--source", str(tmp_path), exit_code=4)
    assert "plan.delta_patients" in shown and "10001" in shown


def test_ingest_asks_every_plan_of_the_study_for_its_delta(
    shell: Shell, sites: list[SiteContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-14: an older approved plan of the name would train on the same rows."""
    dates = {"created": "2026-01-01T00:00:00Z", "expires": "2027-12-31T00:00:00Z"}
    profile = profile_for(real_plan(sites).data).digest
    older, newer = (
        real_plan(sites, **dates, deid_profile_sha256=profile, privacy=privacy)
        for privacy in (
            {"delta": 1e-5, "noise_multiplier": 18},
            {"delta": 1e-6, "noise_multiplier": 20},
        )
    )
    for plan in (older, newer):
        approve(sites[0], plan)

    def read_only(*_args: object, accept: Callable[[int], None], **_options: object) -> None:
        accept(40_000)
        raise DataRejected(ErrorCode.SOURCE_EMPTY, "Every plan took the extract.")

    monkeypatch.setattr("site_node.ingest.ingest", read_only)
    for name in ("heart", newer.digest()):  # by the newer plan's hash too: the store is one
        shown = shell("ingest", name, "--source", str(tmp_path), exit_code=4)
        assert "plan.delta_patients" in shown and older.digest()[:16] in shown
    shell("stop", older.digest())
    shown = shell("ingest", "heart", "--source", str(tmp_path), exit_code=DataRejected.exit_code)
    assert "ingest.source_empty" in shown


def test_an_unforeseen_failure_shows_no_text(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_home: Path) -> None:
        raise ValueError("patient 홍길동")

    monkeypatch.setattr("site_node.context.open_site", broken)
    shown = shell("status", exit_code=InternalError.exit_code)
    assert ErrorCode.INTERNAL_UNEXPECTED.value in shown
    assert "홍길동" not in shown


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["plan", "list", "--home", "x", "--json"], ["--home", "x", "--json", "plan", "list"]),
        (["--json", "status"], ["--json", "status"]),
        (["stop", "--home=x", "s"], ["--home=x", "stop", "s"]),
        (["stop", "--", "--json"], ["stop", "--", "--json"]),
        (["status", "--home"], ["--home", "status"]),
    ],
)
def test_home_and_json_may_stand_anywhere(given: list[str], wanted: list[str]) -> None:
    assert cli._hoisted(given) == wanted


def test_help_comes_quickly_without_heavy_modules() -> None:
    code = (
        "import sys; from site_node.cli import run; run(['--help']); "
        "heavy = {'torch', 'flwr', 'pyarrow', 'pydicom', 'dp_accounting', 'opacus'}; "
        "sys.exit(sorted(heavy & set(sys.modules)) and 1 or 0)"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
    assert time.monotonic() - started < 20
