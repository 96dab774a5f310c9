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
from flwr.app import Error, Message, RecordDict
from flwr.app.message import make_message
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
)
from flwr.supercore.constant import TaskType
from flwr.supercore.runtime import RuntimeHttpClient

from schemas.errors import CohortiumError, ErrorCode, ProtocolError
from site_node.flower.pieces import Arrival, BodyObjects, Parcel, object_ids, parcel
from site_node.flower.runtime import Heartbeat, OpenTask, TaskToken, runtime_client
from site_node.gateway.wake import WakeListener, notify

EXECUTOR_SOCKET = "executor.sock"
GATEWAY_SOCKET = "gateway.sock"
DEADLINE_EXIT_CODE = 75
NOT_RELEASED = 6  # Flower's MOD_FAILED_PRECONDITION: the answer did not pass the egress gate

_IDLE_POLL_SECONDS = 1.0  # only a safety net: the gateway wakes us
_UNREACHABLE_PAUSE_SECONDS = 0.5
_OBJECT_LOOK_SECONDS = (0.02, 0.25)  # between two looks for an object, at first and at most
_HEAD_START_OBJECTS = 6  # more than a short answer has; the SuperNode sleeps if it catches up
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
    answers the message with a refusal. No message may take longer than that to arrive either.
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


class _NotWhole(Exception):
    """A message's objects did not all arrive in its time."""


def _end_process() -> None:
    _log.error("executor.deadline")
    os._exit(DEADLINE_EXIT_CODE)


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
        seconds = min(metadata.ttl, self.settings.deadline_seconds)
        with Heartbeat(self.client):
            until = time.monotonic() + seconds
            try:
                # Nested, so that the request is let go of before its answer is sent.
                reply = self._answer(bundle, self._receive(task.run.run_id, tree, until))
            except _NotWhole:
                _log.warning("executor.message_not_whole")
                self._withdraw(task.run.run_id, tree.object_id)
                return True
            self._send(reply, metadata)
        return True

    def _receive(self, run_id: int, tree: ObjectTree, until: float) -> bytes | ErrorCode:
        """Pull a message's body, or say why it is none; the SuperNode then forgets it."""
        came: bytes | ErrorCode
        try:
            arrival = Arrival(tree)
            while (wanted := arrival.next_id) is not None:
                arrival.put(self._pull_object(run_id, wanted, until))
            came = arrival.body
        except ProtocolError as error:
            came = error.code
            # The rest may still be on its way, and a SuperNode told to forget a message it has
            # not got whole takes it for lost, and with it the answer.
            for each in object_ids(tree):
                self._pull_object(run_id, each, until)
        self._call(
            self.client.ConfirmMessageReceived,
            ConfirmMessageReceivedRequest(run_id=run_id, message_object_id=tree.object_id),
        )
        return came

    def _answer(self, bundle: str, came: bytes | ErrorCode) -> OutgoingReply | None:
        """Check the bundle, then ask the handler. The only place that catches everything."""
        if bundle not in self.settings.allowed_bundles():
            _log.warning("executor.bundle_refused")
            return self._refusal(ErrorCode.BUNDLE_UNKNOWN)
        if isinstance(came, ErrorCode):
            _log.warning("executor.refused code=%s", came)
            return self._refusal(came)
        deadline = threading.Timer(self.settings.deadline_seconds, _end_process)
        deadline.daemon = True
        deadline.start()
        try:
            return self.handle(came)
        except CohortiumError as error:
            _log.warning("executor.refused code=%s", error.code)
            return self._refusal(error.code)
        except Exception as error:  # noqa: BLE001 - the process edge: only a code may leave
            _log.error("executor.unexpected kind=%s", type(error).__name__)
            return self._refusal(ErrorCode.INTERNAL_UNEXPECTED)
        finally:
            deadline.cancel()

    def _refusal(self, code: ErrorCode) -> OutgoingReply | None:
        """Make the answer that holds a code; None if even that may not leave."""
        try:
            return self.refuse(code)
        except CohortiumError as error:
            _log.error("executor.refusal_not_released code=%s", error.code)
            return None

    def _pull_object(self, run_id: int, object_id: str, until: float) -> bytes:
        """Pull one object; it may still be on its way into the SuperNode."""
        pause = threading.Event()
        seconds, longest = _OBJECT_LOOK_SECONDS
        while True:
            answer = self._call(
                self.client.PullObject, PullObjectRequest(run_id=run_id, object_id=object_id)
            )
            if answer.object_found and answer.object_available:
                content: bytes = answer.object_content
                return content
            if not answer.object_found or time.monotonic() > until:
                raise _NotWhole
            pause.wait(seconds)
            seconds = min(longest, 1.5 * seconds)

    def _send(self, reply: OutgoingReply | None, metadata: Metadata) -> None:
        """Register and push the answer, or a bare error code if it may not leave."""
        request = make_message(metadata, content=RecordDict())
        answer: Parcel | None = None
        if reply is not None:
            answered = Message(RecordDict(), reply_to=request).metadata
            made = parcel(answered, BodyObjects(reply.body))
            objects = [OutgoingObject(key, key, size) for key, size in made.sizes.items()]
            try:
                self.register(reply, objects)
                answer = made
            except CohortiumError as error:
                _log.error("executor.not_released code=%s", error.code)
        self._push(answer or _error_parcel(request), metadata)
        self._finish(is_answered=True)
        notify(self.settings.wake_dir / GATEWAY_SOCKET, metadata.message_id)

    def _push(self, answer: Parcel, metadata: Metadata) -> None:
        """Push an answer, one object at a time in memory."""
        self.open_task.save(self.token.token, metadata, answer.tree.object_id)
        pushed = self._call(
            self.client.PushMessages,
            PushAppMessagesRequest(
                messages_list=[answer.envelope], message_object_trees=[answer.tree]
            ),
        )
        node = Node(node_id=metadata.dst_node_id)
        for index, object_id in enumerate(pushed.objects_to_push):
            if index == _HEAD_START_OBJECTS:  # the SuperNode may begin while the rest follows
                notify(self.settings.wake_dir / GATEWAY_SOCKET, metadata.message_id)
            self._call(
                self.client.PushObject,
                PushObjectRequest(
                    node=node,
                    run_id=metadata.run_id,
                    object_id=object_id,
                    object_content=answer.content(object_id),
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

        Without this the SuperNode, which serves one message at a time, would wait 60 s; and for
        ever, if it has begun to send an answer whose last pieces never came.
        """
        saved = self.open_task.load()
        if saved is None:
            return
        self.token.token = saved.token
        _log.warning("executor.recovering")
        try:
            metadata = saved.metadata or self._forgotten_message()
            if metadata is None:
                self._finish(is_answered=False)
            elif saved.answer_id:
                self._withdraw(metadata.run_id, saved.answer_id)
            else:
                self._send(self._refusal(ErrorCode.INTERNAL_PROCESS_ENDED), metadata)
        except httpx.HTTPStatusError:
            _log.warning("executor.recovery_failed")  # the token ended; nothing to refuse
            self.open_task.clear()

    def _withdraw(self, run_id: int, root: str) -> None:
        """Let the SuperNode drop a message, or an answer, that will never be whole.

        It then gives up taking or sending it; one that had not begun to send ends, and is started
        anew. An answer instead would be taken for one to the next message; and the task is left to
        expire, because only then does Flower itself answer for an answer that never came.
        """
        self._call(
            self.client.ConfirmMessageReceived,
            ConfirmMessageReceivedRequest(run_id=run_id, message_object_id=root),
        )
        self.open_task.clear()

    def _forgotten_message(self) -> Metadata | None:
        """Return the metadata of a message whose task was taken but never pulled."""
        pulled = self._call(self.client.PullMessages, PullAppMessagesRequest())
        if not pulled.messages_list:
            return None
        return message_from_proto(pulled.messages_list[0]).metadata


def _error_parcel(request: Message) -> Parcel:
    """Make the answer that holds Flower's own code for an answer kept back."""
    message = Message(Error(code=NOT_RELEASED), reply_to=request)
    content = message.deflate()
    root = hashlib.sha256(content).hexdigest()
    message.metadata.__dict__["_message_id"] = root
    return Parcel(
        envelope=message_to_proto(message),
        tree=ObjectTree(object_id=root),
        sizes={root: len(content)},
        content=lambda _each: content,
    )
