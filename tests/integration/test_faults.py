"""Processes die, hospitals stop: attempts are void and stay charged, nothing is repeated."""

from __future__ import annotations

import json
import os
import signal

import psutil

from tests.integration.conftest import Consortium


def charges_match_audit(consortium: Consortium, name: str, digest: str) -> int:
    """Every charge has exactly one audit entry, and the ledger's chain holds."""
    consortium.bed.site(name, "ledger", "verify")
    consortium.bed.site(name, "audit", "verify")
    events = consortium.bed.json("cohortium-site", name, "audit", "show", "--last", "100000")
    charged = [
        (event["attributes"]["round"], event["attributes"]["attempt"])
        for event in events["events"]
        if event["event"] == "budget.charged" and event["plan_digest"] == digest
    ]
    assert len(charged) == len(set(charged)), "an attempt was charged twice"
    assert len(charged) == consortium.charges(name, digest)
    return len(charged)


def test_an_unapproved_hospital_takes_no_part(consortium: Consortium) -> None:
    three = ["site-1", "site-2", "site-4"]
    digest = consortium.begin("heart-three", steps=4, names=three)
    # A site hands its steward's approval over in its own time; the vendor starts once all are in.
    consortium.bed.wait_for(
        lambda: consortium.approved("heart-three") == three, "the three approvals", 60
    )
    consortium.bed.run("cohortium", "vendor", "study", "start", "heart-three")
    study = consortium.watch("heart-three")
    assert study["state"] == "done"
    assert study["result"]["release"]["roster"] == three
    assert consortium.charges("site-3", digest) == 0


def test_a_killed_executor_voids_the_attempt_which_stays_charged(consortium: Consortium) -> None:
    digest = consortium.begin("heart-executor", steps=10)
    consortium.until_step("heart-executor", 3)
    os.kill(consortium.pid("site-2", "executor"), signal.SIGKILL)
    study = consortium.watch("heart-executor")
    assert study["state"] == "done", study["reason_code"]
    assert study["attempts_opened"] == 10 + study["attempts_void"]
    assert study["attempts_void"] >= 1
    for name in consortium.bed.site_names:
        assert charges_match_audit(consortium, name, digest) <= study["attempts_opened"]
    whole = max(consortium.charges(name, digest) for name in consortium.bed.site_names)
    assert whole == study["attempts_opened"], "a void attempt was refunded"


def test_a_killed_runner_goes_on_from_the_book(consortium: Consortium) -> None:
    """The coordinator's memory is gone; sums and cohorts on its disk are enough to go on."""
    digest = consortium.begin("heart-runner", steps=10)
    consortium.until_step("heart-runner", 3)
    health = consortium.bed.home("coordinator") / "run" / "health.json"
    os.kill(json.loads(health.read_text())["processes"]["runner"]["pid"], signal.SIGKILL)
    study = consortium.watch("heart-runner")
    assert study["state"] == "done", study["reason_code"]
    assert study["steps_done"] == 10
    for name in consortium.bed.site_names:
        assert charges_match_audit(consortium, name, digest) <= study["attempts_opened"]


def test_a_killed_hospital_rejoins_without_losing_or_repeating_a_charge(
    consortium: Consortium,
) -> None:
    """In a hybrid plan: its ML-KEM-768 secrets outlive the processes too (SECAGG-16)."""
    bed = consortium.bed
    digest = consortium.begin("heart-hospital", steps=45, pair_root="x25519-ml-kem-768")
    consortium.until_step("heart-hospital", 3)
    child = bed.children.pop("site-3")
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    for process in family:
        process.kill()
    child.wait()
    before = charges_match_audit(consortium, "site-3", digest)
    # The other three open further attempts without it, so that it really has missed some.
    consortium.until_step("heart-hospital", consortium.look("heart-hospital")["steps_done"] + 2)
    bed.serve("cohortium-site", "site-3")
    study = consortium.watch("heart-hospital")
    assert study["state"] == "done", study["reason_code"]
    assert study["attempts_void"] >= 1
    after = charges_match_audit(consortium, "site-3", digest)
    assert before < after < study["attempts_opened"]
    last = [entry for entry in study["rounds"] if entry["kind"] == "train"][-1]
    assert last["sites"] == 4, "the hospital did not come back into the cohort"
    assert len(study["result"]["signed_by"]) == 4


def test_stop_works_with_the_coordinator_down_and_is_final(consortium: Consortium) -> None:
    bed = consortium.bed
    consortium.begin("heart-stop", steps=40)
    consortium.until_step("heart-stop", 3)
    bed.end("coordinator")
    output = bed.site("site-1", "stop", "heart-stop")
    assert "masked-update" in output or "update" in output
    for name in ("site-2", "site-3"):
        bed.site(name, "stop", "heart-stop")
    again = bed.site("site-1", "plan", "approve", "heart-stop", "--hash", "0" * 64, check=False)
    assert "plan.hash_mismatch" in again or "plan.stopped" in again
    bed.serve("cohortium-coordinator", "coordinator", "--tap", str(bed.root / "coordinator.tap"))
    bed.wait_for(
        lambda: _state(consortium) in ("ended-early", "waiting", "stopped"),
        "the stopped study to end",
        120,
    )
    assert _state(consortium) == "ended-early"


def _state(consortium: Consortium) -> str:
    return str(consortium.bed.study_state("heart-stop").get("state", ""))
