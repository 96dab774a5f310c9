"""SECAGG-6: streams are AES-256-CTR, whatever the pieces they are read in."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from schemas.secagg.streams import Keystream, chunks

KEY = bytes(range(32))


def reference(n_bytes: int) -> bytes:
    """Counter mode by hand: the block cipher over 0, 1, 2, … (SP 800-38A §6.5)."""
    block = Cipher(algorithms.AES256(KEY), modes.ECB()).encryptor()
    blocks = -(-n_bytes // 16)
    return b"".join(block.update(i.to_bytes(16, "big")) for i in range(blocks))[:n_bytes]


def test_stream_is_counter_mode_over_zeros() -> None:
    assert Keystream(KEY).words64(100).tobytes() == reference(800)


def test_known_answer_of_aes_256() -> None:
    # FIPS 197 appendix C.3 has this key; its cipher of the zero block begins the stream.
    assert Keystream(KEY).words64(2).tobytes().hex() == "f29000b62a499fd0a9f39a6add2e7780"


@pytest.mark.parametrize("pieces", [(1, 2, 3), (16384, 1), (40000, 7, 20000)])
def test_reading_in_pieces_gives_one_stream(pieces: tuple[int, ...]) -> None:
    stream = Keystream(KEY)
    got = np.concatenate([stream.words64(piece) for piece in pieces])
    assert np.array_equal(got, Keystream(KEY).words64(sum(pieces)))


def test_no_words_are_no_words() -> None:
    assert Keystream(KEY).words64(0).shape == (0,)


def test_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keystream(bytes(16))


def test_key_does_not_show_in_a_traceback() -> None:
    assert KEY.hex() not in repr(Keystream(KEY))


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 100])
def test_chunks_cover_everything_once(length: int) -> None:
    covered = [i for part in chunks(length, 10) for i in range(part.start, part.stop)]
    assert covered == list(range(length))
