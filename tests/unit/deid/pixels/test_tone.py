from __future__ import annotations

import numpy as np
import pytest

from deid.pixels import tone
from tests.support.pixel_objects import noise


def _ct() -> np.ndarray:
    """Air, tissue with noise, bone, and padding far below, as in a CT."""
    draw = np.random.default_rng(2)
    picture = draw.normal(40, 30, (128, 128)).astype(np.int16)
    picture[:, :40] = -1000
    picture[60:80, 60:80] = 900
    picture[:6] = -2000
    return picture


@pytest.mark.parametrize("value", [-2000, -1000, 1200, 3071, 32767, -32768])
@pytest.mark.parametrize("share", [1, 40])
def test_text_stands_off_tissue_or_air_at_any_value(value: int, share: int) -> None:
    picture = _ct()
    picture[90 : 90 + share, 50:120] = value
    grey = tone.grey_of_samples(picture).astype(int)
    tissue = np.median(grey[82:89, 50:120])
    assert abs(np.median(grey[90 : 90 + share, 50:120]) - tissue) >= 20
    assert np.ptp(grey[82:89, 50:120]) >= 20  # and what is within the tissue shows too


def test_order_is_kept() -> None:
    picture = _ct()
    order = np.argsort(picture.reshape(-1), kind="stable")
    assert (np.diff(tone.grey_of_samples(picture).reshape(-1)[order].astype(int)) >= 0).all()


def test_bytes_stay_as_they_are() -> None:
    picture = noise((9, 9))
    assert np.array_equal(tone.grey_of_samples(picture), picture)


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_an_even_picture_is_even(kind: type) -> None:
    assert len(np.unique(tone.grey_of_samples(np.full((8, 8), 7, kind)))) == 1


def test_numbers_that_are_none_do_not_hide_the_rest() -> None:
    picture = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    picture[0, 0], picture[0, 1], picture[0, 2] = np.nan, np.inf, -np.inf
    grey = tone.grey_of_samples(picture)
    assert np.ptp(grey[1:]) > 200


@pytest.mark.parametrize(
    ("text", "ground"),
    [((0, 0, 255), (0, 0, 0)), ((255, 255, 0), (255, 255, 255)), ((255, 255, 0), (0, 0, 255)),
     ((255, 0, 0), (0, 0, 0)), ((0, 255, 0), (128, 128, 128)), ((255, 0, 0), (128, 128, 128))],
)  # fmt: skip
@pytest.mark.parametrize("bits", [8, 16])
def test_coloured_text_stands_off(
    text: tuple[int, ...], ground: tuple[int, ...], bits: int
) -> None:
    kind = np.uint8 if bits == 8 else np.uint16
    both = np.array([[text, ground]], np.uint32) * (1 if bits == 8 else 257)
    grey = tone.grey_of_colours(both.astype(kind)).astype(int)
    assert abs(grey[0, 0] - grey[0, 1]) >= 16


def test_luma_and_colours_become_rgb() -> None:
    ybr = np.array([[[76, 85, 255], [255, 128, 128], [0, 128, 128]]], np.uint8)
    rgb = tone.rgb_of_ybr(ybr).astype(int)
    assert np.abs(rgb - [[255, 0, 0], [255] * 3, [0] * 3]).max() <= 2
