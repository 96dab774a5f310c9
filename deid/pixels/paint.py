"""With which value is a box of a decoded frame blanked?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deid.pixels.boxes import Box, clipped
from deid.pixels.codec import Coded, Frames
from deid.pixels.native import Pixels


def painted(frames: Frames, coded: Coded, boxes: Sequence[Box]) -> Coded:
    """Give a frame with its boxes blank."""
    fill = np.array(fill_of(frames, coded)).astype(coded.samples.dtype)
    samples = coded.samples.copy()
    for box in clipped(boxes, *samples.shape[:2]):
        samples[box.top : box.bottom, box.left : box.right] = fill if samples.ndim == 3 else fill[0]
    return Coded(samples, coded.precision, coded.photometric)


def fill_of(frames: Frames, coded: Coded) -> Sequence[int | float]:
    """Give the samples of the darkest pixel a viewer can show, in the frame's own coding.

    Grey takes the darkest value the frame uses: nothing outside its range, whose window and
    statistics stay as they were. Colour takes black.
    """
    values, samples = frames.shown(coded), coded.samples
    kind = coded.photometric
    if samples.ndim == 3:
        if kind.startswith("YBR") and kind not in ("YBR_RCT", "YBR_ICT"):
            half = 1 << (coded.precision - 1)
            black = half // 8 if kind.startswith("YBR_PARTIAL") else 0
            return [black, half, half] + [0] * (samples.shape[2] - 3)
        return [0] * samples.shape[2]
    if kind.startswith("PALETTE"):
        return [frames.darkest_entry(values)]
    return [_extreme(values, samples, brightest=kind == "MONOCHROME1")]


def _extreme(values: Pixels, samples: Pixels, *, brightest: bool) -> int | float:
    flat = values.reshape(-1)
    if flat.dtype.kind == "f":
        flat = np.where(np.isfinite(flat), flat, -np.inf if brightest else np.inf)
    at = int(flat.argmax() if brightest else flat.argmin())
    found: int | float = samples.reshape(-1)[at].item()
    return found
