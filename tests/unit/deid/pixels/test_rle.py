from __future__ import annotations

import numpy as np
import pytest

from deid.errors import DeidRefusal
from deid.pixels import rle
from deid.pixels.form import PixelForm, pixel_form
from tests.support.pixel_objects import noise, picture


def _form(bits: int = 16, samples: int = 1) -> PixelForm:
    form = pixel_form(picture(b"\0\0", 9, 11, BitsAllocated=bits, SamplesPerPixel=samples))
    assert form is not None
    return form


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("samples", [1, 3])
def test_what_is_encoded_is_read_back(bits: int, samples: int) -> None:
    pixels = noise((9, 11) if samples == 1 else (9, 11, samples), bits)
    pixels[2:5] = 7
    frame = rle.encode(pixels)
    assert np.array_equal(rle.decode(frame, _form(bits, samples)), pixels)
    assert len(frame) % 2 == 0
    assert rle.cleaned(frame, _form(bits, samples)) is frame


@pytest.mark.parametrize("surplus", [b"HONG GILDONG", b"\x0bHONG GILDONG", b"\x03HONG" * 3, b"A"])
def test_bytes_after_the_runs_go(surplus: bytes) -> None:
    frame = rle.encode(noise((9, 11), 16))
    clean = rle.cleaned(frame + surplus, _form())
    assert np.array_equal(rle.decode(clean, _form()), noise((9, 11), 16))
    assert b"HONG" not in clean and len(clean) <= len(frame) + 1


def test_bytes_between_header_and_runs_and_in_unused_offsets_go() -> None:
    frame = rle.encode(noise((9, 11), 8))
    gap = frame[:4] + (76).to_bytes(4, "little") + frame[8:64] + b"HONG GILDONG" + frame[64:]
    assert rle.cleaned(gap, _form(8)) == frame
    unused = frame[:52] + b"HONG GILDONG" + frame[64:]
    assert rle.cleaned(unused, _form(8)) == frame


def test_a_cut_frame_reads_what_is_there() -> None:
    pixels = noise((9, 11), 8)
    cut = rle.encode(pixels)[:100]
    read = rle.decode(cut, _form(8))
    assert np.array_equal(read[:2], pixels[:2])
    assert not read[5:].any()


@pytest.mark.parametrize("frame", [b"", bytes(64), b"\x01" + bytes(3) + b"\xff" * 4 + bytes(60)])
def test_a_bad_header_is_refused(frame: bytes) -> None:
    with pytest.raises(DeidRefusal):
        rle.decode(frame, _form(8))


def test_another_count_of_segments_is_refused() -> None:
    with pytest.raises(DeidRefusal):
        rle.decode(rle.encode(noise((9, 11), 8)), _form(16))
