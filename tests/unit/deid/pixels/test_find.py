"""All frames are looked at, equal ones once, and a line seen in one is hidden in all."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from deid.pixels.boxes import Box
from deid.pixels.find import THOROUGH_PIXELS, find_boxes, too_small

Grey = NDArray[np.uint8]


@dataclass
class Loop:
    pictures: list[Grey]

    @property
    def count(self) -> int:
        return len(self.pictures)

    def grey(self, index: int) -> Grey:
        return self.pictures[index]


@dataclass
class ScriptedDetector:
    """Answers by the value of the first pixel."""

    answers: dict[int, list[Box]]
    looks: list[tuple[int, bool]] = field(default_factory=list)

    def find(self, grey: Grey, *, thorough: bool = True) -> list[Box]:
        self.looks.append((int(grey[0, 0]), thorough))
        return list(self.answers.get(int(grey[0, 0]), []))


def picture(name: int, written: bool = False, side: int = 64) -> Grey:
    out = np.full((side, side), 30, dtype=np.uint8)
    out[40:, :] = np.arange(side, dtype=np.uint8)[None, :] + name
    out[0, 0] = name
    if written:
        out[12:18, 10:50:3] = 220
    return out


LINE = Box(10, 8, 20, 52)


@pytest.mark.parametrize(
    ("rows", "columns", "small"),
    [(28, 28, True), (8, 512, True), (512, 8, True), (16, 512, False), (64, 64, False)],
)
def test_a_strip_may_hold_a_line_and_a_thumbnail_may_not(
    rows: int, columns: int, small: bool
) -> None:
    assert too_small(rows, columns) is small


def test_a_single_picture_has_boxes_of_all_frames() -> None:
    detector = ScriptedDetector({1: [LINE]})
    assert find_boxes(Loop([picture(1, written=True)]), detector) == (LINE,)


def test_equal_frames_are_looked_at_once() -> None:
    detector = ScriptedDetector({1: [LINE]})
    frames = Loop([picture(1, written=True)] * 5)
    assert find_boxes(frames, detector) == (LINE,)
    assert len(detector.looks) == 1


def test_a_line_seen_in_one_frame_is_hidden_wherever_it_stands() -> None:
    detector = ScriptedDetector({2: [LINE]})
    frames = Loop([picture(1, True), picture(2, True), picture(3, True)])
    assert find_boxes(frames, detector) == (LINE,)


def test_a_frame_without_the_line_stays_whole() -> None:
    detector = ScriptedDetector({2: [LINE]})
    frames = Loop([picture(1), picture(2, True), picture(3, True)])
    found = find_boxes(frames, detector)
    assert {box.frame for box in found} == {1, 2}


def test_every_frame_of_a_long_loop_is_looked_at_and_some_twice() -> None:
    side = 512
    count = 2 * THOROUGH_PIXELS // (side * side)
    detector = ScriptedDetector({})
    find_boxes(Loop([picture(name, side=side) for name in range(count)]), detector)
    assert [name for name, _ in detector.looks] == list(range(count))
    thorough = [name for name, twice in detector.looks if twice]
    assert 0 in thorough and 0 < len(thorough) * side * side <= THOROUGH_PIXELS + side * side


def test_frames_of_unequal_size_do_no_harm() -> None:
    detector = ScriptedDetector({1: [LINE]})
    found = find_boxes(Loop([picture(1, True), picture(2, side=12)]), detector)
    assert found == (Box(10, 8, 20, 52, 0),)
