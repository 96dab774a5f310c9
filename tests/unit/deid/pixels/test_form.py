from __future__ import annotations

import pytest

from deid.pixels.form import pixel_bytes, pixel_form, pixel_keyword
from tests.support.pixel_objects import picture, shipped


def test_layout_is_read() -> None:
    form = pixel_form(shipped("MR_small.dcm")[0])
    assert form is not None
    assert (form.rows, form.columns, form.bits_allocated, form.bits_stored) == (64, 64, 16, 16)
    assert form.signed and form.frames == 1 and form.frame_bits == 64 * 64 * 16


def test_an_object_without_rows_states_no_picture() -> None:
    dataset = picture(b"\0\0", 1, 2)
    del dataset.Rows
    assert pixel_form(dataset) is None
    del dataset.PixelData
    assert pixel_keyword(dataset) is None and pixel_bytes(dataset) == b""


@pytest.mark.parametrize(("stated", "read"), [("3", 3), ("1A", None), ("0", None), ("", 1)])
def test_a_number_of_frames_that_is_none_is_unknown(stated: str, read: int | None) -> None:
    dataset = picture(b"\0\0", 1, 2)
    dataset.add_new(0x00280008, "LO", stated)
    form = pixel_form(dataset)
    assert form is not None and form.frames == read


def test_impossible_bits_are_put_right() -> None:
    form = pixel_form(picture(b"\0\0", 1, 1, BitsAllocated=16, BitsStored=99, HighBit=40))
    assert form is not None and (form.bits_stored, form.high_bit) == (16, 15)


def test_pairs_of_422_take_two_samples_a_pixel() -> None:
    form = pixel_form(
        picture(bytes(16), 2, 4, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    )
    assert form is not None and form.subsampled and form.frame_bits == 2 * 4 * 2 * 8
