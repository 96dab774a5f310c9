"""How does a site answer a message without ever running the coordinator's code?

One long-lived process takes ClientApp tasks from its SuperNode, checks the app bundle's hash
against what this site's steward approved, hands the message's body to our own handler and
sends its body back. The bundle is never unpacked or imported. Every object of an answer is
registered for egress before it is pushed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import SubStatus
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.runtime import RuntimeHttpClient

from schemas.errors import CohortiumError, ErrorCode
from site_node.flower.runtime import OpenTask, TaskToken, runtime_client
from site_node.gateway.wake import WakeListener, notify

RECORD = "cohortium"
FIELD = "body"
EXECUTOR_SOCKET = "executor.sock"
GATEWAY_SOCKET = "gateway.sock"
DEADLINE_EXIT_CODE = 75
NOT_RELEASED = 6  # Flower's MOD_FAILED_PRECONDITION: the answer did not pass the egress gate

_IDLE_POLL_SECONDS = 1.0  # only a safety net: the gateway wakes us
_UNREACHABLE_PAUSE_SECONDS = 0.5
_HEARTBEAT_SECONDS = 15.0  # a task is given up after 60 s without one
_OBJECT_WAIT_SECONDS = 30.0
_RETRY_PAUSES_SECONDS = (0.0, 0.2, 1.0)
_log = logging.getLogger("cohortium.executor")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True, slots=True)
class OutgoingReply:
    """An answer's bytes, and what the egress gate knows about them."""

    body: bytes
    reference: object = None


@dataclass(frozen=True, slots=True)
class OutgoingObject:
    """One object of an answer as it will be on the wire; Flower's id is its SHA-256."""

    id: str
    sha256: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """Where the SuperNode's Runtime API is and what may be run for whom.

    ``allowed_bundles`` is asked for every task, so that an approval or a stop counts at once.
    A handler that runs longer than ``deadline_seconds`` ends the process; started again, it
    answers the message with a refusal.
    """

    runtime_address: str
    ca_path: Path
    secret_path: Path
    state_dir: Path
    wake_dir: Path
    allowed_bundles: Callable[[], frozenset[str]]
    deadline_seconds: float = 900.0


Handler = Callable[[bytes], OutgoingReply]
Register = Callable[[OutgoingReply, list[OutgoingObject]], None]
Refuse = Callable[[ErrorCode], OutgoingReply]


class _Watchdog:
    """Keep a long task alive at the SuperNode, and end the process at its deadline."""

    def __init__(self, client: RuntimeHttpClient, deadline_seconds: float) -> None:
        self._client = client
        self._deadline = time.monotonic() + deadline_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0:
                _log.error("executor.deadline")
                os._exit(DEADLINE_EXIT_CODE)
            if self._done.wait(min(_HEARTBEAT_SECONDS, left)):
                return
            try:
                self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except httpx.HTTPError:
                _log.warning("executor.heartbeat_failed")

    def stop(self) -> None:
        self._done.set()


def run_executor(
    settings: ExecutorSettings,
    handle: Handler,
    register: Register,
    refuse: Refuse,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Serve messages until ``should_stop`` says so.

    Args:
        settings: addresses, files, deadline.
        handle: turns a request's body into an answer; whatever it raises becomes a code.
        register: puts every object of an answer on the egress manifest; if it raises, the
            answer is not pushed.
        refuse: makes the answer that holds nothing but a code.
        should_stop: asked between two messages, at least once a second.
    """
    token = TaskToken(settings.secret_path.read_bytes())
    open_task = OpenTask(settings.state_dir)
    with WakeListener(settings.wake_dir / EXECUTOR_SOCKET) as wake:
        client = runtime_client(settings.runtime_address, settings.ca_path, token)
        worker = _Worker(settings, client, token, open_task, handle, register, refuse)
        while not should_stop():
            try:
                worker.recover()
                if not worker.serve_one():
                    wake.wait(_IDLE_POLL_SECONDS)
            except httpx.HTTPStatusError as error:
                # A token or run the SuperNode no longer knows: drop the task, go on.
                _log.warning("executor.task_dropped status=%d", error.response.status_code)
                open_task.clear()
                wake.wait(_UNREACHABLE_PAUSE_SECONDS)
            except httpx.TransportError:
                wake.wait(_UNREACHABLE_PAUSE_SECONDS)
        client.close()


@dataclass(slots=True)
class _Worker:
    settings: ExecutorSettings
    client: RuntimeHttpClient
    token: TaskToken
    open_task: OpenTask
    handle: Handler
    register: Register
    refuse: Refuse

    def serve_one(self) -> bool:
        """Take and answer one message; False if there was none."""
        self.token.token = ""
        acquired = self.client.AcquireTask(
            AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        )
        if not (acquired.HasField("task") and acquired.token):
            return False
        self.token.token = acquired.token
        self.open_task.save(acquired.token, None)
        task = self._call(self.client.PullTaskInput, PullTaskInputRequest())
        bundle = hashlib.sha256(task.fab.content).hexdigest()
        pulled = self._call(self.client.PullMessages, PullAppMessagesRequest())
        if not pulled.messages_list:
            self._finish(is_answered=False)
            return True
        metadata = message_from_proto(pulled.messages_list[0]).metadata
        self.open_task.save(acquired.token, metadata)
        tree = pulled.message_object_trees[0]
        contents = {each: self._pull_object(task.run.run_id, each) for each in _ids(tree)}
        self._call(
            self.client.ConfirmMessageReceived,
            ConfirmMessageReceivedRequest(run_id=task.run.run_id, message_object_id=tree.object_id),
        )
        watchdog = _Watchdog(self.client, self.settings.deadline_seconds)
        try:
            reply = self._answer(bundle, tree.object_id, contents)
        finally:
            watchdog.stop()
        self._send(reply, metadata)
        return True

    def _answer(self, bundle: str, root: str, contents: dict[str, bytes]) -> OutgoingReply | None:
        """Check the bundle, then ask the handler. The only place that catches everything."""
        if bundle not in self.settings.allowed_bundles():
            _log.warning("executor.bundle_refused")
            return self._refusal(ErrorCode.BUNDLE_UNKNOWN)
        try:
            message = inflate_object_from_contents(root, contents)
            body = message.content[RECORD][FIELD] if isinstance(message, Message) else None
            if not isinstance(body, bytes):
                return self._refusal(ErrorCode.MESSAGE_MALFORMED)
            return self.handle(body)
        except CohortiumError as error:
            _log.warning("executor.refused code=%s", error.code)
            return self._refusal(error.code)
        except Exception as error:  # noqa: BLE001 - the process edge: only a code may leave
            _log.error("executor.unexpected kind=%s", type(error).__name__)
            return self._refusal(ErrorCode.INTERNAL_UNEXPECTED)

    def _refusal(self, code: ErrorCode) -> OutgoingReply | None:
        """Make the answer that holds a code; None if even that may not leave."""
        try:
            return self.refuse(code)
        except CohortiumError as error:
            _log.error("executor.refusal_not_released code=%s", error.code)
            return None

    def _pull_object(self, run_id: int, object_id: str) -> bytes:
        """Pull one object; it may still be on its way into the SuperNode."""
        until = time.monotonic() + _OBJECT_WAIT_SECONDS
        pause = threading.Event()
        while True:
            answer = self._call(
                self.client.PullObject, PullObjectRequest(run_id=run_id, object_id=object_id)
            )
            if answer.object_found and answer.object_available:
                content: bytes = answer.object_content
                return content
            if not answer.object_found or time.monotonic() > until:
                raise httpx.ReadTimeout("object")
            pause.wait(0.02)

    def _send(self, reply: OutgoingReply | None, metadata: Metadata) -> None:
        """Register and push the answer, or a bare error code if it may not leave."""
        request = make_message(metadata, content=RecordDict())
        answer = Message(Error(code=NOT_RELEASED), reply_to=request)
        if reply is not None:
            released = Message(
                RecordDict({RECORD: ConfigRecord({FIELD: reply.body})}), reply_to=request
            )
            objects = [
                OutgoingObject(key, key, len(each)) for key, each in _contents(released).items()
            ]
            try:
                self.register(reply, objects)
                answer = released
            except CohortiumError as error:
                _log.error("executor.not_released code=%s", error.code)
        self._push_objects(answer)
        self._finish(is_answered=True)
        notify(self.settings.wake_dir / GATEWAY_SOCKET, metadata.message_id)

    def _push_objects(self, answer: Message) -> None:
        contents = _contents(answer)
        answer.metadata.__dict__["_message_id"] = answer.object_id
        pushed = self._call(
            self.client.PushMessages,
            PushAppMessagesRequest(
                messages_list=[message_to_proto(remove_content_from_message(answer))],
                message_object_trees=[get_object_tree(answer)],
            ),
        )
        node = Node(node_id=answer.metadata.src_node_id)
        for object_id in pushed.objects_to_push:
            self._call(
                self.client.PushObject,
                PushObjectRequest(
                    node=node,
                    run_id=answer.metadata.run_id,
                    object_id=object_id,
                    object_content=contents[object_id],
                    session_id=pushed.session_id,
                ),
            )

    def _finish(self, *, is_answered: bool) -> None:
        status = SubStatus.COMPLETED if is_answered else SubStatus.FAILED
        self._call(self.client.PushTaskOutput, PushTaskOutputRequest(sub_status=status, details=""))
        self.open_task.clear()

    def _call(self, method: Callable[[RequestT], ResponseT], request: RequestT) -> ResponseT:
        """Call the SuperNode; a connection it closed while idle is opened again."""
        for pause_seconds in _RETRY_PAUSES_SECONDS:
            try:
                return method(request)
            except httpx.TransportError:
                threading.Event().wait(pause_seconds)
        return method(request)

    def recover(self) -> None:
        """Refuse the message that was in hand when the last process ended.

        Without this the SuperNode, which serves one message at a time, would wait 60 s.
        """
        saved = self.open_task.load()
        if saved is None:
            return
        self.token.token, metadata = saved
        _log.warning("executor.recovering")
        try:
            metadata = metadata or self._forgotten_message()
            if metadata is None:
                self._finish(is_answered=False)
            else:
                self._send(self._refusal(ErrorCode.INTERNAL_PROCESS_ENDED), metadata)
        except httpx.HTTPStatusError:
            _log.warning("executor.recovery_failed")  # the token ended; nothing to refuse
            self.open_task.clear()

    def _forgotten_message(self) -> Metadata | None:
        """Return the metadata of a message whose task was taken but never pulled."""
        pulled = self._call(self.client.PullMessages, PullAppMessagesRequest())
        if not pulled.messages_list:
            return None
        return message_from_proto(pulled.messages_list[0]).metadata


def _contents(message: Message) -> dict[str, bytes]:
    """Return the bytes of every object of a message by id, as they will be on the wire."""
    return {key: each.deflate() for key, each in get_all_nested_objects(message).items()}


def _ids(tree: ObjectTree) -> list[str]:
    """Return the ids of a tree's objects, children first."""
    found: list[str] = []
    for child in tree.children:
        found += _ids(child)
    return [*found, tree.object_id]
