"""What runs in the desk process? The HTTPS API for people's commands, and the read-only page."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from coordinator.api.app import Desk, make_app
from coordinator.clock import system_clock
from coordinator.config import Home, load
from coordinator.db import Database
from coordinator.enrolment import Enrolment
from coordinator.files import authority_of, read_ports, server_files, write_json
from coordinator.flower.bundle import bundle_sha256
from coordinator.flower.control import Control
from coordinator.logs import configure, event
from coordinator.pki import Authority, issue_site
from coordinator.web.app import make_page
from schemas.errors import CohortiumError, ErrorCode, TransportError

_SUPERLINK_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 2


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling; two of them share this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def tls_server(app: ASGIApp, *, certificate: Path, key: Path, host: str, port: int) -> _Server:
    """Return a TLS 1.3 server of ``app``."""
    config = _config(app, host, port, ssl_certfile=str(certificate), ssl_keyfile=str(key))
    config.load()
    if config.ssl is None:  # load() makes one whenever a certificate is given
        raise AssertionError
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return _Server(config)


def page_server(app: ASGIApp, port: int) -> _Server:
    """Return a plain server of the page on loopback."""
    return _Server(_config(app, "127.0.0.1", port))


async def serve_all(servers: list[_Server]) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.gather(*(server.serve() for server in servers))


def register_all(control: Control, enrolment: Enrolment) -> None:
    """Make every enrolled site known to a SuperLink that has just begun with empty memory.

    Raises:
        TransportError: the SuperLink does not answer in time.
    """
    until = time.monotonic() + _SUPERLINK_SECONDS
    while not control.is_ready():
        if time.monotonic() > until:
            raise TransportError(
                ErrorCode.TRANSPORT_UNREACHABLE, "The SuperLink did not start in time."
            )
        time.sleep(0.1)
    for site in enrolment.sites():
        node_id = control.register_node(site.node_key, name=site.site_id)
        if node_id != site.node_id:
            enrolment.set_node_id(site.site_id, node_id)


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="coordinator.desk_main")
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args(arguments).home)
    configure()
    config, ports, files = load(home), read_ports(home), server_files(home)
    database = Database(home.database)
    certificates = Authority(home.authority)
    control = Control(f"127.0.0.1:{ports['superlink']}", certificates.ca_path)
    try:
        register_all(control, Enrolment(database))
    except CohortiumError as error:
        event("desk.not_started", code=error.code.value)
        raise SystemExit(error.exit_code) from None

    def issue(csr_pem: str, site_id: str) -> str:
        return issue_site(certificates, csr_pem, site_id, now=system_clock())

    def register(node_key: str, site_id: str) -> int:
        return control.register_node(node_key, name=site_id)

    desk = Desk(
        database=database,
        authority=authority_of(home, config),
        issue=issue,
        register=register,
        bundle_sha256=bundle_sha256(),
    )
    api = tls_server(
        make_app(desk),
        certificate=files.certificate,
        key=files.key,
        host=config.api_bind,
        port=ports["api"],
    )
    page = page_server(make_page(database, config.name), ports["page"])
    write_json(home.run / "desk.json", {"ready": True})
    asyncio.run(serve_all([api, page]))


def _config(app: ASGIApp, host: str, port: int, **tls: str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        limit_concurrency=200,
        **tls,  # type: ignore[arg-type]  # certificate paths only
    )


if __name__ == "__main__":
    main()
