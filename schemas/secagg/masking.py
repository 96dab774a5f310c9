"""How does a vector become a masked update, and how is a returned sum opened and believed?

A site holds `CohortKeys` for one attempt. `mask` spends the pair masks: a second vector under the
same masks would reveal the difference of the two, so there is no second call. `check_sum` may be
called until the keys are erased.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.field import PRIME
from schemas.secagg.keys import Attempt, PairMask, blind_key, tag_secret
from schemas.secagg.quantise import NoisedUpdate
from schemas.secagg.streams import CHUNK_WORDS, Keystream, chunks
from schemas.secagg.tag import AffineTag

_LOWEST: Final = -(1 << 31)
_HIGHEST: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class MaskedUpdate:
    """What leaves a site: ``words`` (d,) modulo 2^32 and ``tag`` modulo 2^61 - 1."""

    words: NDArray[np.uint32]
    tag: int


@dataclass(frozen=True, slots=True)
class MaskedSum:
    """What the coordinator makes of a cohort's updates; the pair masks have cancelled in it."""

    words: NDArray[np.uint32]
    tag: int


class CohortKeys:
    """One site's secrets for one attempt; made by `join_cohort` or `observe_cohort`.

    Attributes:
        site_id: whose secrets these are.
        roster: the cohort, sorted.
        attempt: what they are bound to.
    """

    __slots__ = ("_group", "_pair_masks", "attempt", "roster", "site_id")

    def __init__(
        self,
        site_id: str,
        roster: tuple[str, ...],
        attempt: Attempt,
        group: bytes,
        pair_masks: tuple[PairMask, ...] | None,
    ) -> None:
        self.site_id = site_id
        self.roster = roster
        self.attempt = attempt
        self._group: bytes | None = group
        self._pair_masks = pair_masks

    def __repr__(self) -> str:
        return f"CohortKeys({self.site_id}, {len(self.roster)} sites, <secret>)"

    @property
    def transcript_hash(self) -> str:
        """The hash of every signed READY of the cohort."""
        return self.attempt.transcript_hash

    @property
    def is_blind(self) -> bool:
        """Whether the coordinator must not read the sum: everything without noise of its own."""
        return self.attempt.kind == "evaluate"

    def erase(self) -> None:
        """Forget every secret; the keys are of no use afterwards."""
        self._group = None
        self._pair_masks = None

    def group(self) -> bytes:
        """Return the group secret.

        Raises:
            ProtocolError: the secrets were erased.
        """
        if self._group is None:
            raise _spent()
        return self._group

    def spend_pair_masks(self) -> tuple[PairMask, ...]:
        """Hand out the pair masks and forget them.

        Raises:
            ProtocolError: they were used before, or this site is not a member of the cohort.
        """
        if self._pair_masks is None:
            raise _spent()
        masks, self._pair_masks = self._pair_masks, None
        return masks


def mask(
    keys: CohortKeys, vector: NoisedUpdate | NDArray[np.int64], *, blind: bool = False
) -> MaskedUpdate:
    """Hide a vector so that only the sum over the whole cohort can be read (SECAGG-6, -8, -9).

    Args:
        keys: secrets of the attempt; their pair masks are spent by this call.
        vector: training: noised integers; evaluation: counts. Shape (d,), 32-bit range.
        blind: whether the coordinator must not read the sum. It must be true for evaluation and
            false for training, whose sum carries noise; saying it twice catches a mix-up.

    Raises:
        ProtocolError: the vector is out of range, the secrets were used before, or ``blind``
            contradicts the kind of attempt.
    """
    values = _checked(vector.values if isinstance(vector, NoisedUpdate) else vector)
    if blind != keys.is_blind:
        raise ProtocolError(
            ErrorCode.COHORT_KIND_MISMATCH,
            "Evaluation is masked from the coordinator as well, training is not.",
        )
    group = keys.group()
    pair_masks = keys.spend_pair_masks()
    affine = AffineTag(tag_secret(group, len(values)))
    tag = affine.evaluate(values, contributors=1)
    tag += sum(pair.sign * pair.tag_mask for pair in pair_masks)
    streams = [(pair.sign, pair.stream_key) for pair in pair_masks]
    if blind:
        streams.append((1, blind_key(group, keys.site_id)))
    words = values.astype(np.uint32)  # modulo 2^32: two's complement
    _apply(words, streams)
    return MaskedUpdate(words, tag % PRIME)


def check_sum(keys: CohortKeys, summed: MaskedSum) -> NDArray[np.int64]:
    """Open the sum and make sure that it is the sum of what the cohort sent (SECAGG-8, -9).

    Args:
        keys: secrets of the attempt that the sum belongs to.
        summed: words and tag as the coordinator gave them.

    Returns:
        The integer sum, shape (d,), each in [-2^31, 2^31).

    Raises:
        ProtocolError: the sum was altered, is incomplete, belongs to another attempt or cohort,
            or has another length; or the secrets were erased.
    """
    group = keys.group()
    words = summed.words.astype(np.uint32)  # a copy: the caller's stays as it came
    if words.ndim != 1 or not 0 <= summed.tag < PRIME:
        raise ProtocolError(ErrorCode.SUM_MALFORMED, "The sum does not have the expected form.")
    if keys.is_blind:
        _apply(words, [(-1, blind_key(group, site)) for site in keys.roster])
    total = words.view(np.int32).astype(np.int64)
    affine = AffineTag(tag_secret(group, len(total)))
    expected = affine.evaluate(total, contributors=len(keys.roster))
    if not hmac.compare_digest(expected.to_bytes(8, "little"), summed.tag.to_bytes(8, "little")):
        raise ProtocolError(
            ErrorCode.SUM_ALTERED,
            "The sum that came back is not the sum of what the sites sent.",
            hint="Nothing was applied. Tell the other hospitals; the coordinator may be at fault.",
        )
    return total


def _checked(values: NDArray[np.int64]) -> NDArray[np.int64]:
    if values.ndim != 1 or values.dtype != np.int64 or values.size == 0:
        raise ProtocolError(ErrorCode.VECTOR_SHAPE, "A vector must hold 64-bit integers in a row.")
    if int(values.min()) < _LOWEST or int(values.max()) > _HIGHEST:
        raise ProtocolError(
            ErrorCode.VECTOR_OUT_OF_RANGE, "A vector holds a number beyond the 32-bit range."
        )
    return values


def _apply(words: NDArray[np.uint32], streams: list[tuple[int, bytes]]) -> None:
    """Add (sign 1) or subtract (sign -1) every stream modulo 2^32, in cache-sized pieces."""
    running = [(sign, Keystream(key)) for sign, key in streams]
    scratch = np.empty(min(CHUNK_WORDS, len(words)), dtype="<u4")
    for part in chunks(len(words)):
        piece = words[part]
        mask_words = scratch[: len(piece)]
        for sign, stream in running:
            stream.fill(mask_words)
            (np.add if sign > 0 else np.subtract)(piece, mask_words, out=piece)


def _spent() -> ProtocolError:
    return ProtocolError(
        ErrorCode.SECRETS_SPENT,
        "The secrets of this attempt were used or erased.",
        hint="A new attempt with fresh keys is needed; the old one stays charged.",
    )
