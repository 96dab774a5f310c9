"""An answer of the coordinator is hostile input: it may be endless, or inflate without end."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import ObjectTree

from schemas.errors import ErrorCode, TransportError
from schemas.limits import MAX_OBJECT_BYTES, MAX_TREE_OBJECTS
from site_node.gateway import GatewayClient, app


def post(answer: httpx.Response, path: str = "/v1/documents/pull") -> tuple[int, bytes]:
    """Send one body through a client whose coordinator gives this answer."""
    client = object.__new__(GatewayClient)
    client._base, client._tap, client._record = "https://coordinator", None, lambda _sent: None
    client.tls_version = "TLSv1.3"
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: answer))
    return asyncio.run(client.post(path, b"{}", []))


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_FRAME_BYTES", 10_000)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1000)

    with pytest.raises(TransportError) as caught:
        post(httpx.Response(200, content=endless()))
    assert caught.value.code is ErrorCode.TRANSPORT_TOO_LARGE
    assert taken == 11
    assert post(httpx.Response(200, stream=httpx.ByteStream(b"a" * 10_000)))[0] == 200


def test_an_object_longer_than_any_piece_is_given_up() -> None:
    path = "/v1/fleet/pull-object"
    whole = httpx.Response(200, stream=httpx.ByteStream(bytes(MAX_OBJECT_BYTES)))
    assert len(post(whole, path)[1]) == MAX_OBJECT_BYTES
    with pytest.raises(TransportError) as caught:
        post(httpx.Response(200, stream=httpx.ByteStream(bytes(MAX_OBJECT_BYTES + 1))), path)
    assert caught.value.code is ErrorCode.TRANSPORT_TOO_LARGE


def test_a_packed_answer_is_not_inflated() -> None:
    packed = gzip.compress(bytes(10_000_000))
    answer = httpx.Response(
        200, stream=httpx.ByteStream(packed), headers={"content-encoding": "gzip"}
    )
    assert post(answer) == (200, packed)


def test_a_message_of_too_many_objects_does_not_reach_the_supernode() -> None:
    leaves = [ObjectTree(object_id="cc" * 32)] * MAX_TREE_OBJECTS
    tree = ObjectTree(object_id="aa" * 32, children=leaves)
    answer = PullMessagesResponse(message_object_trees=[tree]).SerializeToString()

    class Client:
        """A connection to a coordinator that names too many objects."""

        async def post(self, *_request: object) -> tuple[int, bytes]:
            return 200, answer

    gateway = object.__new__(app._Gateway)
    gateway._client = Client()  # type: ignore[assignment]
    gateway._settings = SimpleNamespace(node_public_key_pem=b"")  # type: ignore[assignment]
    with pytest.raises(TransportError) as caught:
        asyncio.run(gateway._forward("/v1/fleet/pull-messages", b"", []))
    assert caught.value.code is ErrorCode.TRANSPORT_TOO_LARGE
