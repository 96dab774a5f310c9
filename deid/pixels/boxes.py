"""Which rectangles of a picture are meant, and how are they joined, grown and measured?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """One rectangle, half open: rows ``top`` to ``bottom - 1``, columns ``left`` to ``right - 1``.

    ``frame`` counts from 0; None means every frame. ``source`` says who asked for it:
    ``detected``, ``region`` or ``device``.
    """

    top: int
    left: int
    bottom: int
    right: int
    frame: int | None = None
    source: str = "detected"

    @property
    def area(self) -> int:
        """Pixels covered."""
        return max(0, self.bottom - self.top) * max(0, self.right - self.left)


def grown(box: Box, by: int, rows: int, columns: int) -> Box:
    """``box`` with ``by`` pixels more on each side, inside a picture of that size."""
    return replace(
        box,
        top=max(0, box.top - by),
        left=max(0, box.left - by),
        bottom=min(rows, box.bottom + by),
        right=min(columns, box.right + by),
    )


def in_blocks(box: Box, side: int) -> Box:
    """The squares of that side, counted from the corner, that ``box`` touches."""
    return replace(
        box,
        top=box.top // side * side,
        left=box.left // side * side,
        bottom=-(-box.bottom // side) * side,
        right=-(-box.right // side) * side,
    )


def clipped(boxes: Iterable[Box], rows: int, columns: int) -> list[Box]:
    """The parts of ``boxes`` inside the picture; empty ones fall away."""
    inside = (grown(box, 0, rows, columns) for box in boxes)
    return [box for box in inside if box.top < box.bottom and box.left < box.right]


def covered(boxes: Sequence[Box], rows: int, columns: int, frame: int) -> NDArray[np.bool_]:
    """Which pixels of one frame the boxes cover; shape (rows, columns)."""
    mask = np.zeros((rows, columns), dtype=np.bool_)
    for box in boxes:
        if box.frame is None or box.frame == frame:
            mask[max(0, box.top) : box.bottom, max(0, box.left) : box.right] = True
    return mask


def covered_fraction(boxes: Sequence[Box], rows: int, columns: int, frames: int) -> float:
    """Share of all pixels of all frames that the boxes cover, overlaps counted once."""
    pixels = rows * columns * frames
    if not boxes or not pixels:
        return 0.0
    own = sorted({box.frame for box in boxes if box.frame is not None})
    everywhere = [box for box in boxes if box.frame is None]
    common = int(covered(everywhere, rows, columns, 0).sum()) if everywhere else 0
    total = common * (frames - len(own))
    total += sum(int(covered(boxes, rows, columns, frame).sum()) for frame in own)
    return total / pixels


def shared_by_frames(boxes: Iterable[Box], frames: int) -> tuple[Box, ...]:
    """The boxes in a stable order, each once; what stands in every frame is said once for all."""
    seen: dict[tuple[int, int, int, int, str], set[int]] = {}
    everywhere = set()
    for box in boxes:
        place = (box.top, box.left, box.bottom, box.right, box.source)
        if box.frame is None:
            everywhere.add(place)
        else:
            seen.setdefault(place, set()).add(box.frame)
    everywhere |= {place for place, where in seen.items() if len(where) == frames}
    joined = [Box(*place[:4], None, place[4]) for place in everywhere]
    joined += [
        Box(*place[:4], frame, place[4])
        for place, where in seen.items()
        if place not in everywhere
        for frame in where
    ]
    return tuple(sorted(joined, key=_order))


def _order(box: Box) -> tuple[int, int, int, int, int, str]:
    frame = -1 if box.frame is None else box.frame
    return (frame, box.top, box.left, box.bottom, box.right, box.source)
