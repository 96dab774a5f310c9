"""How does the coordinator send each site one request and get each answer, or know why not?

The runner holds the ServerApp task of one Flower run at a time and speaks Flower's Runtime
API itself. It is woken by the coordinator's gateway when an answer has arrived whole, so it
neither polls the SuperLink nor waits for Flower's own three seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID, SubStatus
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    GetNodesRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from coordinator.flower.runtime import TaskToken, object_ids, runtime_client
from coordinator.gateway.wake import WakeListener, notify
from schemas.errors import ErrorCode, TransportError

RECORD = "cohortium"
FIELD = "body"
GATEWAY_SOCKET = "gateway.sock"
FLEET_SOCKET = "fleet.sock"
NODE_GONE = "gone "  # the gateway's word for "this node began anew or signed off"

_MESSAGE_TYPE = "query"
_LOOK_SECONDS = 1.0  # a look without being woken finds errors and lost words
_HEARTBEAT_SECONDS = 15.0  # a task is given up after 60 s without one
_TTL_MARGIN_SECONDS = 5.0
_OBJECT_WAIT_SECONDS = 20.0
_FAILURES: Mapping[int, ErrorCode] = {
    3: ErrorCode.NODE_REPLY_INVALID,
    4: ErrorCode.TRANSPORT_TIMEOUT,
    5: ErrorCode.NODE_OFFLINE,
    6: ErrorCode.EGRESS_NOT_LISTED,
    7: ErrorCode.BUNDLE_UNKNOWN,
    8: ErrorCode.INTERNAL_PROCESS_ENDED,
}
_RETRY_PAUSES_SECONDS = (0.0, 0.2, 1.0)
_log = logging.getLogger("cohortium.fleet")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True, slots=True)
class Reply:
    """A site's answer, its bytes as the site's handler made them."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer from a site."""

    code: ErrorCode


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Where the SuperLink's Runtime API is, and the folder of the wake sockets."""

    runtime_address: str
    ca_path: Path
    secret_path: Path
    wake_dir: Path


@dataclass(slots=True)
class _Pending:
    """What one exchange still waits for."""

    node_of: dict[str, int]  # message id -> node id
    outcomes: dict[int, Reply | Failure] = field(default_factory=dict)

    def close(self, message_id: str, outcome: Reply | Failure) -> None:
        node_id = self.node_of.pop(message_id, None)
        if node_id is not None:
            self.outcomes[node_id] = outcome

    def fail_all(self, code: ErrorCode) -> None:
        for message_id in list(self.node_of):
            self.close(message_id, Failure(code))

    def fail_node(self, node_id: int, code: ErrorCode) -> None:
        for message_id, each in list(self.node_of.items()):
            if each == node_id:
                self.close(message_id, Failure(code))


class Fleet:
    """The sites as the runner sees them; one at a time per process, one run at a time."""

    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        self._token = TaskToken(settings.secret_path.read_bytes())
        self._client = runtime_client(settings.runtime_address, settings.ca_path, self._token)
        self._wake = WakeListener(settings.wake_dir / FLEET_SOCKET)
        self._run_id = 0
        self._task_over = threading.Event()
        self._task_over.set()

    # --- the task -----------------------------------------------------------------------------

    def acquire(
        self, run_id: int, *, timeout_seconds: float, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Take the ServerApp task of ``run_id``.

        Tasks of other runs that are still waiting belong to a runner that ended; they are
        closed as failed.

        Raises:
            TransportError: the task did not appear in time, or the SuperLink is away.
        """
        until = time.monotonic() + timeout_seconds
        while time.monotonic() < until and not stop():
            self._token.token = ""
            try:
                got = self._client.AcquireTask(
                    AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
                )
                if got.HasField("task") and got.token:
                    self._token.token = got.token
                    self._call(self._client.PullTaskInput, PullTaskInputRequest())
                    if int(got.task.run_id) == run_id:
                        self._begin(run_id)
                        return
                    self._close_task(is_ok=False)
                    continue
            except httpx.HTTPError:
                _log.warning("fleet.superlink_unreachable")
            self._wake.wait(0.1)
        raise TransportError(
            ErrorCode.TRANSPORT_TIMEOUT,
            "The run's task did not appear at the SuperLink.",
            hint="See the SuperLink's log.",
        )

    def _begin(self, run_id: int) -> None:
        self._run_id = run_id
        self._task_over = threading.Event()
        beat = threading.Thread(target=self._heartbeat, args=(self._task_over,), daemon=True)
        beat.start()

    def _heartbeat(self, over: threading.Event) -> None:
        while not over.wait(_HEARTBEAT_SECONDS):
            try:
                if not self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success:
                    _log.error("fleet.task_lost")
                    over.set()
            except httpx.HTTPStatusError as error:
                _log.error("fleet.task_lost status=%d", error.response.status_code)
                over.set()
            except httpx.TransportError:
                _log.warning("fleet.heartbeat_failed")

    @property
    def is_active(self) -> bool:
        """Whether a run's task is held."""
        return not self._task_over.is_set()

    def finish(self, ok: bool) -> None:
        """Close the run; the next ``acquire`` may follow. Harmless without a run."""
        if not self.is_active:
            return
        self._task_over.set()
        self._close_task(is_ok=ok)

    def _close_task(self, *, is_ok: bool) -> None:
        status = SubStatus.COMPLETED if is_ok else SubStatus.FAILED
        try:
            self._call(
                self._client.PushTaskOutput, PushTaskOutputRequest(sub_status=status, details="")
            )
        except httpx.HTTPError:
            _log.warning("fleet.finish_failed")

    def close(self) -> None:
        """Close the connection and the wake socket."""
        self._task_over.set()
        self._client.close()
        self._wake.close()

    # --- sites --------------------------------------------------------------------------------

    def online_nodes(self) -> frozenset[int]:
        """Return the ids of the nodes that are connected now.

        Raises:
            TransportError: the SuperLink is away or no run is held.
        """
        try:
            nodes = self._call(self._client.GetNodes, GetNodesRequest()).nodes
        except httpx.HTTPError as error:
            raise self._lost(error) from error
        return frozenset(int(node.node_id) for node in nodes)

    def exchange(
        self,
        requests: Mapping[int, bytes],
        *,
        timeout_seconds: float,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[int, Reply | Failure]:
        """Send each node its request and wait for every answer.

        Args:
            requests: node id -> body. Nodes that are not named are not disturbed.
            timeout_seconds: after which a missing answer is a failure.
            stop: asked at least once a second; True ends the wait.

        Returns:
            For every node a `Reply` or a `Failure`. An answer to an earlier exchange is
            never returned: only ids of this exchange are asked for.

        Raises:
            TransportError: the SuperLink is away or no longer knows this run.
        """
        if not requests:
            return {}
        self._wake.drain()
        try:
            pending = self._push(requests, timeout_seconds)
            until = time.monotonic() + timeout_seconds
            while pending.node_of:
                left = until - time.monotonic()
                if left <= 0:
                    pending.fail_all(ErrorCode.TRANSPORT_TIMEOUT)
                    break
                if stop():
                    pending.fail_all(ErrorCode.ATTEMPT_VOID)
                    break
                if self._task_over.is_set():
                    raise self._lost(None)
                words = self._wake.wait(min(left, _LOOK_SECONDS))
                self._pull(pending)
                for word in words:
                    if word.startswith(NODE_GONE) and word[len(NODE_GONE) :].isdigit():
                        node_id = int(word[len(NODE_GONE) :])
                        pending.fail_node(node_id, ErrorCode.ATTEMPT_SITE_LEFT)
        except httpx.HTTPError as error:
            raise self._lost(error) from error
        return pending.outcomes

    def _push(self, requests: Mapping[int, bytes], timeout_seconds: float) -> _Pending:
        messages: list[ProtoMessage] = []
        trees: list[ObjectTree] = []
        contents: dict[str, bytes] = {}
        node_of: dict[str, int] = {}
        for node_id, body in requests.items():
            message = make_message(
                metadata=Metadata(
                    run_id=self._run_id,
                    message_id="",
                    src_node_id=SUPERLINK_NODE_ID,
                    dst_node_id=node_id,
                    reply_to_message_id="",
                    group_id="",
                    created_at=time.time(),
                    ttl=timeout_seconds + _TTL_MARGIN_SECONDS,
                    message_type=_MESSAGE_TYPE,
                ),
                content=RecordDict({RECORD: ConfigRecord({FIELD: body})}),
            )
            message_id = message.object_id
            contents.update(
                {key: each.deflate() for key, each in get_all_nested_objects(message).items()}
            )
            message.metadata.__dict__["_message_id"] = message_id
            node_of[message_id] = node_id
            trees.append(get_object_tree(message))
            messages.append(message_to_proto(remove_content_from_message(message)))
        pushed = self._call(
            self._client.PushMessages,
            PushAppMessagesRequest(messages_list=messages, message_object_trees=trees),
        )
        node = Node(node_id=SUPERLINK_NODE_ID)
        for object_id in pushed.objects_to_push:
            self._call(
                self._client.PushObject,
                PushObjectRequest(
                    node=node,
                    run_id=self._run_id,
                    object_id=object_id,
                    object_content=contents[object_id],
                    session_id=pushed.session_id,
                ),
            )
        notify(self._settings.wake_dir / GATEWAY_SOCKET, "requests")
        pending = _Pending(node_of)
        for message_id, accepted in zip(list(node_of), pushed.message_ids, strict=True):
            if accepted != message_id:
                pending.close(message_id, Failure(ErrorCode.NODE_UNKNOWN))
        return pending

    def _pull(self, pending: _Pending) -> None:
        if not pending.node_of:
            return
        pulled = self._call(
            self._client.PullMessages, PullAppMessagesRequest(message_ids=list(pending.node_of))
        )
        for envelope, tree in zip(pulled.messages_list, pulled.message_object_trees, strict=True):
            asked = envelope.metadata.reply_to_message_id
            if envelope.HasField("error"):
                code = _FAILURES.get(envelope.error.code, ErrorCode.INTERNAL_UNEXPECTED)
                pending.close(asked, Failure(code))
            else:
                pending.close(asked, self._pull_reply(tree))

    def _pull_reply(self, tree: ObjectTree) -> Reply | Failure:
        contents: dict[str, bytes] = {}
        for object_id in object_ids(tree):
            content = self._pull_object(object_id)
            if content is None:
                return Failure(ErrorCode.NODE_REPLY_INVALID)
            contents[object_id] = content
        self._call(
            self._client.ConfirmMessageReceived,
            ConfirmMessageReceivedRequest(
                node=Node(node_id=SUPERLINK_NODE_ID),
                run_id=self._run_id,
                message_object_id=tree.object_id,
            ),
        )
        try:
            message = inflate_object_from_contents(tree.object_id, contents)
            body = message.content[RECORD][FIELD] if isinstance(message, Message) else None
        except (KeyError, ValueError, TypeError, IndexError, DecodeError):
            body = None
        return Reply(body) if isinstance(body, bytes) else Failure(ErrorCode.NODE_REPLY_INVALID)

    def _pull_object(self, object_id: str) -> bytes | None:
        """Pull one object; a look that was not asked for may come before its last object."""
        until = time.monotonic() + _OBJECT_WAIT_SECONDS
        pause = threading.Event()
        while time.monotonic() < until:
            got = self._call(
                self._client.PullObject,
                PullObjectRequest(
                    node=Node(node_id=SUPERLINK_NODE_ID),
                    run_id=self._run_id,
                    object_id=object_id,
                ),
            )
            if not got.object_found:
                return None
            if got.object_available:
                content: bytes = got.object_content
                return content
            pause.wait(0.02)
        return None

    def _call(self, method: Callable[[RequestT], ResponseT], request: RequestT) -> ResponseT:
        """Call the SuperLink; a connection it closed while idle is opened again."""
        for pause_seconds in _RETRY_PAUSES_SECONDS:
            try:
                return method(request)
            except httpx.TransportError:
                threading.Event().wait(pause_seconds)
        return method(request)

    def _lost(self, error: httpx.HTTPError | None) -> TransportError:
        self._task_over.set()
        return TransportError(
            ErrorCode.TRANSPORT_CLOSED,
            "The SuperLink is away or no longer knows this run.",
            hint="Begin a new run once it is back.",
            detail=type(error).__name__ if error is not None else "",
        )
