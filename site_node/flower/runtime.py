"""How does the executor speak to its SuperNode, and remember the task it has in hand?"""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import NamedTuple

import httpx
from flwr.app.metadata import Metadata
from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime import RuntimeHttpClient

_ACQUIRE_METHOD = "/flwr.proto.Runtime/AcquireTask"
_HEARTBEAT_SECONDS = 15.0  # a task is given up after 60 s without one
_log = logging.getLogger("cohortium.executor")


class TaskToken:
    """Sign AcquireTask with the shared secret and every other call with the task's token."""

    def __init__(self, secret: bytes) -> None:
        self._acquire = SuperExecAuthHttpInterceptor(
            master_secret=secret, protected_methods=frozenset({_ACQUIRE_METHOD})
        )
        self.token: str = ""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the header that fits the call."""
        if context.rpc_method == _ACQUIRE_METHOD or not self.token:
            return self._acquire.intercept(context, call_next)
        return RuntimeTokenHttpInterceptor(self.token).intercept(context, call_next)


def runtime_client(address: str, ca_path: Path, token: TaskToken) -> RuntimeHttpClient:
    # No retry invoker: Flower's answers a 401 by interrupting the process.
    return RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=False,
        root_certificates=ca_path.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), token],
        retry_invoker=None,
    )


class Heartbeat:
    """Keep a task alive at the SuperNode from the pull of its message to the answer's last piece.

    Without it a long body would outlast the 60 s after which the SuperNode gives a task up.
    """

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_outcome: object) -> None:
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(_HEARTBEAT_SECONDS):
            try:
                self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except httpx.HTTPError:
                _log.warning("executor.heartbeat_failed")


class SavedTask(NamedTuple):
    """A task as it was left: its token, its message once pulled, its answer once begun."""

    token: str
    metadata: Metadata | None
    answer_id: str


class OpenTask:
    """The task in hand, on disk too, so that a restarted executor can refuse its message."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "task.json"

    def save(self, token: str, metadata: Metadata | None, answer_id: str = "") -> None:
        fields = None
        if metadata is not None:
            fields = {
                "run_id": metadata.run_id,
                "message_id": metadata.message_id,
                "src_node_id": metadata.src_node_id,
                "dst_node_id": metadata.dst_node_id,
                "reply_to_message_id": metadata.reply_to_message_id,
                "group_id": metadata.group_id,
                "created_at": metadata.created_at,
                "ttl": metadata.ttl,
                "message_type": metadata.message_type,
            }
        saved = {"token": token, "metadata": fields, "answer_id": answer_id}
        draft = self._path.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(json.dumps(saved).encode("utf-8"))
        os.replace(draft, self._path)

    def load(self) -> SavedTask | None:
        try:
            saved = json.loads(self._path.read_bytes())
            fields = saved["metadata"]
            metadata = None if fields is None else Metadata(**fields)
            return SavedTask(str(saved["token"]), metadata, str(saved["answer_id"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
