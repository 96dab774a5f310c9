"""SECAGG-6, -8, -9: only the whole cohort's sum can be read, and only if nobody touched it."""

from __future__ import annotations

import hashlib
import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.coordinator import add_masked, upload_hash
from schemas.secagg.field import PRIME
from schemas.secagg.keys import Attempt, PairMask
from schemas.secagg.masking import (
    CohortKeys,
    MaskedSum,
    MaskedUpdate,
    Masker,
    SumOpener,
    check_sum,
    mask,
)
from schemas.secagg.quantise import NoisedUpdate
from schemas.secagg.streams import CHUNK_WORDS, Keystream, MaskStreams
from tests.support.secure_sum import Consortium, summed, vectors_of

LENGTH = 300


def cohort_of(n_sites: int, *, kind: str = "train", round_: int = 3) -> dict[str, CohortKeys]:
    """Keys of a cohort straight from hashes: the arithmetic without the handshake."""
    names = [f"site-{i:03d}" for i in range(n_sites)]
    attempt = Attempt("0a" * 32, kind, round_, 0, "0b" * 32, "0c" * 32)
    label = f"{kind}/{round_}"
    pairs: dict[str, list[PairMask]] = {name: [] for name in names}
    for low, high in itertools.combinations(names, 2):
        seed = hashlib.sha512(f"{label}/{low}/{high}".encode()).digest()
        tag_mask = int.from_bytes(seed[32:48], "little") % PRIME
        pairs[low].append(PairMask(1, seed[:32], tag_mask))
        pairs[high].append(PairMask(-1, seed[:32], tag_mask))
    group = hashlib.sha256(label.encode()).digest()
    return {
        name: CohortKeys(name, tuple(names), attempt, group, tuple(pairs[name])) for name in names
    }


def refusal(call: Callable[[], object]) -> ErrorCode:
    with pytest.raises(ProtocolError) as refused:
        call()
    return refused.value.code


@pytest.mark.parametrize("n_sites", [3, 4, 10, 50, 200])
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_the_sum_is_exact_for_any_number_of_sites(n_sites: int, kind: str) -> None:
    """SECAGG-6: the masks cancel, whatever the order of names."""
    keys = cohort_of(n_sites, kind=kind)
    vectors = vectors_of(keys, 40)
    total = summed(keys, vectors, blind=kind == "evaluate")
    plain = sum(vectors.values())
    for site in list(keys)[:3]:
        assert np.array_equal(check_sum(keys[site], total), plain)


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.integers(-(1 << 29), (1 << 29) - 1), min_size=7, max_size=7),
        min_size=4,
        max_size=4,
    )
)
def test_the_sum_is_exact_to_the_last_bit(rows: list[list[int]]) -> None:
    keys = cohort_of(4)
    vectors = {site: np.array(row) for site, row in zip(keys, rows, strict=True)}
    assert np.array_equal(check_sum(keys["site-000"], summed(keys, vectors)), np.sum(rows, axis=0))


def test_vectors_longer_than_a_chunk_are_summed_exactly() -> None:
    keys = cohort_of(3)
    vectors = vectors_of(keys, 70_001)
    assert np.array_equal(check_sum(keys["site-001"], summed(keys, vectors)), sum(vectors.values()))


def test_extreme_words_survive() -> None:
    keys = cohort_of(3)
    edge = np.array([-(1 << 31), (1 << 31) - 1, 0])
    vectors = dict(zip(keys, [edge, 0 * edge, 0 * edge], strict=True))
    assert np.array_equal(check_sum(keys["site-000"], summed(keys, vectors)), edge)


# --- what an attacker sees ------------------------------------------------------------------


def test_one_update_looks_random_whatever_it_hides() -> None:
    keys = cohort_of(3)
    words = mask(keys["site-000"], np.zeros(200_000, dtype=np.int64)).words
    counts = np.bincount(words >> 24, minlength=256)
    chi_squared = float(((counts - len(words) / 256) ** 2).sum() / (len(words) / 256))
    assert 170 < chi_squared < 360  # 255 degrees of freedom, 4.5 standard deviations


def test_an_incomplete_sum_shows_nothing() -> None:
    keys = cohort_of(4)
    vectors = vectors_of(keys, LENGTH)
    uploads = {site: mask(keys[site], vectors[site]) for site in keys}
    partial = sum(uploads[site].words.astype(np.int64) for site in list(keys)[:3])
    plain = sum(vectors[site] for site in list(keys)[:3])
    assert (partial % 2**32 == plain % 2**32).sum() <= 1


def test_two_attempts_share_no_mask() -> None:
    zeros = np.zeros(LENGTH, dtype=np.int64)
    first = mask(cohort_of(3, round_=1)["site-000"], zeros).words
    second = mask(cohort_of(3, round_=2)["site-000"], zeros).words
    assert (first == second).sum() <= 1


def test_a_second_vector_under_the_same_masks_is_refused() -> None:
    """SECAGG-6: masks serve one vector."""
    keys = cohort_of(3)["site-000"]
    vector = np.arange(LENGTH)
    mask(keys, vector)
    assert refusal(lambda: mask(keys, vector)) is ErrorCode.SECRETS_SPENT


def test_a_blind_sum_shows_the_coordinator_nothing() -> None:
    """SECAGG-9: words under one stream more."""
    keys = cohort_of(4, kind="evaluate")
    vectors = vectors_of(keys, LENGTH, bound=20)
    total = summed(keys, vectors, blind=True)
    plain = sum(vectors.values())
    assert (total.words == plain.astype(np.uint32)).sum() <= 1
    assert np.array_equal(check_sum(keys["site-002"], total), plain)


def test_the_tag_of_a_blind_sum_depends_on_the_offset() -> None:
    """Two sums with the same ⟨a, S⟩ cannot be told apart by T: b differs between attempts."""
    tags = set()
    for round_ in range(5):
        keys = cohort_of(3, kind="evaluate", round_=round_)
        zeros = {site: np.zeros(5, dtype=np.int64) for site in keys}
        tags.add(summed(keys, zeros, blind=True).tag)
    assert len(tags) == 5 and 0 not in tags


@pytest.mark.parametrize(("kind", "blind"), [("train", True), ("evaluate", False)])
def test_kind_and_blinding_must_agree(kind: str, blind: bool) -> None:
    """SECAGG-9: evaluations are blind, training is not."""
    keys = cohort_of(3, kind=kind)["site-000"]
    code = refusal(lambda: mask(keys, np.arange(5), blind=blind))
    assert code is ErrorCode.COHORT_KIND_MISMATCH


# --- what a coordinator may try -------------------------------------------------------------

Forge = Callable[[MaskedSum], MaskedSum]
ONE = np.uint32(1)


def _at(words: np.ndarray, position: int, change: int) -> np.ndarray:
    changed = words.astype(np.int64)
    changed[position] += change
    return changed.astype(np.uint32)


FORGERIES: dict[str, Forge] = {
    "zeroed": lambda s: MaskedSum(0 * s.words, 0),
    "zeroed, tag kept": lambda s: MaskedSum(0 * s.words, s.tag),
    "negated": lambda s: MaskedSum((-s.words.astype(np.int64)).astype(np.uint32), -s.tag % PRIME),
    "doubled": lambda s: MaskedSum(s.words * np.uint32(2), 2 * s.tag % PRIME),
    "halved": lambda s: MaskedSum(s.words >> ONE, s.tag * pow(2, -1, PRIME) % PRIME),
    "shifted everywhere": lambda s: MaskedSum(s.words + ONE, s.tag),
    "first word plus one": lambda s: MaskedSum(_at(s.words, 0, 1), s.tag),
    "last word minus one": lambda s: MaskedSum(_at(s.words, -1, -1), s.tag),
    "top bit of one word": lambda s: MaskedSum(_at(s.words, 5, 1 << 31), s.tag),
    "two words exchanged": lambda s: MaskedSum(np.r_[s.words[1], s.words[0], s.words[2:]], s.tag),
    "reversed": lambda s: MaskedSum(s.words[::-1].copy(), s.tag),
    "tag plus one": lambda s: MaskedSum(s.words, (s.tag + 1) % PRIME),
    "padded with a zero": lambda s: MaskedSum(np.r_[s.words, np.uint32(0)], s.tag),
    "cut by a zero": lambda s: MaskedSum(s.words[:-1].copy(), s.tag),
}


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_an_altered_sum_is_refused(name: str, kind: str) -> None:
    """SECAGG-8: believed if and only if the tag fits."""
    keys = cohort_of(4, kind=kind)
    vectors = vectors_of(keys, LENGTH)
    for vector in vectors.values():
        vector[-1] = 0  # so that cutting the last word leaves an honest-looking sum
    honest = summed(keys, vectors, blind=kind == "evaluate")
    for member in keys.values():
        assert refusal(lambda m=member: check_sum(m, FORGERIES[name](honest))) is (
            ErrorCode.SUM_ALTERED
        )


@pytest.mark.parametrize("position", [0, 17, LENGTH - 1])
@pytest.mark.parametrize("bit", [0, 7, 31])
def test_any_flipped_bit_is_noticed(position: int, bit: int) -> None:
    keys = cohort_of(3)
    honest = summed(keys, vectors_of(keys, LENGTH))
    words = honest.words.copy()
    words[position] ^= np.uint32(1 << bit)
    assert refusal(lambda: check_sum(keys["site-001"], MaskedSum(words, honest.tag))) is (
        ErrorCode.SUM_ALTERED
    )


def test_the_sum_of_another_round_is_refused() -> None:
    old, new = cohort_of(4, round_=1), cohort_of(4, round_=2)
    vectors = vectors_of(old, LENGTH)
    yesterday = summed(old, vectors)
    summed(new, vectors)
    assert refusal(lambda: check_sum(new["site-000"], yesterday)) is ErrorCode.SUM_ALTERED


def test_one_upload_counted_twice_is_refused() -> None:
    keys = cohort_of(3)
    vectors = vectors_of(keys, LENGTH)
    uploads = {site: mask(keys[site], vectors[site]) for site in keys}
    doubled = add_masked(uploads | {"site-002": uploads["site-001"]}, tuple(keys))
    assert refusal(lambda: check_sum(keys["site-000"], doubled)) is ErrorCode.SUM_ALTERED


def test_the_coordinators_own_addition_is_refused() -> None:
    """It may add what it likes to the words; it has no tag for it."""
    keys = cohort_of(3)
    vectors = vectors_of(keys, LENGTH)
    uploads = {site: mask(keys[site], vectors[site]) for site in keys}
    poison = MaskedUpdate(uploads["site-000"].words + np.uint32(1000), uploads["site-000"].tag)
    total = add_masked(uploads | {"site-000": poison}, tuple(keys))
    assert refusal(lambda: check_sum(keys["site-002"], total)) is ErrorCode.SUM_ALTERED


def test_a_sum_that_wrapped_is_refused() -> None:
    keys = cohort_of(3)
    vectors = {site: np.array([(1 << 31) - 1, 5]) for site in keys}
    assert refusal(lambda: check_sum(keys["site-000"], summed(keys, vectors))) is (
        ErrorCode.SUM_ALTERED
    )


@pytest.mark.parametrize("tag", [-1, PRIME, PRIME + 5])
def test_a_tag_that_is_no_field_element_is_malformed(tag: int) -> None:
    keys = cohort_of(3)
    honest = summed(keys, vectors_of(keys, 5))
    code = refusal(lambda: check_sum(keys["site-000"], MaskedSum(honest.words, tag)))
    assert code is ErrorCode.SUM_MALFORMED


def test_a_sum_of_another_shape_is_malformed() -> None:
    keys = cohort_of(3)["site-000"]
    flat = MaskedSum(np.zeros((2, 2), dtype=np.uint32), 0)
    assert refusal(lambda: check_sum(keys, flat)) is ErrorCode.SUM_MALFORMED


# --- care of the secrets --------------------------------------------------------------------


@pytest.mark.parametrize("value", [1 << 31, -(1 << 31) - 1, 1 << 62])
def test_numbers_beyond_a_word_are_refused_and_the_masks_are_gone(value: int) -> None:
    keys = cohort_of(3)["site-000"]
    assert refusal(lambda: mask(keys, np.array([0, value]))) is ErrorCode.VECTOR_OUT_OF_RANGE
    assert refusal(lambda: mask(keys, np.array([0, 1]))) is ErrorCode.SECRETS_SPENT


@pytest.mark.parametrize(
    "vector", [np.zeros((2, 2), dtype=np.int64), np.zeros(3), np.zeros(0, dtype=np.int64)]
)
def test_what_is_not_a_vector_of_integers_is_refused(vector: np.ndarray) -> None:
    keys = cohort_of(3)["site-000"]
    assert refusal(lambda: mask(keys, vector)) is ErrorCode.VECTOR_SHAPE
    mask(keys, np.arange(5))  # nothing was spent


def test_erased_keys_do_nothing() -> None:
    keys = cohort_of(3)
    total = summed(keys, vectors_of(keys, 5))
    keys["site-000"].erase()
    assert refusal(lambda: check_sum(keys["site-000"], total)) is ErrorCode.SECRETS_SPENT
    assert refusal(lambda: mask(keys["site-000"], np.arange(5))) is ErrorCode.SECRETS_SPENT


def test_inputs_are_left_as_they_came() -> None:
    keys = cohort_of(3, kind="evaluate")
    vectors = vectors_of(keys, 5)
    before = {site: vector.copy() for site, vector in vectors.items()}
    total = summed(keys, vectors, blind=True)
    words = total.words.copy()
    check_sum(keys["site-000"], total)
    assert all(np.array_equal(vectors[site], before[site]) for site in keys)
    assert np.array_equal(total.words, words)


def test_a_noised_update_is_masked_as_its_values() -> None:
    keys = cohort_of(3)
    vectors = vectors_of(keys, 5)
    uploads = {site: mask(keys[site], NoisedUpdate(vectors[site])) for site in keys}
    got = check_sum(keys["site-000"], add_masked(uploads, tuple(keys)))
    assert np.array_equal(got, sum(vectors.values()))


def test_secrets_do_not_show_in_a_traceback() -> None:
    keys = Consortium.of(3).keys()["site-1"]
    text = repr(keys) + repr(keys.spend_masks())
    masker, opener = Masker(cohort_of(3)["site-000"], 5), SumOpener(keys, 5)
    text += repr(masker) + repr(opener)
    assert keys.group().hex() not in text and "stream_key" not in text


# --- piece by piece -------------------------------------------------------------------------


def fed(feed: Callable[[np.ndarray], np.ndarray], whole: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([feed(whole[at : at + size]) for at in range(0, len(whole), size)])


@pytest.mark.parametrize("size", [1, 7, LENGTH - 1, LENGTH])
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_pieces_of_any_size_give_the_same_update_and_sum(size: int, kind: str) -> None:
    blind = kind == "evaluate"
    whole, pieces = cohort_of(3, kind=kind), cohort_of(3, kind=kind)
    vectors = vectors_of(whole, LENGTH)
    masker = Masker(pieces["site-001"], LENGTH, blind=blind)
    words = fed(masker.feed, vectors["site-001"], size)
    update = mask(whole["site-001"], vectors["site-001"], blind=blind)
    assert np.array_equal(words, update.words) and masker.finish() == update.tag
    total = summed(cohort_of(3, kind=kind), vectors, blind=blind)
    opener = SumOpener(pieces["site-001"], LENGTH)
    values = fed(opener.feed, total.words, size)
    opener.finish(total.tag)
    assert np.array_equal(values, sum(vectors.values()))


@pytest.mark.parametrize("size", [CHUNK_WORDS - 1, CHUNK_WORDS, CHUNK_WORDS + 1])
def test_pieces_across_the_cache_border_give_the_same_update(size: int) -> None:
    vector = np.arange(-5, 2 * CHUNK_WORDS) * 1001
    update = mask(cohort_of(3)["site-000"], vector)
    masker = Masker(cohort_of(3)["site-000"], len(vector))
    assert np.array_equal(fed(masker.feed, vector, size), update.words)
    assert masker.finish() == update.tag


def test_a_masker_spends_the_masks_before_the_first_piece() -> None:
    keys = cohort_of(3)["site-000"]
    Masker(keys, LENGTH)
    assert refusal(lambda: Masker(keys, LENGTH)) is ErrorCode.SECRETS_SPENT


def test_a_vector_longer_than_announced_voids_the_masking() -> None:
    masker = Masker(cohort_of(3)["site-000"], 5)
    assert refusal(lambda: masker.feed(np.arange(6))) is ErrorCode.VECTOR_SHAPE
    assert refusal(lambda: masker.feed(np.arange(5))) is ErrorCode.SECRETS_SPENT


def test_a_vector_shorter_than_announced_has_no_tag() -> None:
    masker = Masker(cohort_of(3)["site-000"], 5)
    masker.feed(np.arange(4))
    assert refusal(masker.finish) is ErrorCode.VECTOR_SHAPE
    assert refusal(masker.finish) is ErrorCode.SECRETS_SPENT


def test_a_bad_number_in_a_late_piece_voids_the_masking() -> None:
    masker = Masker(cohort_of(3)["site-000"], 10)
    masker.feed(np.arange(5))
    assert refusal(lambda: masker.feed(np.array([1 << 31]))) is ErrorCode.VECTOR_OUT_OF_RANGE
    assert refusal(lambda: masker.feed(np.arange(5))) is ErrorCode.SECRETS_SPENT
    assert refusal(masker.finish) is ErrorCode.SECRETS_SPENT


def test_nothing_follows_the_tag() -> None:
    masker = Masker(cohort_of(3)["site-000"], 5)
    masker.feed(np.arange(5))
    masker.finish()
    assert refusal(masker.finish) is ErrorCode.SECRETS_SPENT
    assert refusal(lambda: masker.feed(np.arange(0))) is ErrorCode.SECRETS_SPENT


@pytest.mark.parametrize("fed_words", [4, 6])
def test_a_sum_of_another_length_than_announced_is_malformed(fed_words: int) -> None:
    keys = cohort_of(3)
    total = summed(keys, vectors_of(keys, fed_words))
    opener = SumOpener(keys["site-000"], 5)

    def run() -> None:
        opener.feed(total.words)
        opener.finish(total.tag)

    assert refusal(run) is ErrorCode.SUM_MALFORMED


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_piece_changed_on_the_way_is_noticed_at_the_end(kind: str) -> None:
    keys = cohort_of(3, kind=kind)
    total = summed(keys, vectors_of(keys, LENGTH), blind=kind == "evaluate")
    opener = SumOpener(keys["site-000"], LENGTH)
    opener.feed(total.words[:100])
    opener.feed(total.words[100:200] ^ ONE)
    opener.feed(total.words[200:])
    assert refusal(lambda: opener.finish(total.tag)) is ErrorCode.SUM_ALTERED


@pytest.mark.parametrize("named", [(), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 4), (0, 1, 2, 3, 4)])
def test_a_sum_of_some_needs_their_names(named: tuple[int, ...]) -> None:
    """SECAGG-8: each contributor's offset is in the tag; other names fail, as many or not."""
    keys = cohort_of(5)
    vectors = vectors_of(keys, LENGTH)
    *kept, lost = keys
    uploads = [mask(keys[site], vectors[site]) for site in kept]
    # The kept sites' masks with the lost one are what it would have taken off.
    left_over = keys[lost].spend_masks()
    words = sum(upload.words for upload in uploads)
    MaskStreams([(mask.sign, mask.stream_key) for mask in left_over]).apply(words)
    tag = sum(upload.tag for upload in uploads) + sum(m.sign * m.tag_mask for m in left_over)
    total = MaskedSum(words, tag % PRIME)
    others = tuple(list(keys)[place] for place in named)
    if others == tuple(kept):
        got = check_sum(keys[lost], total, contributors=others)
        assert np.array_equal(got, sum(vectors[site] for site in kept))
    else:
        code = refusal(lambda: check_sum(keys[lost], total, contributors=others))
        assert code is ErrorCode.SUM_ALTERED


def test_memory_does_not_grow_with_the_vector() -> None:
    """Between source and sink lie a few buffers, as many for a long vector as for a short one."""
    size = 50_000

    def peak(pieces: int) -> int:
        sender, receiver = cohort_of(6)["site-000"], cohort_of(6, kind="evaluate")["site-000"]
        tracemalloc.start()
        masker, opener = Masker(sender, size * pieces), SumOpener(receiver, size * pieces)
        for at in range(pieces):
            opener.feed(masker.feed(np.arange(at, at + size)))
        masker.finish()
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    short, long = peak(2), peak(20)
    assert long < short + 100_000 and long < 8 * size * 8


def test_a_sum_is_opened_without_a_copy_of_its_words() -> None:
    """Beside the message that holds them there are the integers, and buffers of a fixed size."""
    length = 1_000_000
    keys = cohort_of(3)["site-000"]
    words = np.frombuffer(memoryview(bytes(4 * length + 3))[3:], dtype="<u4")  # as in a frame
    opener = SumOpener(keys, length)
    tracemalloc.start()
    values = opener.feed(words)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.nbytes == 8 * length
    assert highest < 1.1 * values.nbytes  # a copy of the words would make it 1.5


# --- recoverable training -------------------------------------------------------------------


class Watched(CohortKeys):
    """Keys of a recoverable attempt that remember which upload they were told of."""

    __slots__ = ("noted",)

    @property
    def wants_upload_hash(self) -> bool:
        return True

    def note_upload(self, upload_hash: str) -> None:
        self.noted = upload_hash


def watched() -> Watched:
    usual = cohort_of(3)["site-000"]
    return Watched(usual.site_id, usual.roster, usual.attempt, usual.group(), usual.spend_masks())


@pytest.mark.parametrize("length", [1, LENGTH, CHUNK_WORDS + 1])
def test_the_upload_is_noted_by_the_hash_of_what_was_sent(length: int) -> None:
    keys = watched()
    update = mask(keys, np.arange(length))
    assert keys.noted == upload_hash(update)


def test_the_hash_does_not_depend_on_the_pieces() -> None:
    vector = np.arange(LENGTH)
    pieces, whole = watched(), watched()
    masker = Masker(pieces, LENGTH)
    fed(masker.feed, vector, 7)
    masker.finish()
    mask(whole, vector)
    assert pieces.noted == whole.noted


def test_no_upload_is_noted_when_masking_was_void() -> None:
    keys = watched()
    masker = Masker(keys, 5)
    masker.feed(np.arange(4))
    refusal(masker.finish)
    assert not hasattr(keys, "noted")


def test_a_self_mask_is_one_more_mask_that_nothing_cancels() -> None:
    """SECAGG-12: without the self-mask's seed the sum of all uploads stays unreadable."""
    keys = cohort_of(3)
    vectors = vectors_of(keys, LENGTH)
    own = PairMask.of(hashlib.sha512(b"self").digest()[:48], 1)
    first = keys["site-000"]
    keys["site-000"] = CohortKeys(
        "site-000", first.roster, first.attempt, first.group(), (*first.spend_masks(), own)
    )
    total = summed(keys, vectors)
    assert refusal(lambda: check_sum(keys["site-001"], total)) is ErrorCode.SUM_ALTERED
    stream = np.empty(LENGTH, dtype="<u4")
    Keystream(own.stream_key).fill(stream)
    freed = MaskedSum(total.words - stream, (total.tag - own.tag_mask) % PRIME)
    assert np.array_equal(check_sum(keys["site-001"], freed), sum(vectors.values()))
