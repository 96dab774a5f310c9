from __future__ import annotations

import numpy as np
import pytest

from deid.pixels.boxes import Box
from deid.pixels.codec import open_frames
from deid.pixels.paint import fill_of, painted
from tests.support.pixel_objects import EXPLICIT, picture, shipped


def _filled(samples: np.ndarray, **attributes: object) -> list[float]:
    rows, columns = samples.shape[:2]
    bits = 8 * samples.dtype.itemsize
    stated = {"BitsAllocated": bits, "SamplesPerPixel": 3 if samples.ndim == 3 else 1} | attributes
    frames = open_frames(picture(samples.tobytes(), rows, columns, **stated), EXPLICIT)
    return list(fill_of(frames, frames.coded(0)))


_RAMP = np.arange(3, 19, dtype="<u2").reshape(4, 4)


def test_grey_takes_the_darkest_value_in_use() -> None:
    assert _filled(_RAMP) == [3]
    assert _filled(_RAMP, PhotometricInterpretation="MONOCHROME1") == [18]
    signed = (_RAMP.astype("<i2") - 10).view("<u2")
    assert np.array(_filled(signed, PixelRepresentation=1)).astype("u2").view("i2") == [-7]


@pytest.mark.parametrize(
    ("photometric", "fill"),
    [("RGB", [0, 0, 0]), ("YBR_FULL", [0, 128, 128]), ("YBR_PARTIAL_420", [16, 128, 128])],
)
def test_colour_takes_black(photometric: str, fill: list[int]) -> None:
    samples = np.full((4, 4, 3), 99, np.uint8)
    assert _filled(samples, PhotometricInterpretation=photometric) == fill


def test_a_palette_takes_its_darkest_entry() -> None:
    dataset, syntax = shipped("examples_palette.dcm")
    frames = open_frames(dataset, syntax)
    dark = painted(frames, frames.coded(0), [Box(0, 0, 9, 9)])
    index = int(dark.samples[0, 0])
    tables = [
        np.frombuffer(getattr(dataset, f"{name}PaletteColorLookupTableData"), "<u2")
        for name in ("Red", "Green", "Blue")
    ]
    sums = np.sum([table.astype(int) for table in tables], axis=0)
    assert sums[index] == sums.min()


def test_painting_leaves_the_source_alone() -> None:
    frames = open_frames(picture(_RAMP.tobytes(), 4, 4, BitsAllocated=16), EXPLICIT)
    coded = frames.coded(0)
    dark = painted(frames, coded, [Box(1, 1, 3, 9)])
    assert dark.samples[1:3, 1:].tolist() == [[3] * 3] * 2
    assert np.array_equal(coded.samples, _RAMP)
