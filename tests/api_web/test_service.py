"""Does ``cohortium-coordinator`` set up, serve, heal itself, and end every process it started?"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from coordinator.client.home import parse_access
from coordinator.client.http import Client
from coordinator.config import Home
from coordinator.files import read_json
from schemas.canonical import parse
from schemas.identity import EnrolmentResponse, Invite
from tests.support.desk import make_request
from tests.support.factories import make_keys

ROOT = Path(__file__).resolve().parents[2]
_MAIN = "from coordinator.cli import main; main()"


def _command(*words: str) -> list[str]:
    return [sys.executable, "-c", _MAIN, *words]


def _run(*words: str, expect: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        _command(*words, "--json"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    pause, end = threading.Event(), time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coordinator's home, made by ``init``."""
    root = tmp_path_factory.mktemp("coordinator") / "home"
    made = _run("init", "--home", str(root), "--name", "Test consortium")
    assert made["event"] == "coordinator.created"
    return root


def test_commands_that_need_addresses_say_so_before_the_first_start(tmp_path: Path) -> None:
    root = tmp_path / "home"
    _run("init", "--home", str(root), "--name", "Test")
    refused = _run("invite", "site-1", "--home", str(root), expect=2)
    assert refused["error"]["code"] == "config.not_running"
    assert _run("status", "--home", str(root))["ready"] is False


def test_a_home_is_made_once_and_only_for_its_owner(home: Path) -> None:
    assert home.stat().st_mode & 0o077 == 0
    again = _run("init", "--home", str(home), "--name", "x", expect=2)
    assert again["error"]["code"] == "config.home_exists"


def test_a_folder_without_a_coordinator_is_refused(tmp_path: Path) -> None:
    refused = _run("status", "--home", str(tmp_path / "none"), expect=2)
    assert refused["error"]["code"] == "config.missing"


@pytest.fixture(scope="module")
def serving(home: Path) -> Iterator[Path]:
    """The same home being served by all its processes."""
    supervisor = subprocess.Popen(
        _command("serve", "--home", str(home)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _until(lambda: bool((read_json(home / "run" / "health.json") or {}).get("ready")))
        yield home
    finally:
        if supervisor.poll() is None:
            supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(timeout=30)


def _pids(home: Path) -> dict[str, int]:
    return {name: int(pid) for name, pid in (read_json(Home(home).pids_file) or {}).items()}


def test_everything_runs_and_is_healthy(serving: Path) -> None:
    assert set(_pids(serving)) == {"supervisor", "superlink", "gateway", "desk", "runner"}
    status = _run("status", "--home", str(serving))
    assert status["ready"] is True
    findings = _run("doctor", "--home", str(serving))["findings"]
    assert {item["colour"] for item in findings} == {"green"}


def test_flower_is_hardened_in_every_process(serving: Path) -> None:
    for name, pid in _pids(serving).items():
        if name == "supervisor":
            continue
        environment = psutil.Process(pid).environ()
        assert environment["FLWR_TELEMETRY_ENABLED"] == "0", name
        assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1", name
        assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1", name
    assert (
        "--disable-runtime-dependency-installation"
        in psutil.Process(_pids(serving)["superlink"]).cmdline()
    )


def test_nothing_listens_beyond_loopback(serving: Path) -> None:
    ports = read_json(serving / "run" / "ports.json") or {}
    for pid in _pids(serving).values():
        for connection in psutil.Process(pid).net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in {"127.0.0.1", "::1"}, connection
                assert connection.laddr.port in ports.values()


def test_a_second_supervisor_is_refused(serving: Path) -> None:
    assert _run("serve", "--home", str(serving), expect=2)["error"]["code"] == (
        "config.already_running"
    )


def test_a_site_enrols_and_is_known_to_the_superlink(serving: Path, tmp_path: Path) -> None:
    made = _run("invite", "site-1", "--home", str(serving), "-o", str(tmp_path / "site-1.invite"))
    assert made["event"] == "site.invited"
    path = tmp_path / "site-1.invite"
    assert path.stat().st_mode & 0o077 == 0
    invite = parse(Invite, path.read_bytes(), max_bytes=10**5)
    context = ssl.create_default_context(cadata=invite.ca_pem)
    with httpx.Client(base_url=invite.api_url, verify=context, trust_env=False) as client:
        answer = client.post(
            "/v1/enrol", content=make_request(invite.code, "site-1", make_keys()), timeout=30
        )
    assert parse(EnrolmentResponse, answer.content, max_bytes=10**5).site_id == "site-1"
    [site] = _run("status", "--home", str(serving))["sites"]
    assert (site["site_id"], site["registered"]) == ("site-1", True)


def test_an_access_file_opens_the_api(serving: Path, tmp_path: Path) -> None:
    path = tmp_path / "vendor.access"
    _run("grant", "acme", "--home", str(serving), "-o", str(path))
    assert path.stat().st_mode & 0o077 == 0
    with Client(parse_access(path.read_bytes())) as client:
        assert len(client.get("/v1/info")["app_bundle_sha256"]) == 64
    refused = _run("grant", "x", "--role", "king", "--home", str(serving), expect=2)
    assert refused["error"]["code"] == "config.usage"


def test_the_page_is_there(serving: Path) -> None:
    port = (read_json(serving / "run" / "ports.json") or {})["page"]
    answer = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
    assert answer.status_code == 200
    assert "No study yet" in answer.text


def test_a_killed_process_is_started_again(serving: Path) -> None:
    before = _pids(serving)
    os.kill(before["desk"], signal.SIGKILL)
    _until(lambda: _pids(serving).get("desk", before["desk"]) != before["desk"])
    _until(lambda: bool((read_json(serving / "run" / "health.json") or {}).get("ready")))
    after = _pids(serving)
    assert after["superlink"] == before["superlink"]
    assert _run("status", "--home", str(serving))["processes"]["desk"]["restarts"] == 1


def test_a_killed_superlink_brings_all_back_with_the_sites_registered(serving: Path) -> None:
    before = _pids(serving)
    [site] = _run("status", "--home", str(serving))["sites"]
    os.kill(before["superlink"], signal.SIGKILL)
    _until(lambda: _pids(serving).get("superlink", before["superlink"]) != before["superlink"])
    _until(lambda: bool((read_json(serving / "run" / "health.json") or {}).get("ready")))
    assert not any(psutil.pid_exists(before[name]) for name in ("gateway", "desk", "runner"))
    [again] = _run("status", "--home", str(serving))["sites"]
    assert again["registered"] and again["site_id"] == site["site_id"]


def test_stopping_ends_every_process(serving: Path) -> None:
    pids = _pids(serving)
    os.kill(pids["supervisor"], signal.SIGTERM)
    children = {name: pid for name, pid in pids.items() if name != "supervisor"}
    _until(lambda: not any(psutil.pid_exists(pid) for pid in children.values()), seconds=20)
    _until(lambda: not Home(serving).pids_file.exists(), seconds=20)
    assert _run("status", "--home", str(serving))["ready"] is False
