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

MAX_INTEGER_CLIP: Final = 1 << 30  # squares stay below 2^60, so their sum is exact in int64
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


def clip_patients(gradients: NDArray[np.float64], clip: float) -> ClippedUpdate:
    """Scale each row that is longer than ``clip`` down to it; rows that are not finite become zero.

    Args:
        gradients: one row per patient, shape (patients, d).
        clip: largest L2 norm, finite and positive.

    Raises:
        ValueError: the shape or the clip is not one (a fault of the program, not of data).
    """
    if gradients.ndim != 2 or not (math.isfinite(clip) and clip > 0):
        raise ValueError("clipping needs one row per patient and a finite positive clip")
    rows = np.array(gradients, dtype=np.float64)
    rows[~np.isfinite(rows).all(axis=1)] = 0.0
    largest = np.abs(rows).max(axis=1, initial=0.0)
    # A norm is taken of rows scaled to their largest entry: squares of 1e308 are not finite.
    scale = np.where(largest > 0, largest, 1.0)
    rows /= scale[:, None]
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    factor = np.minimum(scale, clip / np.maximum(norms, 1.0))
    rows *= factor[:, None]
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
    if not 1 <= integer_clip <= MAX_INTEGER_CLIP:
        raise ValueError("the integer clip lies between 1 and 2^30")
    scaled = clipped.rows / clipped.clip
    if not (np.einsum("ij,ij->i", scaled, scaled) <= 1.0 + _ROUNDING).all():
        raise ValueError("a row is longer than the clip")
    scaled *= integer_clip
    limit = integer_clip * integer_clip
    integers = np.trunc(scaled).astype(np.int64)
    long = np.flatnonzero(_squared_norms(integers) > limit)
    step = _STEP_BACK
    while long.size:
        # Float rounding left these rows a hair outside: step back until the integers fit.
        scaled[long] *= 1.0 - step
        step *= 2.0
        integers[long] = np.trunc(scaled[long]).astype(np.int64)
        long = long[_squared_norms(integers[long]) > limit]
    return QuantisedUpdate(integers.sum(axis=0, dtype=np.int64))


def integer_gradient_sum(
    clipped: NDArray[np.float64], clip: float, integer_clip: int
) -> NDArray[np.int64]:
    """Clip (again, it costs little), truncate and add one row per patient; shape (d,)."""
    return quantise(clip_patients(clipped, clip), integer_clip).values


def _squared_norms(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    squares: NDArray[np.int64] = np.einsum("ij,ij->i", rows, rows)
    return squares
