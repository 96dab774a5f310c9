"""What may a pinned site ask of the coordinator, and how long may it wait for the answer?

Pulls are held open until a message is there, so that an exchange is not paced by Flower's
three-second polling. A site that comes back after a crash is signed off and on again, which
Flower itself would refuse for a minute.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from flwr.proto.fleet_pb2 import (
    ActivateNodeResponse,
    DeactivateNodeRequest,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import PullObjectResponse, PushObjectRequest, PushObjectResponse
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from coordinator.gateway.rules import (
    ACTIVATE,
    DEACTIVATE,
    DOCUMENT_CALLS,
    MAX_BODY_BYTES,
    PULL_MESSAGES,
    PULL_OBJECT,
    PUSH_MESSAGES,
    PUSH_OBJECT,
    Headers,
    Received,
    SitePin,
    check_size,
    forwarded,
    is_own_node,
)
from coordinator.gateway.server import (
    PEER,
    Peer,
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
from coordinator.gateway.wake import WakeListener, notify
from schemas.errors import CohortiumError

GATEWAY_SOCKET = "gateway.sock"
FLEET_SOCKET = "fleet.sock"

_HOLD_SECONDS = 20.0  # the SuperNode's own client gives up at 30
_LOOK_SECONDS = 2.0  # between two looks of a held pull that nobody woke
_OBJECT_LOOK_SECONDS = (0.02, 0.25)  # between two looks for an object, at first and at most
_PINS_SECONDS = 1.0
_SIGN_OFF_SECONDS = 4.0  # a site without any connection for so long is signed off
_SUPERLINK_KEEPALIVE_SECONDS = 4.0  # the SuperLink closes an idle connection after 5
_UPSTREAM_TIMEOUT_SECONDS = 30.0
_log = logging.getLogger("cohortium.gateway")


@dataclass(frozen=True, slots=True)
class CoordinatorGatewaySettings:
    """Where the gateway listens and where the SuperLink is."""

    certificate: Path
    key: Path
    client_ca: Path
    superlink_address: str
    superlink_ca: Path
    wake_dir: Path
    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    status_file: Path | None = None
    tap_file: Path | None = None


Pins = Callable[[], Mapping[str, SitePin]]
Documents = Callable[[str, str, bytes], bytes]


@dataclass(slots=True)
class _Node:
    """What this process remembers of a site's node."""

    node_id: int = 0
    n_connections: int = 0
    is_online: bool = False
    headers: Headers = field(default_factory=list)  # the last signed ones, good for 300 s
    open_objects: dict[str, set[str]] = field(default_factory=dict)  # session -> ids


class _Gateway:
    """The ASGI application the sites talk to."""

    def __init__(
        self,
        settings: CoordinatorGatewaySettings,
        pins: Pins,
        documents: Documents,
        record: Callable[[Received], None],
    ) -> None:
        context = ssl.create_default_context(cafile=str(settings.superlink_ca))
        self._base = f"https://{settings.superlink_address}"
        self._http = httpx.AsyncClient(
            verify=context,
            timeout=_UPSTREAM_TIMEOUT_SECONDS,
            trust_env=False,
            limits=httpx.Limits(
                max_connections=500,
                max_keepalive_connections=200,
                keepalive_expiry=_SUPERLINK_KEEPALIVE_SECONDS,
            ),
        )
        self._settings = settings
        self._read_pins = pins
        self._documents = documents
        self._record = record
        # One thread for everything that touches the database, so that it sees one caller.
        self._desk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="desk")
        self._pins: Mapping[str, SitePin] = {}
        self._pins_until = 0.0
        self._nodes: dict[str, _Node] = {}
        self._requests = asyncio.Event()
        self._sign_offs: set[asyncio.Task[None]] = set()

    def watch(self, certificate: str, is_open: bool) -> None:
        """Follow a site's connections; sign its node off when the last one stays closed."""
        pin = self._pins.get(certificate)
        if pin is None:
            return
        node = self._nodes.setdefault(pin.site_id, _Node())
        node.n_connections = max(0, node.n_connections + (1 if is_open else -1))
        if not node.n_connections and node.node_id:
            task = asyncio.get_running_loop().create_task(self._sign_off(pin, node))
            self._sign_offs.add(task)
            task.add_done_callback(self._sign_offs.discard)

    async def _sign_off(self, pin: SitePin, node: _Node) -> None:
        """Tell Flower that a site is gone, which it would notice only after a minute.

        The node's last signature is used once more: it covers a time, not a request.
        """
        await asyncio.sleep(_SIGN_OFF_SECONDS)
        if node.n_connections or not node.is_online:
            return
        node.is_online = False
        _log.warning("gateway.site_gone site=%s", pin.site_id)
        body = DeactivateNodeRequest(node_id=node.node_id).SerializeToString()
        try:
            await self._post(DEACTIVATE, body, node.headers)
        except httpx.HTTPError:
            _log.warning("gateway.sign_off_failed site=%s", pin.site_id)
        self._tell_fleet(f"gone {node.node_id}")

    def heard(self, _word: str) -> None:
        """Take the runner's word that requests wait at the SuperLink."""
        self._requests.set()
        self._requests = asyncio.Event()

    async def close(self) -> None:
        """Close the connections to the SuperLink."""
        await self._http.aclose()
        self._desk.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever goes wrong, the answer holds a status only."""
        if scope["type"] != "http":
            return
        path = str(scope["path"])
        peer: Peer | None = scope["state"].get(PEER)
        limit = MAX_BODY_BYTES.get(path)
        if limit is None or scope["method"] != "POST" or scope["query_string"]:
            _log.warning("gateway.path_refused")
            await respond(send, 403)
            return
        pin = await self._pin(peer)
        if pin is None or peer is None:
            _log.warning("gateway.certificate_unknown")
            await respond(send, 403)
            return
        body = await read_body(receive, max_bytes=limit)
        if body is None:
            _log.warning("gateway.too_large")
            await respond(send, 413)
            return
        self._record(Received(pin.site_id, path, len(body), peer.tls_version))
        self._tap(path, body)
        try:
            if path in DOCUMENT_CALLS:
                answer = await self._call_documents(pin, DOCUMENT_CALLS[path], body)
                await respond(send, 200, answer, b"application/json")
                return
            headers = forwarded(scope["headers"])
            if not is_own_node(pin, headers):
                _log.warning("gateway.other_node site=%s", pin.site_id)
                await respond(send, 403)
                return
            status, content = await self._fleet(pin, path, body, headers, receive)
            await respond(send, status, content)
        except CohortiumError as error:
            _log.warning("gateway.refused site=%s code=%s", pin.site_id, error.code)
            await respond(send, 422)
        except (httpx.HTTPError, DecodeError) as error:
            _log.warning("gateway.upstream_failed kind=%s", type(error).__name__)
            await respond(send, 503)

    def _tap(self, path: str, body: bytes) -> None:
        if self._settings.tap_file is not None:
            with self._settings.tap_file.open("ab") as out:
                out.write(path.encode("ascii") + b"\n" + body + b"\n")

    # --- who ------------------------------------------------------------------------------------

    async def _pin(self, peer: Peer | None) -> SitePin | None:
        """Return the site of a certificate; pins are read again so that new sites work."""
        if peer is None or not peer.certificate_sha256:
            return None
        now = time.monotonic()
        if now >= self._pins_until or peer.certificate_sha256 not in self._pins:
            loop = asyncio.get_running_loop()
            self._pins = await loop.run_in_executor(self._desk, self._read_pins)
            self._pins_until = now + _PINS_SECONDS
        return self._pins.get(peer.certificate_sha256)

    async def _call_documents(self, pin: SitePin, call: str, body: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._desk, self._documents, pin.site_id, call, body)

    # --- what -----------------------------------------------------------------------------------

    async def _post(self, path: str, body: bytes, headers: Headers) -> tuple[int, bytes]:
        response = await self._http.post(self._base + path, content=body, headers=headers)
        return response.status_code, response.content

    async def _fleet(
        self, pin: SitePin, path: str, body: bytes, headers: Headers, receive: Receive
    ) -> tuple[int, bytes]:
        node = self._nodes.setdefault(pin.site_id, _Node())
        node.headers, node.is_online = headers, True
        if path == PULL_MESSAGES:
            return await self._pull_messages(body, headers, receive)
        if path == PULL_OBJECT:
            return await self._pull_object(body, headers)
        if path == ACTIVATE:
            return await self._activate(node, body, headers)
        if path == PUSH_MESSAGES:
            check_size(PushMessagesRequest.FromString(body))
        status, content = await self._post(path, body, headers)
        if status == 200:
            self._note(node, path, body, content)
        return status, content

    async def _pull_messages(
        self, body: bytes, headers: Headers, receive: Receive
    ) -> tuple[int, bytes]:
        """Hold the pull until there is a message, the time is up or the site has gone.

        A pull claims a message: once the site has hung up, none may be made.
        """
        until = time.monotonic() + _HOLD_SECONDS
        gone = asyncio.create_task(_hung_up(receive))
        try:
            while True:
                requests = self._requests
                status, content = await self._post(PULL_MESSAGES, body, headers)
                left = until - time.monotonic()
                if status != 200 or content or left <= 0:
                    return status, content
                woken = asyncio.create_task(requests.wait())
                await asyncio.wait(
                    {gone, woken},
                    timeout=min(left, _LOOK_SECONDS),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                woken.cancel()
                if gone.done():
                    return 503, b""
        finally:
            gone.cancel()

    async def _pull_object(self, body: bytes, headers: Headers) -> tuple[int, bytes]:
        """Hold the pull of an object that the runner is still handing over."""
        until = time.monotonic() + _HOLD_SECONDS
        seconds, longest = _OBJECT_LOOK_SECONDS
        while True:
            status, content = await self._post(PULL_OBJECT, body, headers)
            if status != 200 or time.monotonic() >= until:
                return status, content
            answer = PullObjectResponse.FromString(content)
            if answer.object_available or not answer.object_found:
                return status, content
            await asyncio.sleep(seconds)
            seconds = min(longest, 1.5 * seconds)

    async def _activate(self, node: _Node, body: bytes, headers: Headers) -> tuple[int, bytes]:
        """Sign a node on; one that Flower believes online has crashed and is signed off first.

        The runner hears of it before Flower does: what the node held in its last life is
        lost, and what is sent to it from now on is not.
        """
        if node.node_id:
            self._tell_fleet(f"gone {node.node_id}")
        status, content = await self._post(ACTIVATE, body, headers)
        if status != 200 and node.node_id:
            off = DeactivateNodeRequest(node_id=node.node_id).SerializeToString()
            await self._post(DEACTIVATE, off, headers)
            status, content = await self._post(ACTIVATE, body, headers)
        if status == 200:
            node.node_id = ActivateNodeResponse.FromString(content).node_id
            node.open_objects.clear()
        return status, content

    def _note(self, node: _Node, path: str, body: bytes, content: bytes) -> None:
        """Follow an answer's objects, so that the runner is woken once it is whole."""
        if path == DEACTIVATE:
            node.is_online = False
            self._tell_fleet(f"gone {node.node_id}")
        elif path == PUSH_MESSAGES:
            pushed = PushMessagesResponse.FromString(content)
            if pushed.objects_to_push:
                node.open_objects = {pushed.session_id: set(pushed.objects_to_push)}
            elif PushMessagesRequest.FromString(body).messages_list:
                self._tell_fleet("answer")
        elif path == PUSH_OBJECT and PushObjectResponse.FromString(content).stored:
            request = PushObjectRequest.FromString(body)
            left = node.open_objects.get(request.session_id)
            if left is not None:
                left.discard(request.object_id)
                if not left:
                    node.open_objects.clear()
                    self._tell_fleet("answer")

    def _tell_fleet(self, word: str) -> None:
        notify(self._settings.wake_dir / FLEET_SOCKET, word)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def serve_gateway(
    settings: CoordinatorGatewaySettings,
    *,
    pins: Pins,
    documents: Documents,
    record: Callable[[Received], None],
) -> None:
    """Run the coordinator's gateway until SIGTERM or SIGINT.

    Args:
        settings: addresses, files.
        pins: certificate fingerprint (SHA-256 hex of DER) -> site; read again at most once a
            second, and at once for an unknown certificate.
        documents: ``(site_id, "pull" | "push", body) -> answer``; may raise CohortiumError.
        record: called with every body that was taken in.

    ``pins`` and ``documents`` run in one thread of their own, ``record`` in the event loop.
    """
    gateway = _Gateway(settings, pins, documents, record)
    listener = listening_socket(settings.listen_host, settings.listen_port)
    write_status(settings.status_file, {"port": int(listener.getsockname()[1])})
    server = make_server(
        gateway,
        certificate_path=settings.certificate,
        key_path=settings.key,
        client_ca_path=settings.client_ca,
        watch=gateway.watch,
    )
    loop = asyncio.get_running_loop()
    wake = WakeListener(settings.wake_dir / GATEWAY_SOCKET)
    wake.attach(loop, gateway.heard)
    try:
        await serve_until_signal(server, listener)
    finally:
        wake.detach(loop)
        wake.close()
        await gateway.close()
