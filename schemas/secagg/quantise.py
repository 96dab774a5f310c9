"""How do clipped gradients become integers without a patient ever weighing more than the clip?

Each patient's gradient is clipped to an L2 norm in float64 and truncated toward zero onto a grid
of ``clip / integer_clip``. Truncation cannot lengthen a vector, so the integer norm of one patient
is at most ``integer_clip``, exactly, and that is the sensitivity of the sum (PRIVACY-2). Rounding
the site's sum instead would cost about sqrt(d) grid units of it.

    a patient's row holds     becomes
    only zeros                zeros
    infinity or NaN           zeros: the patient adds nothing, nothing is refused, because a
                              refusal would tell the outside about one patient
    values near 1e308         the clipped direction; the norm is taken after scaling
    subnormal values          zeros (below the grid)

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
_PLAIN_NORM: Final = 1e150  # L2; its square is far from float64's end
_STEP_BACK: Final = 2.0**-50  # then twice as much, until the integers fit
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
    plain, factors = _factors(np.asarray(gradients, dtype=np.float64), clip, counts)
    rows = plain * factors[:, None]
    return ClippedUpdate(rows, clip)


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
    return QuantisedUpdate(_integer_sum(clipped.rows, clipped.clip, integer_clip, None))


def integer_gradient_sum(
    gradients: NDArray[np.float64],
    clip: float,
    integer_clip: int,
    counts: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Clip, truncate and add one row per patient, shape (d,): both stages in one pass over them.

    Args:
        gradients: as for `clip_patients`, and so are clip and counts.
        clip: largest L2 norm.
        integer_clip: the same in grid units, at most 2^30.
        counts: what each row is the sum of; without, ones.
    """
    _check_clip(gradients, clip)
    ones = np.ones(len(gradients)) if counts is None else counts
    return _integer_sum(np.asarray(gradients, dtype=np.float64), clip, integer_clip, ones)


def block_rows(d: int) -> int:
    """Say how many rows of ``d`` float64 values are worked on together, at least one."""
    return min(_MOST_BLOCK_ROWS, max(1, _BLOCK_VALUES // max(d, 1)))


def _check_clip(gradients: NDArray[np.float64], clip: float) -> None:
    if gradients.ndim != 2 or not _LEAST_CLIP <= clip <= _LARGEST_CLIP:
        raise ValueError("clipping needs one row per patient and a finite positive clip")


def _factors(
    rows: NDArray[np.float64], clip: float, counts: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give rows, and for each the factor (rows,) that makes its mean no longer than the clip.

    The rows are those given, but for the strange ones, which are clipped already.
    """
    scale = np.ones(len(rows)) if counts is None else counts
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(_squared_norms(rows))
        factors = clip / np.maximum(norms, clip * scale)
    strange = np.flatnonzero(~(norms <= _PLAIN_NORM))
    if strange.size:
        rows = rows.copy()
        for each in strange:
            rows[each] = _clipped_alone(rows[each] / scale[each], clip)
            factors[each] = 1.0
    return rows, factors


def _clipped_alone(row: NDArray[np.float64], clip: float) -> NDArray[np.float64]:
    """Clip one row whose squared norm is no number of float64; (d,)."""
    if not np.isfinite(row).all():
        return np.zeros_like(row)
    # Norm of the row scaled to its largest entry: squares of 1e308 are not finite.
    row = row / np.abs(row).max()
    return row * (clip / math.sqrt(float(_squared_norms(row[None])[0])))


def _integer_sum(
    rows: NDArray[np.float64],
    clip: float,
    integer_clip: int,
    counts: NDArray[np.float64] | None,
) -> NDArray[np.int64]:
    """Truncate rows and add them, (d,); with counts they are clipped first, without they are.

    A few rows at a time: what is worked on stays near the cache, and memory is bounded.
    """
    if not 1 <= integer_clip <= MAX_INTEGER_CLIP:
        raise ValueError("the integer clip lies between 1 and 2^30")
    total = np.zeros(rows.shape[1], dtype=np.int64)
    for part in chunks(len(rows), block_rows(rows.shape[1])):
        block, units = rows[part], np.full(part.stop - part.start, integer_clip / clip)
        if counts is not None:
            block, factors = _factors(block, clip, counts[part])
            units *= factors
        total += _truncated_sum(block, units, integer_clip)
    return total


def _truncated_sum(
    rows: NDArray[np.float64], units: NDArray[np.float64], integer_clip: int
) -> NDArray[np.int64]:
    """Truncate each row times its unit and add them, (d,); no row longer than ``integer_clip``.

    The integers are held as float64, which holds them exactly; so it does their sum, 2^53 being
    more than the rows of a block times 2^30.
    """
    integers = rows * units[:, None]
    np.trunc(integers, out=integers)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = _squared_norms(integers)
    limit = integer_clip * integer_clip
    if not (lengths <= limit * (1.0 + _ROUNDING)).all():
        raise ValueError("a row is longer than the clip")
    long = np.flatnonzero(_exceed(integers, lengths, integer_clip))
    step = _STEP_BACK
    while long.size:
        # Float rounding left these rows a hair outside: step back until the integers fit.
        again = np.trunc(rows[long] * (units[long] * (1.0 - step))[:, None])
        integers[long] = again
        step *= 2.0
        long = long[_exceed(again, _squared_norms(again), integer_clip)]
    summed: NDArray[np.int64] = np.add.reduce(integers, axis=0).astype(np.int64)
    return summed


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
        lengths: (rows,), their squared norms in float64, at most 1 + 2^-20 times the limit.
        integer_clip: the limit of the norm.
    """
    limit = integer_clip * integer_clip
    if integer_clip > _EXACT_IN_FLOAT:
        whole = integers.astype(np.int64)
        exact: NDArray[np.bool_] = np.vecdot(whole, whole) > limit
        return exact
    # Every partial sum is an integer below 2^53: float64 has added it without rounding.
    over: NDArray[np.bool_] = lengths > limit
    return over
