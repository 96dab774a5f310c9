"""How does a frame become an 8-bit grey picture in which any burned-in text shows?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEVELS = 1 << 16
_LOW, _HIGH = 24, 231  # greys of the tissue's range; what lies outside it takes the rest
_TAIL = 0.02  # share of pixels, so counted, beyond each end of the tissue's range
_SPIKE = 1 / 256  # most that one value may count: padding, air and text are single values
_SPIKES = 3  # single values that lie beyond each end however few values there are


def grey_of_samples(samples: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Map samples of any depth to 8 bits, extremes kept apart from the tissue's range.

    A window alone loses text written far outside it (at the end of the stored range), a stretch
    from least to greatest loses text inside it. So the range that most pixels use is spread
    linearly over most greys, and values beyond it over the few that are left.

    Args:
        samples: (rows, columns), any numeric kind; not-a-number counts as least.

    Returns:
        (rows, columns).
    """
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    levels, top = _levels(samples)
    if top < 256:
        return (levels * (255 // max(1, top))).astype(np.uint8)
    counts = np.bincount(levels.reshape(-1), minlength=top + 1)
    counts = np.minimum(counts, max(1, int(levels.size * _SPIKE)))
    total = int(counts.sum())
    tail = min(max(_TAIL * total, _SPIKES * int(counts.max()) + 1), 0.1 * total)
    share = np.cumsum(counts)
    low = int(np.searchsorted(share, tail))
    high = max(low + 1, int(np.searchsorted(share, total - tail)))
    rim = (high - low) // 4  # a narrower window would blow noise up to the look of text
    low, high = max(0, low - rim), min(top, high + rim)
    table = np.interp(np.arange(top + 1), [0, low, high, max(top, high + 1)], [0, _LOW, _HIGH, 255])
    if low == 0:
        table = np.maximum(table - _LOW * (np.arange(top + 1) <= 0), 0)
    return table.round().astype(np.uint8)[levels]


def _levels(samples: NDArray[np.generic]) -> tuple[NDArray[np.intp], int]:
    """Give samples counted from their least, at most 65,536 levels, and the highest level."""
    if samples.dtype.kind == "f":
        real = samples.astype(np.float64)
        finite = np.isfinite(real)
        least = float(real[finite].min()) if finite.any() else 0.0
        most = float(real[finite].max()) if finite.any() else 0.0
        real = np.where(finite, real, np.where(real > 0, most, least))
        scale = (_LEVELS - 1) / (most - least) if most > least else 0.0
        return ((real - least) * scale).astype(np.intp), _LEVELS - 1 if scale else 0
    least_int, most_int = int(samples.min()), int(samples.max())
    shifted = samples.astype(np.int64) - least_int
    spread = most_int - least_int
    if spread >= _LEVELS:
        shifted = shifted * (_LEVELS - 1) // spread
        spread = _LEVELS - 1
    return shifted.astype(np.intp), spread


def grey_of_colours(colours: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Map colour to grey so that text of any pure hue stands off a ground of any other.

    Luma, with a little more blue than the eye's: red, green, blue, their mixtures, black, white and
    middle grey then lie at least 16 apart.

    Args:
        colours: (rows, columns, 3 or more) red, green, blue, unsigned.

    Returns:
        (rows, columns).
    """
    if colours.dtype != np.uint8:
        colours = (colours >> (8 * colours.dtype.itemsize - 8)).astype(np.uint8)  # type: ignore[operator]
    red, green, blue = (colours[..., i].astype(np.uint16) for i in range(3))
    return ((72 * red + 146 * green + 38 * blue) >> 8).astype(np.uint8)


def rgb_of_ybr(ybr: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Convert YBR_FULL (PS3.3 C.7.6.3.1.2) to RGB; 16-bit samples are cut to their upper 8."""
    if ybr.dtype != np.uint8:
        ybr = (ybr >> (8 * ybr.dtype.itemsize - 8)).astype(np.uint8)  # type: ignore[operator]
    luma = ybr[..., 0].astype(np.float32)
    blue, red = (ybr[..., i].astype(np.float32) - 128 for i in (1, 2))
    parts = [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue]
    rgb: NDArray[np.uint8] = np.clip(np.stack(parts, axis=-1).round(), 0, 255).astype(np.uint8)
    return rgb
