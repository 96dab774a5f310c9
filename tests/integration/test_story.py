"""The main job, by the commands people use, between separate processes."""

from __future__ import annotations

import json
import sqlite3

import httpx
import psutil

from scripts.identifier_search import search
from scripts.testbed import CommandFailed
from tests.integration import test_prepared
from tests.integration.conftest import Consortium


def test_the_study_gives_a_co_signed_result(consortium: Consortium) -> None:
    bed = consortium.bed
    result = bed.json("cohortium", "vendor", "results", "heart")
    assert [signer["site_id"] for signer in result["signed_by"]] == bed.site_names
    low, high = result["auroc"]["interval"]
    assert low <= result["auroc"]["value"] <= high
    assert result["auroc"]["value"] >= 0.85
    assert result["privacy"]["epsilon"] <= 1.0
    assert result["privacy"]["outside_epsilon"]
    table = bed.run("cohortium", "vendor", "results", "heart", "--csv")
    assert "heart,auroc," in table


def test_every_hospital_charged_every_attempt_and_its_log_is_whole(consortium: Consortium) -> None:
    bed = consortium.bed
    study = consortium.look("heart")
    for name in bed.site_names:
        assert consortium.charges(name, study["digest"]) == study["attempts_opened"]
        bed.site(name, "ledger", "verify")
        bed.site(name, "audit", "verify")


def test_the_image_study_runs_over_the_same_consortium(consortium: Consortium) -> None:
    consortium.begin("cxr", template="cxr", steps=4)
    study = consortium.watch("cxr")
    assert study["state"] == "done", study["reason_code"]
    assert study["steps_done"] == 4
    assert len(study["result"]["signed_by"]) == 4


def test_nothing_identifying_stands_outside_the_raw_folders(consortium: Consortium) -> None:
    bed = consortium.bed
    page = f"http://127.0.0.1:{bed.ports()['page']}"
    with httpx.Client(trust_env=False, base_url=page) as client:
        shown = {
            path: client.get(path).raise_for_status().content
            for path in ("/", "/studies/heart", "/studies/cxr")
        }
    for study in ("heart", "cxr"):
        found = search(
            bed.root,
            consortium.raw[study] / "identifiers.json",
            raw_folders=[],
            homes=[bed.home(name) for name in bed.site_names],
            extra=shown,
        )
        assert found.places == ()
        assert found.control_found
        assert found.files > 50
        assert found.stores >= 8


def test_both_gateways_taps_hold_what_crossed(consortium: Consortium) -> None:
    """The search above looked at real traffic, not at empty files."""
    bed = consortium.bed
    for name in [*bed.site_names, "coordinator"]:
        assert (bed.root / f"{name}.tap").stat().st_size > 50_000


def test_every_gateway_negotiated_tls_1_3(consortium: Consortium) -> None:
    for name in consortium.bed.site_names:
        status = json.loads((consortium.bed.home(name) / "state" / "gateway.json").read_text())
        assert status["tls"] == "TLSv1.3"


def test_the_coordinator_holds_no_histogram_and_no_single_update(consortium: Consortium) -> None:
    database = consortium.bed.home("coordinator") / "coordinator.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
        sums = connection.execute("SELECT count(*) FROM sums").fetchone()[0]
        blobs = connection.execute("SELECT words FROM sums").fetchall()
    assert not [name for name in tables if "upload" in name or "histogram" in name]
    assert sums >= 12
    words = {14, 977, test_prepared.WORDS, test_prepared.INPUTS + 1}
    assert {len(row[0]) for row in blobs} <= {4 * number for number in words}


def test_flowers_telemetry_update_check_and_installs_are_off_in_every_process(
    consortium: Consortium,
) -> None:
    checked = 0
    for child in consortium.bed.children.values():
        for process in psutil.Process(child.pid).children(recursive=True):
            environment = process.environ()
            assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
            assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
            assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
            checked += 1
    assert checked >= 16


def test_a_used_invite_and_a_wrong_hash_are_refused(consortium: Consortium) -> None:
    bed = consortium.bed
    digest = consortium.look("heart")["digest"]
    wrong = ("f" if digest[0] != "f" else "0") + digest[1:]
    output = bed.site("site-1", "plan", "approve", "heart", "--hash", wrong, check=False)
    assert "plan.hash_mismatch" in output
    again = bed.site("site-1", "enrol", "--invite", str(bed.root / "site-1.invite"), check=False)
    assert "enrolment.exists" in again
    bed.run("cohortium-site", "stranger", "init", "--site-id", "site-1", "--name", "Stranger")
    invite = str(bed.root / "site-1.invite")
    try:
        bed.run("cohortium-site", "stranger", "enrol", "--invite", invite)
    except CommandFailed as error:
        assert error.status == 3
        assert "invite.used" in error.output
    else:
        raise AssertionError("a used invite was accepted")
