"""Which Fleet requests may leave the hospital, and with which content?

Ten paths. Eight of them carry numbers, object ids and the node's public key only, and are
re-encoded here from known fields: text that is not an id does not pass. The two that carry
answers, push-messages and push-object, are the business of ``envelope``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PullObjectRequest
from flwr.proto.run_pb2 import GetRunRequest
from google.protobuf.descriptor import (  # type: ignore[import-untyped,unused-ignore]
    FieldDescriptor,
)
from google.protobuf.message import (  # type: ignore[import-untyped,unused-ignore]
    DecodeError,
    Message,
)

from schemas.errors import ErrorCode, PolicyDenied, TransportError
from schemas.limits import MAX_OBJECT_BYTES, MAX_TREE_OBJECTS

PULL_MESSAGES = "/v1/fleet/pull-messages"
PUSH_MESSAGES = "/v1/fleet/push-messages"
PUSH_OBJECT = "/v1/fleet/push-object"
CONFIRM = "/v1/fleet/confirm-message-received"
FIXED_REQUESTS: Mapping[str, type[Message]] = {
    "/v1/fleet/activate-node": ActivateNodeRequest,
    "/v1/fleet/deactivate-node": DeactivateNodeRequest,
    "/v1/fleet/send-node-heartbeat": SendNodeHeartbeatRequest,
    PULL_MESSAGES: PullMessagesRequest,
    "/v1/fleet/get-run": GetRunRequest,
    "/v1/fleet/get-fab": GetFabRequest,
    "/v1/fleet/pull-object": PullObjectRequest,
    CONFIRM: ConfirmMessageReceivedRequest,
}
FLEET_PATHS = frozenset(FIXED_REQUESTS) | {PUSH_MESSAGES, PUSH_OBJECT}

MAX_ANSWER_BYTES = MAX_OBJECT_BYTES  # the longest answer to a Fleet request is one object
MAX_FIXED_BYTES = 2048  # an activation with a PEM key is 250 bytes
_ID_TEXT = re.compile(r"[0-9a-f-]{0,64}")  # an object id, a bundle hash or a session id
_PUBLIC_KEY_FIELD = "public_key"
_FORWARDED_HEADERS = frozenset(
    {
        b"flwr-public-key",
        b"flwr-timestamp",
        b"flwr-signature",
        b"flwr-package-name",
        b"flwr-package-version",
        b"flwr-component-name",
    }
)
_MAX_HEADER_BYTES = 512


def denied(sentence: str) -> PolicyDenied:
    """Return the one refusal of this gateway."""
    return PolicyDenied(
        ErrorCode.EGRESS_NOT_LISTED,
        sentence,
        hint="Nothing was sent. See the gateway's log for the path.",
    )


def parse(kind: type[Message], body: bytes) -> Message:
    """Parse a request, dropping every field this version does not know.

    Raises:
        PolicyDenied: the body is not such a message.
    """
    message = kind()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise denied("A request to the coordinator could not be read.") from error
    message.DiscardUnknownFields()
    return message


def checked_fixed(path: str, body: bytes, node_public_key: bytes) -> bytes:
    """Return the re-encoded body of one of the eight fixed requests.

    Args:
        path: one of ``FIXED_REQUESTS``.
        body: what the SuperNode sent.
        node_public_key: this site's node key, PEM; the only bytes value that may pass.

    Raises:
        PolicyDenied: too long, unreadable, or a text that is not an id.
    """
    if len(body) > MAX_FIXED_BYTES:
        raise denied("A request to the coordinator is longer than its kind allows.")
    message = parse(FIXED_REQUESTS[path], body)
    _check_fields(message, node_public_key)
    checked: bytes = message.SerializeToString(deterministic=True)
    return checked


def check_messages(body: bytes) -> None:
    """Refuse a message of more objects than the longest one needs, before any is pulled.

    The SuperNode would pull whatever it is told of and hold it in memory.

    Raises:
        TransportError: TRANSPORT_TOO_LARGE, or TRANSPORT_RESPONSE_INVALID.
    """
    answer = PullMessagesResponse()
    try:
        answer.ParseFromString(body)
    except DecodeError as error:
        raise TransportError(
            ErrorCode.TRANSPORT_RESPONSE_INVALID, "The coordinator's answer could not be read."
        ) from error
    if sum(map(_count, answer.message_object_trees)) > MAX_TREE_OBJECTS:
        raise TransportError(
            ErrorCode.TRANSPORT_TOO_LARGE, "A message has more parts than the longest one needs."
        )


def _count(tree: ObjectTree) -> int:
    return 1 + sum(map(_count, tree.children))


def is_id(text: str) -> bool:
    """Return whether a text is an id: lower-case hex and dashes, at most 64 of them."""
    return _ID_TEXT.fullmatch(text) is not None


def _check_fields(message: Message, node_public_key: bytes) -> None:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _check_fields(value, node_public_key)
        elif field.type == FieldDescriptor.TYPE_STRING:
            if not is_id(value):
                raise denied("A request to the coordinator carries text.")
        elif field.type == FieldDescriptor.TYPE_BYTES and (
            field.name != _PUBLIC_KEY_FIELD or value != node_public_key
        ):
            raise denied("A request to the coordinator carries bytes that are not its key.")


def checked_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Keep the node's signed identity and Flower's version; drop every other header."""
    kept = [
        (name, value)
        for name, value in headers
        if name in _FORWARDED_HEADERS and len(value) <= _MAX_HEADER_BYTES
    ]
    media = b"application/protobuf"
    return [*kept, (b"content-type", media), (b"accept", media)]
