"""How does a vector become a masked update, and how is a returned sum opened and believed?

A site holds `CohortKeys` for one attempt. Masking spends their masks: a second vector under the
same masks would reveal the difference of the two, so there is no second call. A sum may be opened
until the keys are erased.

Both directions exist piece by piece (`Masker`, `SumOpener`), for vectors of which a process should
not hold several copies, and for a whole vector (`mask`, `check_sum`). One pass does everything
while a piece is in the processor's cache: range, tag, every mask, and the hash of what is sent.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.cohort_keys import CohortKeys
from schemas.secagg.field import PRIME
from schemas.secagg.keys import blind_key, tag_offset, tag_secret
from schemas.secagg.messages import UploadHash
from schemas.secagg.quantise import NoisedUpdate
from schemas.secagg.streams import CHUNK_WORDS, MaskStreams, chunks
from schemas.secagg.tag import AffineTag

__all__ = [
    "CohortKeys",
    "MaskedSum",
    "MaskedUpdate",
    "Masker",
    "SumOpener",
    "check_sum",
    "mask",
]

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


class Masker:
    """Hides one vector that passes by in pieces (SECAGG-6, -8, -9, -12).

    Besides the pieces it holds a few hundred KiB, whatever the length. Nothing that `feed` gives
    may be sent before `finish` has returned: a later piece may be refused, and then all of it is
    void.

    Args:
        keys: secrets of the attempt; their masks are spent here and now.
        length: words of the whole vector, at least one.
        blind: whether the coordinator must not read the sum. It must be true for evaluation and
            false for training, whose sum carries noise; saying it twice catches a mix-up.

    Raises:
        ProtocolError: the secrets were used before, ``blind`` contradicts the kind of attempt, or
            the vector would be empty. In the last two cases nothing is spent.
    """

    __slots__ = ("_keys", "_left", "_masks", "_sent", "_tag", "_tag_offset")

    def __init__(self, keys: CohortKeys, length: int, *, blind: bool = False) -> None:
        if blind != keys.is_blind:
            raise ProtocolError(
                ErrorCode.COHORT_KIND_MISMATCH,
                "Evaluation is masked from the coordinator as well, training is not.",
            )
        if length < 1:
            raise _no_vector()
        group = keys.group()
        masks = keys.spend_masks()
        streams = [(mask.sign, mask.stream_key) for mask in masks]
        if blind:
            streams.append((1, blind_key(group, keys.site_id)))
        self._keys = keys
        self._left = length
        self._masks: MaskStreams | None = MaskStreams(streams)
        own = tag_offset(group, length, keys.site_id)
        self._tag_offset = own + sum(mask.sign * mask.tag_mask for mask in masks)
        self._tag = AffineTag(tag_secret(group, length)).running()
        self._sent = UploadHash(length) if keys.wants_upload_hash else None

    def __repr__(self) -> str:
        return f"Masker({self._left} words to come, <secret>)"

    def feed(self, values: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Mask the next values.

        Args:
            values: integers in the 32-bit range, shape (k,), any k.

        Returns:
            Masked words, shape (k,), a new array.

        Raises:
            ProtocolError: a value is out of range, the vector is longer than announced, or
                masking has ended. What was masked so far is void; the masks are gone.
        """
        if self._masks is None:
            raise _ended()
        if values.ndim != 1 or values.dtype != np.int64 or len(values) > self._left:
            raise self._void(_no_vector())
        words = np.empty(len(values), dtype="<u4")
        for part in chunks(len(values)):
            piece, cast = values[part], words[part]
            if int(piece.min()) < _LOWEST or int(piece.max()) > _HIGHEST:
                raise self._void(
                    ProtocolError(
                        ErrorCode.VECTOR_OUT_OF_RANGE,
                        "A vector holds a number beyond the 32-bit range.",
                    )
                )
            np.copyto(cast, piece, casting="unsafe")  # modulo 2^32: two's complement
            self._tag.add(cast.view("<i4"))  # half the memory of the 64-bit originals
            self._masks.apply(cast)
            if self._sent is not None:
                self._sent.update(cast.data)
        self._left -= len(values)
        return words

    def finish(self) -> int:
        """Return the masked tag, and note the upload's hash if the attempt may need it.

        Raises:
            ProtocolError: the vector is shorter than announced, or masking has ended.
        """
        if self._masks is None:
            raise _ended()
        if self._left:
            raise self._void(_no_vector())
        self._masks = None
        tag = self._tag.result(offset=self._tag_offset)
        if self._sent is not None:
            self._keys.note_upload(self._sent.finish(tag))
        return tag

    def _void(self, error: ProtocolError) -> ProtocolError:
        self._masks = None
        return error


class SumOpener:
    """Opens a sum that passes by in pieces, and says at the end whether to believe it.

    What `feed` gives is *not verified* and must not be used before `finish` has returned.

    Args:
        keys: secrets of the attempt that the sum belongs to.
        length: words of the whole sum, at least one.
        contributors: names of the sites whose vectors are in the sum, by default the whole
            cohort. For a recoverable attempt `contributors_of` says them.

    Raises:
        ProtocolError: the secrets were erased, or the sum would be empty.
    """

    __slots__ = ("_left", "_masks", "_tag", "_tag_offset")

    def __init__(
        self, keys: CohortKeys, length: int, *, contributors: Sequence[str] | None = None
    ) -> None:
        group = keys.group()
        if length < 1:
            raise _malformed()
        blind = [(-1, blind_key(group, site)) for site in keys.roster] if keys.is_blind else []
        self._masks = MaskStreams(blind)
        self._tag = AffineTag(tag_secret(group, length)).running()
        self._left = length
        names = keys.roster if contributors is None else contributors
        self._tag_offset = sum(tag_offset(group, length, site) for site in names)

    def __repr__(self) -> str:
        return f"SumOpener({self._left} words to come, <secret>)"

    def feed(self, words: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Open the next words, shape (k,), any k; they stay as they came.

        Returns:
            Integers in [-2^31, 2^31), shape (k,), not verified yet.

        Raises:
            ProtocolError: the sum is longer than announced or not made of words.
        """
        if words.ndim != 1 or words.dtype != np.uint32 or len(words) > self._left:
            raise _malformed()
        values = np.empty(len(words), dtype=np.int64)
        buffer = np.empty(min(CHUNK_WORDS, len(words)), dtype="<u4")
        for part in chunks(len(words)):
            piece = buffer[: part.stop - part.start]
            np.copyto(piece, words[part])
            self._masks.apply(piece)
            self._tag.add(piece.view("<i4"))
            np.copyto(values[part], piece.view("<i4"))
        self._left -= len(words)
        return values

    def finish(self, tag: int) -> None:
        """Make sure that everything fed was the sum of what the contributors sent.

        Args:
            tag: the total tag that came with the sum.

        Raises:
            ProtocolError: the sum was altered, is incomplete, or belongs to another attempt,
                cohort or length.
        """
        if self._left or not 0 <= tag < PRIME:
            raise _malformed()
        expected = self._tag.result(offset=self._tag_offset)
        if not hmac.compare_digest(expected.to_bytes(8, "little"), tag.to_bytes(8, "little")):
            raise ProtocolError(
                ErrorCode.SUM_ALTERED,
                "The sum that came back is not the sum of what the sites sent.",
                hint="Nothing was applied. Tell the other hospitals; the coordinator may be at "
                "fault.",
            )


def mask(
    keys: CohortKeys, vector: NoisedUpdate | NDArray[np.int64], *, blind: bool = False
) -> MaskedUpdate:
    """Hide a whole vector so that only the sum over the cohort can be read.

    Args:
        keys: secrets of the attempt; their masks are spent by this call.
        vector: training: noised integers; evaluation: counts. Shape (d,), 32-bit range.
        blind: as for `Masker`.

    Raises:
        ProtocolError: as from `Masker` and `Masker.feed`.
    """
    values = vector.values if isinstance(vector, NoisedUpdate) else vector
    if values.ndim != 1 or values.dtype != np.int64:
        raise _no_vector()
    masker = Masker(keys, len(values), blind=blind)
    words = masker.feed(values)
    return MaskedUpdate(words, masker.finish())


def check_sum(
    keys: CohortKeys, summed: MaskedSum, *, contributors: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Open a whole sum and make sure that it is the sum of what the cohort sent (SECAGG-8, -9).

    Args:
        keys: secrets of the attempt that the sum belongs to.
        summed: words and tag as the coordinator gave them; they stay as they came.
        contributors: as for `SumOpener`.

    Returns:
        The integer sum, shape (d,), each in [-2^31, 2^31).

    Raises:
        ProtocolError: as from `SumOpener`, `SumOpener.feed` and `SumOpener.finish`.
    """
    opener = SumOpener(keys, summed.words.size, contributors=contributors)
    values = opener.feed(summed.words)
    opener.finish(summed.tag)
    return values


def _no_vector() -> ProtocolError:
    return ProtocolError(
        ErrorCode.VECTOR_SHAPE,
        "A vector must hold 64-bit integers in a row, as many as were announced.",
    )


def _malformed() -> ProtocolError:
    return ProtocolError(ErrorCode.SUM_MALFORMED, "The sum does not have the expected form.")


def _ended() -> ProtocolError:
    return ProtocolError(
        ErrorCode.SECRETS_SPENT,
        "The masks of this vector were used.",
        hint="A new attempt with fresh keys is needed; the old one stays charged.",
    )
