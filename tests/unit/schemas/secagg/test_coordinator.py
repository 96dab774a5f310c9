"""SECAGG-10: the coordinator adds exactly the cohort's updates."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.coordinator import add_masked, sum_hash, words_from_bytes, words_to_bytes
from schemas.secagg.field import PRIME
from schemas.secagg.masking import MaskedSum, MaskedUpdate


def update(*words: int, tag: int = 0) -> MaskedUpdate:
    return MaskedUpdate(np.array(words, dtype=np.uint32), tag)


def test_words_wrap_at_32_bits_and_tags_at_the_prime() -> None:
    uploads = {"a": update(2**32 - 1, 5, tag=PRIME - 1), "b": update(3, 6, tag=2)}
    total = add_masked(uploads, ("a", "b"))
    assert total.words.tolist() == [2, 11]
    assert total.words.dtype == np.uint32
    assert total.tag == 1


@pytest.mark.parametrize("roster", [("a",), ("a", "b", "c"), ("a", "c"), ("a", "b", "b"), ()])
def test_any_other_set_of_sites_is_refused(roster: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolError) as refused:
        add_masked({"a": update(1), "b": update(2)}, roster)
    assert refused.value.code is ErrorCode.ATTEMPT_SITE_LEFT


@pytest.mark.parametrize("bad", [update(1), update(1, 2, tag=PRIME), update(1, 2, tag=-1)])
def test_update_of_another_form_is_refused(bad: MaskedUpdate) -> None:
    with pytest.raises(ProtocolError) as refused:
        add_masked({"a": update(1, 2), "b": bad}, ("a", "b"))
    assert refused.value.code is ErrorCode.VECTOR_SHAPE
    assert refused.value.detail == "b"


def test_uploads_are_left_as_they_came() -> None:
    uploads = {"a": update(1), "b": update(2)}
    add_masked(uploads, ("a", "b"))
    assert uploads["a"].words.tolist() == [1]


def test_words_travel_as_four_bytes_little_endian() -> None:
    words = np.array([1, 0xDEADBEEF], dtype=np.uint32)
    assert words_to_bytes(words).hex() == "01000000efbeadde"
    assert np.array_equal(words_from_bytes(words_to_bytes(words), 2), words)


@pytest.mark.parametrize("raw", [b"", bytes(7), bytes(9), bytes(12)])
def test_words_of_another_length_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        words_from_bytes(raw, 2)
    assert refused.value.code is ErrorCode.MESSAGE_LENGTH_WRONG


def test_read_words_can_be_written_to() -> None:
    words = words_from_bytes(bytes(8), 2)
    words[0] = 7
    assert words.tolist() == [7, 0]


def test_hash_covers_words_and_tag() -> None:
    def hashed(words: list[int], tag: int) -> str:
        return sum_hash(MaskedSum(np.array(words, dtype=np.uint32), tag))

    assert len({hashed([1, 2], 3), hashed([1, 3], 3), hashed([1, 2], 4), hashed([1], 3)}) == 4
    assert hashed([1, 2], 3) == hashed([1, 2], 3)
