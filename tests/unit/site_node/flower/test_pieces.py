"""Is a body that travels in pieces read back exactly by the other party, or refused with a code?"""

from __future__ import annotations

import hashlib
import json
import os
from types import ModuleType

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    validate_object_content,
)

import coordinator.flower.pieces as coordinators
import site_node.flower.pieces as sites
from schemas import limits, pieces
from schemas.errors import ErrorCode, ProtocolError
from schemas.limits import MAX_OBJECT_BYTES, MAX_PIECES, MAX_TREE_OBJECTS

PIECE = 256  # what a piece is in these tests, so that they are quick
N = 3 * PIECE + 9

BOTH = pytest.mark.parametrize(
    ("sender", "reader"), [(sites, coordinators), (coordinators, sites)], ids=["up", "down"]
)


READERS = pytest.mark.parametrize(
    "reader", [sites, coordinators], ids=["at a site", "at the coordinator"]
)


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pieces, sites, coordinators):
        monkeypatch.setattr(module, "PIECE_BYTES", PIECE)


def metadata() -> Metadata:
    return Metadata(
        run_id=5,
        message_id="",
        src_node_id=11,
        dst_node_id=1,
        reply_to_message_id="ab" * 32,
        group_id="",
        created_at=1_700_000_000.0,
        ttl=30.0,
        message_type="query",
    )


def read(reader: ModuleType, tree: ObjectTree, content) -> bytes:
    arrival = reader.Arrival(tree)
    seen = []
    while (wanted := arrival.next_id) is not None:
        seen.append(wanted)
        arrival.put(content(wanted))
    assert set(seen) == set(reader.object_ids(tree))  # nothing of it was left unseen
    assert seen[-1] == tree.object_id
    return arrival.body


def send(sender: ModuleType, body: bytes):
    return sender.parcel(metadata(), sender.BodyObjects(body))


@BOTH
@pytest.mark.parametrize("n_bytes", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_body_is_read_as_it_was_sent(
    sender: ModuleType, reader: ModuleType, n_bytes: int
) -> None:
    body = os.urandom(n_bytes)
    sent = send(sender, body)
    assert read(reader, sent.tree, sent.content) == body
    assert set(sent.sizes) == set(reader.object_ids(sent.tree))
    for object_id, size in sent.sizes.items():
        content = sent.content(object_id)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, object_id)
        assert size <= MAX_OBJECT_BYTES
        validate_object_content(content)  # what a SuperLink asks of every object


@BOTH
def test_a_short_message_is_to_the_byte_what_flower_makes_of_it(
    sender: ModuleType, reader: ModuleType
) -> None:
    message = make_message(
        metadata(), content=RecordDict({"cohortium": ConfigRecord({"body": b"m"})})
    )
    objects = get_all_nested_objects(message)
    sent = send(sender, b"m")
    assert {each: sent.content(each) for each in sent.sizes} == {
        key: each.deflate() for key, each in objects.items()
    }
    assert sent.tree == get_object_tree(message)
    message.metadata.__dict__["_message_id"] = message.object_id
    assert sent.envelope == message_to_proto(remove_content_from_message(message))


@BOTH
def test_a_long_message_is_one_that_flower_can_read(sender: ModuleType, reader: ModuleType) -> None:
    body = os.urandom(2 * PIECE + 7)
    sent = send(sender, body)
    contents = {each: sent.content(each) for each in sent.sizes}
    message = inflate_object_from_contents(sent.tree.object_id, contents)
    assert isinstance(message, Message)
    records = message.content
    assert list(records) == ["cohortium", *(f"cohortium.{index:04d}" for index in range(3))]
    head = {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert dict(records["cohortium"]) == head
    assert b"".join(records[name]["body"] for name in list(records)[1:]) == body


@BOTH
def test_equal_pieces_are_one_object_and_a_body_still_comes_out_whole(
    sender: ModuleType, reader: ModuleType
) -> None:
    body = bytes(4 * PIECE)
    sent = send(sender, body)
    assert len(sent.sizes) == 4  # the piece, the head, the list, the message
    assert read(reader, sent.tree, sent.content) == body


def test_the_longest_body_fits_the_limits_of_a_message() -> None:
    sent = send(sites, os.urandom(MAX_PIECES * PIECE))
    assert len(sent.sizes) == MAX_TREE_OBJECTS
    assert max(sent.sizes.values()) + limits.PIECE_BYTES - PIECE < MAX_OBJECT_BYTES
    assert len(sent.tree.SerializeToString()) < 32 * 1024


# --- what a coordinator, or a site, could send instead --------------------------------------------


class Forged:
    """A long message taken apart, to be put together wrongly."""

    def __init__(self) -> None:
        self.body = os.urandom(3 * PIECE + 9)
        sent = send(sites, self.body)
        contents = {each: sent.content(each) for each in sent.sizes}
        message = inflate_object_from_contents(sent.tree.object_id, contents)
        assert isinstance(message, Message)
        self.records: dict[str, ConfigRecord] = dict(message.content)

    def read_by(self, reader: ModuleType) -> bytes:
        message = make_message(metadata(), content=RecordDict(self.records))
        objects = {k: each.deflate() for k, each in get_all_nested_objects(message).items()}
        return read(reader, get_object_tree(message), objects.__getitem__)


def _drop(forged: Forged) -> None:
    del forged.records["cohortium.0003"]


def _gap(forged: Forged) -> None:
    del forged.records["cohortium.0001"]


def _no_head(forged: Forged) -> None:
    del forged.records["cohortium"]


def _swap(forged: Forged) -> None:
    names = forged.records
    names["cohortium.0000"], names["cohortium.0001"] = (
        names["cohortium.0001"],
        names["cohortium.0000"],
    )


def _repeat(forged: Forged) -> None:
    forged.records["cohortium.0001"] = forged.records["cohortium.0000"]


def _reorder(forged: Forged) -> None:
    forged.records["cohortium.0001"] = forged.records.pop("cohortium.0001")


def _extra(forged: Forged) -> None:
    forged.records["cohortium.0004"] = ConfigRecord({"body": b"more"})


def _foreign(forged: Forged) -> None:
    forged.records["other"] = ConfigRecord({"body": b"more"})


def _cut_short(forged: Forged) -> None:
    body = forged.records["cohortium.0002"]["body"]
    assert isinstance(body, bytes)
    forged.records["cohortium.0002"] = ConfigRecord({"body": body[:-1]})


def _too_long(forged: Forged) -> None:
    body = forged.records["cohortium.0003"]["body"]
    assert isinstance(body, bytes)
    forged.records["cohortium.0003"] = ConfigRecord({"body": body + b"x"})


def _flip(forged: Forged) -> None:
    body = bytearray(forged.records["cohortium.0002"]["body"])  # type: ignore[arg-type]
    body[77] ^= 1
    forged.records["cohortium.0002"] = ConfigRecord({"body": bytes(body)})


def _announce(length: object, sha256: object = "0" * 64, **more: object):
    def change(forged: Forged) -> None:
        forged.records["cohortium"] = ConfigRecord({"length": length, "sha256": sha256, **more})

    return change


def _text_piece(forged: Forged) -> None:
    forged.records["cohortium.0000"] = ConfigRecord({"body": "text"})


def _piece_with_more(forged: Forged) -> None:
    forged.records["cohortium.0000"]["also"] = b"x"


@READERS
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_drop, ErrorCode.PIECES_OUT_OF_ORDER),
        (_gap, ErrorCode.PIECES_OUT_OF_ORDER),
        (_reorder, ErrorCode.PIECES_OUT_OF_ORDER),
        (_extra, ErrorCode.PIECES_OUT_OF_ORDER),
        (_foreign, ErrorCode.PIECES_OUT_OF_ORDER),
        (_no_head, ErrorCode.MESSAGE_MALFORMED),
        (_swap, ErrorCode.PIECES_CHANGED),
        (_repeat, ErrorCode.PIECES_CHANGED),
        (_flip, ErrorCode.PIECES_CHANGED),
        (_announce(N), ErrorCode.PIECES_CHANGED),
        (_cut_short, ErrorCode.MESSAGE_LENGTH_WRONG),
        (_too_long, ErrorCode.MESSAGE_LENGTH_WRONG),
        (_announce(N - 1), ErrorCode.MESSAGE_LENGTH_WRONG),
        (_announce(N + PIECE), ErrorCode.PIECES_OUT_OF_ORDER),
        (_announce(2**60), ErrorCode.MESSAGE_OVERSIZED),
        (_announce(10), ErrorCode.MESSAGE_MALFORMED),
        (_announce(-N), ErrorCode.MESSAGE_MALFORMED),
        (_announce(float(N)), ErrorCode.MESSAGE_MALFORMED),
        (_announce(True), ErrorCode.MESSAGE_MALFORMED),
        (_announce(N, b"0" * 64), ErrorCode.MESSAGE_MALFORMED),
        (_announce(N, more=1), ErrorCode.MESSAGE_MALFORMED),
        (_text_piece, ErrorCode.MESSAGE_MALFORMED),
        (_piece_with_more, ErrorCode.MESSAGE_MALFORMED),
    ],
)
def test_pieces_that_do_not_make_the_announced_body_are_refused(
    reader: ModuleType, change, code: ErrorCode
) -> None:
    forged = Forged()
    assert forged.read_by(reader) == forged.body  # the change is all that differs
    change(forged)
    with pytest.raises(ProtocolError) as caught:
        forged.read_by(reader)
    assert caught.value.code is code


@READERS
def test_a_tree_of_another_shape_is_refused_before_anything_is_pulled(reader: ModuleType) -> None:
    leaf = ObjectTree(object_id="cc" * 32)

    def tree(*records: ObjectTree) -> ObjectTree:
        return ObjectTree(
            object_id="aa" * 32, children=[ObjectTree(object_id="bb" * 32, children=records)]
        )

    assert reader.Arrival(tree(leaf)).next_id == "bb" * 32
    for wrong in (ObjectTree(object_id="aa" * 32), tree(), tree(tree(leaf))):
        with pytest.raises(ProtocolError) as caught:
            reader.Arrival(wrong)
        assert caught.value.code is ErrorCode.MESSAGE_MALFORMED
    reader.Arrival(tree(*[leaf] * (MAX_TREE_OBJECTS - 2)))
    with pytest.raises(ProtocolError) as caught:
        reader.Arrival(tree(*[leaf] * (MAX_TREE_OBJECTS - 1)))
    assert caught.value.code is ErrorCode.MESSAGE_OVERSIZED


@READERS
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RecordDict",
        b"\xff\x00",
        b"RecordDict x 2\x00{}",
        b"ConfigRecord  0\x00",
        b"RecordDict  2\x00[]",
        b"RecordDict  1\x00" + b"[" * 200_000,
        b'RecordDict  1\x00{"cohortium": ["cc"]}',
        b"RecordDict  1\x00" + json.dumps({"cohortium": "dd" * 32}).encode(),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(reader: ModuleType, content: bytes) -> None:
    leaf = ObjectTree(object_id="cc" * 32)
    record = ObjectTree(object_id="bb" * 32, children=[leaf])
    arrival = reader.Arrival(ObjectTree(object_id="aa" * 32, children=[record]))
    with pytest.raises(ProtocolError) as caught:
        arrival.put(content)
    assert caught.value.code is ErrorCode.MESSAGE_MALFORMED
    with pytest.raises(ValueError, match="not whole"):
        _ = arrival.body


@READERS
def test_a_single_record_longer_than_a_piece_is_refused(reader: ModuleType) -> None:
    record = ConfigRecord({"body": bytes(PIECE + 1)})
    message = make_message(metadata(), content=RecordDict({"cohortium": record}))
    objects = {k: each.deflate() for k, each in get_all_nested_objects(message).items()}
    with pytest.raises(ProtocolError) as caught:
        read(reader, get_object_tree(message), objects.__getitem__)
    assert caught.value.code is ErrorCode.MESSAGE_OVERSIZED
