"""An answer of the coordinator is hostile input: it may be endless, or inflate without end."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from schemas.errors import ErrorCode, TransportError
from site_node.gateway import GatewayClient, app


def post(answer: httpx.Response) -> tuple[int, bytes]:
    """Send one body through a client whose coordinator gives this answer."""
    client = object.__new__(GatewayClient)
    client._base, client._tap, client._record = "https://coordinator", None, lambda _sent: None
    client.tls_version = "TLSv1.3"
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: answer))
    return asyncio.run(client.post("/v1/documents/pull", b"{}", []))


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


def test_a_packed_answer_is_not_inflated() -> None:
    packed = gzip.compress(bytes(10_000_000))
    answer = httpx.Response(
        200, stream=httpx.ByteStream(packed), headers={"content-encoding": "gzip"}
    )
    assert post(answer) == (200, packed)
