"""Where does writing stand in the frames of one object?

Every frame is looked at. A frame whose pixels equal an earlier one's is not looked at twice, and
what was found in one frame is looked for by its pixels in the others: a line that stands in all
frames of a loop is hidden in all of them, even where the network overlooked it in one.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deid.pixels.boxes import Box, shared_by_frames
from deid.pixels.detector import TextDetector

# Pixels of one object that are looked at twice: a picture or a short loop wholly, of a long loop
# every n-th frame, the others once. A line that only the second look sees is carried to the rest.
THOROUGH_PIXELS = 4_000_000
MIN_HEIGHT, MIN_LENGTH = 12, 32  # pixels: no legible line is lower, or shorter, than that
SAME_LINE = 0.8  # correlation from which two frames show the same writing in one place
MOST_LOOKS = 8  # different writings kept of one place: a counter has one for every frame

Place = tuple[int, int, int, int]  # top, left, bottom, right
Patch = NDArray[np.float32]


class GreyFrames(Protocol):
    """What this module needs of an object's frames."""

    @property
    def count(self) -> int:
        """Number of frames."""

    def grey(self, index: int) -> NDArray[np.uint8]:
        """One frame as a grey picture, shape (rows, columns)."""


def too_small(rows: int, columns: int) -> bool:
    """Whether no legible line fits into a picture of that size."""
    return min(rows, columns) < MIN_HEIGHT or max(rows, columns) < MIN_LENGTH


def find_boxes(frames: GreyFrames, detector: TextDetector) -> tuple[Box, ...]:
    """Find the writing in every frame.

    Args:
        frames: decoded one by one, up to three times each.
        detector: the text detector.

    Returns:
        Boxes with their frame, or with ``frame=None`` where all frames share one; in a stable
        order, so that the same object gives the same bytes in any worker.
    """
    seen: dict[bytes, int] = {}
    found: list[list[Box]] = []
    stride = 1
    for index in range(frames.count):
        grey = frames.grey(index)
        if index == 0:
            stride = max(1, -(-frames.count * grey.size // THOROUGH_PIXELS))
        digest = hashlib.sha256(np.ascontiguousarray(grey).tobytes()).digest()
        if digest in seen:
            found.append(list(found[seen[digest]]))
            continue
        seen[digest] = index
        found.append(detector.find(grey, thorough=index % stride == 0))
    if frames.count > 1:
        _carry_over(frames, found)
    return shared_by_frames(
        (replace(box, frame=index) for index, boxes in enumerate(found) for box in boxes),
        frames.count,
    )


def _carry_over(frames: GreyFrames, found: list[list[Box]]) -> None:
    """Give each frame the boxes of other frames whose writing it shows in the same place."""
    if all(not boxes for boxes in found):
        return
    known: dict[Place, list[Patch]] = {}
    for index, boxes in enumerate(found):
        grey = frames.grey(index) if boxes else None
        for box in boxes:
            place = (box.top, box.left, box.bottom, box.right)
            patch = None if grey is None else _standardised(grey, place)
            shown = known.setdefault(place, [])
            if patch is not None and len(shown) < MOST_LOOKS and not _like_any(patch, shown):
                shown.append(patch)
    for index, boxes in enumerate(found):
        own = {(box.top, box.left, box.bottom, box.right) for box in boxes}
        missing = sorted(place for place in known if place not in own)
        grey = frames.grey(index) if missing else None
        for place in missing:
            patch = None if grey is None else _standardised(grey, place)
            if patch is not None and _like_any(patch, known[place]):
                boxes.append(Box(*place))


def _standardised(grey: NDArray[np.uint8], place: Place) -> Patch | None:
    """The pixels of a place, mean 0 and length 1; None where they are flat or not all there."""
    top, left, bottom, right = place
    patch = grey[top:bottom, left:right].astype(np.float32)
    patch -= patch.mean()
    length = float(np.sqrt((patch * patch).sum()))
    if length == 0 or patch.shape != (bottom - top, right - left):
        return None
    return patch / np.float32(length)


def _like_any(patch: Patch, others: list[Patch]) -> bool:
    return any(float((patch * other).sum()) >= SAME_LINE for other in others)
