from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate_extended

from deid.errors import DeidRefusal
from deid.pixels.codec import open_frames
from deid.pixels.encapsulation import parse
from deid.pixels.strip import offset_changes, strip_pixel_data
from tests.support.pixel_objects import (
    BIG,
    EXPLICIT,
    encapsulated,
    noise,
    picture,
    replaced,
    shipped,
)

_BASELINE = "1.2.840.10008.1.2.4.50"
_COMMENT = b"\xff\xfe\x00\x0eHONG GILDONG"
_NAMES = [
    "JPEG2000.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_jpeg.dcm", "MR_small_RLE.dcm",
    "SC_rgb_jls_lossy_line.dcm", "JPGExtended.dcm", "examples_ybr_color.dcm", "MR_small_padded.dcm",
    "SC_rgb_small_odd_big_endian.dcm", "liver_expb_1frame.dcm", "rtdose_rle.dcm",
    "MR_truncated.dcm",
]  # fmt: skip


@pytest.mark.parametrize("name", _NAMES)
def test_real_pixels_are_the_same_and_a_second_time_nothing_changes(name: str) -> None:
    dataset, syntax = shipped(name)
    stripped = strip_pixel_data(dataset, syntax)
    if stripped is None:
        return
    again = replaced(dataset, stripped, {})
    before, after = open_frames(dataset, syntax), open_frames(again, syntax)
    assert after.count == before.count
    for index in range(before.count):
        assert np.array_equal(before.stored(index), after.stored(index))
    assert strip_pixel_data(again, syntax) is None


def test_dirty_frames_are_cleaned_and_clean_ones_kept() -> None:
    clean = [imagecodecs.jpeg8_encode(noise((16, 16), seed=n)) for n in range(3)]
    dirty = [clean[0], clean[1][:2] + _COMMENT + clean[1][2:], clean[2] + b"HONG"]
    out = strip_pixel_data(encapsulated(dirty, 16, 16), _BASELINE)
    assert out is not None and b"HONG" not in out
    items = parse(out, 3)
    assert items.tidy
    assert [items.frame(n).rstrip(b"\0") for n in range(3)] == clean
    assert strip_pixel_data(encapsulated(clean, 16, 16), _BASELINE) is None


def test_surplus_frames_go() -> None:
    frame = imagecodecs.jpeg8_encode(noise((16, 16)))
    out = strip_pixel_data(encapsulated([frame, frame], 16, 16, NumberOfFrames=1), _BASELINE)
    assert out is not None and len(parse(out, None).frames) == 1


def test_bytes_after_native_frames_go_and_the_pad_is_zero() -> None:
    assert strip_pixel_data(picture(b"123456789X", 3, 3), EXPLICIT) == b"123456789\0"
    assert strip_pixel_data(picture(b"123456789\0HONG", 3, 3), EXPLICIT) == b"123456789\0"
    assert strip_pixel_data(picture(b"2143658791"[:8] + b"X9", 3, 3), BIG) == b"21436587\x009"
    assert strip_pixel_data(picture(b"123456789\0", 3, 3), EXPLICIT) is None


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG])
def test_overlays_in_unused_bits_go(syntax: str) -> None:
    kind = ">u2" if syntax == BIG else "<u2"
    samples = np.array([0x0123, 0x8FFF, 0x4000, 0x0FFF], kind)
    dataset = picture(samples.tobytes(), 2, 2, BitsAllocated=16, BitsStored=12)
    out = strip_pixel_data(dataset, syntax)
    assert out is not None
    assert np.frombuffer(out, kind).tolist() == [0x123, 0xFFF, 0, 0xFFF]


def test_repeated_signs_stay() -> None:
    samples = np.array([-5, 7, -2048, 2047], "<i2")
    dataset = picture(samples.tobytes(), 2, 2, BitsAllocated=16, BitsStored=12,
                      PixelRepresentation=1)  # fmt: skip
    assert strip_pixel_data(dataset, EXPLICIT) is None
    mixed = np.array([-5, 0x2007, 0x0800, 0xA800], "<i4").astype("<u2")
    dataset = replaced(dataset, mixed.tobytes(), {})
    out = strip_pixel_data(dataset, EXPLICIT)
    assert out is not None
    assert np.frombuffer(out, "<i2").tolist() == [-5, 7, 0x0800, -2048]


def test_what_states_no_picture_is_emptied() -> None:
    dataset = picture(b"HONG", 1, 1)
    del dataset.BitsAllocated
    assert strip_pixel_data(dataset, EXPLICIT) == b""
    assert strip_pixel_data(picture(b"", 1, 1), EXPLICIT) is None


def test_code_streams_under_a_native_syntax_become_native() -> None:
    samples = noise((16, 16))
    stream = imagecodecs.jpeg8_encode(samples, lossless=True, predictor=1)
    out = strip_pixel_data(encapsulated([stream[:2] + _COMMENT + stream[2:]], 16, 16), EXPLICIT)
    assert out == samples.tobytes()
    with pytest.raises(DeidRefusal):
        strip_pixel_data(encapsulated([stream], 16, 16), BIG)


def test_extended_offsets_follow() -> None:
    clean = [imagecodecs.jpeg8_encode(noise((16, 16), seed=n)) for n in range(2)]
    value, offsets, lengths = encapsulate_extended([clean[0] + b"HONG", clean[1]])
    dataset = picture(value, 16, 16, "OB", NumberOfFrames=2)
    dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    out = strip_pixel_data(dataset, _BASELINE)
    assert out is not None
    changes = offset_changes(dataset, _BASELINE, out)
    again = [frame + b"\0" * (len(frame) % 2) for frame in clean]
    _, wanted, sizes = encapsulate_extended(again)
    assert changes == {"ExtendedOffsetTable": wanted, "ExtendedOffsetTableLengths": sizes}
    assert offset_changes(picture(b"", 1, 1), _BASELINE, out) == {}


@pytest.mark.parametrize("syntax", [_BASELINE, "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.102"])
def test_what_cannot_be_walked_is_refused(syntax: str) -> None:
    with pytest.raises(DeidRefusal):
        strip_pixel_data(encapsulated([b"HONG GILDONG"], 8, 8), syntax)
