"""Do the eight fixed requests carry ids and numbers only?"""

from __future__ import annotations

import pytest
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
)
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest

from schemas.errors import ErrorCode, PolicyDenied, TransportError
from schemas.limits import MAX_TREE_OBJECTS
from site_node.gateway import fleet

KEY = b"-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----\n"
ACTIVATE = "/v1/fleet/activate-node"


def test_the_list_of_paths_is_exactly_flowers_ten() -> None:
    assert {path.removeprefix("/v1/fleet/") for path in fleet.FLEET_PATHS} == {
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    }


def test_a_plain_request_passes_unchanged() -> None:
    body = PullMessagesRequest(node=Node(node_id=2**63 + 1)).SerializeToString()
    assert fleet.checked_fixed(fleet.PULL_MESSAGES, body, KEY) == body


def test_the_sites_own_key_passes_and_any_other_bytes_do_not() -> None:
    own = ActivateNodeRequest(public_key=KEY, heartbeat_interval=30).SerializeToString()
    assert fleet.checked_fixed(ACTIVATE, own, KEY) == own
    other = ActivateNodeRequest(public_key=b"Hong Gildong", heartbeat_interval=30)
    with pytest.raises(PolicyDenied) as refused:
        fleet.checked_fixed(ACTIVATE, other.SerializeToString(), KEY)
    assert refused.value.code is ErrorCode.EGRESS_NOT_LISTED


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/fleet/pull-object", PullObjectRequest(object_id="a patient's name")),
        ("/v1/fleet/get-fab", GetFabRequest(hash_str="홍길동")),
        (fleet.CONFIRM, ConfirmMessageReceivedRequest(message_object_id="f" * 65)),
    ],
)
def test_text_that_is_not_an_id_is_refused(path: str, message: object) -> None:
    with pytest.raises(PolicyDenied):
        fleet.checked_fixed(path, message.SerializeToString(), KEY)  # type: ignore[attr-defined]


def test_a_hidden_extra_field_is_dropped() -> None:
    body = GetRunRequest(run_id=7).SerializeToString()
    smuggled = body + bytes([(90 << 3 | 2) & 0x7F | 0x80, (90 << 3 | 2) >> 7, 5]) + b"CANAR"
    assert fleet.checked_fixed("/v1/fleet/get-run", smuggled, KEY) == body


def test_a_body_that_is_no_such_message_or_too_long_is_refused() -> None:
    for body in (b"\xff\xff\xff", b"x" * (fleet.MAX_FIXED_BYTES + 1)):
        with pytest.raises(PolicyDenied):
            fleet.checked_fixed(fleet.PULL_MESSAGES, body, KEY)


def test_only_the_nodes_identity_and_flowers_version_survive_of_the_headers() -> None:
    kept = dict(
        fleet.checked_headers(
            [
                (b"flwr-public-key", b"abc"),
                (b"flwr-signature", b"s"),
                (b"cookie", b"patient=1"),
                (b"user-agent", b"hospital-host-17"),
                (b"content-type", b"text/plain; note=x"),
                (b"flwr-timestamp", b"t" * 600),
            ]
        )
    )
    assert kept == {
        b"flwr-public-key": b"abc",
        b"flwr-signature": b"s",
        b"content-type": b"application/protobuf",
        b"accept": b"application/protobuf",
    }


def test_a_message_of_more_objects_than_any_needs_is_refused() -> None:
    leaves = [ObjectTree(object_id="cc" * 32)] * (MAX_TREE_OBJECTS - 2)
    tree = ObjectTree(object_id="aa" * 32, children=[ObjectTree(children=leaves)])
    fleet.check_messages(b"")
    fleet.check_messages(PullMessagesResponse(message_object_trees=[tree]).SerializeToString())
    tree.children.append(leaves[0])
    with pytest.raises(TransportError) as refused:
        fleet.check_messages(PullMessagesResponse(message_object_trees=[tree]).SerializeToString())
    assert refused.value.code is ErrorCode.TRANSPORT_TOO_LARGE


def test_an_answer_that_is_no_message_is_refused() -> None:
    with pytest.raises(TransportError) as refused:
        fleet.check_messages(b"\xff\xff")
    assert refused.value.code is ErrorCode.TRANSPORT_RESPONSE_INVALID
