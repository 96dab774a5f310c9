"""Does the coordinator's gateway know a site's own node, and who is listening?"""

from __future__ import annotations

import asyncio
import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree

from coordinator.gateway import app, rules
from schemas.errors import ErrorCode, TransportError
from schemas.limits import MAX_FRAME_BYTES, MAX_OBJECT_BYTES, MAX_TREE_OBJECTS
from site_node.gateway.fleet import FLEET_PATHS


def keys() -> tuple[bytes, str]:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = public.public_bytes(serialization.Encoding.PEM, form)
    return base64.b64encode(pem), public.public_bytes(serialization.Encoding.DER, form).hex()


def test_the_enrolled_node_key_is_accepted() -> None:
    header, der = keys()
    assert rules.is_own_node(rules.SitePin("site-1", der), [(b"flwr-public-key", header)])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"flwr-public-key", keys()[0])],
        [(b"flwr-public-key", b"!!!")],
        [(b"flwr-public-key", base64.b64encode(b"not a key"))],
        [(b"flwr-public-key", b"A" * 5000)],
    ],
    ids=["none", "another key", "not base64", "no key", "too long"],
)
def test_anything_else_is_not(headers: list[tuple[bytes, bytes]]) -> None:
    assert not rules.is_own_node(rules.SitePin("site-1", keys()[1]), headers)


def test_two_keys_in_one_request_are_refused() -> None:
    header, der = keys()
    both = [(b"flwr-public-key", header), (b"flwr-public-key", header)]
    assert not rules.is_own_node(rules.SitePin("site-1", der), both)


def test_the_open_paths_are_the_sites_ten_and_two_for_documents() -> None:
    documents = {"/v1/documents/pull", "/v1/documents/push"}
    assert set(rules.MAX_BODY_BYTES) == set(FLEET_PATHS) | documents


def test_an_answer_of_more_objects_than_any_needs_is_refused() -> None:
    leaves = [ObjectTree(object_id="cc" * 32)] * (MAX_TREE_OBJECTS - 2)
    tree = ObjectTree(object_id="aa" * 32, children=[ObjectTree(children=leaves)])
    rules.check_size(PushMessagesRequest(message_object_trees=[tree]))
    with pytest.raises(TransportError) as refused:
        rules.check_size(PushMessagesRequest(message_object_trees=[tree, ObjectTree()]))
    assert refused.value.code is ErrorCode.TRANSPORT_TOO_LARGE


def test_the_envelope_of_the_longest_answer_fits_its_path() -> None:
    leaves = [ObjectTree(object_id="cc" * 32)] * (MAX_TREE_OBJECTS - 2)
    tree = ObjectTree(object_id="aa" * 32, children=[ObjectTree(children=leaves)])
    request = PushMessagesRequest(message_object_trees=[tree])
    assert request.ByteSize() + 1024 < rules.MAX_BODY_BYTES[rules.PUSH_MESSAGES]
    assert rules.MAX_BODY_BYTES[rules.PUSH_OBJECT] == MAX_OBJECT_BYTES
    assert MAX_TREE_OBJECTS * MAX_OBJECT_BYTES < 1.1 * MAX_FRAME_BYTES


def test_an_answer_of_too_many_objects_does_not_reach_the_superlink() -> None:
    tree = ObjectTree(children=[ObjectTree(object_id="cc" * 32)] * MAX_TREE_OBJECTS)
    body = PushMessagesRequest(message_object_trees=[tree]).SerializeToString()
    gateway = object.__new__(app._Gateway)
    gateway._nodes = {}
    pin = rules.SitePin("site-1", "")
    with pytest.raises(TransportError) as refused:
        asyncio.run(gateway._fleet(pin, rules.PUSH_MESSAGES, body, [], None))  # type: ignore[arg-type]
    assert refused.value.code is ErrorCode.TRANSPORT_TOO_LARGE
