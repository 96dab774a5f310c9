"""Does the executor take a message whole, list an answer before it pushes it, and never block?"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import SubStatus
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

import coordinator.flower.pieces as coordinators
import site_node.flower.pieces as own_pieces
from schemas import pieces
from schemas.errors import ErrorCode, InternalError, ProtocolError
from site_node.flower import executor, runtime
from site_node.flower.executor import ExecutorSettings, OutgoingReply, _Worker
from site_node.flower.runtime import OpenTask, TaskToken

PIECE = 64
BUNDLE = b"the bundle"


def metadata() -> Metadata:
    return Metadata(
        run_id=5,
        message_id="",
        src_node_id=1,
        dst_node_id=11,
        reply_to_message_id="",
        group_id="",
        created_at=1_790_000_000.0,
        ttl=30.0,
        message_type="query",
    )


@dataclass
class SuperNode:
    """Flower's side of a hospital's Runtime API, in memory; it tells what was done, in order."""

    contents: dict[str, bytes] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)  # id -> looks until it is there
    tree: ObjectTree | None = None
    envelope: object = None
    done: list[str] = field(default_factory=list)
    answer: dict[str, bytes] = field(default_factory=dict)
    answer_tree: ObjectTree | None = None
    answered_with_error: bool = False
    dies_at_push: int = -1

    def give(self, body: bytes) -> None:
        sent = coordinators.parcel(metadata(), coordinators.BodyObjects(body))
        self.envelope, self.tree = sent.envelope, sent.tree
        self.contents = {each: sent.content(each) for each in sent.sizes}

    def give_records(self, records: dict[str, ConfigRecord]) -> None:
        message = make_message(metadata(), content=RecordDict(records))
        objects = get_all_nested_objects(message)
        self.contents = {key: each.deflate() for key, each in objects.items()}
        self.tree = get_object_tree(message)
        message.metadata.__dict__["_message_id"] = message.object_id
        self.envelope = message_to_proto(remove_content_from_message(message))

    def acquire_task(self, _request):
        return SimpleNamespace(HasField=lambda _name: True, token="t", task=object())

    def pull_task_input(self, _request):
        return SimpleNamespace(fab=SimpleNamespace(content=BUNDLE), run=SimpleNamespace(run_id=5))

    def pull_messages(self, _request):
        return SimpleNamespace(messages_list=[self.envelope], message_object_trees=[self.tree])

    def pull_object(self, request):
        self.done.append("pull")
        self.late[request.object_id] = self.late.get(request.object_id, 0) - 1
        is_there = self.late[request.object_id] < 0
        content = self.contents.get(request.object_id)
        return SimpleNamespace(
            object_found=content is not None,
            object_available=content is not None and is_there,
            object_content=content if is_there else b"",
        )

    def confirm(self, request):
        self.done.append(f"confirm {request.message_object_id}")

    def push_messages(self, request):
        self.done.append("announce")
        self.answered_with_error = request.messages_list[0].HasField("error")
        self.answer_tree = request.message_object_trees[0]
        ids = own_pieces.object_ids(self.answer_tree)
        return SimpleNamespace(objects_to_push=list(dict.fromkeys(ids)), session_id="s")

    def push_object(self, request):
        if self.dies_at_push == len(self.answer):
            raise SystemExit
        self.done.append("push")
        assert hashlib.sha256(request.object_content).hexdigest() == request.object_id
        self.answer[request.object_id] = request.object_content

    def push_task_output(self, request):
        is_completed = request.sub_status == SubStatus.COMPLETED
        self.done.append("completed" if is_completed else "failed")

    def heartbeat(self, _request):
        self.done.append("beat")

    AcquireTask, PullTaskInput, PullMessages = acquire_task, pull_task_input, pull_messages
    PullObject, ConfirmMessageReceived, PushMessages = pull_object, confirm, push_messages
    PushObject, PushTaskOutput, SendTaskHeartbeat = push_object, push_task_output, heartbeat

    def body(self) -> bytes:
        assert self.answer_tree is not None
        arrival = coordinators.Arrival(self.answer_tree)
        while (wanted := arrival.next_id) is not None:
            arrival.put(self.answer[wanted])
        return arrival.body


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> SuperNode:
    for each in (pieces, own_pieces, coordinators):
        monkeypatch.setattr(each, "PIECE_BYTES", PIECE)
    return SuperNode()


@pytest.fixture
def worker(node: SuperNode, tmp_path):
    def handle(body: bytes) -> OutgoingReply:
        node.done.append("handle")
        return OutgoingReply(body[::-1])

    def register(_reply, objects) -> None:
        node.done.append(f"list {len(objects)}")

    def make(**changed) -> _Worker:
        settings = ExecutorSettings(
            runtime_address="",
            ca_path=tmp_path,
            secret_path=tmp_path,
            state_dir=tmp_path,
            wake_dir=tmp_path,
            allowed_bundles=lambda: frozenset({hashlib.sha256(BUNDLE).hexdigest()}),
            deadline_seconds=60.0,
        )
        fields = {
            "settings": settings,
            "client": node,
            "token": TaskToken(b"secret"),
            "open_task": OpenTask(tmp_path),
            "handle": handle,
            "register": register,
            "refuse": lambda code: OutgoingReply(code.value.encode()),
        }
        return _Worker(**fields | changed)  # type: ignore[arg-type]

    return make


def test_every_piece_is_listed_before_the_first_is_pushed(node: SuperNode, worker) -> None:
    body = os.urandom(9 * PIECE + 1)
    node.give(body)
    assert worker().serve_one()
    assert node.body() == body[::-1]
    n_objects = 10 + 3
    order = [each for each in node.done if each != "pull" and not each.startswith("confirm")]
    assert order == ["handle", f"list {n_objects}", "announce", *["push"] * n_objects, "completed"]


def test_a_short_message_is_three_objects_each_way(node: SuperNode, worker) -> None:
    node.give(b"short")
    worker().serve_one()
    assert node.body() == b"trohs"
    assert [node.done.count(each) for each in ("pull", "push")] == [3, 3]


def test_pieces_still_on_their_way_are_waited_for(
    node: SuperNode, worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Looks that sleep: without it they may all pass before the other thread's first heartbeat.
    monkeypatch.setattr(executor, "_OBJECT_LOOK_SECONDS", (0.002, 0.002))
    monkeypatch.setattr(runtime, "_HEARTBEAT_SECONDS", 0.0005)
    body = os.urandom(4 * PIECE)
    node.give(body)
    node.late = dict.fromkeys(node.contents, 200)
    worker().serve_one()
    assert node.body() == body[::-1]
    assert "beat" in node.done[: node.done.index("handle")]  # the task was kept alive meanwhile


def test_a_message_that_does_not_arrive_in_time_is_dropped(
    node: SuperNode, worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_OBJECT_LOOK_SECONDS", (0.0, 0.0))
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(executor, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    node.give(os.urandom(4 * PIECE))
    assert node.tree is not None
    node.late = dict.fromkeys(node.contents, 200)
    assert worker().serve_one()
    assert node.done == [*["pull"] * 4, f"confirm {node.tree.object_id}"]  # 30 s: its time to live
    worker().recover()
    assert len(node.done) == 5


def test_a_message_that_the_supernode_gave_up_is_dropped(node: SuperNode, worker) -> None:
    node.give(os.urandom(4 * PIECE))
    assert node.tree is not None
    del node.contents[node.tree.children[0].children[2].object_id]
    assert worker().serve_one()
    assert node.done[-1] == f"confirm {node.tree.object_id}"
    assert "announce" not in node.done


@pytest.mark.parametrize("late", [0, 3])
def test_a_message_that_is_none_is_refused_once_it_has_come_whole(
    node: SuperNode, worker, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    monkeypatch.setattr(executor, "_OBJECT_LOOK_SECONDS", (0.0, 0.0))
    node.give_records(
        {"cohortium": ConfigRecord({"body": "text"}), "more": ConfigRecord({"body": b"x"})}
    )
    assert node.tree is not None
    node.late = {node.tree.object_id: late}  # the last object of a message to be stored
    worker().serve_one()
    assert node.body() == b"message.pieces_out_of_order"
    assert "handle" not in node.done
    confirmed = node.done.index(f"confirm {node.tree.object_id}")
    assert node.done[:confirmed].count("pull") >= len(node.contents) + late
    assert "pull" not in node.done[confirmed:]


def test_an_answer_that_cannot_be_listed_is_an_error_without_a_piece(
    node: SuperNode, worker
) -> None:
    def broken(_reply, _objects) -> None:
        raise InternalError(ErrorCode.AUDIT_UNAVAILABLE, "The audit log cannot be written.")

    node.give(os.urandom(4 * PIECE))
    worker(register=broken).serve_one()
    assert node.answered_with_error
    assert len(node.answer) == 1


def test_the_code_of_a_refused_message_is_the_answer(node: SuperNode, worker) -> None:
    def refuse(_body: bytes) -> OutgoingReply:
        raise ProtocolError(ErrorCode.MESSAGE_UNKNOWN, "Unknown.")

    node.give(b"anything")
    worker(handle=refuse).serve_one()
    assert node.body() == b"message.unknown"


def test_a_process_that_ended_before_its_answer_refuses_the_message(
    node: SuperNode, worker
) -> None:
    def die(_body: bytes) -> OutgoingReply:
        raise SystemExit

    node.give(b"anything")
    with pytest.raises(SystemExit):
        worker(handle=die).serve_one()
    worker().recover()
    assert node.body() == b"internal.process_ended"


@pytest.mark.parametrize("n_pushed", [0, 1, 7])
def test_a_process_that_ended_within_its_answer_withdraws_it(
    node: SuperNode, worker, n_pushed: int
) -> None:
    node.give(os.urandom(9 * PIECE))
    node.dies_at_push = n_pushed
    with pytest.raises(SystemExit):
        worker().serve_one()
    assert node.answer_tree is not None
    before = len(node.done)
    worker().recover()
    # No second answer, and the task is left for Flower to give up.
    assert node.done[before:] == [f"confirm {node.answer_tree.object_id}"]
    worker().recover()
    assert len(node.done) == before + 1
