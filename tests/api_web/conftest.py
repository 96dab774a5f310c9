"""Fixtures: a real API over TLS and a real page on loopback, both over a seeded desk."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from coordinator.api.app import Desk as ApiDesk
from coordinator.api.app import make_app
from coordinator.client.home import Access
from coordinator.listeners import page_server, tls_server
from coordinator.pki import issue_server
from coordinator.web.app import make_page
from tests.support.desk import BUNDLE, START, Desk, seed_four_states


@dataclass
class Served:
    """A running API with its desk."""

    desk: Desk
    port: int

    def access(self, role: str = "vendor") -> Access:
        """An access file's content for a new holder."""
        token = self.desk.enrolment.grant("Example Vendor", "vendor" if role == "vendor" else role)  # type: ignore[arg-type]
        return Access(
            coordinator="Test consortium",
            api_url=f"https://127.0.0.1:{self.port}",
            ca_pem=self.desk.authority.ca_pem,
            token=token,
            holder="Example Vendor",
            role=role,
        )


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(server: uvicorn.Server) -> threading.Thread:
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    waiting = threading.Event()
    for _ in range(400):
        if server.started:
            return thread
        waiting.wait(0.025)
    raise AssertionError("the server did not start")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """An API over TLS 1.3 with four enrolled hospitals."""
    desk = Desk(tmp_path / "desk").enrol_four()
    issue_server(
        desk.certificates,
        certificate_path=tmp_path / "server.crt",
        key_path=tmp_path / "server.key",
        now=START,
    )
    app = make_app(
        ApiDesk(
            database=desk.database,
            authority=desk.authority,
            issue=desk.issue,
            register=lambda _key, site: 100 + int(site.rpartition("-")[2]),
            bundle_sha256=BUNDLE,
        )
    )
    port = free_port()
    server = tls_server(
        app,
        certificate=tmp_path / "server.crt",
        key=tmp_path / "server.key",
        host="127.0.0.1",
        port=port,
    )
    thread = _serve(server)
    yield Served(desk, port)
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's address; its desk holds a waiting, a running, a done and an ended study."""
    desk = Desk(tmp_path_factory.mktemp("page"))
    seed_four_states(desk)
    port = free_port()
    server = page_server(make_page(desk.database, "Hanbit consortium"), port)
    thread = _serve(server)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)
