"""A real SuperLink, both kinds of gateway, real SuperNodes and executors, on loopback."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coordinator import pki
from coordinator.flower import bundle, superlink
from coordinator.flower.control import Control
from coordinator.flower.fleet import Fleet, FleetSettings
from site_node.flower import launch

PROCESSES = Path(__file__).with_name("processes.py")


def wait_for(check: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until ``check`` holds; tests only wait for other processes this way."""
    until = time.monotonic() + seconds
    while not check():
        if time.monotonic() > until:
            raise AssertionError(f"timed out waiting for {what}")
        time.sleep(0.02)


def _status_port(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["port"])
    except (OSError, ValueError):
        return 0


@dataclass
class Site:
    """One hospital's processes and files."""

    name: str
    home: Path
    node_key_hex: str
    node_id: int = 0
    gateway_port: int = 0
    runtime_port: int = 0
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def sent(self) -> list[dict[str, object]]:
        path = self.home / "sent.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Deployment:
    """Everything of a small consortium below the protocol.

    With ``is_measured`` nothing is tapped, and the sites' egress is the product's own gate with
    its database instead of files a test can read; the executor then answers the benchmark.
    """

    def __init__(self, root: Path, n_sites: int, *, is_measured: bool = False) -> None:
        self.root = root
        self.is_measured = is_measured
        self.now = dt.datetime.now(dt.UTC)
        self.home = root / "coordinator"
        self.home.mkdir(parents=True)
        self.authority = pki.make_authority(self.home, name="test authority", now=self.now)
        for name in ("gateway", "link"):
            pki.issue_server(
                self.authority,
                certificate_path=self.home / f"{name}.crt",
                key_path=self.home / f"{name}.key",
                now=self.now,
            )
        self.secret = superlink.make_secret(self.home / "secret")
        self.pins: dict[str, tuple[str, str]] = {}
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.sites = [self._make_site(f"site-{i + 1}") for i in range(n_sites)]
        self.superlink_port = 0
        self.gateway_port = 0

    # --- set-up -------------------------------------------------------------------------------

    def _make_site(self, name: str) -> Site:
        home = self.root / name
        home.mkdir()
        node_key = ec.generate_private_key(ec.SECP384R1())
        launch.write_node_key(home / "node", node_key)
        node_hex = (
            node_key.public_key()
            .public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .hex()
        )
        (home / "node.pub.pem").write_bytes(launch.node_key_pem(node_hex))
        key = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")]))
            .sign(key, hashes.SHA256())
        )
        csr = request.public_bytes(serialization.Encoding.PEM).decode()
        certificate = pki.issue_site(self.authority, csr, name, now=self.now)
        pki.write_private_key(home / "site.key", key)
        (home / "site.crt").write_text(certificate)
        (home / "ca.crt").write_text(self.authority.ca_pem())
        (home / "bundles.json").write_text(json.dumps([bundle.bundle_sha256()]))
        launch.make_local_tls(home, now=self.now)
        launch.make_secret(home / "secret")
        self.pins[pki.certificate_fingerprint(certificate)] = (name, node_hex)
        return Site(name, home, node_hex)

    def start(self) -> None:
        self.start_superlink()
        (self.home / "pins.json").write_text(json.dumps(self.pins))
        self.start_coordinator_gateway()
        for site in self.sites:
            self.start_site_gateway(site)
        self.control = Control(f"127.0.0.1:{self.superlink_port}", self.authority.ca_path)
        wait_for(self.control.is_ready, 60, "the SuperLink")
        self.register()
        for site in self.sites:
            self.start_supernode(site)
            self.start_executor(site)

    def register(self) -> None:
        for site in self.sites:
            site.node_id = self.control.register_node(site.node_key_hex, name=site.name)

    def _spawn(self, role: str, home: Path) -> subprocess.Popen[bytes]:
        environment = launch.child_environment(home / "flwr", os.environ)
        with (home / f"{role}.log").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, str(PROCESSES), role, str(home)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_superlink(self) -> None:
        self.superlink_port = self.superlink_port or superlink.free_port()
        settings = superlink.SuperLinkSettings(
            port=self.superlink_port,
            ca=self.authority.ca_path,
            certificate=self.home / "link.crt",
            key=self.home / "link.key",
            secret=self.secret,
        )
        environment = superlink.child_environment(self.home / "flwr", os.environ)
        log = self.home / "superlink.log"
        self.children["superlink"] = superlink.start_superlink(settings, environment, log)

    def start_coordinator_gateway(self) -> None:
        (self.home / "gateway.json").unlink(missing_ok=True)
        config = {
            "superlink": f"127.0.0.1:{self.superlink_port}",
            "port": self.gateway_port,
            "tap": not self.is_measured,
        }
        (self.home / "gateway-config.json").write_text(json.dumps(config))
        self.children["gateway"] = self._spawn("coordinator-gateway", self.home)
        wait_for(lambda: _status_port(self.home / "gateway.json") > 0, 30, "the gateway")
        self.gateway_port = _status_port(self.home / "gateway.json")

    def start_site_gateway(self, site: Site) -> None:
        (site.home / "gateway.json").unlink(missing_ok=True)
        config = {
            "upstream": f"https://127.0.0.1:{self.gateway_port}",
            "port": site.gateway_port,
            "tap": not self.is_measured,
            "egress": self.is_measured,
        }
        (site.home / "gateway-config.json").write_text(json.dumps(config))
        site.children["gateway"] = self._spawn("site-gateway", site.home)
        wait_for(lambda: _status_port(site.home / "gateway.json") > 0, 30, "a site's gateway")
        site.gateway_port = _status_port(site.home / "gateway.json")

    def start_supernode(self, site: Site) -> None:
        site.runtime_port = site.runtime_port or launch.free_port()
        settings = launch.SuperNodeSettings(
            gateway_port=site.gateway_port,
            runtime_port=site.runtime_port,
            node_key=site.home / "node",
            secret=site.home / "secret",
            tls=launch.LocalTls(site.home),
        )
        environment = launch.child_environment(site.home / "flwr", os.environ)
        log = site.home / "supernode.log"
        site.children["supernode"] = launch.start_supernode(settings, environment, log)

    def start_executor(self, site: Site, deadline_seconds: float = 60.0) -> None:
        config = {
            "runtime": f"127.0.0.1:{site.runtime_port}",
            "deadline": deadline_seconds,
            "egress": self.is_measured,
        }
        (site.home / "executor-config.json").write_text(json.dumps(config))
        site.children["executor"] = self._spawn("executor", site.home)

    def fleet(self) -> Fleet:
        return Fleet(
            FleetSettings(
                runtime_address=f"127.0.0.1:{self.superlink_port}",
                ca_path=self.authority.ca_path,
                secret_path=self.secret,
                wake_dir=self.home / "wake",
            )
        )

    def start_run(self, app: bytes | None = None) -> int:
        return self.control.start_run(bundle.build_bundle() if app is None else app)

    def tapped(self) -> bytes:
        """Everything that crossed either gateway, before TLS."""
        taps = [self.home / "tap.bin", *(site.home / "tap.bin" for site in self.sites)]
        return b"".join(tap.read_bytes() for tap in taps if tap.exists())

    # --- end ----------------------------------------------------------------------------------

    def stop(self) -> None:
        every = [child for site in self.sites for child in site.children.values()]
        every += list(self.children.values())
        for child in every:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        until = time.monotonic() + 5
        for child in every:
            try:
                child.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
