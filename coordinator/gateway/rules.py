"""Which requests may a pinned site make, how long may they be, and whose node is speaking?"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree

from schemas.errors import ErrorCode, TransportError
from schemas.limits import MAX_OBJECT_BYTES, MAX_TREE_OBJECTS

Headers = list[tuple[bytes, bytes]]
FLEET_PREFIX = "/v1/fleet/"
ACTIVATE = FLEET_PREFIX + "activate-node"
DEACTIVATE = FLEET_PREFIX + "deactivate-node"
PULL_MESSAGES = FLEET_PREFIX + "pull-messages"
PUSH_MESSAGES = FLEET_PREFIX + "push-messages"
PULL_OBJECT = FLEET_PREFIX + "pull-object"
PUSH_OBJECT = FLEET_PREFIX + "push-object"
DOCUMENT_CALLS: Mapping[str, str] = {
    "/v1/documents/pull": "pull",
    "/v1/documents/push": "push",
}
_KIB = 1024
_MIB = 1024 * _KIB
MAX_BODY_BYTES: Mapping[str, int] = {
    ACTIVATE: 4 * _KIB,
    DEACTIVATE: 4 * _KIB,
    FLEET_PREFIX + "send-node-heartbeat": 4 * _KIB,
    FLEET_PREFIX + "get-run": 4 * _KIB,
    FLEET_PREFIX + "get-fab": 4 * _KIB,
    FLEET_PREFIX + "confirm-message-received": 4 * _KIB,
    PULL_MESSAGES: 4 * _KIB,
    PULL_OBJECT: 4 * _KIB,
    PUSH_MESSAGES: 64 * _KIB,
    PUSH_OBJECT: MAX_OBJECT_BYTES,
    **dict.fromkeys(DOCUMENT_CALLS, 4 * _MIB),
}
_NODE_KEY_HEADER = b"flwr-public-key"
_FORWARDED_HEADERS = frozenset(
    {
        b"content-type",
        b"accept",
        b"flwr-public-key",
        b"flwr-timestamp",
        b"flwr-signature",
        b"flwr-package-name",
        b"flwr-package-version",
        b"flwr-component-name",
    }
)


@dataclass(frozen=True, slots=True)
class SitePin:
    """A site as this coordinator enrolled it; ``node_public_key`` is hex of SPKI DER."""

    site_id: str
    node_public_key: str


@dataclass(frozen=True, slots=True)
class Received:
    """One HTTP body from a site: who, where, how long, and over which TLS version."""

    site_id: str
    path: str
    n_bytes: int
    tls_version: str


def forwarded(headers: Headers) -> Headers:
    """Keep the headers that the SuperLink needs; drop every other."""
    return [each for each in headers if each[0] in _FORWARDED_HEADERS]


def is_own_node(pin: SitePin, headers: Headers) -> bool:
    """Return whether the node key beside the request is the one enrolled for this site."""
    sent = [value for name, value in headers if name == _NODE_KEY_HEADER]
    if len(sent) != 1 or len(sent[0]) > _KIB:
        return False
    try:
        public = serialization.load_pem_public_key(base64.b64decode(sent[0], validate=True))
    except (ValueError, binascii.Error):
        return False
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hmac.compare_digest(der.hex(), pin.node_public_key)


def check_size(push: PushMessagesRequest) -> None:
    """Refuse an answer of more objects than the longest one needs, before the SuperLink keeps it.

    With the length of one object this bounds what a site can make the coordinator hold.

    Raises:
        TransportError: TRANSPORT_TOO_LARGE.
    """
    if sum(map(_count, push.message_object_trees)) > MAX_TREE_OBJECTS:
        raise TransportError(
            ErrorCode.TRANSPORT_TOO_LARGE, "An answer has more parts than the longest one needs."
        )


def _count(tree: ObjectTree) -> int:
    return 1 + sum(map(_count, tree.children))
