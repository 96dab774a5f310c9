"""Which of the patches that a network marked are lines of writing, and how large is each?

Measured on real pictures: almost every false patch is a whole organ, and the rest are seen at one
magnification only. So a line is bounded in height, and what one look alone shows must have the
edges of print: from paper to ink within a pixel, where anatomy takes several.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deid.pixels.boxes import Box, grown

STROKE = 0.3  # from this probability on, a pixel belongs to writing
SURE = 0.5  # least mean probability of a patch
STEP = 0.35  # a jump between neighbours of this share of the patch's contrast is an edge of print
FAINT = 0.1  # the same, for the faintest edge that keeps a patch's end from being cut off
EDGES = 1.0  # least share of such edges, times the height in pixels (tall print has fewer)
SURE_TALL = 0.7  # the same, for a patch taller than TALL: letters of that size are plain to see
UNCLIP = 1.6  # the network marks the middle of a line; area * UNCLIP / perimeter leads to its rim
TALLEST = 96  # pixels: the tallest line with its rim; 28-pixel print has about 45
TALL = 48  # pixels: a taller patch is not believed without edges of print
RIM = 5  # pixels left around the outermost edges when a smooth end is cut off
LEAST = 3  # pixels: a smaller patch is a dot


@dataclass(frozen=True, slots=True)
class Patch:
    """One connected patch in picture pixels, rim included, and its mean probability."""

    top: float
    left: float
    bottom: float
    right: float
    score: float

    @property
    def height(self) -> float:
        """Rows covered."""
        return self.bottom - self.top

    @property
    def width(self) -> float:
        """Columns covered."""
        return self.right - self.left


def patches_of(probability: NDArray[np.float32], scale: float) -> list[Patch]:
    """Cut a probability map, made at ``scale`` times the picture's size, into patches.

    The steps are those of differentiable binarisation (Liao et al., AAAI 2020, section 3.4) with
    upright rectangles: threshold, connected components, mean score, rim put back on.
    """
    import cv2  # here: comes with the optional extra

    marked = cv2.dilate((probability > STROKE).astype(np.uint8), np.ones((2, 2), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    found = []
    for label in range(1, count):
        left, top, width, height = (int(value) for value in stats[label][:4])
        if min(width, height) < LEAST:
            continue
        window = (slice(top, top + height), slice(left, left + width))
        score = float(probability[window][labels[window] == label].mean())
        if score < SURE:
            continue
        rim = width * height * UNCLIP / (2 * (width + height))
        found.append(
            Patch(
                (top - rim) / scale,
                (left - rim) / scale,
                (top + height + rim) / scale,
                (left + width + rim) / scale,
                score,
            )
        )
    return found


def lines_of(
    grey: NDArray[np.uint8], once: list[Patch], again: list[Patch], scale: float
) -> list[Box]:
    """Choose the lines among the patches of two looks.

    Args:
        grey: the picture, shape (rows, columns).
        once: patches of the picture as it is.
        again: patches of the picture at ``scale``.
        scale: 2.0 or 1.5 (magnified) or 0.5 (halved).

    Returns:
        Boxes, pieces of one line joined, grown by a few pixels, in reading order.
    """
    rows, columns = grey.shape
    strip = columns >= 4 * rows  # a picture that may be one line
    tallest = min(TALLEST, rows if strip else 0.45 * min(rows, columns))
    second = tallest if scale > 1 else tallest / scale
    looks = (
        [patch for patch in once if min(patch.height, patch.width) <= tallest],
        [patch for patch in again if min(patch.height, patch.width) <= second],
    )
    marked = [_marked(look, rows, columns) for look in looks]
    lines: list[Patch] = []
    for look, other in ((looks[0], marked[1]), (looks[1], marked[0])):
        for patch in look:
            window, low = _window(patch, rows, columns), min(patch.height, patch.width)
            agreed = low <= TALL and other[window].mean() >= 0.5
            likely = low <= TALL or patch.score >= SURE_TALL
            if agreed or (likely and _printed(grey[window], low)):
                lines.append(patch)
    lines = _without_wrappings(lines, columns)
    trimmed = [_trimmed(grey, patch) for patch in lines]
    return [_with_margin(patch, rows, columns) for patch in _joined(trimmed)]


def _marked(patches: list[Patch], rows: int, columns: int) -> NDArray[np.bool_]:
    mask = np.zeros((rows, columns), dtype=np.bool_)
    for patch in patches:
        mask[_window(patch, rows, columns)] = True
    return mask


def _without_wrappings(patches: list[Patch], columns: int) -> list[Patch]:
    """Leave out tall patches around lower ones: one look ran a line and an organ together."""
    kept: list[Patch] = []
    for patch in sorted(patches, key=lambda p: (p.height, p.top, p.left)):
        if patch.height > TALL:
            across = np.zeros(columns, dtype=np.bool_)
            for line in kept:
                if line.top < patch.bottom and line.bottom > patch.top:
                    across[max(0, int(line.left)) : max(0, int(line.right))] = True
            if across[max(0, int(patch.left)) : max(0, int(patch.right))].mean() >= 0.5:
                continue
        kept.append(patch)
    return kept


def _printed(part: NDArray[np.uint8], height: float) -> bool:
    """Whether enough neighbours in the patch differ as sharply as print does from its ground."""
    if min(part.shape) < 2:
        return False
    jumps, contrast = _jumps(part)
    return contrast > 0 and float((jumps > STEP * contrast).mean()) >= EDGES / max(height, 1.0)


def _jumps(part: NDArray[np.uint8]) -> tuple[NDArray[np.int16], int]:
    """How much each pixel differs from its right and lower neighbours, and the whole contrast."""
    values = part.astype(np.int16)
    jumps = np.maximum(
        np.abs(np.diff(values, axis=0))[:, :-1], np.abs(np.diff(values, axis=1))[:-1]
    )
    return jumps, int(values.max()) - int(values.min())


def _trimmed(grey: NDArray[np.uint8], patch: Patch) -> Patch:
    """Cut off a smooth end: tissue that the network ran together with the writing beside it."""
    down, across = _window(patch, *grey.shape)
    part = grey[down, across]
    if min(part.shape) < 2:
        return patch
    jumps, contrast = _jumps(part)
    edges = jumps > FAINT * contrast
    low = min(patch.height, patch.width)
    first, last = _ends(np.asarray(edges.any(axis=1)), 0.4 * low)
    left, right = _ends(np.asarray(edges.any(axis=0)), 0.75 * low)
    return Patch(
        max(patch.top, down.start + first),
        max(patch.left, across.start + left),
        min(patch.bottom, down.start + last),
        min(patch.right, across.start + right),
        patch.score,
    )


def _ends(edges: NDArray[np.bool_], spare: float) -> tuple[int, int]:
    """Where the edges begin and end, rim left; an end shorter than ``spare`` is left whole."""
    where = np.flatnonzero(edges)
    length = len(edges) + 1
    if not len(where):
        return 0, length
    first, last = int(where[0]), int(where[-1]) + 2
    return (
        first - RIM if first > spare else 0,
        last + RIM if length - last > spare else length,
    )


def _window(patch: Patch, rows: int, columns: int) -> tuple[slice, slice]:
    top, left = max(0, int(patch.top)), max(0, int(patch.left))
    bottom, right = min(rows, int(np.ceil(patch.bottom))), min(columns, int(np.ceil(patch.right)))
    return slice(min(top, rows - 1), bottom), slice(min(left, columns - 1), right)


def _joined(patches: list[Patch]) -> list[Patch]:
    """Join patches that lie in one line, gaps of a word's width filled; repeated until stable."""
    lines = sorted(patches, key=lambda p: (p.top, p.left, p.bottom, p.right))
    changed = True
    while changed:
        changed = False
        rest: list[Patch] = []
        for patch in lines:
            for index, other in enumerate(rest):
                if _one_line(patch, other):
                    rest[index] = Patch(
                        min(patch.top, other.top),
                        min(patch.left, other.left),
                        max(patch.bottom, other.bottom),
                        max(patch.right, other.right),
                        max(patch.score, other.score),
                    )
                    changed = True
                    break
            else:
                rest.append(patch)
        lines = rest
    return sorted(lines, key=lambda p: (p.top, p.left, p.bottom, p.right))


def _one_line(one: Patch, other: Patch) -> bool:
    overlap = min(one.bottom, other.bottom) - max(one.top, other.top)
    low, high = sorted((one.height, other.height))
    gap = max(one.left, other.left) - min(one.right, other.right)
    return overlap >= 0.7 * high and gap <= 0.5 * low


def _with_margin(patch: Patch, rows: int, columns: int) -> Box:
    """The patch in whole pixels, and one more at the ends, which the network marks least."""
    box = Box(
        int(patch.top), int(patch.left), int(np.ceil(patch.bottom)), int(np.ceil(patch.right))
    )
    box = grown(box, 0, rows, columns)
    return Box(box.top, max(0, box.left - 1), box.bottom, min(columns, box.right + 1))
