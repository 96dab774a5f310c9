"""Which patches are lines: height, edges of print, joining."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deid.pixels.boxes import Box
from deid.pixels.lines import TALLEST, Patch, lines_of, patches_of


def smooth(rows: int = 200, columns: int = 300) -> NDArray[np.uint8]:
    down, across = np.mgrid[0:rows, 0:columns]
    return (120 + 60 * np.sin(down / 25) * np.cos(across / 30)).astype(np.uint8)


def print_on(grey: NDArray[np.uint8], patch: Patch) -> NDArray[np.uint8]:
    out = grey.copy()
    window = out[int(patch.top) : int(patch.bottom), int(patch.left) : int(patch.right)]
    window[3:-3:1, ::4] = 255
    window[3:-3:1, 1::4] = 255
    return out


def inside(box: Box, patch: Patch) -> bool:
    return (
        box.top <= patch.top
        and box.left <= patch.left
        and box.bottom >= patch.bottom
        and box.right >= patch.right
    )


def test_a_marked_strip_gets_its_rim_back_and_its_place_in_the_unscaled_picture() -> None:
    probability = np.zeros((100, 400), dtype=np.float32)
    probability[40:50, 100:300] = 0.9
    (patch,) = patches_of(probability, 2.0)
    assert patch.top < 20 < 25 < patch.bottom and patch.left < 50 < 150 < patch.right
    assert patch.height < 15 and patch.width < 115
    assert patch.score > 0.7


@pytest.mark.parametrize("value", [0.25, 0.42])
def test_a_weak_patch_is_none(value: float) -> None:
    probability = np.zeros((64, 64), dtype=np.float32)
    probability[20:30, 5:50] = value
    assert patches_of(probability, 1.0) == []


def test_a_dot_is_no_patch() -> None:
    probability = np.zeros((64, 64), dtype=np.float32)
    probability[20, 20] = 1.0
    assert patches_of(probability, 1.0) == []


def test_a_line_that_both_looks_show_is_kept() -> None:
    patch = Patch(50, 40, 75, 200, 0.8)
    (box,) = lines_of(smooth(), [patch], [patch], 2.0)
    assert inside(box, patch)


def test_an_organ_is_no_line() -> None:
    organ = Patch(10, 10, 10 + TALLEST + 20, 280, 0.9)
    assert lines_of(smooth(400, 300), [organ], [organ], 2.0) == []


def test_a_tall_smooth_patch_is_no_line_but_tall_print_is() -> None:
    tall = Patch(60, 20, 120, 280, 0.9)
    grey = smooth(400, 300)
    assert lines_of(grey, [tall], [tall], 2.0) == []
    assert len(lines_of(print_on(grey, tall), [tall], [], 2.0)) == 1


@pytest.mark.parametrize("look", [0, 1])
def test_what_only_one_look_shows_needs_edges_of_print(look: int) -> None:
    patch = Patch(50, 40, 75, 200, 0.9)
    looks = [[patch], []] if look == 0 else [[], [patch]]
    assert lines_of(smooth(), *looks, 2.0) == []
    (box,) = lines_of(print_on(smooth(), patch), *looks, 2.0)
    assert inside(box, patch)


def test_a_tall_patch_around_a_line_gives_way_to_the_line() -> None:
    line, wrapping = Patch(60, 40, 84, 200, 0.9), Patch(40, 30, 110, 210, 0.8)
    grey = print_on(smooth(), line)
    (box,) = lines_of(grey, [wrapping], [line], 2.0)
    assert inside(box, line) and box.bottom - box.top < 40


def test_tissue_run_together_with_writing_is_cut_off_again() -> None:
    grey = np.full((200, 300), 90, dtype=np.uint8)
    text, wide = Patch(60, 150, 80, 250, 0.9), Patch(58, 40, 82, 254, 0.9)
    (box,) = lines_of(print_on(grey, text), [wide], [wide], 2.0)
    assert 130 < box.left <= 150 and box.right >= 250 and box.top <= 62 and box.bottom >= 78


def test_pieces_of_one_line_are_joined_and_lines_above_each_other_are_not() -> None:
    pieces = [
        Patch(50, 40, 74, 100, 0.8),
        Patch(51, 108, 75, 200, 0.8),
        Patch(80, 40, 104, 90, 0.8),
    ]
    boxes = lines_of(smooth(), pieces, pieces, 2.0)
    assert len(boxes) == 2
    assert boxes[0].left <= 40 and boxes[0].right >= 200


def test_boxes_stay_inside_the_picture() -> None:
    patch = Patch(-3.5, -4.0, 20.0, 310.0, 0.8)
    assert lines_of(smooth(), [patch], [patch], 2.0) == [Box(0, 0, 20, 300)]
