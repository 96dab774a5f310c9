"""Is a message masked in place the same message, and does it lie in memory once?"""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.cohort_keys import CohortKeys, RecoverySecrets
from schemas.secagg.coordinator import upload_hash, words_to_bytes
from schemas.secagg.keys import Attempt, PairMask
from schemas.secagg.masking import mask
from schemas.secagg.quantise import NoisedUpdate
from schemas.secagg.streams import CHUNK_WORDS
from schemas.wire import Kind, Upload, decode, encode
from site_node.outgoing import NO_TAG, masked_upload
from tests.support.secure_sum import Consortium

LONG = 2_000_000


def keys_of(
    kind: Kind = "train", *, recovery: RecoverySecrets | None = None, streams: int = 3
) -> CohortKeys:
    """The same secrets every time: what one masking gives can be compared with another."""
    seeds = (hashlib.sha512(bytes([place])).digest()[:48] for place in range(streams))
    masks = tuple(PairMask.of(seed, 1 if k % 2 else -1) for k, seed in enumerate(seeds))
    roster = tuple(f"site-{k}" for k in range(streams + 1))
    attempt = Attempt("0a" * 32, kind, 1, 1, "0b" * 32, "0c" * 32)
    return CohortKeys(roster[0], roster, attempt, b"g" * 32, masks, recovery=recovery)


def header_of(kind: Kind = "train", **more: object) -> Upload:
    return Upload(plan_digest="0a" * 32, kind=kind, round=1, attempt=1, tag=NO_TAG, **more)


def copied_upload(
    keys: CohortKeys, vector: np.ndarray, *, header: Upload, blind: bool = False
) -> bytes:
    """What `masked_upload` is without its care: all words first, then all words in a message."""
    masked = mask(keys, vector, blind=blind)
    tagged = header.model_copy(update={"tag": f"{masked.tag:016x}"})
    return encode(tagged, words_to_bytes(masked.words))


@pytest.mark.parametrize("length", [1, 7, CHUNK_WORDS, CHUNK_WORDS + 1, 3 * CHUNK_WORDS - 1])
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_the_message_is_the_one_that_copies_would_give(length: int, kind: Kind) -> None:
    vector = np.arange(length) * 1001 - 5
    blind = kind == "evaluate"
    body = masked_upload(keys_of(kind), vector, header=header_of(kind), blind=blind)
    assert body == copied_upload(keys_of(kind), vector, header=header_of(kind), blind=blind)
    assert type(body) is bytes
    frame = decode(body, allowed=(Upload,))
    assert frame.header.tag != NO_TAG and len(frame.blobs[0]) == 4 * length


def test_the_next_ready_travels_before_the_words() -> None:
    following = Consortium.of(3).meet()[0][0]
    body = masked_upload(keys_of(), np.arange(9), header=header_of(next_ready=following))
    header = decode(body, allowed=(Upload,)).header
    assert header.next_ready == following


def test_a_noised_update_is_masked_as_its_values() -> None:
    values = np.arange(9)
    noised = masked_upload(keys_of(), NoisedUpdate(values), header=header_of())
    assert noised == masked_upload(keys_of(), values, header=header_of())


def test_the_upload_is_noted_by_the_hash_of_what_leaves() -> None:
    recovery = RecoverySecrets({}, {})
    masked_upload(keys_of(recovery=recovery), np.arange(LONG // 20), header=header_of())
    assert recovery.upload_hash == upload_hash(mask(keys_of(), np.arange(LONG // 20)))


def test_a_bad_number_at_the_end_leaves_no_message_and_no_masks() -> None:
    keys = keys_of()
    vector = np.zeros(CHUNK_WORDS + 2, dtype=np.int64)
    vector[-1] = 1 << 31
    for expected in (ErrorCode.VECTOR_OUT_OF_RANGE, ErrorCode.SECRETS_SPENT):
        with pytest.raises(ProtocolError) as refused:
            masked_upload(keys, vector, header=header_of())
        assert refused.value.code is expected


def test_a_header_of_another_length_is_no_room_for_the_tag() -> None:
    """The tag's place has a fixed width; words are never overwritten by a longer header."""
    short = header_of().model_copy(update={"tag": "0"})
    with pytest.raises(ValueError):
        masked_upload(keys_of(), np.arange(9), header=short)


def peak_of(make: Callable[..., bytes], vector: np.ndarray) -> float:
    """Highest memory while an upload is made, in units of the upload itself."""
    keys = keys_of()
    tracemalloc.start()
    make(keys, vector, header=header_of())
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / (4 * len(vector))


def test_an_upload_lies_in_memory_once() -> None:
    """Beside the vector: one message, and buffers of a fixed size."""
    vector = np.zeros(LONG, dtype=np.int64)
    assert peak_of(masked_upload, vector) < 1.25


def test_copies_would_be_seen() -> None:
    """The bound above is worth something: a second copy of the words breaks it."""
    vector = np.zeros(LONG, dtype=np.int64)
    assert peak_of(copied_upload, vector) > 1.9
