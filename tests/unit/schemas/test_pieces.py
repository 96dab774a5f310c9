"""Does a body come out of its pieces exactly, or not at all?"""

from __future__ import annotations

import hashlib
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import limits, pieces
from schemas.errors import ErrorCode, ProtocolError
from schemas.pieces import Announcement, Assembly, announce, piece_count, piece_of

SMALL = 64


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", SMALL)


def cut(body: bytes) -> list[bytes]:
    return [bytes(piece_of(body, index)) for index in range(piece_count(len(body)))]


def refused(code: ErrorCode, announced: Announcement, came: list[tuple[int, bytes]]) -> None:
    with pytest.raises(ProtocolError) as caught:
        assembly = Assembly(announced)
        for index, piece in came:
            assembly.add(index, piece)
        assembly.finish()
    assert caught.value.code is code


@given(st.integers(1, 20), st.integers(1, SMALL))
def test_every_body_comes_out_as_it_went_in(n_whole: int, rest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", SMALL)
        body = os.urandom(n_whole * SMALL + rest)
        parts = cut(body)
        assert len(parts) == n_whole + 1
        assert {len(each) for each in parts[:-1]} == {SMALL} and len(parts[-1]) == rest
        assembly = Assembly(announce(body))
        for index, piece in enumerate(parts):
            assert assembly.n_missing == len(parts) - index
            assembly.add(index, piece)
        assert assembly.finish() == body


def test_a_short_body_is_one_piece_and_needs_no_announcement(small: None) -> None:
    for n_bytes in (0, 1, SMALL):
        assert piece_count(n_bytes) == 1
        assert bytes(piece_of(bytes(n_bytes), 0)) == bytes(n_bytes)
        with pytest.raises(ProtocolError) as caught:
            announce(bytes(n_bytes))
        assert caught.value.code is ErrorCode.MESSAGE_MALFORMED
    assert piece_count(SMALL + 1) == 2
    for index in (-1, 2):
        with pytest.raises(IndexError):
            piece_of(bytes(SMALL + 1), index)


def test_an_announcement_beyond_the_longest_message_is_refused() -> None:
    sha256 = "0" * 64
    assert Announcement(limits.MAX_FRAME_BYTES, sha256).n_pieces == limits.MAX_PIECES
    for n_bytes in (limits.MAX_FRAME_BYTES + 1, 2**63):
        with pytest.raises(ProtocolError) as caught:
            Announcement(n_bytes, sha256)
        assert caught.value.code is ErrorCode.MESSAGE_OVERSIZED


@pytest.mark.parametrize(
    ("n_bytes", "sha256"),
    [(-1, "0" * 64), (0, "0" * 64), (2**22, "0" * 63), (2**22, "G" * 64), (2**22, "A" * 64)],
)
def test_an_announcement_that_no_body_can_have_is_refused(n_bytes: int, sha256: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        Announcement(n_bytes, sha256)
    assert caught.value.code is ErrorCode.MESSAGE_MALFORMED


def test_whatever_is_not_the_next_piece_is_refused(small: None) -> None:
    body = os.urandom(3 * SMALL + 5)
    said = announce(body)
    a, b, c, d = enumerate(cut(body))
    refused(ErrorCode.PIECES_OUT_OF_ORDER, said, [a, b, c])  # missing at the end
    refused(ErrorCode.PIECES_OUT_OF_ORDER, said, [a, c, d])  # missing in the middle
    refused(ErrorCode.PIECES_OUT_OF_ORDER, said, [a, a, b, c, d])  # twice
    refused(ErrorCode.PIECES_OUT_OF_ORDER, said, [b, a, c, d])  # the other way round
    refused(ErrorCode.PIECES_OUT_OF_ORDER, said, [a, b, c, d, (4, b"")])  # one too many
    refused(ErrorCode.MESSAGE_LENGTH_WRONG, said, [a, (1, b[1][:-1])])
    refused(ErrorCode.MESSAGE_LENGTH_WRONG, said, [a, (1, b[1] + b"x")])
    refused(ErrorCode.MESSAGE_LENGTH_WRONG, said, [a, b, c, (3, d[1] + b"x")])
    refused(ErrorCode.PIECES_CHANGED, said, [(0, b[1]), (1, a[1]), c, d])  # renumbered
    refused(ErrorCode.PIECES_CHANGED, said, [a, (1, a[1]), c, d])  # repeated, renumbered
    refused(ErrorCode.PIECES_CHANGED, said, [a, b, c, (3, bytes(5))])
    refused(ErrorCode.PIECES_CHANGED, Announcement(said.n_bytes, "0" * 64), [a, b, c, d])


def test_a_body_is_held_once_while_it_is_put_together() -> None:
    n_bytes = 24 * 1024 * 1024 + 1
    piece = os.urandom(limits.PIECE_BYTES)
    whole = hashlib.sha256(piece * 12 + b"x").hexdigest()
    tracemalloc.start()
    try:
        assembly = Assembly(Announcement(n_bytes, whole))
        for index in range(12):
            assembly.add(index, piece)
        assembly.add(12, b"x")
        body = assembly.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(body) == n_bytes
    assert peak < n_bytes + limits.PIECE_BYTES
