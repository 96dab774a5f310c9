"""How do the API and the page listen? TLS 1.3 for commands, plain loopback for the page."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

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
