"""How are requests laid before the sites and their answers taken, piece by piece?

An answer's envelope arrives before its objects. They are pulled as they come in, so that a long
answer of one site neither holds up another's nor waits for its own end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import httpx
from flwr.app.metadata import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushAppMessagesRequest
from flwr.supercore.runtime import RuntimeHttpClient

from coordinator.flower.pieces import Arrival, BodyObjects, Parcel, parcel
from schemas.errors import ErrorCode, ProtocolError
from schemas.limits import PIECE_BYTES

_MESSAGE_TYPE = "query"
_TTL_MARGIN_SECONDS = 5.0
_SLOWEST_BYTES_PER_SECOND: Final = 1_000_000  # a slower line would hold every other site up
_LEAST_GRACE_SECONDS: Final = 3.0  # for the rest once enough have answered
_STALL_SECONDS: Final = 60.0  # two pieces at Flower's own limit of 30 s
_PULL_SECONDS = 0.5  # of pulling before the caller looks round
_RETRY_PAUSES_SECONDS = (0.0, 0.2, 1.0)
_FAILURES: Mapping[int, ErrorCode] = {
    3: ErrorCode.NODE_REPLY_INVALID,
    4: ErrorCode.TRANSPORT_TIMEOUT,
    5: ErrorCode.NODE_OFFLINE,
    6: ErrorCode.EGRESS_NOT_LISTED,
    7: ErrorCode.BUNDLE_UNKNOWN,
    8: ErrorCode.INTERNAL_PROCESS_ENDED,
}
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


@dataclass(slots=True)
class _Arriving:
    """An answer of which not every object has been taken yet."""

    arrival: Arrival
    begun_at: float
    moved_at: float

    def is_moving(self, now: float) -> bool:
        allowed = self.begun_at + self.arrival.n_bytes / _SLOWEST_BYTES_PER_SECOND
        return now < allowed and now - self.moved_at < _STALL_SECONDS


def call(method: Callable[[RequestT], ResponseT], request: RequestT) -> ResponseT:
    """Call the SuperLink; a connection it closed while idle is opened again."""
    for pause_seconds in _RETRY_PAUSES_SECONDS:
        try:
            return method(request)
        except httpx.TransportError:
            threading.Event().wait(pause_seconds)
    return method(request)


class Exchange:
    """One request to each of some nodes, and what became of it.

    Attributes:
        outcomes: node id -> `Reply` or `Failure`, as they come, until they are taken.
    """

    def __init__(
        self,
        client: RuntimeHttpClient,
        run_id: int,
        timeout_seconds: float,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin the time that sites have; `push` lengthens it for what takes long to carry."""
        self._is_enough = is_enough  # once true, the others get about as long again
        self._in_grace = False
        self._client = client
        self._run_id = run_id
        self._timeout_seconds = timeout_seconds
        self._begun_at = time.monotonic()
        self._until = self._begun_at + timeout_seconds
        self._node_of: dict[str, int] = {}  # message id -> node id
        self._arriving: dict[str, _Arriving] = {}  # the same ids
        self.outcomes: dict[int, Reply | Failure] = {}

    @property
    def is_over(self) -> bool:
        """Whether every node has an outcome."""
        return not self._node_of

    def left_seconds(self) -> float:
        """Give the time until a look may be late; nothing is left once every answer is."""
        now = time.monotonic()
        if now < self._until:
            return self._until - now
        return 1.0 if any(each.is_moving(now) for each in self._arriving.values()) else 0.0

    # --- out ----------------------------------------------------------------------------------

    def push(self, requests: Mapping[int, bytes]) -> None:
        """Lay the requests before the nodes; equal bodies and pieces are handed over once."""
        longest = max(map(len, requests.values()))
        if longest > PIECE_BYTES:
            self._timeout_seconds += longest / _SLOWEST_BYTES_PER_SECOND
            self._until = self._begun_at + self._timeout_seconds
        bodies: dict[int, BodyObjects] = {}
        parcels: dict[str, Parcel] = {}
        for node_id, body in requests.items():
            objects = bodies.get(id(body)) or bodies.setdefault(id(body), BodyObjects(body))
            made = parcel(self._metadata(node_id), objects)
            self._node_of[made.tree.object_id] = node_id
            parcels[made.tree.object_id] = made
        holder = {each: made for made in parcels.values() for each in made.sizes}
        pushed = call(
            self._client.PushMessages,
            PushAppMessagesRequest(
                messages_list=[made.envelope for made in parcels.values()],
                message_object_trees=[made.tree for made in parcels.values()],
            ),
        )
        node = Node(node_id=SUPERLINK_NODE_ID)
        for object_id in pushed.objects_to_push:
            call(
                self._client.PushObject,
                PushObjectRequest(
                    node=node,
                    run_id=self._run_id,
                    object_id=object_id,
                    object_content=holder[object_id].content(object_id),
                    session_id=pushed.session_id,
                ),
            )
        for message_id, accepted in zip(parcels, pushed.message_ids, strict=True):
            if accepted != message_id:
                self._close(message_id, Failure(ErrorCode.NODE_UNKNOWN))

    def _metadata(self, node_id: int) -> Metadata:
        return Metadata(
            run_id=self._run_id,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=node_id,
            reply_to_message_id="",
            group_id="",
            created_at=time.time(),
            ttl=self._timeout_seconds + _TTL_MARGIN_SECONDS,
            message_type=_MESSAGE_TYPE,
        )

    # --- in -----------------------------------------------------------------------------------

    def look(self) -> bool:
        """Take what has arrived; True if more is known to be there already."""
        waiting = [each for each in self._node_of if each not in self._arriving]
        if waiting:
            request = PullAppMessagesRequest(message_ids=waiting)
            pulled = call(self._client.PullMessages, request)
            for message, tree in zip(
                pulled.messages_list, pulled.message_object_trees, strict=True
            ):
                asked = message.metadata.reply_to_message_id
                if message.HasField("error"):
                    code = _FAILURES.get(message.error.code, ErrorCode.INTERNAL_UNEXPECTED)
                    self._close(asked, Failure(code))
                else:
                    self._begin(asked, tree)
        until = time.monotonic() + _PULL_SECONDS
        more = [self._take(asked, each, until) for asked, each in list(self._arriving.items())]
        return any(more)

    def take(self) -> Iterator[tuple[int, Reply | Failure]]:
        """Hand over what has an outcome, node by node; it is kept here no longer."""
        while self.outcomes:
            yield self.outcomes.popitem()

    def _begin(self, asked: str, tree: ObjectTree) -> None:
        if asked not in self._node_of:
            return
        now = time.monotonic()
        try:
            self._arriving[asked] = _Arriving(Arrival(tree), now, now)
        except ProtocolError as error:
            self._forget([tree.object_id])
            self._close(asked, Failure(error.code))

    def _take(self, asked: str, arriving: _Arriving, until: float) -> bool:
        """Pull an answer's objects as far as they have come; True if time alone ended it."""
        arrival, node = arriving.arrival, Node(node_id=SUPERLINK_NODE_ID)
        outcome: Reply | Failure
        try:
            while (wanted := arrival.next_id) is not None:
                if time.monotonic() > until:
                    return True
                got = call(
                    self._client.PullObject,
                    PullObjectRequest(node=node, run_id=self._run_id, object_id=wanted),
                )
                if got.object_found and not got.object_available:
                    return False
                if not got.object_found:  # Flower gives an answer up that stood still too long
                    raise ProtocolError(ErrorCode.NODE_REPLY_INVALID, "An answer was not whole.")
                arrival.put(got.object_content)
                arriving.moved_at = time.monotonic()
            outcome = Reply(arrival.body)
        except ProtocolError as error:
            outcome = Failure(error.code)
        self._forget([arrival.root])
        self._close(asked, outcome)
        return False

    # --- the end ------------------------------------------------------------------------------

    def fail_late(self) -> None:
        """Give up every answer that is neither there nor on its way."""
        now = time.monotonic()
        if not self._in_grace and self._is_enough():
            grace = max(_LEAST_GRACE_SECONDS, now - self._begun_at)
            self._until = min(self._until, now + grace)
            self._in_grace = True
        if now >= self._until:
            late = [
                each
                for each in self._node_of
                if each not in self._arriving or not self._arriving[each].is_moving(now)
            ]
            self._fail(late, ErrorCode.TRANSPORT_TIMEOUT)

    def fail_all(self, code: ErrorCode) -> None:
        """Give up every answer that is not there."""
        self._fail(list(self._node_of), code)

    def fail_node(self, node_id: int, code: ErrorCode) -> None:
        """Give up one node's answer, if it is not there."""
        self._fail([key for key, node in self._node_of.items() if node == node_id], code)

    def _fail(self, message_ids: list[str], code: ErrorCode) -> None:
        """Close exchanges, and let the SuperLink drop what it still holds for them.

        It would keep a request nobody fetched, and an answer nobody takes, until the run ends.
        """
        roots = [
            self._arriving[each].arrival.root for each in message_ids if each in self._arriving
        ]
        for message_id in message_ids:
            self._close(message_id, Failure(code))
        self._forget([*message_ids, *roots])

    def _close(self, message_id: str, outcome: Reply | Failure) -> None:
        self._arriving.pop(message_id, None)
        node_id = self._node_of.pop(message_id, None)
        if node_id is not None:
            self.outcomes[node_id] = outcome

    def _forget(self, roots: Iterable[str]) -> None:
        node = Node(node_id=SUPERLINK_NODE_ID)
        for root in roots:
            call(
                self._client.ConfirmMessageReceived,
                ConfirmMessageReceivedRequest(
                    node=node, run_id=self._run_id, message_object_id=root
                ),
            )
