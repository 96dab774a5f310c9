"""SECAGG-6: streams are AES-256-CTR, whatever the pieces they are read in."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from schemas.secagg.streams import CHUNK_WORDS, Keystream, MaskStreams, chunks, has_wide_aes

KEY = bytes(range(32))


@pytest.fixture(autouse=True, params=[False, True], ids=["counter mode", "inside GCM"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Every test holds for both ways to make the bytes, whatever this processor prefers."""
    monkeypatch.setattr("schemas.secagg.streams._WIDE_AES", request.param)
    return bool(request.param)


def reference(n_bytes: int) -> bytes:
    """Counter mode by hand: the block cipher over 0, 1, 2, … (SP 800-38A §6.5)."""
    block = Cipher(algorithms.AES256(KEY), modes.ECB()).encryptor()
    blocks = -(-n_bytes // 16)
    return b"".join(block.update(i.to_bytes(16, "big")) for i in range(blocks))[:n_bytes]


def test_stream_is_counter_mode_over_zeros() -> None:
    """SECAGG-6: AES-256-CTR, the first counter block zero."""
    assert Keystream(KEY).words64(100).tobytes() == reference(800)


def test_known_answer_of_aes_256() -> None:
    # FIPS 197 appendix C.3 has this key; its cipher of the zero block begins the stream.
    assert Keystream(KEY).words64(2).tobytes().hex() == "f29000b62a499fd0a9f39a6add2e7780"


@pytest.mark.parametrize("pieces", [(1, 2, 3), (16384, 1), (0, 5), (40000, 7, 20000)])
def test_reading_in_pieces_gives_one_stream(pieces: tuple[int, ...]) -> None:
    stream = Keystream(KEY)
    got = np.concatenate([stream.words64(piece) for piece in pieces])
    assert np.array_equal(got, Keystream(KEY).words64(sum(pieces)))


@pytest.mark.parametrize("size", [CHUNK_WORDS - 1, CHUNK_WORDS, CHUNK_WORDS + 1])
def test_a_chunk_is_no_border_of_the_stream(size: int) -> None:
    buffer = np.empty(size, dtype="<u4")
    stream = Keystream(KEY)
    stream.fill(buffer)
    rest = np.empty(3, dtype="<u4")
    stream.fill(rest)
    assert buffer.tobytes() + rest.tobytes() == reference(4 * size + 12)


def test_filling_overwrites_what_was_there() -> None:
    buffer = np.full(100, 0xFFFFFFFF, dtype="<u4")
    Keystream(KEY).fill(buffer)
    assert buffer.tobytes() == reference(400)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 1, 1, 1, 1, 1), (7, 2, 9), (8, 8), (9, 7)])
def test_the_first_two_blocks_may_come_in_pieces(sizes: tuple[int, ...]) -> None:
    stream, got = Keystream(KEY), b""
    for size in sizes:
        words = np.empty(size, dtype="<u4")
        stream.fill(words)
        got += words.tobytes()
    assert got == reference(4 * sum(sizes))


def test_a_processor_is_asked_once_and_an_unknown_one_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = SimpleNamespace(__cpu_features__={"AVX512_ICL": True})
    monkeypatch.setitem(sys.modules, "numpy._core._multiarray_umath", module)
    assert has_wide_aes()
    monkeypatch.setitem(sys.modules, "numpy._core._multiarray_umath", SimpleNamespace())
    assert not has_wide_aes()


def test_no_words_are_no_words() -> None:
    assert Keystream(KEY).words64(0).shape == (0,)


def test_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keystream(bytes(16))


def test_key_does_not_show_in_a_traceback() -> None:
    assert KEY.hex() not in repr(Keystream(KEY)) + repr(MaskStreams([(1, KEY)]))


@pytest.mark.parametrize("sizes", [(1, 2, 3), (CHUNK_WORDS + 1, 5)])
def test_streams_are_added_and_subtracted_along_the_vector(sizes: tuple[int, ...]) -> None:
    other = bytes(32)
    running = MaskStreams([(1, KEY), (-1, other), (1, other), (1, other)])
    words = [np.arange(size, dtype="<u4") for size in sizes]
    for piece in words:
        running.apply(piece)
    stream = np.empty(sum(sizes), dtype="<u4")
    total = np.concatenate([np.arange(size, dtype="<u4") for size in sizes])
    for key in (KEY, other):
        Keystream(key).fill(stream)
        total += stream
    assert np.array_equal(np.concatenate(words), total)


def test_no_streams_change_nothing() -> None:
    words = np.arange(5, dtype="<u4")
    MaskStreams([]).apply(words)
    assert words.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 100])
def test_chunks_cover_everything_once(length: int) -> None:
    covered = [i for part in chunks(length, 10) for i in range(part.start, part.stop)]
    assert covered == list(range(length))
