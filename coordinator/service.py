"""How do the coordinator's processes live together? One supervisor starts and ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

from coordinator.config import CoordinatorConfig, Home
from coordinator.files import choose_ports, issue_certificates, read_json, write_json
from coordinator.flower.superlink import (
    SuperLinkSettings,
    check_environment,
    child_environment,
    make_secret,
    start_superlink,
)
from coordinator.logs import event
from coordinator.pki import Authority
from schemas.errors import ConfigError, ErrorCode

_OURS: Final = ("gateway", "desk", "runner")
_LOOK_SECONDS: Final = 0.2
_END_SECONDS: Final = 8.0  # the gateway lets open answers go for two seconds first
_HEALTH: Final = "health.json"


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    started: float
    restarts: int = 0


@dataclass(slots=True)
class Service:
    """Starts the SuperLink and our three processes, and keeps them running.

    The SuperLink holds its state in memory; when it ends, the others are started anew with it
    and every site is registered again. Studies go on from the database.
    """

    home: Home
    config: CoordinatorConfig
    announce: Callable[[dict[str, int]], None]
    tap: str = ""
    _children: dict[str, _Child] = field(default_factory=dict)
    _ports: dict[str, int] = field(default_factory=dict)
    _stopping: bool = False
    _announced: bool = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then end every process that was started.

        Raises:
            ConfigError: another supervisor serves this home, or a fixed port is taken.
        """
        self._refuse_second()
        self._ports = choose_ports(self.home, self.config)
        issue_certificates(self.home, self.config)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        try:
            self._start_all()
            while not self._stopping:
                self._look_after()
                time.sleep(_LOOK_SECONDS)
        finally:
            self._end_all()
            self.home.pids_file.unlink(missing_ok=True)
            self._write_health(ready=False)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _refuse_second(self) -> None:
        pids = read_json(self.home.pids_file) or {}
        supervisor = pids.get("supervisor")
        if isinstance(supervisor, int) and supervisor != os.getpid() and _is_ours(supervisor):
            raise ConfigError(
                ErrorCode.CONFIG_ALREADY_RUNNING,
                "This coordinator is being served already.",
                hint="Run: cohortium-coordinator status",
            )
        for name, pid in pids.items():
            # What a killed supervisor left behind would hold the ports and the database.
            if name != "supervisor" and isinstance(pid, int) and _is_ours(pid):
                os.kill(pid, signal.SIGTERM)

    def _start_all(self) -> None:
        for name in ("superlink", *_OURS):
            self._start(name)
        self._write_pids()

    def _start(self, name: str, restarts: int = 0) -> None:
        environment = child_environment(self.home.superlink / "flwr", os.environ)
        log = self.home.run / f"{name}.log"
        if name == "superlink":
            ca = Authority(self.home.authority).ca_path
            process = start_superlink(
                SuperLinkSettings(
                    port=self._ports["superlink"],
                    ca=ca,
                    certificate=self.home.superlink / "server.crt",
                    key=self.home.superlink / "server.key",
                    secret=make_secret(self.home.superlink / "secret"),
                ),
                environment,
                log,
            )
        else:
            check_environment(environment)
            (self.home.run / f"{name}.json").unlink(missing_ok=True)
            command = [sys.executable, "-m", f"coordinator.{name}_main"]
            command += ["--home", str(self.home.root)]
            if name == "gateway" and self.tap:
                command += ["--tap", self.tap]
            with log.open("ab") as out:
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        self._children[name] = _Child(process, time.monotonic(), restarts)
        event("process.started", process=name, pid=process.pid)

    def _look_after(self) -> None:
        ended = {
            name: child
            for name, child in self._children.items()
            if child.process.poll() is not None
        }
        for name, child in ended.items():
            event(
                "process.ended",
                process=name,
                pid=child.process.pid,
                exit_status=int(child.process.returncode),
            )
        if "superlink" in ended:
            self._end_all()
            self._pause(ended["superlink"])
            if not self._stopping:
                self._start_all()
        else:
            for name, child in ended.items():
                self._pause(child)
                if not self._stopping:
                    self._start(name, child.restarts + 1)
            if ended:
                self._write_pids()
        ready = self._is_ready()
        self._write_health(ready=ready)
        if ready and not self._announced:
            self._announced = True
            self.announce(self._ports)

    def _pause(self, child: _Child) -> None:
        """Wait before a restart, longer for a process that ends again and again."""
        wait = self.config.restart_after_seconds * min(2**child.restarts, 16)
        until = time.monotonic() + wait
        while time.monotonic() < until and not self._stopping:
            time.sleep(_LOOK_SECONDS)

    def _is_ready(self) -> bool:
        written = all((self.home.run / f"{name}.json").exists() for name in _OURS)
        return written and all(c.process.poll() is None for c in self._children.values())

    def _end_all(self) -> None:
        order = ("runner", "desk", "gateway", "superlink")
        running = [self._children[name] for name in order if name in self._children]
        for child in running:
            if child.process.poll() is None:
                child.process.terminate()
        until = time.monotonic() + _END_SECONDS
        for child in running:
            try:
                child.process.wait(timeout=max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._children.clear()

    def _write_pids(self) -> None:
        pids = {name: child.process.pid for name, child in self._children.items()}
        write_json(self.home.pids_file, {"supervisor": os.getpid(), **pids})

    def _write_health(self, *, ready: bool) -> None:
        state: dict[str, Any] = {
            "ready": ready,
            "processes": {
                name: {"pid": child.process.pid, "restarts": child.restarts}
                for name, child in self._children.items()
            },
        }
        path = self.home.run / _HEALTH
        if read_json(path) != state:
            write_json(path, state)


def read_health(home: Home) -> dict[str, Any]:
    """Return what the supervisor last wrote; not ready when it no longer runs."""
    health = read_json(home.run / _HEALTH) or {"ready": False, "processes": {}}
    supervisor = (read_json(home.pids_file) or {}).get("supervisor")
    if not isinstance(supervisor, int) or not _is_ours(supervisor):
        health = {"ready": False, "processes": {}}
    return health


def _is_ours(pid: int) -> bool:
    """Say whether a process number still belongs to a Python process of this coordinator."""
    import psutil

    try:
        words = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False
    return "coordinator" in words or "flower_superlink" in words
