"""The examination: every check can turn amber or red, and one failure never hides the next."""

from __future__ import annotations

import os
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from site_node import doctor
from site_node.config import parse_config
from site_node.context import SiteContext
from site_node.doctor import Colour, examine
from tests.support.sites import TestClock


def colours(site: SiteContext, clock: TestClock) -> dict[str, Colour]:
    return {finding.check: finding.colour for finding in examine(site.home, clock)}


def test_a_fresh_site_lacks_only_its_enrolment(site: SiteContext, clock: TestClock) -> None:
    found = colours(site, clock)
    assert {name for name, colour in found.items() if colour is Colour.RED} == {"certificate"}
    assert len(found) == len(doctor.CHECKS)


def test_a_folder_without_a_site_is_one_red_line(tmp_path: Path) -> None:
    assert [finding.colour for finding in examine(tmp_path)] == [Colour.RED]


def test_exposed_keys_are_red(site: SiteContext, clock: TestClock) -> None:
    site.keys.path("store.kek").chmod(0o644)
    assert colours(site, clock)["keys"] is Colour.RED


@pytest.mark.parametrize(("free", "colour"), [(50 * 2**20, Colour.RED), (2**30, Colour.AMBER)])
def test_little_disk_shows(
    site: SiteContext, clock: TestClock, monkeypatch: pytest.MonkeyPatch, free: int, colour: Colour
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: usage(1, 1, free))
    assert colours(site, clock)["disk"] is colour


def test_a_clock_behind_the_log_is_red(site: SiteContext, clock: TestClock) -> None:
    clock.forward(days=-1)
    assert colours(site, clock)["clock"] is Colour.RED


def test_an_unwritable_database_is_red_and_the_rest_is_still_examined(
    site: SiteContext, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from site_node.db import unavailable

    def full(_self: object, **_options: object) -> None:
        raise unavailable()

    monkeypatch.setattr("site_node.db.Database.write", full)
    found = colours(site, clock)
    assert found["database"] is Colour.RED
    assert found["privacy ledger"] is Colour.GREEN


def test_a_debug_tap_is_amber(site: SiteContext) -> None:
    text = 'site_id = "site-1"\nname = "x"\n[debug]\nunsafe_plaintext_tap = "/tmp/tap"\n'
    tapped = SiteContext(site.home, parse_config(text.encode()), site.clock)
    assert doctor.check_config(tapped).colour is Colour.AMBER


def test_another_flower_is_red(site: SiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "1.42.0")
    found = {finding.check: finding for finding in examine(site.home, site.clock)}
    assert found["Flower version"].colour is Colour.RED


def test_an_unconfirmed_hospital_is_amber(site: SiteContext, clock: TestClock) -> None:
    with site.db.write() as connection:
        connection.execute("UPDATE peers SET confirmed_at = NULL")
    assert colours(site, clock)["other hospitals"] is Colour.AMBER


def test_an_unreachable_coordinator_is_amber_and_the_site_still_works(
    site: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.enrolled import enrolled

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    enrolled(site, monkeypatch, gateway_url=f"https://127.0.0.1:{port}")
    assert doctor.check_reachable(site).colour is Colour.AMBER
    assert doctor.check_enrolment(site).colour is Colour.GREEN


def test_a_certificate_about_to_end_shows(
    site: SiteContext, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.enrolled import enrolled

    enrolled(site, monkeypatch)
    clock.forward(days=80)
    assert doctor.check_enrolment(site).colour is Colour.AMBER
    clock.forward(days=20)
    assert doctor.check_enrolment(site).colour is Colour.RED


def test_hardening_is_checked_in_what_would_be_started(
    site: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "FLWR_TELEMETRY_ENABLED", "1")
    assert doctor.check_hardening(site).colour is Colour.GREEN
    monkeypatch.setattr("site_node.flower.launch.child_environment", lambda _home, base: dict(base))
    found = {finding.check: finding.colour for finding in examine(site.home, site.clock)}
    assert found["Flower hardening"] is Colour.RED


def test_missing_text_detection_is_amber_and_says_what_follows(
    site: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.check_text_detection(site).colour is Colour.GREEN
    monkeypatch.setattr("deid.batch.chosen.importlib.util.find_spec", lambda _name: None)
    found = doctor.check_text_detection(site)
    assert found.colour is Colour.AMBER and "text-detection" in found.text
