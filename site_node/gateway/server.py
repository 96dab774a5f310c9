"""How does a gateway listen: TLS 1.3 on a port the system chose, stopped by a signal?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_GRACE_SECONDS = 2


def listening_socket(host: str, port: int) -> socket.socket:
    """Bind ``host:port`` (0: the system chooses) and return the socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def write_status(path: Path | None, status: dict[str, str | int]) -> None:
    """Replace the status file at once, so that a reader never sees half of it."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(status, sort_keys=True), encoding="utf-8")
    os.replace(draft, path)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would raise the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: AsgiApp, *, certificate_path: Path, key_path: Path) -> uvicorn.Server:
    """Return a TLS 1.3 server of ``app``; it does not ask for a client certificate.

    The only client of a site's gateway is its SuperNode on loopback, which cannot show one.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        date_header=False,
        ssl_certfile=str(certificate_path),
        ssl_keyfile=str(key_path),
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    config.load()
    if config.ssl is None:  # load() makes one whenever a certificate is given
        raise AssertionError
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return _Server(config)


async def serve_until_signal(
    server: uvicorn.Server, listener: socket.socket, background: list[asyncio.Task[None]]
) -> None:
    """Serve until SIGTERM or SIGINT; cancel ``background`` then, or stop if one of it fails."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
    for task in background:
        task.add_done_callback(lambda done: stop() if not done.cancelled() else None)
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in background:
            task.cancel()
        results = await asyncio.gather(*background, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def read_body(receive: Receive, *, max_bytes: int) -> bytes | None:
    """Return a request's body, or None if it is longer than ``max_bytes`` or cut off."""
    parts: list[bytes] = []
    total = 0
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        part: bytes = event.get("body", b"")
        total += len(part)
        if total > max_bytes:
            return None
        parts.append(part)
        if not event.get("more_body", False):
            return b"".join(parts)


async def respond(
    send: Send, status: int, body: bytes = b"", media: bytes = b"application/protobuf"
) -> None:
    """Send one whole response."""
    headers = [(b"content-type", media), (b"content-length", str(len(body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
