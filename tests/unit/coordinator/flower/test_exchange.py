"""Are answers taken as their pieces arrive, and is what nobody takes any more dropped?"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import httpx
import pytest
from flwr.app.metadata import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.error_pb2 import Error
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata as ProtoMetadata
from flwr.proto.message_pb2 import ObjectTree

import coordinator.flower.exchange as module
import coordinator.flower.pieces as own_pieces
import site_node.flower.pieces as sites
from coordinator.flower.exchange import Exchange, Failure, Reply
from schemas import pieces
from schemas.errors import ErrorCode
from schemas.limits import MAX_TREE_OBJECTS

PIECE = 64
RUN, NODE, OTHER = 5, 11, 12


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (pieces, own_pieces, sites, module):
        monkeypatch.setattr(each, "PIECE_BYTES", PIECE)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock of our own; time stands still unless a test moves it."""
    made = SimpleNamespace(now=1000.0)
    fake = SimpleNamespace(monotonic=lambda: made.now, time=lambda: 1_790_000_000.0)
    monkeypatch.setattr(module, "time", fake)
    monkeypatch.setattr(module, "_SLOWEST_BYTES_PER_SECOND", PIECE)  # a piece a second
    return made


@dataclass
class SuperLink:
    """Flower's side of the Runtime API, in memory."""

    unknown: set[int] = field(default_factory=set)
    requests: dict[str, ProtoMessage] = field(default_factory=dict)
    pushed: Counter[str] = field(default_factory=Counter)
    stored: dict[str, bytes] = field(default_factory=dict)
    trees: dict[str, ObjectTree] = field(default_factory=dict)
    replies: list[tuple[ProtoMessage, ObjectTree]] = field(default_factory=list)
    on_the_way: set[str] = field(default_factory=set)
    forgotten: list[str] = field(default_factory=list)

    def push_messages(self, request):
        ids, wanted = [], {}
        for message, tree in zip(request.messages_list, request.message_object_trees, strict=True):
            is_known = message.metadata.dst_node_id not in self.unknown
            ids.append(message.metadata.message_id if is_known else "")
            if is_known:
                self.requests[tree.object_id] = message
                self.trees[tree.object_id] = tree
                wanted |= dict.fromkeys(own_pieces.object_ids(tree))
        return SimpleNamespace(message_ids=ids, objects_to_push=list(wanted), session_id="s")

    def push_object(self, request):
        assert (request.node.node_id, request.run_id) == (SUPERLINK_NODE_ID, RUN)
        self.pushed[request.object_id] += 1
        self.stored[request.object_id] = request.object_content

    def pull_messages(self, request):
        found = [
            each
            for each in self.replies
            if each[0].metadata.reply_to_message_id in request.message_ids
        ]
        self.replies = [each for each in self.replies if each not in found]
        return SimpleNamespace(
            messages_list=[each[0] for each in found],
            message_object_trees=[each[1] for each in found],
        )

    def pull_object(self, request):
        is_there = request.object_id in self.stored
        is_coming = request.object_id in self.on_the_way
        return SimpleNamespace(
            object_found=is_there or is_coming,
            object_available=is_there,
            object_content=self.stored.get(request.object_id, b""),
        )

    def confirm(self, request):
        self.forgotten.append(request.message_object_id)

    PushMessages, PushObject = push_messages, push_object
    PullMessages, PullObject = pull_messages, pull_object
    ConfirmMessageReceived = confirm

    # --- the site's part ----------------------------------------------------------------------

    def request_of(self, node_id: int) -> str:
        (found,) = [k for k, each in self.requests.items() if each.metadata.dst_node_id == node_id]
        return found

    def read(self, node_id: int) -> bytes:
        arrival = sites.Arrival(self.trees[self.request_of(node_id)])
        while (wanted := arrival.next_id) is not None:
            arrival.put(self.stored[wanted])
        return arrival.body

    def answer(self, node_id: int, body: bytes, *, n_there: int | None = None) -> sites.Parcel:
        """Announce an answer of which only the first objects have arrived yet."""
        made = sites.parcel(
            Metadata(
                run_id=RUN,
                message_id="",
                src_node_id=node_id,
                dst_node_id=SUPERLINK_NODE_ID,
                reply_to_message_id=self.request_of(node_id),
                group_id="",
                created_at=1_790_000_000.0,
                ttl=30.0,
                message_type="query",
            ),
            sites.BodyObjects(body),
        )
        self.replies.append((made.envelope, made.tree))
        arrival_order = [made.tree.children[0].object_id, *own_pieces.object_ids(made.tree)]
        self.on_the_way |= set(arrival_order)
        for each in arrival_order[:n_there]:
            self.stored[each] = made.content(each)
        return made

    def arrive(self, made: sites.Parcel) -> None:
        self.stored |= {each: made.content(each) for each in made.sizes}


@pytest.fixture
def link() -> SuperLink:
    return SuperLink()


def begun(link: SuperLink, requests: dict[int, bytes], seconds: float = 10.0) -> Exchange:
    exchange = Exchange(link, RUN, seconds)  # type: ignore[arg-type]
    exchange.push(requests)
    return exchange


def test_a_body_for_many_is_handed_over_once(link: SuperLink, clock) -> None:
    body = os.urandom(5 * PIECE)
    begun(link, dict.fromkeys((NODE, OTHER), body))
    assert link.read(NODE) == link.read(OTHER) == body
    assert set(link.pushed.values()) == {1}
    assert len(link.pushed) == 5 + 2 + 2  # pieces, head and list once; a message for each


def test_different_bodies_reach_their_own_site(link: SuperLink, clock) -> None:
    bodies = {NODE: os.urandom(3 * PIECE), OTHER: b"short"}
    begun(link, bodies)
    assert {node: link.read(node) for node in bodies} == bodies


def test_an_answer_is_taken_as_it_arrives(link: SuperLink, clock) -> None:
    exchange = begun(link, dict.fromkeys((NODE, OTHER), b"ask"))
    body = os.urandom(4 * PIECE)
    half = link.answer(NODE, body, n_there=4)
    link.answer(OTHER, b"quick")
    assert exchange.look() is False
    assert exchange.outcomes == {OTHER: Reply(b"quick")}  # not held up by the long one
    assert half.tree.object_id not in link.forgotten
    link.arrive(half)
    exchange.look()
    assert exchange.outcomes[NODE] == Reply(body)
    assert exchange.is_over
    assert half.tree.object_id in link.forgotten


def test_what_was_taken_is_kept_no_longer_and_still_counts(link: SuperLink, clock) -> None:
    given: list[int] = []
    exchange = Exchange(link, RUN, 100.0, lambda: len(given) >= 1)  # type: ignore[arg-type]
    exchange.push(dict.fromkeys((NODE, OTHER), b"ask"))
    link.answer(OTHER, b"quick")
    exchange.look()
    given.append(OTHER)
    assert list(exchange.take()) == [(OTHER, Reply(b"quick"))]
    assert exchange.outcomes == {}
    assert list(exchange.take()) == []
    assert not exchange.is_over
    clock.now += 8
    exchange.fail_late()
    assert exchange.left_seconds() == 8, "enough have answered"
    clock.now += 9
    exchange.fail_late()
    assert list(exchange.take()) == [(NODE, Failure(ErrorCode.TRANSPORT_TIMEOUT))]
    assert exchange.is_over


def test_once_enough_have_answered_the_rest_get_about_as_long_again(link: SuperLink, clock) -> None:
    """A recoverable sum goes on without a lost site; it need not wait for the whole time-out."""
    given: list[int] = []
    exchange = Exchange(link, RUN, 100.0, lambda: len(given) >= 1)  # type: ignore[arg-type]
    exchange.push(dict.fromkeys((NODE, OTHER), b"ask"))
    clock.now += 8
    exchange.fail_late()
    assert exchange.left_seconds() == 92, "nobody has answered yet"
    link.answer(OTHER, b"quick")
    exchange.look()
    exchange.fail_late()
    assert exchange.left_seconds() == 92, "a reply may be a refusal: the caller counts"
    given.append(OTHER)
    exchange.fail_late()
    assert exchange.left_seconds() == 8
    clock.now += 7
    exchange.fail_late()
    assert not exchange.is_over
    clock.now += 2
    exchange.fail_late()
    assert exchange.outcomes == {OTHER: Reply(b"quick"), NODE: Failure(ErrorCode.TRANSPORT_TIMEOUT)}


def test_a_look_ends_so_that_the_caller_can_look_round(link: SuperLink, clock) -> None:
    exchange = begun(link, {NODE: b"ask"})
    body = os.urandom(6 * PIECE)
    link.answer(NODE, body)
    pull = link.PullObject

    def slowly(request):
        clock.now += 0.2
        return pull(request)

    link.PullObject = slowly  # type: ignore[method-assign]
    assert exchange.look() is True
    assert not exchange.is_over
    while not exchange.is_over:
        exchange.look()
    assert exchange.outcomes == {NODE: Reply(body)}


def test_a_long_request_has_more_time_and_lives_as_long(link: SuperLink, clock) -> None:
    short = begun(link, {NODE: bytes(PIECE)})
    assert short.left_seconds() == pytest.approx(10.0)
    link = SuperLink()
    exchange = begun(link, {NODE: os.urandom(8 * PIECE), OTHER: b"x"})
    assert exchange.left_seconds() == pytest.approx(18.0)
    for node in (NODE, OTHER):
        assert link.requests[link.request_of(node)].metadata.ttl == pytest.approx(23.0)


def test_an_answer_on_its_way_is_waited_for_while_it_moves(link: SuperLink, clock) -> None:
    exchange = begun(link, dict.fromkeys((NODE, OTHER), b"ask"))
    link.answer(NODE, os.urandom(90 * PIECE), n_there=4)
    exchange.look()
    clock.now += 11.0
    assert exchange.left_seconds() == 1.0
    exchange.fail_late()
    assert exchange.outcomes == {OTHER: Failure(ErrorCode.TRANSPORT_TIMEOUT)}
    clock.now += 40.0
    exchange.fail_late()
    assert not exchange.is_over
    clock.now += 10.0  # a minute without a single object
    assert exchange.left_seconds() == 0.0
    exchange.fail_late()
    assert exchange.outcomes[NODE] == Failure(ErrorCode.TRANSPORT_TIMEOUT)


def test_an_answer_that_trickles_is_given_up_in_the_end(link: SuperLink, clock) -> None:
    exchange = begun(link, {NODE: b"ask"})
    made = link.answer(NODE, os.urandom(20 * PIECE), n_there=2)
    for each in list(made.sizes)[1:8]:
        exchange.fail_late()
        assert not exchange.is_over
        exchange.look()
        link.stored[each] = made.content(each)
        clock.now += 3.0
    exchange.fail_late()
    assert exchange.outcomes == {NODE: Failure(ErrorCode.TRANSPORT_TIMEOUT)}


def test_what_is_given_up_is_dropped_at_the_superlink(link: SuperLink, clock) -> None:
    exchange = begun(link, dict.fromkeys((NODE, OTHER), os.urandom(3 * PIECE)))
    half = link.answer(NODE, os.urandom(4 * PIECE), n_there=4)
    exchange.look()
    exchange.fail_node(NODE, ErrorCode.ATTEMPT_SITE_LEFT)
    assert set(link.forgotten) == {link.request_of(NODE), half.tree.object_id}
    exchange.fail_all(ErrorCode.ATTEMPT_VOID)
    assert link.request_of(OTHER) in link.forgotten
    assert exchange.outcomes == {
        NODE: Failure(ErrorCode.ATTEMPT_SITE_LEFT),
        OTHER: Failure(ErrorCode.ATTEMPT_VOID),
    }


def test_an_answer_that_flower_gave_up_is_a_failure(link: SuperLink, clock) -> None:
    exchange = begun(link, {NODE: b"ask"})
    link.answer(NODE, os.urandom(4 * PIECE), n_there=4)
    exchange.look()
    link.on_the_way.clear()
    exchange.look()
    assert exchange.outcomes == {NODE: Failure(ErrorCode.NODE_REPLY_INVALID)}


def test_an_answer_that_is_not_what_it_announced_is_a_failure_with_its_code(
    link: SuperLink, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = begun(link, {NODE: b"ask"})
    said = pieces.Announcement(4 * PIECE, "0" * 64)
    monkeypatch.setattr(sites, "announce", lambda _body: said)
    made = link.answer(NODE, os.urandom(4 * PIECE))
    exchange.look()
    assert exchange.outcomes == {NODE: Failure(ErrorCode.PIECES_CHANGED)}
    assert made.tree.object_id in link.forgotten


def test_an_answer_of_too_many_objects_is_dropped_unread(link: SuperLink, clock) -> None:
    exchange = begun(link, {NODE: b"ask"})
    made = link.answer(NODE, b"x")
    record = made.tree.children[0]
    record.children.extend([ObjectTree(object_id="cc" * 32)] * MAX_TREE_OBJECTS)
    exchange.look()
    assert exchange.outcomes == {NODE: Failure(ErrorCode.MESSAGE_OVERSIZED)}
    assert link.forgotten == [made.tree.object_id]


def test_an_error_and_an_unknown_node_are_failures(link: SuperLink, clock) -> None:
    link.unknown.add(OTHER)
    exchange = begun(link, dict.fromkeys((NODE, OTHER), b"ask"))
    assert exchange.outcomes == {OTHER: Failure(ErrorCode.NODE_UNKNOWN)}
    metadata = ProtoMetadata(reply_to_message_id=link.request_of(NODE))
    link.replies.append((ProtoMessage(metadata=metadata, error=Error(code=6)), ObjectTree()))
    exchange.look()
    assert exchange.outcomes[NODE] == Failure(ErrorCode.EGRESS_NOT_LISTED)


def test_a_line_that_was_closed_is_opened_again_three_times(monkeypatch) -> None:
    monkeypatch.setattr(module, "_RETRY_PAUSES_SECONDS", (0.0, 0.0, 0.0))
    calls: list[int] = []

    def method(request: int) -> int:
        calls.append(request)
        if len(calls) < 4:
            raise httpx.ReadError("closed")
        return request + 1

    assert module.call(method, 6) == 7
    with pytest.raises(httpx.ReadError):
        module.call(lambda _request: method(calls.clear() or 0), 0)
