"""How does everything that leaves a hospital get to its coordinator?

One process, one upstream address, TLS 1.3 with the site's certificate. Before any byte is
sent its path, size and object id are handed to ``record``; if that fails, nothing is sent.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from flwr.proto.fleet_pb2 import PushMessagesResponse
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node

from schemas.errors import CohortiumError, ErrorCode, TransportError
from schemas.limits import MAX_FRAME_BYTES, MAX_OBJECT_BYTES
from site_node.gateway import fleet
from site_node.gateway.envelope import CheckedPush, ErrorPush, checked_object, checked_push
from site_node.gateway.server import (
    Receive,
    Scope,
    Send,
    listening_socket,
    make_server,
    read_body,
    respond,
    serve_until_signal,
    write_status,
)
from site_node.gateway.wake import WakeListener, notify

DOCUMENTS_PULL = "/v1/documents/pull"
DOCUMENTS_PUSH = "/v1/documents/push"
GATEWAY_SOCKET = "gateway.sock"
EXECUTOR_SOCKET = "executor.sock"

_UPSTREAM_TIMEOUT_SECONDS = 28.0  # below the SuperNode's own 30 s, above the coordinator's 20 s
_ANSWER_HOLD_SECONDS = 20.0
_log = logging.getLogger("cohortium.gateway")


@dataclass(frozen=True, slots=True)
class Sent:
    """One HTTP body about to leave: its path, size and, for an answer, its object's id."""

    path: str
    n_bytes: int
    object_id: str | None
    at: str


@dataclass(frozen=True, slots=True)
class SiteGatewaySettings:
    """Where the gateway listens, whom it calls and with which identity.

    ``tap_file`` writes every body before TLS into a local file. It exists for the search for
    identifiers and for a hospital's own inspection, and is off unless set.
    """

    upstream_url: str
    upstream_ca: Path
    client_certificate: Path
    client_key: Path
    listen_certificate: Path
    listen_key: Path
    node_public_key_pem: bytes
    wake_dir: Path
    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    status_file: Path | None = None
    tap_file: Path | None = None


class GatewayClient:
    """The one connection to the coordinator; the courier uses its two document calls."""

    def __init__(self, settings: SiteGatewaySettings, record: Callable[[Sent], None]) -> None:
        context = ssl.create_default_context(cafile=str(settings.upstream_ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(settings.client_certificate, settings.client_key)
        self._base = settings.upstream_url.rstrip("/")
        self._tap = settings.tap_file
        self._record = record
        self._http = httpx.AsyncClient(
            verify=context,
            timeout=_UPSTREAM_TIMEOUT_SECONDS,
            trust_env=False,
            headers={"accept-encoding": "identity"},
            limits=httpx.Limits(
                max_connections=32, max_keepalive_connections=16, keepalive_expiry=60.0
            ),
        )
        self.tls_version = ""
        self.on_connected: Callable[[str], None] | None = None

    async def documents_pull(self, body: bytes) -> bytes:
        """Ask for documents; see ``documents_push`` for what is raised."""
        return await self._documents(DOCUMENTS_PULL, body)

    async def documents_push(self, body: bytes) -> bytes:
        """Hand documents over.

        Raises:
            TransportError: the coordinator is away or refused.
        """
        return await self._documents(DOCUMENTS_PUSH, body)

    async def _documents(self, path: str, body: bytes) -> bytes:
        media = b"application/json"
        try:
            status, answer = await self.post(
                path, body, [(b"content-type", media), (b"accept", media)]
            )
        except httpx.HTTPError as error:
            raise TransportError(
                ErrorCode.TRANSPORT_UNREACHABLE,
                "The coordinator cannot be reached.",
                hint="It is tried again by itself; check the address and the network.",
                detail=type(error).__name__,
            ) from error
        if status != 200:
            raise TransportError(
                ErrorCode.TRANSPORT_RESPONSE_INVALID,
                "The coordinator refused a document call.",
                hint="See the coordinator's log.",
                detail=str(status),
            )
        return answer

    async def post(
        self,
        path: str,
        body: bytes,
        headers: list[tuple[bytes, bytes]],
        object_id: str | None = None,
    ) -> tuple[int, bytes]:
        """Record, then send one body.

        Returns:
            (HTTP status, body).

        Raises:
            CohortiumError: the record could not be written and nothing was sent, or the answer
                is larger than any message.
            httpx.HTTPError: the coordinator could not be reached.
        """
        longest = fleet.MAX_ANSWER_BYTES if path in fleet.FLEET_PATHS else MAX_FRAME_BYTES
        at = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._record(Sent(path, len(body), object_id, at))
        if self._tap is not None:
            with self._tap.open("ab") as out:
                out.write(path.encode("ascii") + b"\n" + body + b"\n")
        request = self._http.stream("POST", self._base + path, content=body, headers=headers)
        async with request as response:
            if not self.tls_version:
                self._note_tls(response)
            answer = bytearray()
            async for part in response.aiter_raw():  # nothing is inflated for the coordinator
                answer += part
                if len(answer) > longest:
                    raise TransportError(
                        ErrorCode.TRANSPORT_TOO_LARGE, "The coordinator's answer is too large."
                    )
            return response.status_code, bytes(answer)

    def _note_tls(self, response: httpx.Response) -> None:
        stream = response.extensions.get("network_stream")
        tls = stream.get_extra_info("ssl_object") if stream is not None else None
        version = tls.version() if tls is not None else None
        if version:
            self.tls_version = version
            if self.on_connected is not None:
                self.on_connected(version)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()


class _Gateway:
    """The ASGI application the SuperNode talks to."""

    def __init__(
        self,
        settings: SiteGatewaySettings,
        client: GatewayClient,
        is_listed: Callable[[str], bool],
    ) -> None:
        self._settings = settings
        self._client = client
        self._is_listed = is_listed
        self._answered: dict[str, asyncio.Event] = {}

    def heard(self, message_id: str) -> None:
        """Take the executor's word that its answer to ``message_id`` is ready."""
        event = self._answered.get(message_id)
        if event is not None:
            event.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever goes wrong, the answer holds a status only."""
        if scope["type"] != "http":
            return
        try:
            body = await read_body(receive, max_bytes=MAX_OBJECT_BYTES)
            path = str(scope["path"])
            if body is None or scope["method"] != "POST" or path not in fleet.FLEET_PATHS:
                _log.warning("gateway.path_refused")
                await respond(send, 403)
                return
            work = asyncio.ensure_future(self._forward(path, body, scope["headers"]))
            if path == fleet.PULL_MESSAGES and not await _finishes(work, receive):
                return
            status, answer = await work
        except CohortiumError as error:
            _log.warning("gateway.refused code=%s", error.code)
            status, answer = 403, b""
        except httpx.HTTPError as error:
            _log.warning("gateway.upstream_unreachable kind=%s", type(error).__name__)
            status, answer = 503, b""
        await respond(send, status, answer)

    async def _forward(
        self, path: str, body: bytes, raw_headers: list[tuple[bytes, bytes]]
    ) -> tuple[int, bytes]:
        headers = fleet.checked_headers(raw_headers)
        if path == fleet.PUSH_OBJECT:
            checked, object_id = checked_object(body, self._is_listed)
            return await self._client.post(path, checked, headers, object_id)
        if path == fleet.PUSH_MESSAGES:
            push = checked_push(body, self._is_listed)
            if isinstance(push, ErrorPush):
                return await self._send_error(push, headers)
            return await self._send_envelope(push, headers)
        fixed = fleet.checked_fixed(path, body, self._settings.node_public_key_pem)
        if path == fleet.CONFIRM:
            return await self._confirm(fixed, headers)
        answer = await self._client.post(path, fixed, headers)
        if path == fleet.PULL_MESSAGES and answer[0] == 200:
            fleet.check_messages(answer[1])
        return answer

    async def _send_envelope(
        self, push: CheckedPush, headers: list[tuple[bytes, bytes]]
    ) -> tuple[int, bytes]:
        root = push.object_ids[0]
        return await self._client.post(fleet.PUSH_MESSAGES, push.body, headers, root)

    async def _send_error(
        self, push: ErrorPush, headers: list[tuple[bytes, bytes]]
    ) -> tuple[int, bytes]:
        """Send an error notice whole; the SuperNode is told that nothing is left to send."""
        _log.warning("gateway.error_notice code=%d", push.code)
        status, answer = await self._client.post(fleet.PUSH_MESSAGES, push.body, headers)
        if status != 200:
            return status, b""
        wanted = PushMessagesResponse.FromString(answer)
        if push.object_id in wanted.objects_to_push:
            request = PushObjectRequest(
                node=Node(node_id=push.node_id),
                run_id=push.run_id,
                object_id=push.object_id,
                object_content=push.content,
                session_id=wanted.session_id,
            )
            await self._client.post(fleet.PUSH_OBJECT, request.SerializeToString(), headers)
        return 200, PushMessagesResponse(session_id=wanted.session_id).SerializeToString()

    async def _confirm(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
        """Forward the confirmation, wake the executor, and answer once its reply is ready.

        The confirmation is a SuperNode's last call before it begins to look for the reply
        every 0.5 s; answering when there is one saves that wait.
        """
        message_id = ConfirmMessageReceivedRequest.FromString(body).message_object_id
        answered = self._answered.setdefault(message_id, asyncio.Event())
        try:
            is_awake = notify(self._settings.wake_dir / EXECUTOR_SOCKET, message_id)
            result = await self._client.post(fleet.CONFIRM, body, headers)
            if is_awake and result[0] == 200:
                try:
                    await asyncio.wait_for(answered.wait(), _ANSWER_HOLD_SECONDS)
                except TimeoutError:
                    _log.info("gateway.hold_ended")
            return result
        finally:
            self._answered.pop(message_id, None)


async def _finishes(work: asyncio.Future[tuple[int, bytes]], receive: Receive) -> bool:
    """Wait for a held pull; give it up, and say so, once the SuperNode has hung up.

    A pull claims a message: one that nobody waits for would lose it.
    """

    async def hung_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(hung_up())
    either: set[asyncio.Future[Any]] = {work, gone}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        gone.cancel()
        return True
    work.cancel()
    return False


async def serve_gateway(
    settings: SiteGatewaySettings,
    *,
    is_listed: Callable[[str], bool],
    record: Callable[[Sent], None],
    background: Sequence[Callable[[GatewayClient], Awaitable[None]]] = (),
) -> None:
    """Run the site's gateway until SIGTERM or SIGINT.

    Args:
        settings: addresses, keys, files.
        is_listed: whether an object id is on the signed egress manifest.
        record: called before every body that leaves; if it raises, the body does not leave.
        background: coroutines that share the connection, such as the courier.
    """
    client = GatewayClient(settings, record)
    gateway = _Gateway(settings, client, is_listed)
    listener = listening_socket(settings.listen_host, settings.listen_port)
    status: dict[str, str | int] = {"port": int(listener.getsockname()[1]), "tls": ""}
    write_status(settings.status_file, status)
    client.on_connected = lambda version: write_status(
        settings.status_file, {**status, "tls": version}
    )
    server = make_server(
        gateway, certificate_path=settings.listen_certificate, key_path=settings.listen_key
    )
    loop = asyncio.get_running_loop()
    wake = WakeListener(settings.wake_dir / GATEWAY_SOCKET)
    wake.attach(loop, gateway.heard)

    async def run(task: Callable[[GatewayClient], Awaitable[None]]) -> None:
        await task(client)

    tasks = [asyncio.create_task(run(each)) for each in background]
    try:
        await serve_until_signal(server, listener, tasks)
    finally:
        wake.detach(loop)
        wake.close()
        await client.close()
