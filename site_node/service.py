"""How do the processes of a hospital stay up together, and end together?

Three children: the gateway (the only one with a route out), the stock SuperNode, and our executor.
A child that ends is started again; a SuperNode that was refused waits longer, because Flower may
still believe its predecessor online.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Final

from schemas.errors import ConfigError, ErrorCode, TrustError
from schemas.ids import format_time
from site_node.config import write_atomically
from site_node.context import SiteContext
from site_node.enrol import read_enrolment
from site_node.flower.launch import (
    SuperNodeSettings,
    check_environment,
    child_environment,
    free_port,
    make_local_tls,
    make_secret,
    restart_delay_seconds,
    start_supernode,
)
from site_node.gateway_main import GATEWAY_STATUS, LOCAL_TLS, SECRET, WAKE
from site_node.governance.audit import AuditWord
from site_node.logs import configure_logs, event

PORTS, PIDS, HEALTH, LOCK = "ports.json", "pids.json", "health.json", "serve.lock"
_TICK_SECONDS: Final = 0.2
_STEADY_SECONDS: Final = 20.0  # a child that lived this long begins again without back-off
_MAX_RESTART_SECONDS: Final = 30.0

Start = Callable[[], "subprocess.Popen[bytes]"]


@dataclass(slots=True)
class Child:
    """One supervised process."""

    name: str
    start: Start
    end_signal: signal.Signals
    delay: Callable[[int, float, int], float]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    restarts: int = 0
    quick_ends: int = 0

    def tend(self, now: float) -> bool:
        """Start the process, or notice that it ended; True if something changed."""
        if self.process is None:
            if now < self.start_again_at:
                return False
            self.process = self.start()
            self.started_at = now
            event("process.started", process=self.name, pid=self.process.pid)
            return True
        status = self.process.poll()
        if status is None:
            return False
        lived = now - self.started_at
        self.quick_ends = 0 if lived > _STEADY_SECONDS else self.quick_ends + 1
        pause = self.delay(status, lived, self.quick_ends)
        event("process.ended", process=self.name, exit_status=status, seconds=pause)
        self.process = None
        self.restarts += 1
        self.start_again_at = now + pause
        return True

    def end(self, grace_seconds: float) -> None:
        """Ask the process to end, and kill it if it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.end_signal)
        try:
            self.process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        event("process.ended", process=self.name, exit_status=self.process.returncode)


@dataclass(slots=True)
class Service:
    """The running site node."""

    site: SiteContext
    children: list[Child] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ConfigError: it runs already on this home, or Flower's hardening is not in force.
            TrustError: ENROLMENT_MISSING.
            InternalError: AUDIT_UNAVAILABLE.
        """
        read_enrolment(self.site)
        os.umask(0o077)  # logs and sockets of every child are this user's only
        state = self.site.folders.state
        with (state / LOCK).open("ab") as lock:
            _lock(lock)
            configure_logs(self.site.config.site_id, "service")
            self._refuse_broken_records()
            _end_leftovers(state / PIDS)
            self._prepare()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            with self.site.audit.recording(AuditWord.SERVICE_STARTED, pid=os.getpid()):
                pass
            try:
                self._supervise()
            finally:
                self._end_all()
                with self.site.audit.recording(AuditWord.SERVICE_ENDED, pid=os.getpid()):
                    pass

    def _refuse_broken_records(self) -> None:
        """Serve only with a whole audit log and ledger: an older copy put back would spend twice.

        Raises:
            TrustError: LEDGER_WITNESS_ROLLBACK, LEDGER_WITNESS_MISSING, AUDIT_BROKEN or
                LEDGER_BROKEN.
        """
        self.site.ledger.check_witness()
        for code, report in (
            (ErrorCode.AUDIT_BROKEN, self.site.audit.verify()),
            (ErrorCode.LEDGER_BROKEN, self.site.ledger.verify()),
        ):
            if not report.is_intact:
                raise TrustError(
                    code,
                    f"{code.meaning} This node does not start: {report.problems[0]}.",
                    hint="Keep the folder as it is and call your security officer. An old backup "
                    "put in place shows like this too.",
                )

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.ended.set()

    def _prepare(self) -> None:
        site, folders, times = self.site, self.site.folders, self.site.config.service
        state = folders.state
        local = make_local_tls(state / LOCAL_TLS, now=site.clock())
        secret = make_secret(state / SECRET)
        flower_home = state / "flower"
        for folder in (flower_home, state / WAKE, folders.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = child_environment(flower_home, os.environ)
        check_environment(environment)
        gateway_port, runtime_port = free_port(), free_port()
        _write_json(state / PORTS, {"gateway": gateway_port, "runtime": runtime_port})
        (state / GATEWAY_STATUS).unlink(missing_ok=True)
        supernode = SuperNodeSettings(
            gateway_port=gateway_port,
            runtime_port=runtime_port,
            node_key=folders.keys / "node.key",
            secret=secret,
            tls=local,
        )

        def own(module: str, name: str, port: int) -> Start:
            command = [sys.executable, "-m", module, str(site.home), str(port)]
            return lambda: _start(command, environment, folders.logs / f"{name}.log")

        def plain(_status: int, _lived: float, quick_ends: int) -> float:
            return min(times.restart_seconds * 2.0 ** max(0, quick_ends - 1), _MAX_RESTART_SECONDS)

        def refused(status: int, lived: float, _quick_ends: int) -> float:
            return restart_delay_seconds(status, lived)

        self.children = [
            Child("gateway", own("site_node.gateway_main", "gateway", gateway_port),
                  signal.SIGTERM, plain),
            Child("supernode",
                  lambda: start_supernode(supernode, environment, folders.logs / "supernode.log"),
                  signal.SIGINT, refused),
            Child("executor", own("site_node.executor_main", "executor", runtime_port),
                  signal.SIGTERM, plain),
        ]  # fmt: skip

    def _supervise(self) -> None:
        gateway = self.children[0]
        gateway.tend(time.monotonic())
        self._await_gateway()
        health_at = 0.0
        while not self.ended.is_set():
            now = time.monotonic()
            # A sum, not any(): every child is tended in each tick.
            changed = sum(child.tend(now) for child in self.children) > 0
            if changed or now >= health_at:
                self.write_health("running")
                health_at = now + self.site.config.service.health_seconds
            self.ended.wait(_TICK_SECONDS)

    def _await_gateway(self) -> None:
        """Give the gateway a moment, because a SuperNode that finds nobody backs off."""
        until = time.monotonic() + self.site.config.service.stop_grace_seconds
        status = self.site.folders.state / GATEWAY_STATUS
        while not status.exists() and time.monotonic() < until and not self.ended.is_set():
            self.ended.wait(_TICK_SECONDS / 4)

    def _end_all(self) -> None:
        # The SuperNode signs off through the gateway, so the gateway goes last.
        grace = self.site.config.service.stop_grace_seconds
        for name in ("supernode", "executor", "gateway"):
            for child in self.children:
                if child.name == name:
                    child.end(grace)
        self.write_health("ended")
        (self.site.folders.state / PIDS).unlink(missing_ok=True)

    def write_health(self, state: str) -> None:
        """Write process ids and health for ``status``, the demo and a monitoring system."""
        folder = self.site.folders.state
        running = {
            child.name: child.process.pid
            for child in self.children
            if child.process is not None and child.process.returncode is None
        }
        _write_json(folder / PIDS, {"service": os.getpid(), **running})
        processes = {
            child.name: {
                "pid": running.get(child.name, 0),
                "restarts": child.restarts,
                "state": "running" if child.name in running else "waiting",
            }
            for child in self.children
        }
        updated = format_time(self.site.clock())
        _write_json(folder / HEALTH, {"state": state, "updated": updated, "processes": processes})


def serve(site: SiteContext) -> None:
    """Run the site node in the foreground until it is told to end."""
    Service(site).run()


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _lock(lock: IO[bytes]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError(
            ErrorCode.CONFIG_ALREADY_RUNNING,
            "The site node runs on this folder already.",
            hint="`cohortium-site status` shows its processes.",
        ) from None


def _end_leftovers(pids: Path) -> None:
    """End children of a service that was killed; a stranger's process of that id is left alone."""
    import psutil

    try:
        known = json.loads(pids.read_bytes())
    except (OSError, ValueError):
        return
    home = str(pids.parent)
    for name, pid in known.items():
        if name == "service":
            continue
        try:
            process = psutil.Process(int(pid))
            if any(home in part or str(pids.parent.parent) == part for part in process.cmdline()):
                process.terminate()
                process.wait(5)
                event("process.leftover_ended", process=name, pid=int(pid))
        except (psutil.Error, ValueError, TypeError):
            continue


def _write_json(path: Path, values: dict[str, object]) -> None:
    write_atomically(path, json.dumps(values, sort_keys=True).encode("utf-8") + b"\n")
