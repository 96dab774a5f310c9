"""How do gradients of rows become the integer sum of clipped patients, in bounded memory?

Rows come in the patients' order, batch after batch. A patient's rows are added in float64 one
after the other, so that where a batch ends cannot move the result by a bit, then divided by their
number and clipped, truncated and added to the total. A few patients at a time: as many as fit the
cache, one at least. Nothing of the size (patients, d) ever exists.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.secagg.quantise import block_rows, integer_gradient_sum
from schemas.secagg.streams import chunks


class PatientSum:
    """The integer sum of patients' mean gradients, each clipped to ``clip``.

    Args:
        d: length of a gradient.
        clip: largest L2 norm of a patient.
        integer_clip: the same in grid units.
    """

    def __init__(self, d: int, clip: float, integer_clip: int) -> None:
        self._clip, self._integer_clip = clip, integer_clip
        self._total = np.zeros(d, dtype=np.int64)
        self._idle = np.zeros(d)  # takes the rows of nobody
        self._sums = np.zeros((block_rows(d), d))  # one patient a row
        self._rows = np.empty_like(self._sums)  # gradients of some rows, in float64
        self._counts = np.zeros(len(self._sums))  # gradients added to each
        self._slot = -1  # the patient rows are added to now
        self._owner = -1
        self._blocks = 0  # clipped and added so far

    def add(self, parts: Sequence[NDArray[np.float32]], owners: NDArray[np.int64]) -> None:
        """Add the gradients of one batch.

        Args:
            parts: each parameter's gradients, (rows of the batch, size), in the flat order.
            owners: (rows,) patient of the first rows, ascending over all calls; what lies behind
                them is the work of nobody, and is done all the same.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            for part in chunks(len(parts[0]), len(self._rows)):
                start = 0
                for each in parts:
                    end = start + each.shape[1]
                    self._rows[: part.stop - part.start, start:end] = each[part]
                    start = end
                for row in range(part.start, part.stop):
                    target = self._place(int(owners[row])) if row < len(owners) else self._idle
                    target += self._rows[row - part.start]

    def finish(self, patients: int) -> NDArray[np.int64]:
        """Give the sum, (d,), after clipping as often as ``patients`` would need at least."""
        size = len(self._sums)
        if self._slot >= 0:
            self._clip_block()
        while self._blocks * size < patients:
            self._clip_block()
        return self._total

    def _place(self, owner: int) -> NDArray[np.float64]:
        """Give the sum that a row of this patient belongs to."""
        if owner != self._owner:
            if self._slot + 1 == len(self._sums):
                self._clip_block()
            self._slot, self._owner = self._slot + 1, owner
        self._counts[self._slot] += 1
        place: NDArray[np.float64] = self._sums[self._slot]
        return place

    def _clip_block(self) -> None:
        counts = np.maximum(self._counts, 1.0)
        self._total += integer_gradient_sum(
            self._sums, self._clip, self._integer_clip, counts, may_overwrite=True
        )
        self._sums[:] = 0.0
        self._counts[:] = 0.0
        self._slot = -1
        self._blocks += 1
