"""Is an answer rebuilt, and held back unless every object of it is on the manifest?"""

from __future__ import annotations

import hashlib

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.serde import message_to_proto
from flwr.proto.error_pb2 import Error
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from schemas.errors import PolicyDenied
from schemas.limits import MAX_TREE_OBJECTS
from site_node.gateway.envelope import (
    REFUSED_BY_GATEWAY,
    CheckedPush,
    ErrorPush,
    checked_object,
    checked_push,
)

CANARY = b"PATIENT-CANARY"


def answer() -> tuple[PushMessagesRequest, set[str]]:
    """A reply as an executor and its SuperNode send it, and the ids of its objects."""
    message = make_message(
        metadata=Metadata(
            run_id=5,
            message_id="",
            src_node_id=11,
            dst_node_id=1,
            reply_to_message_id="ab" * 32,
            group_id="",
            created_at=1_700_000_000.0,
            ttl=30.0,
            message_type="query",
        ),
        content=RecordDict({"cohortium": ConfigRecord({"body": b"masked"})}),
    )
    ids = set(get_all_nested_objects(message))
    message.metadata.__dict__["_message_id"] = message.object_id
    request = PushMessagesRequest(
        node=Node(node_id=11),
        messages_list=[message_to_proto(remove_content_from_message(message))],
        message_object_trees=[get_object_tree(message)],
        clientapp_runtime_list=[12.75],
    )
    return request, ids


def checked(request: PushMessagesRequest, listed: set[str]) -> CheckedPush | ErrorPush:
    return checked_push(request.SerializeToString(), listed.__contains__)


def test_a_listed_answer_passes_with_run_time_zero() -> None:
    request, ids = answer()
    push = checked(request, ids)
    assert isinstance(push, CheckedPush)
    assert set(push.object_ids) == ids
    sent = PushMessagesRequest.FromString(push.body)
    assert list(sent.clientapp_runtime_list) == [0.0]
    assert sent.messages_list[0].metadata == request.messages_list[0].metadata
    assert sent.message_object_trees[0] == request.message_object_trees[0]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_one_object_that_is_not_listed_holds_the_whole_answer_back(missing: int) -> None:
    request, ids = answer()
    push = checked(request, ids - {sorted(ids)[missing]})
    assert isinstance(push, ErrorPush)
    assert push.code == REFUSED_BY_GATEWAY
    assert not any(each.encode() in push.body + push.content for each in ids)


def test_content_in_the_envelope_is_not_forwarded() -> None:
    request, ids = answer()
    inside = request.messages_list[0].content
    inside.CopyFrom(ProtoRecordDict())
    inside.MergeFromString(b"\x0a\x10" + b"\x0a\x0e" + CANARY)
    push = checked(request, ids)
    assert isinstance(push, ErrorPush)
    assert CANARY not in push.body + push.content


def test_the_text_of_an_error_is_replaced_by_its_code() -> None:
    request, ids = answer()
    failed = ProtoMessage(
        metadata=request.messages_list[0].metadata,
        error=Error(code=2, reason="ValueError: " + CANARY.decode()),
    )
    del request.messages_list[:]
    request.messages_list.append(failed)
    push = checked(request, ids)
    assert isinstance(push, ErrorPush)
    assert push.code == 2
    assert CANARY not in push.body + push.content


def test_an_error_notice_is_a_message_that_flower_understands() -> None:
    request, _ = answer()
    push = checked(request, set())
    assert isinstance(push, ErrorPush)
    assert hashlib.sha256(push.content).hexdigest() == push.object_id
    message = inflate_object_from_contents(push.object_id, {push.object_id: push.content})
    assert isinstance(message, Message)
    assert message.error.code == REFUSED_BY_GATEWAY
    assert not message.error.reason
    assert message.metadata.reply_to_message_id == "ab" * 32


def test_an_error_code_outside_flowers_list_is_not_a_channel() -> None:
    request, _ = answer()
    request.messages_list[0].ClearField("content")
    request.messages_list[0].error.CopyFrom(Error(code=19_870_312, reason=""))
    push = checked(request, set())
    assert isinstance(push, ErrorPush)
    assert push.code == 0


@pytest.mark.parametrize("name", ["group_id", "message_type"])
def test_free_text_in_the_metadata_is_refused(name: str) -> None:
    request, ids = answer()
    setattr(request.messages_list[0].metadata, name, CANARY.decode())
    with pytest.raises(PolicyDenied):
        checked(request, ids)


def test_an_id_that_is_no_id_is_not_a_channel_either() -> None:
    request, ids = answer()
    request.messages_list[0].metadata.reply_to_message_id = CANARY.decode()
    with pytest.raises(PolicyDenied):
        checked(request, ids)
    request, ids = answer()
    request.messages_list[0].ClearField("content")
    request.messages_list[0].error.CopyFrom(Error(code=2))
    request.messages_list[0].metadata.message_id = CANARY.decode()
    push = checked(request, ids)
    assert isinstance(push, ErrorPush)
    assert CANARY not in push.body + push.content


def test_two_messages_or_none_are_refused() -> None:
    request, ids = answer()
    request.messages_list.append(request.messages_list[0])
    with pytest.raises(PolicyDenied):
        checked(request, ids)
    with pytest.raises(PolicyDenied):
        checked(PushMessagesRequest(), ids)


def test_an_envelope_whose_tree_is_another_messages_is_refused() -> None:
    request, ids = answer()
    request.message_object_trees[0].object_id = "cd" * 32
    with pytest.raises(PolicyDenied):
        checked(request, ids | {"cd" * 32})


def test_a_tree_of_many_or_deep_objects_is_refused() -> None:
    request, ids = answer()
    root = request.message_object_trees[0]
    for _ in range(MAX_TREE_OBJECTS - 3):
        root.children.append(ObjectTree(object_id="ef" * 32))
    assert isinstance(checked(request, ids | {"ef" * 32}), CheckedPush)
    root.children.append(ObjectTree(object_id="ef" * 32))
    with pytest.raises(PolicyDenied):
        checked(request, ids | {"ef" * 32})


def push_object(content: bytes, object_id: str | None = None) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    return PushObjectRequest(
        node=Node(node_id=11),
        run_id=5,
        object_id=object_id or digest,
        object_content=content,
        session_id="3f0c7a52-0000-4000-8000-0123456789ab",
    ).SerializeToString()


def test_a_listed_object_passes_unchanged() -> None:
    body = push_object(b"masked words")
    digest = hashlib.sha256(b"masked words").hexdigest()
    assert checked_object(body, {digest}.__contains__) == (body, digest)


def test_an_unlisted_object_is_refused() -> None:
    with pytest.raises(PolicyDenied):
        checked_object(push_object(CANARY), lambda _id: False)


def test_other_bytes_under_a_listed_id_are_refused() -> None:
    listed = hashlib.sha256(b"masked words").hexdigest()
    with pytest.raises(PolicyDenied):
        checked_object(push_object(CANARY, listed), {listed}.__contains__)


def test_a_session_id_is_not_a_channel() -> None:
    content = b"masked words"
    digest = hashlib.sha256(content).hexdigest()
    request = PushObjectRequest.FromString(push_object(content))
    request.session_id = CANARY.decode()
    with pytest.raises(PolicyDenied):
        checked_object(request.SerializeToString(), {digest}.__contains__)
