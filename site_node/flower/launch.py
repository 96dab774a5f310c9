"""How is the stock SuperNode started so that it can do no more than we need of it?

Process isolation with a shared secret, TLS both ways on loopback, and an environment in which
Flower's telemetry, its update check and its run-time installs are off; a process with any
other environment is not started.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from schemas.errors import ConfigError, ErrorCode

HARDENED: Final[Mapping[str, str]] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_TELEMETRY_LOGGING": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
_PROXY_NAMES = frozenset({"http_proxy", "https_proxy", "all_proxy", "ftp_proxy"})
_INSTALL_FLAG = "--allow-runtime-dependency-installation"
LOCAL_TLS_DAYS = 365
REFUSED_BACKOFF_SECONDS = 10.0
_RESTART_BACKOFF_SECONDS = 1.0
# Linux ends the child when its supervisor is killed, so that no orphan keeps the node online.
_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.getppid() == {parent} or sys.exit(1); "
)
_EARLY_EXIT_SECONDS = 20.0


def child_environment(flower_home: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child that imports flwr.

    Flower's own variables and every proxy are dropped, the hardened values set; loopback is
    never sent to a proxy.
    """
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
        "OMP_NUM_THREADS": kept.get("OMP_NUM_THREADS", "1"),
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


def check_command(command: list[str]) -> None:
    """Refuse a Flower command line that would install code at run time."""
    if _INSTALL_FLAG in command:
        raise ConfigError(
            ErrorCode.CONFIG_HARDENING_MISSING,
            "A Flower process would be allowed to install code at run time.",
            hint="Remove the flag from the command.",
        )


@dataclass(frozen=True, slots=True)
class LocalTls:
    """A certificate for loopback that never leaves the machine."""

    folder: Path

    @property
    def ca(self) -> Path:
        """What loopback clients trust."""
        return self.folder / "local-ca.crt"

    @property
    def certificate(self) -> Path:
        """The certificate of loopback listeners."""
        return self.folder / "local.crt"

    @property
    def key(self) -> Path:
        """Its private key, mode 0600."""
        return self.folder / "local.key"


def make_local_tls(folder: Path, *, now: dt.datetime) -> LocalTls:
    """Create, or return, the certificate of this machine's loopback listeners.

    The signing key is thrown away, so nothing else can ever be certified under this CA.
    """
    local = LocalTls(folder)
    if local.ca.exists() and local.certificate.exists() and local.key.exists():
        return local
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cohortium loopback")])
    until = now + dt.timedelta(days=LOCAL_TLS_DAYS)
    since = now - dt.timedelta(minutes=5)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        builder(subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write_private(
        local.key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    local.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    local.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    return local


def make_secret(path: Path) -> Path:
    """Create, or return, the secret that SuperNode and executor share."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(path, secrets.token_hex(32).encode("ascii"))
    return path


def write_node_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write the Flower node key (NIST P-384) in the only form flwr loads, mode 0600."""
    _write_private(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
    )


def node_key_pem(spki_der_hex: str) -> bytes:
    """Return the PEM form, as Flower sends it, of a node key given as hex of its DER."""
    public = serialization.load_der_public_key(bytes.fromhex(spki_der_hex))
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _write_private(path: Path, raw: bytes) -> None:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(raw)


@dataclass(frozen=True, slots=True)
class SuperNodeSettings:
    """What the SuperNode is told: its key, the gateway, and where its executor will ask."""

    gateway_port: int
    runtime_port: int
    node_key: Path
    secret: Path
    tls: LocalTls


def supernode_command(settings: SuperNodeSettings) -> list[str]:
    """Return the SuperNode's command line; it ends when the calling process does."""
    command = [
        sys.executable,
        "-c",
        _DIE_WITH_PARENT.format(parent=os.getpid())
        + "from flwr.supernode.cli.flower_supernode import flower_supernode; flower_supernode()",
        "--isolation",
        "process",
        "--superexec-auth-secret-file",
        str(settings.secret),
        "--root-certificates",
        str(settings.tls.ca),
        "--superlink",
        f"127.0.0.1:{settings.gateway_port}",
        "--auth-supernode-private-key",
        str(settings.node_key),
        "--host",
        "127.0.0.1",
        "--port",
        str(settings.runtime_port),
        "--ssl-certfile",
        str(settings.tls.certificate),
        "--ssl-keyfile",
        str(settings.tls.key),
        "--ssl-ca-certfile",
        str(settings.tls.ca),
    ]
    check_command(command)
    return command


def start_supernode(
    settings: SuperNodeSettings, environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start the SuperNode in a session of its own, its output in ``log``.

    Raises:
        ConfigError: the environment is not hardened.
    """
    check_environment(environment)
    with log.open("ab") as out:
        return subprocess.Popen(
            supernode_command(settings),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop_supernode(process: subprocess.Popen[bytes], *, timeout_seconds: float = 15.0) -> None:
    """Interrupt the SuperNode so that it signs off; kill it if it does not end in time."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def restart_delay_seconds(exit_code: int, ran_seconds: float) -> float:
    """Return how long to wait before the SuperNode is started again.

    A SuperNode that ends with an error within seconds was refused: its node is not registered
    yet, or Flower still believes its predecessor online. Our coordinator's gateway signs such
    a predecessor off, so the next try works; a gateway that was itself restarted in the same
    minute cannot, and then one of the tries after Flower's 60 s does. A refused try changes
    nothing at the coordinator.
    """
    if exit_code != 0 and ran_seconds < _EARLY_EXIT_SECONDS:
        return REFUSED_BACKOFF_SECONDS
    return _RESTART_BACKOFF_SECONDS


def free_port() -> int:
    """Return a loopback port that was free a moment ago, for a child that cannot bind 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
