"""How does the coordinator's gateway listen, and how does it learn who is calling?

TLS 1.3 only, client certificate required. uvicorn hides the peer's certificate, so a small
subclass of its HTTP protocol puts the certificate's SHA-256 and the TLS version beside each
request.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

PEER = "cohortium.peer"
_GRACE_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection."""

    certificate_sha256: str
    tls_version: str


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the peer's certificate in every request's state.

    ``watch`` is told of every connection that opens (True) or closes (False).
    """

    watch: Callable[[str, bool], None] = staticmethod(lambda _certificate, _is_open: None)
    peer: Peer | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override,unused-ignore]
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            raw = tls.getpeercert(binary_form=True) or b""
            self.peer = Peer(hashlib.sha256(raw).hexdigest() if raw else "", tls.version() or "")
            self.app_state = {**self.app_state, PEER: self.peer}
            self.watch(self.peer.certificate_sha256, True)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            self.watch(self.peer.certificate_sha256, False)
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would raise the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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


def make_server(
    app: AsgiApp,
    *,
    certificate_path: Path,
    key_path: Path,
    client_ca_path: Path,
    watch: Callable[[str, bool], None],
) -> uvicorn.Server:
    """Return a TLS 1.3 server of ``app`` that requires a certificate under ``client_ca_path``.

    ``watch`` gets (certificate SHA-256, True) when a connection opens and (…, False) when it
    closes.
    """

    class Watched(PeerProtocol):
        """The protocol of this server."""

    Watched.watch = staticmethod(watch)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=Watched,
        server_header=False,
        date_header=False,
        ssl_certfile=str(certificate_path),
        ssl_keyfile=str(key_path),
        ssl_ca_certs=str(client_ca_path),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    config.load()
    if config.ssl is None:  # load() makes one whenever a certificate is given
        raise AssertionError
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return _Server(config)


async def serve_until_signal(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
    await server.serve(sockets=[listener])


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
