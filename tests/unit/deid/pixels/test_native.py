from __future__ import annotations

import numpy as np
import pytest

from deid.errors import DeidRefusal
from deid.pixels.boxes import Box
from deid.pixels.form import PixelForm, pixel_form
from deid.pixels.native import NativePixels, exact_size
from tests.support.pixel_objects import BIG, EXPLICIT, noise, picture


def _form(data: bytes, rows: int, columns: int, vr: str = "OW", **attributes: object) -> PixelForm:
    form = pixel_form(picture(data, rows, columns, vr, **attributes))
    assert form is not None
    return form


_BOX = Box(1, 1, 3, 4)


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("planar", [0, 1])
def test_colour_is_blanked_in_place(bits: int, planar: int, syntax: str) -> None:
    samples = noise((2, 5, 7, 3), bits)
    order = samples.transpose(0, 3, 1, 2) if planar else samples
    kind = ">" if syntax == BIG else "<"
    raw = order.astype(samples.dtype.newbyteorder(kind)).tobytes()
    if syntax == BIG and bits == 8:  # an OW of bytes: each word's bytes change places
        raw = np.frombuffer(raw, ">u2").astype("<u2").tobytes()
    form = _form(raw, 5, 7, SamplesPerPixel=3, PhotometricInterpretation="RGB",
                 NumberOfFrames=2, BitsAllocated=bits, PlanarConfiguration=planar)  # fmt: skip
    pixels = NativePixels(form, raw, syntax)
    assert np.array_equal(pixels.frame(1), samples[1])
    pixels.blank(1, [_BOX], [1, 2, 3])
    again = NativePixels(form, pixels.tobytes(), syntax)
    wanted = samples.copy()
    wanted[1, 1:3, 1:4] = (1, 2, 3)
    assert np.array_equal(again.frame(0), wanted[0]) and np.array_equal(again.frame(1), wanted[1])


def test_bits_are_packed_over_frame_ends() -> None:
    bits = noise((3, 5, 7), 1) ^ (np.arange(105).reshape(3, 5, 7) % 2).astype(np.uint8)
    raw = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    form = _form(raw, 5, 7, BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=3)
    pixels = NativePixels(form, raw, EXPLICIT)
    assert all(np.array_equal(pixels.frame(n), bits[n]) for n in range(3))
    pixels.blank(1, [_BOX], [0])
    bits[1, 1:3, 1:4] = 0
    again = NativePixels(form, pixels.tobytes(), EXPLICIT)
    assert all(np.array_equal(again.frame(n), bits[n]) for n in range(3))


def test_shared_colour_is_blanked_by_pairs() -> None:
    raw = bytes(range(100, 132))
    form = _form(raw, 4, 4, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    pixels = NativePixels(form, raw, EXPLICIT)
    assert pixels.frame(0)[0].tolist()[:2] == [[100, 102, 103], [101, 102, 103]]
    pixels.blank(0, [Box(0, 1, 1, 2)], [0, 128, 128])
    assert pixels.tobytes() == bytes([0, 0, 128, 128]) + raw[4:]


def test_full_colour_under_the_name_422_is_believed_by_its_length() -> None:
    raw = bytes(range(48))
    form = _form(raw, 4, 4, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    assert NativePixels(form, raw, EXPLICIT).form.photometric == "YBR_FULL"
    assert exact_size(form, 48) == 48


def test_a_cut_file_reads_zeros_and_keeps_its_length() -> None:
    raw = bytes([9] * 20)
    form = _form(raw, 4, 4, NumberOfFrames=4)
    pixels = NativePixels(form, raw, EXPLICIT)
    assert pixels.count == 2
    assert pixels.frame(1).tolist() == [[9] * 4] + [[0] * 4] * 3
    pixels.blank(1, [Box(0, 0, 4, 4)], [0])
    assert pixels.tobytes() == bytes([9] * 16 + [0] * 4)


@pytest.mark.parametrize(("frames", "size"), [(1, 10), (2, 18), ("1A", 99)])
def test_exact_size_is_even(frames: object, size: int) -> None:
    dataset = picture(bytes(99), 3, 3)
    dataset.add_new(0x00280008, "LO", str(frames))
    form = pixel_form(dataset)
    assert form is not None and exact_size(form, 99) == size


def test_samples_of_odd_width_are_refused() -> None:
    with pytest.raises(DeidRefusal):
        NativePixels(_form(bytes(24), 4, 4, BitsAllocated=12), bytes(24), EXPLICIT)
