"""Did the sum that came back leave the coordinator as it went in?

Every attempt has a fresh secret (a, b) in the field of 2^61 - 1, known to the cohort and not to
the coordinator. A site sends ⟨a, q⟩ + b under its masks; the n sites accept a sum S with total T
if and only if ⟨a, S⟩ + n·b = T. A coordinator that changes S by δ ≠ 0 must guess ⟨a, δ⟩, one
chance in about 2^60. Without b the rule would be homogeneous: a zeroed sum with a zero total, or
any multiple of both, would pass. b also hides ⟨a, S⟩ in a sum the coordinator must not read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.secagg.field import PRIME, coefficients, inner_product, residue
from schemas.secagg.streams import KEY_BYTES, Keystream, chunks


class AffineTag:
    """One attempt's tag function (SECAGG-8).

    Args:
        secret: 64 bytes from the group secret: 32 for the stream of a, 32 for b.
    """

    __slots__ = ("_offset", "_stream_key")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 2 * KEY_BYTES:
            raise ValueError("a tag secret has 64 bytes")
        self._stream_key = secret[:KEY_BYTES]
        self._offset = residue(secret[KEY_BYTES:])

    def __repr__(self) -> str:
        return "AffineTag(<secret>)"

    def evaluate(self, vector: NDArray[np.int64], *, contributors: int) -> int:
        """Return ⟨a, vector⟩ + contributors·b modulo 2^61 - 1.

        Args:
            vector: signed 32-bit values held as int64, shape (d,).
            contributors: 1 for a site's own vector, |U| for the sum.
        """
        stream = Keystream(self._stream_key)
        total = contributors * self._offset
        for part in chunks(len(vector)):
            a = coefficients(stream.words64(part.stop - part.start))
            total += inner_product(a, vector[part])
        return total % PRIME
