"""Is the SuperNode started hardened, and refused in any other environment?"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import select
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.flower import superlink
from schemas.errors import ConfigError, ErrorCode
from site_node.flower import launch

NOW = dt.datetime(2026, 11, 22, 18, 0, tzinfo=dt.UTC)
SIDES = pytest.mark.parametrize("side", [launch, superlink])


@SIDES
def test_a_child_environment_is_hardened_whatever_the_parents_is(side, tmp_path: Path) -> None:
    made = side.child_environment(
        tmp_path,
        {
            "PATH": "/usr/bin",
            "FLWR_TELEMETRY_ENABLED": "1",
            "FLWR_INTERNAL_GRPC_FLEET_API": "1",
            "https_proxy": "http://proxy:3128",
            "HTTP_PROXY": "http://proxy:3128",
        },
    )
    side.check_environment(made)
    assert made["PATH"] == "/usr/bin"
    assert made["FLWR_HOME"] == str(tmp_path)
    assert "FLWR_INTERNAL_GRPC_FLEET_API" not in made
    assert not {name for name in made if name.lower() in ("http_proxy", "https_proxy")}


@SIDES
@pytest.mark.parametrize("name", sorted(launch.HARDENED))
@pytest.mark.parametrize("value", [None, "yes"])
def test_each_missing_or_different_value_is_refused(
    side,
    name: str,
    value: str | None,
    tmp_path: Path,
) -> None:
    environment = side.child_environment(tmp_path, {})
    environment.pop(name)
    if value is not None:
        environment[name] = value
    with pytest.raises(ConfigError) as refused:
        side.check_environment(environment)
    assert refused.value.code is ErrorCode.CONFIG_HARDENING_MISSING
    assert refused.value.detail == name


@SIDES
def test_a_proxy_is_refused(side, tmp_path: Path) -> None:
    environment = side.child_environment(tmp_path, {}) | {"HTTPS_PROXY": "http://x"}
    with pytest.raises(ConfigError):
        side.check_environment(environment)


def test_the_installed_flwr_reads_the_very_names_that_are_set() -> None:
    import inspect

    from flwr.common import constant as common
    from flwr.supercore import constant, telemetry, update_check

    assert common.FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION in launch.HARDENED
    assert constant.FLWR_DISABLE_UPDATE_CHECK in launch.HARDENED
    assert 'os.getenv("FLWR_TELEMETRY_ENABLED", "1")' in inspect.getsource(telemetry)
    assert 'os.getenv(FLWR_DISABLE_UPDATE_CHECK) == "1"' in inspect.getsource(update_check)
    assert common.RUNTIME_DEPENDENCY_INSTALL is False


def _settings(tmp_path: Path) -> launch.SuperNodeSettings:
    return launch.SuperNodeSettings(
        gateway_port=1,
        runtime_port=2,
        node_key=tmp_path / "node",
        secret=tmp_path / "secret",
        tls=launch.LocalTls(tmp_path),
    )


def test_the_supernode_runs_isolated_with_a_secret_and_tls(tmp_path: Path) -> None:
    command = launch.supernode_command(_settings(tmp_path))
    for flag, value in [
        ("--isolation", "process"),
        ("--superexec-auth-secret-file", str(tmp_path / "secret")),
        ("--superlink", "127.0.0.1:1"),
        ("--host", "127.0.0.1"),
        ("--root-certificates", str(tmp_path / "local-ca.crt")),
    ]:
        assert command[command.index(flag) + 1] == value
    assert "--insecure" not in command
    launch.check_command(command)
    with pytest.raises(ConfigError):
        launch.check_command([*command, "--allow-runtime-dependency-installation"])


def test_a_superlink_that_could_install_code_is_refused(tmp_path: Path) -> None:
    settings = superlink.SuperLinkSettings(1, tmp_path, tmp_path, tmp_path, tmp_path)
    command = superlink.superlink_command(settings)
    superlink.check_command(command)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "--enable-supernode-auth" in command
    command.remove("--disable-runtime-dependency-installation")
    with pytest.raises(ConfigError):
        superlink.check_command(command)


@SIDES
def test_nothing_is_started_in_an_unhardened_environment(side, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ConfigError):
        if side is launch:
            launch.start_supernode(_settings(tmp_path), {"PATH": "/usr/bin"}, log)
        else:
            settings = superlink.SuperLinkSettings(1, tmp_path, tmp_path, tmp_path, tmp_path)
            superlink.start_superlink(settings, {"PATH": "/usr/bin"}, log)
    assert not log.exists()


@SIDES
def test_the_secret_is_private_and_kept(side, tmp_path: Path) -> None:
    path = side.make_secret(tmp_path / "new" / "secret")
    first = path.read_bytes()
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert side.make_secret(path).read_bytes() == first


def test_local_tls_is_made_once_and_is_for_loopback(tmp_path: Path) -> None:
    local = launch.make_local_tls(tmp_path, now=NOW)
    raw = local.key.read_bytes()
    assert stat.S_IMODE(local.key.stat().st_mode) == 0o600
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(local.certificate, local.key)
    assert launch.make_local_tls(tmp_path, now=NOW).key.read_bytes() == raw
    assert b"PRIVATE" not in local.ca.read_bytes()


def test_flwr_loads_the_node_key_and_sends_the_same_pem(tmp_path: Path) -> None:
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    key = ec.generate_private_key(ec.SECP384R1())
    launch.write_node_key(tmp_path / "node", key)
    loaded = serialization.load_ssh_private_key((tmp_path / "node").read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert launch.node_key_pem(der.hex()) == public_key_to_bytes(loaded.public_key())


def test_a_supernode_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    child = launch._DIE_WITH_PARENT + "import time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = (
        "import os, signal, subprocess, sys\n"
        f"code = {child!r}.format(parent=os.getpid())\n"
        "child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", parent], capture_output=True, check=False)
    orphan = int(ended.stdout)
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(orphan)
        assert select.select([handle], [], [], 10)[0], "the orphan lives on"
        os.close(handle)


def test_a_refused_supernode_waits_longer_than_a_crashed_one() -> None:
    assert launch.restart_delay_seconds(1, 3.0) == 10.0
    assert launch.restart_delay_seconds(-9, 3600.0) == 1.0
    assert launch.restart_delay_seconds(0, 3.0) == 1.0
