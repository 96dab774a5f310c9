"""Is this coordinator fit to serve? Each finding says how to mend it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from coordinator.clock import system_clock
from coordinator.config import Home, load
from coordinator.db import Database
from coordinator.service import read_health
from schemas.errors import CohortiumError

_FREE_BYTES: Final = 1024**3  # sums and weights of a large study stay well below this
_OLDEST_CLOCK: Final = datetime(2026, 1, 1, tzinfo=UTC)  # before this software was written

Colour = Literal["green", "amber", "red"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    colour: Colour
    fix: str = ""

    def line(self) -> str:
        """Write the finding for a person."""
        return f"{self.colour:<6} {self.what}" + (f"  ->  {self.fix}" if self.fix else "")

    def as_dict(self) -> dict[str, str]:
        """Write the finding for a program."""
        return {"what": self.what, "colour": self.colour, "fix": self.fix}


def examine(home: Home) -> list[Finding]:
    """Look at everything; never changes anything."""
    checks: tuple[Callable[[Home], Finding], ...] = (
        _clock,
        _config,
        _keys,
        _disk,
        _audit,
        _flower,
        _serving,
    )
    return [_guarded(check, home) for check in checks]


def _guarded(check: Callable[[Home], Finding], home: Home) -> Finding:
    try:
        return check(home)
    except CohortiumError as error:
        return Finding(error.sentence, "red", error.hint)


def _clock(_home: Home) -> Finding:
    if system_clock() < _OLDEST_CLOCK:
        return Finding("the clock is years behind", "red", "set the clock; use NTP")
    return Finding("clock is plausible", "green")


def _config(home: Home) -> Finding:
    load(home)
    return Finding("configuration reads without unknown keys", "green")


def _keys(home: Home) -> Finding:
    open_files = [
        path.name
        for path in (home.authority / "ca.key", home.authority / "server.key")
        if path.exists() and _is_open(path)
    ]
    if not (home.authority / "ca.key").exists():
        return Finding("the authority's key is missing", "red", "restore it from the backup")
    if open_files:
        names = " ".join(open_files)
        return Finding("key files can be read by others", "red", f"chmod 600 {names}")
    return Finding("key files are readable by their owner only", "green")


def _disk(home: Home) -> Finding:
    free = shutil.disk_usage(home.root).free
    if free < _FREE_BYTES:
        return Finding("less than 1 GiB of disk is free", "amber", "make room before a study")
    return Finding("disk has room", "green")


def _audit(home: Home) -> Finding:
    if Database(home.database).verify_events().ok:
        return Finding("audit trail is whole", "green")
    return Finding("the audit trail was altered", "red", "compare with a backup; keep the file")


def _flower(home: Home) -> Finding:
    from coordinator.flower.superlink import check_environment, child_environment

    check_environment(child_environment(home.superlink / "flwr", os.environ))
    return Finding("Flower's telemetry, update check and run-time installs are off", "green")


def _serving(home: Home) -> Finding:
    if read_health(home)["ready"]:
        return Finding("all processes run", "green")
    return Finding("not serving", "amber", "cohortium-coordinator serve")


def _is_open(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
