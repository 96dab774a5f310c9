"""How is the stock SuperLink started so that only our own processes can reach it?

On loopback, process isolation with a secret, node keys required, state in memory. Telemetry,
update check and run-time installs of Flower are off, and a process with any other environment
is not started. The coordinator's own database is the durable truth.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError, ErrorCode

HARDENED: Final[Mapping[str, str]] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_TELEMETRY_LOGGING": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
_PROXY_NAMES = frozenset({"http_proxy", "https_proxy", "all_proxy", "ftp_proxy"})
_INSTALL_OFF_FLAG = "--disable-runtime-dependency-installation"
_IN_MEMORY = ":flwr-in-memory:"  # its SQLite mode doubled the time of an exchange

# Linux ends the child when its supervisor is killed, so that no orphan keeps the node online.
_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.getppid() == {parent} or sys.exit(1); "
)


@dataclass(frozen=True, slots=True)
class SuperLinkSettings:
    """Port, TLS files and secret of the SuperLink."""

    port: int
    ca: Path
    certificate: Path
    key: Path
    secret: Path


def child_environment(flower_home: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child that imports flwr; see ``check_environment``."""
    kept = {
        name: value
        for name, value in base.items()
        if not name.upper().startswith("FLWR_") and name.lower() not in _PROXY_NAMES
    }
    return {
        **kept,
        **HARDENED,
        "FLWR_HOME": str(flower_home),
        "NO_PROXY": "127.0.0.1,localhost",
        "NO_COLOR": "1",
        "FLWR_LOG_LEVEL": "WARNING",
    }


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse an environment in which Flower could call home or install code.

    Raises:
        ConfigError: a hardened value is missing or different, or a proxy is set.
    """
    wrong = [name for name, value in HARDENED.items() if environment.get(name) != value]
    wrong += [name for name in environment if name.lower() in _PROXY_NAMES]
    if wrong:
        raise ConfigError(
            ErrorCode.CONFIG_HARDENING_MISSING,
            "Flower's telemetry, update check or run-time installs are not switched off.",
            hint="Start the service with its own command, which sets the environment.",
            detail=", ".join(sorted(wrong)),
        )


def superlink_command(settings: SuperLinkSettings) -> list[str]:
    """Return the SuperLink's command line; it ends when the calling process does."""
    return [
        sys.executable,
        "-c",
        _DIE_WITH_PARENT.format(parent=os.getpid())
        + "from flwr.superlink.cli.flower_superlink import flower_superlink; flower_superlink()",
        "--isolation",
        "process",
        "--superexec-auth-secret-file",
        str(settings.secret),
        "--ssl-ca-certfile",
        str(settings.ca),
        "--ssl-certfile",
        str(settings.certificate),
        "--ssl-keyfile",
        str(settings.key),
        "--enable-supernode-auth",
        "--database",
        _IN_MEMORY,
        "--host",
        "127.0.0.1",
        "--port",
        str(settings.port),
        _INSTALL_OFF_FLAG,
    ]


def check_command(command: list[str]) -> None:
    """Refuse a SuperLink command line on which run-time installs are not off."""
    if _INSTALL_OFF_FLAG not in command:
        raise ConfigError(
            ErrorCode.CONFIG_HARDENING_MISSING,
            "The SuperLink would be allowed to install code at run time.",
            hint="Start it with the coordinator's own command.",
        )


def start_superlink(
    settings: SuperLinkSettings, environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start the SuperLink in a session of its own, its output in ``log``.

    Raises:
        ConfigError: the environment or the command is not hardened.
    """
    check_environment(environment)
    command = superlink_command(settings)
    check_command(command)
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def make_secret(path: Path) -> Path:
    """Create, or return, the secret that SuperLink and runner share; mode 0600."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(secrets.token_hex(32).encode("ascii"))
    return path


def free_port() -> int:
    """Return a loopback port that was free a moment ago, for a child that cannot bind 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
