"""How do clipped gradients become integers without a patient ever weighing more than the clip?

Each patient's gradient is clipped to an L2 norm in float64 and truncated toward zero onto a grid
of ``clip / integer_clip``. Truncation cannot lengthen a vector, so the integer norm of one patient
is at most ``integer_clip``, exactly, and that is the sensitivity of the sum (PRIVACY-2). Rounding
the site's sum instead would cost about sqrt(d) grid units of it. Every row takes the same work,
because time is seen outside (PRIVACY-16): no row is worked on alone, none is copied.

    a patient's row holds     becomes
    only zeros                zeros
    infinity or NaN           zeros: the patient adds nothing, nothing is refused, because a
                              refusal would tell the outside about one patient
    values near 1e308         the clipped direction; the norm is taken after scaling
    subnormal values          zeros (below the grid)
    the clip, to 2^-39        itself; or zeros, if rounding hid that its integers are too long. That
                              needs an integer_clip above 2^19, and every value of the row a 2^-39
                              above the grid: practically never

The clip is that of Abadi et al. 2016 (arXiv 1607.00133, algorithm 1); integers as in Kairouz,
Liu, Steinke 2021 (arXiv 2102.06387), with truncation in place of their rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.secagg.streams import chunks

MAX_INTEGER_CLIP: Final = 1 << 30  # squares stay below 2^60, so their sum is exact in int64
_EXACT_IN_FLOAT: Final = 1 << 26  # up to here the squares of one row add up below 2^53
_BLOCK_VALUES: Final = 1 << 17  # 1 MiB of float64: near the cache, and few calls
_MOST_BLOCK_ROWS: Final = 512
_DOT_VALUES: Final = 8192  # OpenBLAS starts threads above 10 000
_LEAST_CLIP: Final = 1e-100  # a plan's clip lies between 1e-9 and 1e9
_LARGEST_CLIP: Final = 1e100
_FAR: Final = 2.0**-600  # brings the squares of 1e308 into float64
_ROUNDING: Final = 2.0**-20  # far above what summing 1e8 squares in float64 can lose


@dataclass(frozen=True, slots=True)
class ClippedUpdate:
    """One row per patient, each of L2 norm at most ``clip`` up to float64 rounding.

    ``rows`` has shape (patients, d).
    """

    rows: NDArray[np.float64]
    clip: float


@dataclass(frozen=True, slots=True)
class QuantisedUpdate:
    """Integers on the plan's grid, without noise yet; ``values`` has shape (d,)."""

    values: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NoisedUpdate:
    """Integers that carry this site's share of the noise; only these can be masked for training.

    ``values`` has shape (d,).
    """

    values: NDArray[np.int64]


def clip_patients(
    gradients: NDArray[np.float64], clip: float, counts: NDArray[np.float64] | None = None
) -> ClippedUpdate:
    """Scale each row that is longer than ``clip`` down to it; rows that are not finite become zero.

    A row's result depends on that row alone, to the last bit: how many others there are, and what
    they hold, decides nothing.

    Args:
        gradients: one row per patient, shape (patients, d); kept as they are.
        clip: largest L2 norm, between 1e-100 and 1e100.
        counts: (patients,), what each row is the sum of, at least 1: then a patient's gradient is
            the row divided by it. Without, every row is a gradient already.

    Raises:
        ValueError: the shape or the clip is not one (a fault of the program, not of data).
    """
    _check_clip(gradients, clip)
    rows = np.asarray(gradients, dtype=np.float64)
    values = np.empty_like(rows)
    lengths = _fit(values, rows, clip, clip, _ones(rows) if counts is None else counts)
    _keep(values, lengths < math.inf)
    return ClippedUpdate(values, clip)


def quantise(clipped: ClippedUpdate, integer_clip: int) -> QuantisedUpdate:
    """Truncate each patient to the grid, check the integer norm exactly, and add the patients.

    Args:
        clipped: rows of norm at most ``clipped.clip``.
        integer_clip: the clip in grid units, at most 2^30.

    Returns:
        The site's integer sum, shape (d,). Without patients: zeros.

    Raises:
        ValueError: a row is longer than the clip, so it did not come from `clip_patients`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(_squared_norms(clipped.rows))
    if not (norms <= clipped.clip * (1.0 + _ROUNDING)).all():
        raise ValueError("a row is longer than the clip")
    return QuantisedUpdate(integer_gradient_sum(clipped.rows, clipped.clip, integer_clip))


def integer_gradient_sum(
    gradients: NDArray[np.float64],
    clip: float,
    integer_clip: int,
    counts: NDArray[np.float64] | None = None,
    *,
    may_overwrite: bool = False,
) -> NDArray[np.int64]:
    """Clip, truncate and add one row per patient, shape (d,): both stages in one pass over them.

    Args:
        gradients: as for `clip_patients`, and so are clip and counts.
        clip: largest L2 norm.
        integer_clip: the same in grid units, at most 2^30.
        counts: what each row is the sum of; without, ones.
        may_overwrite: whether the gradients, float64 then, may be worked on where they are: half
            the memory. A finite row of a norm beyond 1e154 becomes zeros then.
    """
    _check_clip(gradients, clip)
    if not 1 <= integer_clip <= MAX_INTEGER_CLIP:
        raise ValueError("the integer clip lies between 1 and 2^30")
    rows = np.asarray(gradients, dtype=np.float64)
    ones = _ones(rows) if counts is None else counts
    total = np.zeros(rows.shape[1], dtype=np.int64)
    # A few rows at a time: what is worked on stays near the cache, and memory is bounded.
    for part in chunks(len(rows), block_rows(rows.shape[1])):
        integers = rows[part] if may_overwrite else np.empty_like(rows[part])
        lengths = _fit(integers, rows[part], clip, float(integer_clip), ones[part], np.trunc)
        kept = ~_exceed(integers, lengths, integer_clip)
        for columns in chunks(rows.shape[1], _BLOCK_VALUES):
            piece = integers[:, columns]
            _keep(piece, kept)
            # Exact in float64: 2^53 is more than the rows of a block times 2^30.
            total[columns] += np.add.reduce(piece, axis=0).astype(np.int64)
    return total


def block_rows(d: int) -> int:
    """Say how many rows of ``d`` float64 values are worked on together, at least one."""
    return min(_MOST_BLOCK_ROWS, max(1, _BLOCK_VALUES // max(d, 1)))


def _check_clip(gradients: NDArray[np.float64], clip: float) -> None:
    if gradients.ndim != 2 or not _LEAST_CLIP <= clip <= _LARGEST_CLIP:
        raise ValueError("clipping needs one row per patient and a finite positive clip")


def _ones(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones(len(rows))


def _fit(
    values: NDArray[np.float64],
    rows: NDArray[np.float64],
    clip: float,
    length: float,
    counts: NDArray[np.float64],
    rounding: np.ufunc | None = None,
) -> NDArray[np.float64]:
    """Bring the mean of each row into a ball; what is done does not depend on what they hold.

    No row that is longer than the clip ends outside, for what float64 loses is taken off first.
    Behind a sum of m squares, k pieces after each other, a norm is right to (m + k)/2 roundings
    (Higham 2002, section 3.1: any order); product, quotient, root and unit are five more.

    Args:
        values: (rows, d), takes them; may be the rows themselves.
        rows: (rows, d).
        clip: largest norm of a mean.
        length: the clip in the units of the result.
        counts: (rows,), what each row is the sum of.
        rounding: what makes the values whole numbers, never longer; without, they stay as they are.

    Returns:
        Squared norms of the values, (rows,): NaN where a row is not finite, whose values mean
        nothing then.
    """
    d = rows.shape[1]
    lost = (min(d, _DOT_VALUES) + math.ceil(d / _DOT_VALUES)) / 2 + 8
    lengths = np.zeros(len(rows))
    with np.errstate(over="ignore", invalid="ignore"):
        norms, limits = np.sqrt(_squared_norms(rows)), clip * counts
        room = np.where(norms > limits, length * (1.0 - lost * 2.0**-53), length)
        # A norm that overflows gives the factor 0: zeros, but NaN where there is infinity or NaN.
        factors = (room / np.maximum(norms, limits))[:, None]
        for columns in chunks(d, _BLOCK_VALUES):
            piece = values[:, columns]
            np.multiply(rows[:, columns], factors, out=piece)
            if rounding is not None:
                rounding(piece, out=piece)
            lengths += _squared_norms(piece)
    far = np.flatnonzero((norms == math.inf) & (lengths == 0.0))
    if far.size:
        # Finite and beyond 1e154: no sum of float32 gradients is, so this never tells of a patient.
        near = rows[far] * _FAR
        lengths[far] = _fit(near, near, clip * _FAR, length, counts[far], rounding)
        values[far] = near
    return lengths


def _keep(values: NDArray[np.float64], kept: NDArray[np.bool_]) -> None:
    """Make every other row of (rows, d) zeros, in place, NaN too, in the same time for any rows."""
    bits = values.view(np.int64)
    np.bitwise_and(bits, -kept.astype(np.int64)[:, None], out=bits)


def _squared_norms(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the squared norm of every row, (rows,), by a piece of its columns after the other.

    A library of linear algebra sums short vectors alone and long ones on several threads, whose
    number would then move the last bit, and which cost far more than they give here.
    """
    total = np.zeros(len(rows))
    for part in chunks(rows.shape[1], _DOT_VALUES):
        piece = rows[:, part]
        total += np.vecdot(piece, piece)
    return total


def _exceed(
    integers: NDArray[np.float64], lengths: NDArray[np.float64], integer_clip: int
) -> NDArray[np.bool_]:
    """Say which rows of integers are longer than ``integer_clip``: no rounding, no tolerance.

    Args:
        integers: (rows, d), whole numbers.
        lengths: (rows,), their squared norms in float64; NaN or more than 1 + 2^-20 times the
            limit is longer, whatever the integers are.
        integer_clip: the limit of the norm.
    """
    limit = integer_clip * integer_clip
    if integer_clip > _EXACT_IN_FLOAT:
        with np.errstate(invalid="ignore"):
            whole = integers.astype(np.int64)
        fits: NDArray[np.bool_] = np.vecdot(whole, whole) <= limit
        return ~(fits & (lengths <= limit * (1.0 + _ROUNDING)))
    # Every partial sum is an integer below 2^53: float64 has added it without rounding.
    return ~(lengths <= limit)
