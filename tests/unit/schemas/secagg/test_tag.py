"""SECAGG-8: the affine tag accepts the sum and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.secagg.field import PRIME
from schemas.secagg.streams import Keystream
from schemas.secagg.tag import ROW, AffineTag

SECRET = bytes(range(32))
SITES = 4
OFFSETS = [pow(3, 100 + site, PRIME) for site in range(SITES)]
OFFSET = sum(OFFSETS)


def tags_of(tag: AffineTag, vectors: list[np.ndarray]) -> int:
    return sum(tag.evaluate(v, offset=b) for v, b in zip(vectors, OFFSETS, strict=False)) % PRIME


VECTORS = [np.arange(-50, 50, dtype=np.int64) * (i + 1) for i in range(SITES)]
SUM = np.sum(VECTORS, axis=0)


@given(
    st.lists(
        st.lists(st.integers(-(1 << 29), 1 << 29), min_size=5, max_size=5), min_size=1, max_size=4
    )
)
def test_tags_add_up(rows: list[list[int]]) -> None:
    tag = AffineTag(SECRET)
    vectors = [np.array(row, dtype=np.int64) for row in rows]
    total = np.sum(vectors, axis=0)
    assert tags_of(tag, vectors) == tag.evaluate(total, offset=sum(OFFSETS[: len(vectors)]))


def test_long_vectors_are_tagged_piece_by_piece() -> None:
    tag = AffineTag(SECRET)
    vectors = [np.full(100_000, k, dtype=np.int64) for k in (1, -7)]
    assert tags_of(tag, vectors) == tag.evaluate(vectors[0] + vectors[1], offset=sum(OFFSETS[:2]))


LONG = np.arange(-3000, 3 * ROW) * 700_001 % (1 << 32) - (1 << 31)


def by_hand(vector: np.ndarray, offset: int) -> int:
    """SECAGG-8 in whole numbers."""
    rows = -(-len(vector) // ROW)
    stream = [word & PRIME for word in Keystream(SECRET).words64(ROW + rows - 1).tolist()]
    s, r = stream[:ROW], [1, *stream[ROW:]]
    total = sum(q * s[i % ROW] * r[i // ROW] for i, q in enumerate(vector.tolist()))
    return (total + offset) % PRIME


@pytest.mark.parametrize("length", [1, 100, ROW - 1, ROW, ROW + 1, 2 * ROW, len(LONG)])
def test_tag_is_what_the_specification_says(length: int) -> None:
    vector = LONG[:length]
    assert AffineTag(SECRET).evaluate(vector, offset=OFFSET) == by_hand(vector, OFFSET)


@pytest.mark.parametrize("word", [-(1 << 31), (1 << 31) - 1])
def test_tag_of_the_largest_words_is_exact(word: int) -> None:
    vector = np.full(3 * ROW + 1, word)
    assert AffineTag(SECRET).evaluate(vector, offset=1) == by_hand(vector, 1)


@pytest.mark.parametrize("size", [1, 7, ROW - 1, ROW, ROW + 1, 3000])
def test_pieces_of_any_size_give_one_tag(size: int) -> None:
    tag = AffineTag(SECRET)
    running = tag.running()
    for at in range(0, len(LONG), size):
        running.add(LONG[at : at + size])
    running.add(LONG[:0])
    assert running.result(offset=OFFSET) == tag.evaluate(LONG, offset=OFFSET)


def test_words_of_32_bits_give_the_same_tag() -> None:
    running = AffineTag(SECRET).running()
    running.add(LONG.astype(np.int32))
    assert running.result(offset=1) == AffineTag(SECRET).evaluate(LONG, offset=1)


def test_more_rows_than_are_kept_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_hand(LONG, 1)
    monkeypatch.setattr("schemas.secagg.tag._ROWS_KEPT", 2)
    for size in (7, ROW, 2 * ROW):
        running = AffineTag(SECRET).running()
        for at in range(0, len(LONG), size):
            running.add(LONG[at : at + size])
        assert running.result(offset=1) == expected


def test_no_word_and_no_row_is_without_weight() -> None:
    """A change of any word, in any row, changes the tag; so does moving it to another row."""
    tag = AffineTag(SECRET)
    zeros = np.zeros(3 * ROW, dtype=np.int64)
    seen = {tag.evaluate(zeros, offset=1)}
    places = (0, 1, ROW - 1, ROW, ROW + 1, 2 * ROW, 3 * ROW - 1)
    for place in places:
        changed = zeros.copy()
        changed[place] = 1
        seen.add(tag.evaluate(changed, offset=1))
    assert len(seen) == 1 + len(places)


def test_what_cancels_within_a_column_or_a_row_is_noticed() -> None:
    """The coefficients are a product, so plus here and minus there must not cancel."""
    tag = AffineTag(SECRET)
    honest = tag.evaluate(np.zeros(3 * ROW, dtype=np.int64), offset=1)
    for places in ((5, ROW + 5), (5, 6), (ROW + 5, 2 * ROW + 5), (5, 6, ROW + 5, ROW + 6)):
        changed = np.zeros(3 * ROW, dtype=np.int64)
        changed[list(places)] = [1, -1, -1, 1][: len(places)]
        assert tag.evaluate(changed, offset=1) != honest


FORGERIES = {
    "zeroed": (0 * SUM, 0),
    "negated": (-SUM, -1),
    "doubled": (2 * SUM, 2),
    "scaled by seven": (7 * SUM, 7),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_homogeneous_forgeries_fail(name: str) -> None:
    tag = AffineTag(SECRET)
    forged, factor = FORGERIES[name]
    total = tags_of(tag, VECTORS)
    assert tag.evaluate(forged, offset=OFFSET) != factor * total % PRIME


@pytest.mark.parametrize("name", FORGERIES)
def test_without_the_offset_every_one_of_them_would_pass(name: str) -> None:
    """The defence is necessary: the same rule with b = 0 accepts what must be refused."""
    tag = AffineTag(SECRET)
    forged, factor = FORGERIES[name]
    linear = sum(tag.evaluate(v, offset=0) for v in VECTORS) % PRIME
    assert tag.evaluate(forged, offset=0) == factor * linear % PRIME


def test_other_contributors_fail_be_they_fewer_or_as_many() -> None:
    tag = AffineTag(SECRET)
    total = tags_of(tag, VECTORS[:3])
    honest = sum(VECTORS[:3])
    assert tag.evaluate(honest, offset=sum(OFFSETS[:3])) == total
    for others in (OFFSETS[:2], OFFSETS[1:], OFFSETS):
        assert tag.evaluate(honest, offset=sum(others)) != total


def test_with_one_offset_for_all_a_scaled_sum_passes_for_more_sites() -> None:
    """The defence is necessary: b_j = b accepts half of four sites' sum as a sum of two."""
    tag, b = AffineTag(SECRET), OFFSETS[0]
    even = [2 * vector for vector in VECTORS]
    total = sum(tag.evaluate(vector, offset=b) for vector in even)
    half = total * pow(2, -1, PRIME) % PRIME
    assert tag.evaluate(sum(VECTORS), offset=2 * b) == half
    own = sum(tag.evaluate(v, offset=o) for v, o in zip(even, OFFSETS, strict=True))
    half = own * pow(2, -1, PRIME) % PRIME
    assert tag.evaluate(sum(VECTORS), offset=sum(OFFSETS[:2])) != half


@pytest.mark.parametrize("bit", range(0, 256, 19))
def test_another_secret_gives_another_tag(bit: int) -> None:
    other = bytearray(SECRET)
    other[bit // 8] ^= 1 << (bit % 8)
    first = AffineTag(SECRET).evaluate(SUM, offset=1)
    assert AffineTag(bytes(other)).evaluate(SUM, offset=1) != first


def test_half_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AffineTag(bytes(16))


def test_secret_does_not_show_in_a_traceback() -> None:
    assert repr(AffineTag(SECRET)) == "AffineTag(<secret>)"
    assert repr(AffineTag(SECRET).running()) == "RunningTag(<secret>)"
