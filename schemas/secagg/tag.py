"""Did the sum that came back leave the coordinator as it went in?

Every attempt has a fresh secret (a, b) in the field of p = 2^61 - 1, known to the cohort and not
to the coordinator; b holds one offset for each site. Site j sends ⟨a, q⟩ + b_j under its masks;
a sum S with total T of the sites U is accepted if and only if ⟨a, S⟩ + Σ b_j over U = T. A
coordinator that changes S by δ ≠ 0 must guess ⟨a, δ⟩; one that names another U must guess the
difference of their offsets. Without offsets the rule would be homogeneous: a zeroed sum with a
zero total, or any multiple of both, would pass. They also hide ⟨a, S⟩ in a blind sum.

A coefficient per word would cost more than five masks do. Instead the vector is read as rows of
1024 words, and a is a product: word k of row j has the coefficient r_j·s_k, with r_0 = 1 and all
other r_j and s_k uniform. Let D be δ in rows. If ⟨s, D_j⟩ ≠ 0 for some j ≥ 1, one r_j in p fits a
guess; if D_j ≠ 0, that product is zero for one s in p. If only D_0 ≠ 0, one s in p fits. So a
guess is right with chance 2/p, below 2^-59 with the bias of the coefficients, at any length.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.secagg.field import (
    BLOCK,
    LIMB_BITS,
    LIMBS,
    PRIME,
    coefficients,
    inner_products,
    limbs,
)
from schemas.secagg.streams import CHUNK_WORDS, KEY_BYTES, Keystream, chunks

ROW: Final = BLOCK  # words in a row; short vectors have one row and a coefficient per word

_ROWS_KEPT: Final = 1 << 10  # row sums kept before they are multiplied by their r_j
_LOW_BITS: Final = 26  # a row sum has 53 bits with its sign: two parts, each within 32 bits
_LOW_MASK: Final = np.int64((1 << _LOW_BITS) - 1)


class RunningTag:
    """⟨a, q⟩ of a vector that passes by in pieces, and then the tag; one vector each."""

    __slots__ = ("_column", "_floats", "_row", "_s", "_stream", "_sums", "_total")

    def __init__(self, stream_key: bytes) -> None:
        self._stream = Keystream(stream_key)
        self._s = limbs(coefficients(self._stream.words64(ROW)))
        self._sums = np.zeros((_ROWS_KEPT, LIMBS), dtype=np.float64)
        self._floats = np.empty(CHUNK_WORDS, dtype=np.float64)
        self._row = 0  # where the next word goes: of the rows kept
        self._column = 0
        self._total: int | None = None

    def __repr__(self) -> str:
        return "RunningTag(<secret>)"

    def add(self, values: NDArray[np.int64] | NDArray[np.int32]) -> None:
        """Take in the next values: signed 32-bit integers, shape (k,), any length."""
        for part in chunks(len(values)):
            floats = self._floats[: part.stop - part.start]
            np.copyto(floats, values[part])
            begun = min((ROW - self._column) % ROW, len(floats))
            whole = begun + (len(floats) - begun) // ROW * ROW
            self._add_within_row(floats[:begun])
            self._add_rows(floats[begun:whole].reshape(-1, ROW))
            self._add_within_row(floats[whole:])

    def result(self, *, offset: int) -> int:
        """Return ⟨a, everything added⟩ + offset modulo 2^61 - 1; nothing is added after."""
        if self._column:
            self._row, self._column = self._row + 1, 0
        self._settle()
        return ((self._total or 0) + offset) % PRIME

    def _add_within_row(self, floats: NDArray[np.float64]) -> None:
        if not len(floats):
            return
        if self._row == _ROWS_KEPT:
            self._settle()
        end = self._column + len(floats)
        self._sums[self._row] += floats @ self._s[self._column : end]
        self._row, self._column = self._row + end // ROW, end % ROW

    def _add_rows(self, rows: NDArray[np.float64]) -> None:
        if self._row + len(rows) > _ROWS_KEPT:
            self._settle()
        np.matmul(rows, self._s, out=self._sums[self._row : self._row + len(rows)])
        self._row += len(rows)

    def _settle(self) -> None:
        """Multiply each kept row sum by its r_j and begin anew."""
        if not self._row:
            return
        first = self._total is None
        r = coefficients(self._stream.words64(self._row - first))
        if first:
            r = np.concatenate((np.ones(1, dtype=np.int64), r))
        sums = self._sums[: self._row].astype(np.int64)
        parts = np.concatenate((sums & _LOW_MASK, sums >> np.int64(_LOW_BITS)), axis=1)
        products = inner_products(r, parts)
        low, high = products[:LIMBS], products[LIMBS:]
        self._total = (self._total or 0) + sum(
            (below + (above << _LOW_BITS)) << LIMB_BITS * k
            for k, (below, above) in enumerate(zip(low, high, strict=True))
        )
        self._sums[: self._row] = 0
        self._row = 0


class AffineTag:
    """One attempt's tag function (SECAGG-8).

    Args:
        stream_key: 32 bytes from the group secret, for the stream of s and r.
    """

    __slots__ = ("_stream_key",)

    def __init__(self, stream_key: bytes) -> None:
        if len(stream_key) != KEY_BYTES:
            raise ValueError("a tag secret has 32 bytes")
        self._stream_key = stream_key

    def __repr__(self) -> str:
        return "AffineTag(<secret>)"

    def running(self) -> RunningTag:
        """Begin the tag of one vector that comes in pieces."""
        return RunningTag(self._stream_key)

    def evaluate(self, vector: NDArray[np.int64], *, offset: int) -> int:
        """Return ⟨a, vector⟩ + offset modulo 2^61 - 1.

        Args:
            vector: signed 32-bit values held as int64, shape (d,).
            offset: the site's own for its vector, the sum of the contributors' for the sum.
        """
        running = self.running()
        running.add(vector)
        return running.result(offset=offset)
