"""Settings every test shares: no network but loopback, no telemetry, files in memory."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A slow moment of a busy machine is no counterexample; under CI Hypothesis chooses as much itself.
if not os.environ.get("CI"):
    settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("house")

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
    os.environ.pop(proxy, None)

_MEMORY = Path("/dev/shm")  # a test's own fresh folder lies under it
_MEMORY_BYTES = 4 << 30


def pytest_configure(config: pytest.Config) -> None:
    """Put the tests' files in memory where there is room: they wait for fsync half their time.

    What the tests show of durability is order and completeness under kill -9, which the kernel
    keeps on either file system. `--basetemp` chooses another place.
    """
    if config.option.basetemp or not os.access(_MEMORY, os.W_OK):
        return
    if shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES:
        config.option.basetemp = tempfile.mkdtemp(prefix="cohortium-tests-", dir=_MEMORY)
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


_connect = socket.socket.connect


def _loopback_only(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        host = str(address[0])
        if not (host.startswith("127.") or host in ("::1", "localhost")):
            raise AssertionError(f"a test tried to reach {host}")
    return _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Fail any test that opens a connection beyond loopback."""
    socket.socket.connect = _loopback_only  # type: ignore[method-assign]
    yield
    socket.socket.connect = _connect  # type: ignore[method-assign]
