"""The supervisor: restarts with back-off, ends everything, runs once on a folder."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from schemas.errors import CohortiumError, ErrorCode
from site_node import service as module
from site_node.context import SiteContext
from site_node.service import Child, Service
from tests.support.enrolled import enrolled


def sleeper(*marks: str) -> list[str]:
    return [sys.executable, "-c", "import time; time.sleep(60)", *marks]


def child(name: str, command: list[str]) -> Child:
    return Child(
        name,
        lambda: subprocess.Popen(command),
        signal.SIGTERM,
        lambda _status, _lived, quick: 2.0**quick,
    )


def test_a_child_that_ends_is_started_again_later_and_later() -> None:
    one = child("one", [sys.executable, "-c", "pass"])
    now, pauses = 0.0, []
    for _ in range(3):
        assert one.tend(now)
        assert one.process is not None
        one.process.wait()
        assert one.tend(now)
        pauses.append(one.start_again_at - now)
        assert not one.tend(now)
        now = one.start_again_at
    assert pauses == [2.0, 4.0, 8.0]
    assert one.restarts == 3


def test_a_child_that_does_not_listen_is_killed() -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True)\n"
    one = Child(
        "deaf",
        lambda: subprocess.Popen(
            [sys.executable, "-c", deaf + "time.sleep(60)"], stdout=subprocess.PIPE
        ),
        signal.SIGTERM,
        lambda *_: 0.0,
    )
    one.tend(0.0)
    assert one.process is not None
    assert one.process.stdout is not None
    with one.process.stdout as ready:
        ready.readline()
        one.end(0.1)
    assert one.process.returncode == -signal.SIGKILL


def supernode_delay(site: SiteContext, status: int, lived: float) -> float:
    service = Service(site)
    service._prepare()
    return next(c for c in service.children if c.name == "supernode").delay(status, lived, 1)


def test_a_refused_supernode_waits_longer_than_one_that_ended(site: SiteContext) -> None:
    assert supernode_delay(site, 1, 3.0) > supernode_delay(site, 0, 500.0)


def test_the_service_serves_and_ends_every_process(
    site: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled(site, monkeypatch)
    (site.folders.state / module.GATEWAY_STATUS).write_text("{}")
    service = Service(site)

    def prepare() -> None:
        service.children = [
            child(name, sleeper(name)) for name in ("gateway", "supernode", "executor")
        ]

    seen: dict[str, int] = {}

    def end_when_running() -> None:
        pids = site.folders.state / module.PIDS
        for _ in range(400):
            if pids.exists() and len(known := json.loads(pids.read_text())) == 4:
                seen.update(known)
                break
            threading.Event().wait(0.05)
        service.ended.set()

    monkeypatch.setattr(service.__class__, "_prepare", lambda _self: prepare())
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    watcher = threading.Thread(target=end_when_running)
    watcher.start()
    try:
        service.run()
    finally:
        watcher.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert set(seen) == {"service", "gateway", "supernode", "executor"}
    assert all(each.process and each.process.returncode is not None for each in service.children)
    assert json.loads((site.folders.state / module.HEALTH).read_text())["state"] == "ended"
    assert not (site.folders.state / module.PIDS).exists()
    words = [row.event.event for row in site.audit.rows(last=2)]
    assert words == ["service.started", "service.ended"]


def test_a_site_is_served_once(site: SiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    enrolled(site, monkeypatch)
    with (site.folders.state / module.LOCK).open("ab") as lock:
        module._lock(lock)
        with pytest.raises(CohortiumError) as caught:
            Service(site).run()
    assert caught.value.code is ErrorCode.CONFIG_ALREADY_RUNNING


@pytest.mark.parametrize(
    ("table", "code"),
    [("audit", ErrorCode.AUDIT_BROKEN), ("ledger", ErrorCode.LEDGER_BROKEN)],
)
def test_a_site_with_broken_records_is_not_served(
    site: SiteContext, monkeypatch: pytest.MonkeyPatch, table: str, code: ErrorCode
) -> None:
    enrolled(site, monkeypatch)
    started = []
    monkeypatch.setattr(Service, "_supervise", lambda self: started.append(self))
    chain = getattr(site, table)
    broken = replace(chain.verify(), problems=("entry 1 was changed",))
    monkeypatch.setattr(type(chain), "verify", lambda _self: broken)
    with pytest.raises(CohortiumError) as refused:
        Service(site).run()
    assert refused.value.code is code
    assert started == []


def test_a_site_that_is_not_enrolled_is_not_served(site: SiteContext) -> None:
    with pytest.raises(CohortiumError) as caught:
        Service(site).run()
    assert caught.value.code is ErrorCode.ENROLMENT_MISSING


def test_children_of_a_killed_service_are_ended_and_strangers_left_alone(
    site: SiteContext, tmp_path: Path
) -> None:
    ours = subprocess.Popen(sleeper(str(site.home)))
    stranger = subprocess.Popen(sleeper("something else"))
    try:
        pids = site.folders.state / module.PIDS
        pids.write_text(
            json.dumps({"service": 1, "executor": ours.pid, "gateway": stranger.pid, "x": "y"})
        )
        module._end_leftovers(pids)
        assert not psutil.pid_exists(ours.pid)
        assert psutil.pid_exists(stranger.pid)
        assert stranger.poll() is None
    finally:
        for process in (ours, stranger):
            process.kill()
            process.wait()
