"""How does the coordinator send each site one request and get each answer, or know why not?

The runner holds the ServerApp task of one Flower run at a time and speaks Flower's Runtime
API itself. It is woken by the coordinator's gateway when an answer has arrived whole, so it
neither polls the SuperLink nor waits for Flower's own three seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    GetNodesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType

from coordinator.flower.exchange import Exchange, Failure, Reply, call
from coordinator.flower.runtime import TaskToken, runtime_client
from coordinator.gateway.wake import WakeListener, notify
from schemas.errors import ErrorCode, TransportError

__all__ = ["Failure", "Fleet", "FleetSettings", "Reply"]

GATEWAY_SOCKET = "gateway.sock"
FLEET_SOCKET = "fleet.sock"
NODE_GONE = "gone "  # the gateway's word for "this node began anew or signed off"

_LOOK_SECONDS = 1.0  # a look without being woken finds errors and lost words
_HEARTBEAT_SECONDS = 15.0  # a task is given up after 60 s without one
_log = logging.getLogger("cohortium.fleet")


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Where the SuperLink's Runtime API is, and the folder of the wake sockets."""

    runtime_address: str
    ca_path: Path
    secret_path: Path
    wake_dir: Path


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
                    call(self._client.PullTaskInput, PullTaskInputRequest())
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
            call(self._client.PushTaskOutput, PushTaskOutputRequest(sub_status=status, details=""))
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
            nodes = call(self._client.GetNodes, GetNodesRequest()).nodes
        except httpx.HTTPError as error:
            raise self._lost(error) from error
        return frozenset(int(node.node_id) for node in nodes)

    def exchange(
        self,
        requests: Mapping[int, bytes],
        *,
        timeout_seconds: float,
        is_enough: Callable[[], bool] = lambda: False,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[int, Reply | Failure]:
        """Send each node its request and wait for every answer; see `answers`."""
        return dict(
            self.answers(requests, timeout_seconds=timeout_seconds, is_enough=is_enough, stop=stop)
        )

    def answers(
        self,
        requests: Mapping[int, bytes],
        *,
        timeout_seconds: float,
        is_enough: Callable[[], bool] = lambda: False,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[int, Reply | Failure]]:
        """Send each node its request and give every answer as it comes; none is kept.

        Args:
            requests: node id -> body. Nodes that are not named are not disturbed.
            timeout_seconds: after which a missing answer is a failure; a request or an answer of
                more than one piece has one second more for each megabyte.
            is_enough: asked at every look; once it is true, the others get about as long again.
            stop: asked at least once a second; True ends the wait.

        Yields:
            For every node, once, a `Reply` or a `Failure`. An answer to an earlier exchange is
            never given: only ids of this exchange are asked for.

        Raises:
            TransportError: the SuperLink is away or no longer knows this run.
        """
        if not requests:
            return
        self._wake.drain()
        exchange = Exchange(self._client, self._run_id, timeout_seconds, is_enough)
        try:
            exchange.push(requests)
            notify(self._settings.wake_dir / GATEWAY_SOCKET, "requests")
            is_more = False
            while True:
                exchange.fail_late()
                if not exchange.is_over and stop():
                    exchange.fail_all(ErrorCode.ATTEMPT_VOID)
                yield from exchange.take()
                if exchange.is_over:
                    break
                if self._task_over.is_set():
                    raise self._lost(None)
                seconds = min(exchange.left_seconds(), _LOOK_SECONDS)
                words = self._wake.wait(0.0 if is_more else seconds)
                is_more = exchange.look()
                for word in words:
                    if word.startswith(NODE_GONE) and word[len(NODE_GONE) :].isdigit():
                        node_id = int(word[len(NODE_GONE) :])
                        exchange.fail_node(node_id, ErrorCode.ATTEMPT_SITE_LEFT)
        except httpx.HTTPError as error:
            raise self._lost(error) from error

    def _lost(self, error: httpx.HTTPError | None) -> TransportError:
        self._task_over.set()
        return TransportError(
            ErrorCode.TRANSPORT_CLOSED,
            "The SuperLink is away or no longer knows this run.",
            hint="Begin a new run once it is back.",
            detail=type(error).__name__ if error is not None else "",
        )
