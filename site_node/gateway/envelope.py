"""What of an answer may leave the hospital, down to the last field?

Flower sends an answer as an envelope, then as content-addressed objects. Here the envelope
is rebuilt from the fields that the transport needs, run time set to 0; every object id must
be on the egress manifest; an object's bytes must hash to its id. A message that carries an
error is replaced by one with a code and no text, because Flower would send exception text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flwr.proto.error_pb2 import Error
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.recorddict_pb2 import RecordDict

from schemas.limits import MAX_TREE_OBJECTS
from site_node.gateway.fleet import denied, is_id, parse

REFUSED_BY_GATEWAY = 6  # Flower's MOD_FAILED_PRECONDITION
_ERROR_CODES = frozenset(range(9))  # Flower 1.41 knows 0 to 8
_MESSAGE_TYPE = "query"


@dataclass(frozen=True, slots=True)
class CheckedPush:
    """A push-messages request as it may leave."""

    body: bytes
    object_ids: tuple[str, ...]
    is_listed: bool
    reply_to: str


@dataclass(frozen=True, slots=True)
class ErrorPush:
    """An error notice: the envelope and its only object, both made by this gateway."""

    body: bytes
    run_id: int
    node_id: int
    object_id: str
    content: bytes
    code: int
    reply_to: str


def checked_push(body: bytes, is_listed: Callable[[str], bool]) -> CheckedPush | ErrorPush:
    """Rebuild a push-messages request.

    Args:
        body: what the SuperNode sent.
        is_listed: whether an object id is on the egress manifest.

    Returns:
        The rebuilt envelope, or, where the message carries an error or an object that is
        not on the manifest, an error notice with a code.

    Raises:
        PolicyDenied: the request has no single message with a single tree.
    """
    request = parse(PushMessagesRequest, body)
    assert isinstance(request, PushMessagesRequest)
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        raise denied("An answer must be one message with one tree of objects.")
    message = request.messages_list[0]
    metadata = _checked_metadata(message.metadata)
    if message.HasField("error"):
        code = message.error.code if message.error.code in _ERROR_CODES else 0
        return _error_push(request.node.node_id, metadata, code)
    tree = request.message_object_trees[0]
    object_ids = tuple(_walk(tree))
    if metadata.message_id != tree.object_id or len(object_ids) > MAX_TREE_OBJECTS:
        raise denied("An answer's envelope does not fit its objects.")
    if message.content.ByteSize() or not all(is_listed(each) for each in object_ids):
        return _error_push(request.node.node_id, metadata, REFUSED_BY_GATEWAY)
    rebuilt = PushMessagesRequest(
        node=Node(node_id=request.node.node_id),
        messages_list=[Message(metadata=metadata, content=RecordDict())],
        message_object_trees=[_rebuilt_tree(tree)],
        clientapp_runtime_list=[0.0],
    )
    return CheckedPush(
        body=rebuilt.SerializeToString(deterministic=True),
        object_ids=object_ids,
        is_listed=True,
        reply_to=metadata.reply_to_message_id,
    )


def checked_object(body: bytes, is_listed: Callable[[str], bool]) -> tuple[bytes, str]:
    """Rebuild a push-object request; return its body and object id.

    Raises:
        PolicyDenied: the object is not on the manifest, or its bytes are not its id's.
    """
    request = parse(PushObjectRequest, body)
    assert isinstance(request, PushObjectRequest)
    digest = hashlib.sha256(request.object_content).hexdigest()
    if digest != request.object_id or not is_listed(digest) or not is_id(request.session_id):
        raise denied("An object that is not on the egress manifest was held back.")
    rebuilt = PushObjectRequest(
        node=Node(node_id=request.node.node_id),
        run_id=request.run_id,
        object_id=digest,
        object_content=request.object_content,
        session_id=request.session_id,
    )
    return rebuilt.SerializeToString(deterministic=True), digest


def _walk(tree: ObjectTree) -> Iterator[str]:
    yield tree.object_id
    for child in tree.children:
        yield from _walk(child)


def _rebuilt_tree(tree: ObjectTree) -> ObjectTree:
    return ObjectTree(
        object_id=tree.object_id, children=[_rebuilt_tree(child) for child in tree.children]
    )


def _checked_metadata(metadata: Metadata) -> Metadata:
    """Copy the fields a reply needs; its texts may hold an id and nothing of their own."""
    is_plain = metadata.message_type == _MESSAGE_TYPE and not metadata.group_id
    if not is_plain or not is_id(metadata.reply_to_message_id):
        raise denied("An answer's envelope carries text.")
    return Metadata(
        run_id=metadata.run_id,
        message_id=metadata.message_id,
        src_node_id=metadata.src_node_id,
        dst_node_id=metadata.dst_node_id,
        reply_to_message_id=metadata.reply_to_message_id,
        ttl=metadata.ttl,
        message_type=_MESSAGE_TYPE,
        created_at=metadata.created_at,
    )


def _error_push(node_id: int, metadata: Metadata, code: int) -> ErrorPush:
    """Build an error reply that holds a code and no text, with an id of its own."""
    envelope = Metadata()
    envelope.CopyFrom(metadata)
    envelope.message_id = ""  # an object never holds its own id
    inner = Message(metadata=envelope, error=Error(code=code)).SerializeToString(deterministic=True)
    content = f"Message  {len(inner)}".encode("ascii") + b"\x00" + inner
    object_id = hashlib.sha256(content).hexdigest()
    envelope.message_id = object_id
    request = PushMessagesRequest(
        node=Node(node_id=node_id),
        messages_list=[Message(metadata=envelope, error=Error(code=code))],
        message_object_trees=[ObjectTree(object_id=object_id)],
        clientapp_runtime_list=[0.0],
    )
    return ErrorPush(
        body=request.SerializeToString(deterministic=True),
        run_id=metadata.run_id,
        node_id=node_id,
        object_id=object_id,
        content=content,
        code=code,
        reply_to=metadata.reply_to_message_id,
    )
