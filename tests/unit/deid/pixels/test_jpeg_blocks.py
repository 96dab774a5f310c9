"""Blanking blocks of sequential JPEG: exact coefficients elsewhere, in every arrangement."""

from __future__ import annotations

from contextlib import suppress

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from deid.pixels.boxes import Box
from deid.pixels.jpeg_blocks import NotBlockwise, blank_blocks
from tests.support import jpeg_reference as reference

_ROWS, _COLUMNS = 45, 61
_BOX = Box(9, 18, 23, 41)


def _components(
    samplings: list[tuple[int, int]], span: int = 30, seed: int = 1
) -> list[reference.Component]:
    draw = np.random.default_rng(seed)
    across, down = max(s[0] for s in samplings), max(s[1] for s in samplings)
    wide, high = -(-_COLUMNS // (8 * across)), -(-_ROWS // (8 * down))
    made = []
    for h, v in samplings:
        blocks = draw.integers(-span, span, (high * v, wide * h, 64))
        blocks[draw.random(blocks.shape) < 0.8] = 0
        blocks[0, 0, 63] = 1  # one block without End Of Block
        made.append(reference.Component(h, v, blocks))
    return made


def _grid(part: reference.Component, parts: list[reference.Component]) -> NDArray[np.bool_]:
    across, down = max(p.across for p in parts), max(p.down for p in parts)
    touched = np.zeros(part.blocks.shape[:2], np.bool_)
    for row, column in np.ndindex(*touched.shape):
        high, wide = 8 * down / part.down, 8 * across / part.across
        touched[row, column] = (
            row * high < _BOX.bottom
            and (row + 1) * high > _BOX.top
            and column * wide < _BOX.right
            and (column + 1) * wide > _BOX.left
        )
    return touched


def _check(before: bytes, after: bytes, level: int) -> None:
    old, new = reference.read(before), reference.read(after)
    for part, changed in zip(old, new, strict=True):
        touched = _grid(part, old)
        assert touched.any() and not touched.all()
        assert np.array_equal(part.blocks[~touched], changed.blocks[~touched])
        assert not changed.blocks[touched][:, 1:].any()
    assert set(new[0].blocks[_grid(new[0], new)][:, 0].tolist()) == {level}


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("interval", [0, 1, 3])
@pytest.mark.parametrize(
    "samplings",
    [[(1, 1)], [(1, 1)] * 3, [(2, 1), (1, 1), (1, 1)], [(2, 2), (1, 1), (1, 1)],
     [(1, 2), (1, 1), (1, 1)], [(4, 1), (1, 1), (2, 1)]],
)  # fmt: skip
def test_blocks_outside_keep_their_coefficients(
    samplings: list[tuple[int, int]], interval: int, interleaved: bool
) -> None:
    stream = reference.write(
        _components(samplings), _ROWS, _COLUMNS, interleaved=interleaved, interval=interval
    )
    after = blank_blocks(stream, [_BOX], None, False)
    _check(stream, after, -1024 // 8)
    same = {"colorspace": "YCBCR", "outcolorspace": "YCBCR"} if len(samplings) > 1 else {}
    decoded = imagecodecs.jpeg8_decode(after, **same)
    luma = decoded if decoded.ndim == 2 else decoded[..., 0]
    assert not luma[_BOX.top : _BOX.bottom, _BOX.left : _BOX.right].any()


def test_twelve_bit_samples_are_blanked() -> None:
    stream = reference.write(_components([(1, 1)], 500), _ROWS, _COLUMNS, precision=12)
    after = blank_blocks(stream, [_BOX], None, False)
    _check(stream, after, -16384 // 8)
    assert not imagecodecs.jpeg8_decode(after)[_BOX.top : _BOX.bottom, _BOX.left : _BOX.right].any()


def test_a_table_that_lacks_the_new_symbols_is_extended() -> None:
    picture = np.full((64, 64), 200, np.uint8)
    picture[20:40, 20:40] = 210
    stream = imagecodecs.jpeg8_encode(picture, level=90, optimize=True)
    after = blank_blocks(stream, [Box(0, 30, 8, 50)], None, False)
    decoded, before = imagecodecs.jpeg8_decode(after), imagecodecs.jpeg8_decode(stream)
    assert not decoded[0:8, 30:50].any()
    assert np.array_equal(decoded[8:], before[8:])
    assert len(after) > len(stream)


def test_white_is_written_where_white_is_dark() -> None:
    stream = imagecodecs.jpeg8_encode(np.full((16, 16), 9, np.uint8), level=80)
    decoded = imagecodecs.jpeg8_decode(blank_blocks(stream, [Box(0, 0, 8, 8)], 255, False))
    assert (decoded[:8, :8] == 255).all()
    assert (decoded[8:, 8:] == 9).all()


def test_rgb_components_all_become_black() -> None:
    colours = np.full((16, 16, 3), 120, np.uint8)
    stream = imagecodecs.jpeg8_encode(colours, colorspace="RGB", outcolorspace="RGB")
    decoded = imagecodecs.jpeg8_decode(blank_blocks(stream, [Box(0, 0, 8, 8)], None, True))
    assert not decoded[:8, :8].any()


def test_a_box_outside_the_picture_changes_nothing() -> None:
    stream = reference.write(_components([(1, 1)]), _ROWS, _COLUMNS)
    assert blank_blocks(stream, [Box(_ROWS, 0, _ROWS + 9, 9)], None, False) is stream


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_dcmtk.dcm", "JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_real_files_keep_the_blocks_outside(name: str) -> None:
    dataset = dcmread(get_testdata_file(name, download=False))
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    after = blank_blocks(stream, [_BOX], None, False)
    old, new = reference.read(stream), reference.read(after)
    for part, changed in zip(old, new, strict=True):
        touched = _grid(part, old)
        assert np.array_equal(part.blocks[~touched], changed.blocks[~touched])
        assert not changed.blocks[touched][:, 1:].any()


def test_what_is_not_sequential_is_left_to_others() -> None:
    lossless = imagecodecs.jpeg8_encode(np.zeros((16, 16), np.uint8), lossless=True, predictor=1)
    with pytest.raises(NotBlockwise):
        blank_blocks(lossless, [_BOX], None, False)


def test_damaged_streams_are_left_to_others() -> None:
    stream = reference.write(_components([(1, 1)]), _ROWS, _COLUMNS)
    cut = stream[: len(stream) // 2]
    with pytest.raises(NotBlockwise):
        blank_blocks(cut, [_BOX], None, False)
    draw = np.random.default_rng(7)
    for _ in range(200):
        bad = bytearray(stream)
        bad[draw.integers(2, len(bad))] = draw.integers(256)
        with suppress(NotBlockwise):
            blank_blocks(bytes(bad), [_BOX], None, False)
