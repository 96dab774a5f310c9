"""What does the coordinator do with updates it cannot read?

It adds them. The pair masks cancel, and what is left is the sum, in clear for training (it
carries the noise of all sites) and under the group's blinding streams for evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.field import PRIME
from schemas.secagg.keys import frame
from schemas.secagg.masking import MaskedSum, MaskedUpdate

WORD_BYTES = 4


def add_masked(uploads: Mapping[str, MaskedUpdate], roster: Sequence[str]) -> MaskedSum:
    """Add one update of every member: words modulo 2^32, tags modulo 2^61 - 1.

    Args:
        uploads: one update per site, all of the same length.
        roster: the cohort; every member and nobody else must have sent.

    Raises:
        ProtocolError: a member is missing or strange, or an update has another form.
    """
    if not roster or set(uploads) != set(roster) or len(set(roster)) != len(roster):
        raise ProtocolError(
            ErrorCode.ATTEMPT_SITE_LEFT,
            "Not exactly the members of the cohort have sent an update.",
            hint="The attempt is void and stays charged; open the next one.",
        )
    first = uploads[roster[0]]
    words = np.zeros(first.words.shape, dtype=np.uint32)
    for site in roster:
        upload = uploads[site]
        if upload.words.shape != words.shape or not 0 <= upload.tag < PRIME:
            raise ProtocolError(
                ErrorCode.VECTOR_SHAPE, "A site's update has another form.", detail=site
            )
        words += upload.words
    return MaskedSum(words, sum(uploads[site].tag for site in roster) % PRIME)


def sum_hash(summed: MaskedSum) -> str:
    """Return the hash by which sites compare what sum they were given (64 hex digits)."""
    label = b"cohortium/v2/secagg/sum"
    tag = summed.tag.to_bytes(8, "little")
    return hashlib.sha256(frame((label, tag, words_to_bytes(summed.words)))).hexdigest()


def words_to_bytes(words: NDArray[np.uint32]) -> bytes:
    """Return the words as they travel: four bytes each, little-endian."""
    return words.astype("<u4", copy=False).tobytes()


def words_from_bytes(raw: bytes, length: int) -> NDArray[np.uint32]:
    """Read exactly ``length`` words.

    Raises:
        ProtocolError: the bytes are more or fewer.
    """
    if len(raw) != length * WORD_BYTES:
        raise ProtocolError(
            ErrorCode.MESSAGE_LENGTH_WRONG, "A vector does not have the length the plan fixes."
        )
    return np.frombuffer(raw, dtype="<u4").astype(np.uint32)
