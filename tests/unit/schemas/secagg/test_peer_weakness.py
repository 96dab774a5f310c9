"""Which weakness of a widely used secure aggregation must ours never have?

flwr 1.41 stretches a 256-bit agreed key into a mask with `pseudo_rand_gen`: it folds the key to 32
bits, of which four are always zero, and seeds a Mersenne Twister. These tests run the installed
flwr and show each consequence, and beside it that a mask of ours (SECAGG-5, -6, -12) has none.
"""

from __future__ import annotations

import base64
import hashlib
from functools import reduce
from operator import and_, or_

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import generate_key_pairs

from schemas.secagg.keys import Attempt, PairMask, pair_seed, self_mask_seed
from schemas.secagg.streams import KEY_BYTES, Keystream
from tests.support.secure_sum import FixedEntropy

WORDS = 32
MOD_RANGE = 1 << 32  # the default of flwr's workflow
SEED_BITS = 28
SEARCHED_BITS = 14
ATTEMPT = Attempt("0a" * 32, "train", 3, 1, "0b" * 32, "0c" * 32)


def folded(seed: bytes) -> int:
    """What flwr's generator makes of a seed."""
    parts = (int.from_bytes(seed[i : i + 4], "little") for i in range(0, len(seed), 4))
    return reduce(lambda total, part: total ^ part, parts)


def compact(fold: int) -> int:
    """Close the gaps: the bits that are not always zero, side by side."""
    return sum((fold >> (8 * i) & 0x7F) << (7 * i) for i in range(4))


def spread(bits: int) -> int:
    """The inverse of `compact`."""
    return sum((bits >> (7 * i) & 0x7F) << (8 * i) for i in range(4))


def peer_seed(place: int = 0) -> bytes:
    """An agreed key as flwr has it: 32 bytes, in base64; the same one for the same place."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"flwr/{place}".encode()).digest())


def peer_mask(seed: bytes, n_words: int = WORDS) -> np.ndarray:
    return pseudo_rand_gen(seed, MOD_RANGE, [(n_words,)])[0]


def our_seed(place: int = 0) -> bytes:
    """A pair seed of ours, 48 bytes, from keys of its own for each place."""
    drawn = FixedEntropy(f"ours/{place}")
    ours, theirs = (X25519PrivateKey.from_private_bytes(drawn(32)) for _ in range(2))
    public = theirs.public_key().public_bytes_raw().hex()
    return pair_seed(ours, public, drawn(32), ATTEMPT, "site-1", "site-2")


def our_mask(seed: bytes, n_words: int = WORDS) -> np.ndarray:
    words = np.empty(n_words, dtype="<u4")
    Keystream(PairMask.of(seed, 1).stream_key).fill(words)
    return words


# --- how many seeds there are ---------------------------------------------------------------


def test_a_real_agreed_key_of_flwr_is_text() -> None:
    (own, _), (_, other) = generate_key_pairs(), generate_key_pairs()
    seed = generate_shared_key(own, other)
    assert len(seed) == 44 and len(base64.urlsafe_b64decode(seed)) == 32
    assert folded(seed) & 0x80808080 == 0


def test_flwr_seeds_have_28_bits() -> None:
    folds = [folded(peer_seed(place)) for place in range(2000)]
    assert reduce(or_, folds) == 0x7F7F7F7F
    assert reduce(or_, map(compact, folds)).bit_length() == SEED_BITS
    assert all(spread(compact(fold)) == fold for fold in folds)


def test_every_one_of_our_256_bits_varies() -> None:
    keys = [int.from_bytes(our_seed(place)[:KEY_BYTES], "little") for place in range(64)]
    assert reduce(or_, keys) == (1 << 256) - 1
    assert reduce(and_, keys) == 0


# --- what a search finds --------------------------------------------------------------------


def test_a_flwr_mask_is_found_by_search_and_the_update_opened() -> None:
    """A search of all 2^28 takes a C program about a minute; here 14 of the bits are given away."""
    seed = peer_seed()
    secret = np.arange(WORDS) * 1000 + 7  # quantised values: 22 bits of a 32-bit modulus
    upload = (secret + peer_mask(seed)) % MOD_RANGE
    given = compact(folded(seed)) >> SEARCHED_BITS << SEARCHED_BITS
    found, state = [], np.random.RandomState()
    for low in range(1 << SEARCHED_BITS):
        state.seed(spread(given | low))
        guess = state.randint(0, MOD_RANGE - 1, 4, dtype=np.int64)
        if (((upload[:4] - guess) % MOD_RANGE) < 1 << 22).all():
            found.append(spread(given | low))
    assert found == [folded(seed)]
    state.seed(found[0])
    mask = state.randint(0, MOD_RANGE - 1, WORDS, dtype=np.int64)
    assert np.array_equal((upload - mask) % MOD_RANGE, secret)


def test_different_flwr_keys_share_a_mask() -> None:
    """Whatever keeps the fold keeps the mask: here two words of the key change places."""
    seed = peer_seed()
    other = seed[4:8] + seed[:4] + seed[8:]
    assert other != seed
    assert np.array_equal(peer_mask(seed), peer_mask(other))


def test_what_keeps_the_fold_changes_our_mask() -> None:
    seed = our_seed()
    other = seed[4:8] + seed[:4] + seed[8:]
    assert folded(seed) == folded(other)
    assert (our_mask(seed) == our_mask(other)).sum() == 0


@pytest.mark.parametrize("bit", range(0, 256, 5))
def test_every_bit_of_our_key_changes_the_whole_mask(bit: int) -> None:
    seed = bytearray(hashlib.sha512(b"a pair").digest()[:48])
    first = our_mask(bytes(seed))
    seed[bit // 8] ^= 1 << bit % 8
    assert (our_mask(bytes(seed)) == first).sum() == 0


# --- what a mask is bound to ----------------------------------------------------------------


def test_a_flwr_mask_does_not_know_its_round() -> None:
    """Nothing but the pair's key goes in: with keys kept, two rounds share a mask."""
    seed = peer_seed()
    first, second = np.arange(WORDS), np.arange(WORDS) ** 2
    uploads = [(vector + peer_mask(seed)) % MOD_RANGE for vector in (first, second)]
    assert np.array_equal((uploads[1] - uploads[0]) % MOD_RANGE, (second - first) % MOD_RANGE)


@pytest.mark.parametrize(
    "change",
    [
        {"plan_digest": "1a" * 32},
        {"kind": "evaluate"},
        {"round": 4},
        {"attempt": 2},
        {"new_model_hash": "1b" * 32},
        {"transcript_hash": "1c" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_our_mask_is_bound_to_everything(change: dict[str, object]) -> None:
    """SECAGG-5, with every key the same."""
    ours, theirs = (X25519PrivateKey.from_private_bytes(bytes([k]) * 32) for k in (1, 2))
    public = theirs.public_key().public_bytes_raw().hex()
    root = bytes(32)
    usual = {name: getattr(ATTEMPT, name) for name in ATTEMPT.__slots__}
    first, second = (
        our_mask(pair_seed(ours, public, root, Attempt(**(usual | each)), "site-1", "site-2"))
        for each in ({}, change)
    )
    assert (first == second).sum() == 0


def test_our_self_mask_is_bound_to_its_ready() -> None:
    """SECAGG-12: the same secret under another header is another mask."""
    first, second = (our_mask(self_mask_seed(bytes(32), header)) for header in (b"one", b"two"))
    assert (first == second).sum() == 0


# --- how even a mask is ---------------------------------------------------------------------


def test_flwr_never_draws_the_highest_words() -> None:
    """`randint(0, range - 1)` excludes its upper end, so the two top values never occur."""
    drawn = pseudo_rand_gen(peer_seed(), 4, [(10_000,)])[0]
    assert set(drawn.tolist()) == {0, 1, 2}


def test_our_words_take_every_value() -> None:
    words = our_mask(our_seed(), 1 << 17)
    assert len(np.unique(words >> 20)) == 1 << 12
    assert len(np.unique(words & 0xFFF)) == 1 << 12
