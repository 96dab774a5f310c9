"""Rectangles: clipped, counted once, told once."""

from __future__ import annotations

import pytest

from deid.pixels.boxes import (
    Box,
    clipped,
    covered,
    covered_fraction,
    grown,
    in_blocks,
    shared_by_frames,
)


def test_a_box_grows_no_further_than_the_picture() -> None:
    assert grown(Box(1, 2, 5, 9), 4, rows=7, columns=10) == Box(0, 0, 7, 10)


def test_what_lies_outside_the_picture_falls_away() -> None:
    assert clipped([Box(-5, -5, 3, 3), Box(20, 0, 30, 4)], 10, 10) == [Box(0, 0, 3, 3)]


def test_only_boxes_of_the_frame_cover_it() -> None:
    mask = covered([Box(0, 0, 2, 2, frame=1), Box(3, 3, 4, 4)], 5, 5, frame=0)
    assert mask.sum() == 1 and mask[3, 3]


def test_overlaps_are_counted_once_and_frames_apart() -> None:
    boxes = [Box(0, 0, 2, 10), Box(0, 0, 4, 10, frame=1), Box(0, 0, 4, 10, frame=1)]
    assert covered_fraction(boxes, 10, 10, frames=2) == pytest.approx((20 + 40) / 200)
    assert covered_fraction([], 10, 10, 2) == 0.0
    assert covered_fraction(boxes, 0, 10, 2) == 0.0


def test_what_stands_in_every_frame_is_said_once() -> None:
    boxes = [Box(0, 0, 2, 2, frame) for frame in (2, 0, 1)] + [Box(5, 5, 6, 6, 1)]
    assert shared_by_frames(boxes, 3) == (Box(0, 0, 2, 2), Box(5, 5, 6, 6, 1))


def test_the_order_does_not_depend_on_the_order_of_finding() -> None:
    boxes = [Box(4, 0, 6, 2, 0), Box(0, 0, 2, 2, 1), Box(0, 3, 2, 5, 0)]
    assert shared_by_frames(boxes, 2) == shared_by_frames(reversed(boxes), 2)


def test_a_box_knows_its_area() -> None:
    assert Box(0, 0, 3, 4).area == 12 and Box(3, 0, 0, 4).area == 0


def test_a_box_touches_whole_blocks() -> None:
    assert in_blocks(Box(7, 8, 9, 17, frame=2), 8) == Box(0, 8, 16, 24, frame=2)
    assert in_blocks(Box(7, 8, 9, 17), 1) == Box(7, 8, 9, 17)
