"""Which ports, certificates and helper files does a serving coordinator use?"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.clock import system_clock
from coordinator.config import CoordinatorConfig, Home
from coordinator.enrolment import Authority
from coordinator.pki import Authority as CertificateAuthority
from coordinator.pki import issue_server
from schemas.errors import ConfigError, ErrorCode

PORT_NAMES: Final = ("api", "gateway", "page", "superlink")


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """The outward listeners' certificate, and the loopback SuperLink's with its secret."""

    certificate: Path
    key: Path
    superlink_certificate: Path
    superlink_key: Path
    superlink_secret: Path
    flower_home: Path


def server_files(home: Home) -> ServerFiles:
    """Name the files; `issue_certificates` makes them."""
    return ServerFiles(
        certificate=home.authority / "server.crt",
        key=home.authority / "server.key",
        superlink_certificate=home.superlink / "server.crt",
        superlink_key=home.superlink / "server.key",
        superlink_secret=home.superlink / "secret",
        flower_home=home.superlink / "flwr",
    )


def issue_certificates(home: Home, config: CoordinatorConfig) -> ServerFiles:
    """Issue fresh certificates for both listeners; clients pin the authority, not these."""
    files = server_files(home)
    authority = CertificateAuthority(home.authority)
    home.superlink.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.flower_home.mkdir(mode=0o700, exist_ok=True)
    hosts = tuple(dict.fromkeys((config.public_host, "localhost", "127.0.0.1")))
    now = system_clock()
    issue_server(
        authority,
        certificate_path=files.certificate,
        key_path=files.key,
        hosts=hosts,
        now=now,
    )
    issue_server(
        authority,
        certificate_path=files.superlink_certificate,
        key_path=files.superlink_key,
        now=now,
    )
    return files


def choose_ports(home: Home, config: CoordinatorConfig) -> dict[str, int]:
    """Choose each port: the configured one, else the last one if still free, else a free one."""
    last = read_json(home.ports_file) or {}
    wanted = {
        "api": config.api_port or last.get("api", 0),
        "gateway": config.gateway_port or last.get("gateway", 0),
        "page": config.page_port or last.get("page", 0),
        "superlink": 0,
    }
    fixed = {"api": config.api_port, "gateway": config.gateway_port, "page": config.page_port}
    chosen: dict[str, int] = {}
    probes: list[socket.socket] = []
    try:
        for name in PORT_NAMES:
            probe, port = _probe(int(wanted[name]), required=bool(fixed.get(name)))
            probes.append(probe)
            chosen[name] = port
    finally:
        for probe in probes:
            probe.close()
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(home.ports_file, chosen)
    return chosen


def read_ports(home: Home) -> dict[str, int]:
    """Return the ports in use.

    Raises:
        ConfigError: this coordinator was never served, so it has no addresses yet.
    """
    ports = read_json(home.ports_file)
    if ports is None:
        raise ConfigError(
            ErrorCode.CONFIG_NOT_RUNNING,
            "The coordinator has no addresses yet, because it was never started.",
            hint="Run: cohortium-coordinator serve",
        )
    return {name: int(ports[name]) for name in PORT_NAMES}


def authority_of(home: Home, config: CoordinatorConfig) -> Authority:
    """Return what invites and enrolment answers say about this coordinator."""
    ports = read_ports(home)
    host = f"[{config.public_host}]" if ":" in config.public_host else config.public_host
    return Authority(
        name=config.name,
        api_url=f"https://{host}:{ports['api']}",
        gateway_url=f"https://{host}:{ports['gateway']}",
        ca_pem=CertificateAuthority(home.authority).ca_pem(),
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a small JSON object of ours, or ``None`` when there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replace a small JSON file at once, so that a reader never sees half of it."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(values, sort_keys=True, indent=1), encoding="utf-8")
    os.replace(draft, path)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)


def _probe(port: int, *, required: bool) -> tuple[socket.socket, int]:
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        if required:
            probe.close()
            raise ConfigError(
                ErrorCode.CONFIG_PORT_IN_USE,
                "A configured port is taken by another process.",
                hint=f"Free port {port}, or set it to 0 in coordinator.toml.",
            ) from None
        probe.bind(("127.0.0.1", 0))
    return probe, int(probe.getsockname()[1])
