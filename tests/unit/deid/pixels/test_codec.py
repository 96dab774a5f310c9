from __future__ import annotations

import zlib

import imagecodecs
import numpy as np
import pytest
from pydicom.pixels import get_decoder

from deid.errors import DeidRefusal
from deid.pixels import rle
from deid.pixels.codec import open_frames
from tests.support.pixel_objects import (
    EXPLICIT,
    IMPLICIT,
    encapsulated,
    noise,
    picture,
    replaced,
    shipped,
)

_BY_PYDICOM = [
    "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_rle_32bit_2frame.dcm",
    "JPEGLSNearLossless_16.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm",
    "GDCMJ2K_TextGBR.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "rtdose_rle.dcm",
    "SC_ybr_full_422_uncompressed.dcm", "ExplVR_BigEnd.dcm", "liver_1frame.dcm",
    "liver_expb_1frame.dcm", "SC_rgb_small_odd_big_endian.dcm", "examples_palette.dcm",
    "image_dfl.dcm", "CT_small.dcm", "SC_rgb_jpeg_dcmd.dcm",
]  # fmt: skip


@pytest.mark.parametrize("name", _BY_PYDICOM)
def test_samples_are_those_another_decoder_reads(name: str) -> None:
    dataset, syntax = shipped(name)
    frames = open_frames(dataset, syntax)
    others = get_decoder(syntax).iter_array(dataset, raw=True)
    count = 0
    for index, (other, _) in enumerate(others):
        mine = frames.stored(index)
        assert mine.shape == other.shape and np.array_equal(mine, other)
        assert frames.grey(index).shape == other.shape[:2]
        count += 1
    assert count == frames.count


@pytest.mark.parametrize("name", ["SC_rgb_dcmtk_+eb+cy+n1.dcm", "examples_ybr_color.dcm"])
def test_colours_of_baseline_stay_luma_and_two_colours(name: str) -> None:
    dataset, syntax = shipped(name)
    other, _ = next(get_decoder(syntax).iter_array(dataset, raw=True))
    mine = open_frames(dataset, syntax).stored(0)
    assert np.abs(mine.astype(int) - other).max() <= 2


def test_twelve_bit_and_lossless_jpeg_are_read() -> None:
    for name, most in (("JPGExtended.dcm", 264), ("SC_rgb_jpeg_gdcm.dcm", 255)):
        dataset, syntax = shipped(name)
        assert open_frames(dataset, syntax).stored(0).max() == most


@pytest.mark.parametrize(("bits", "process"), [(8, 53), (12, 55)])
def test_progressive_jpeg_is_read(bits: int, process: int) -> None:
    from io import BytesIO

    from PIL import Image

    samples = noise((40, 40), bits)
    if bits == 8:
        buffer = BytesIO()
        Image.fromarray(samples).save(buffer, "JPEG", quality=95, progressive=True)
        stream = buffer.getvalue()
        assert b"\xff\xc2" in stream
    else:
        stream = imagecodecs.jpeg8_encode(samples, level=95, bitspersample=12)
    dataset = encapsulated([stream], 40, 40, BitsAllocated=max(8, bits // 8 * 16), BitsStored=bits)
    stored = open_frames(dataset, f"1.2.840.10008.1.2.4.{process}").stored(0)
    assert np.abs(stored.astype(int) - samples).mean() < (1 << bits) / 40


def test_frames_of_several_fragments_without_a_table_are_read() -> None:
    from pydicom.encaps import encapsulate

    streams = [imagecodecs.jpeg8_encode(noise((16, 16), seed=n)) for n in range(3)]
    value = encapsulate(streams, fragments_per_frame=3, has_bot=False)
    frames = open_frames(picture(value, 16, 16, "OB", NumberOfFrames=3), "1.2.840.10008.1.2.4.50")
    for index, stream in enumerate(streams):
        assert np.array_equal(frames.stored(index), imagecodecs.jpeg8_decode(stream))


def test_signs_of_the_code_stream_show_where_the_header_denies_them() -> None:
    samples = np.linspace(-900, 900, 32 * 32).astype(np.int16).reshape(32, 32)
    stream = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k")
    dataset = encapsulated([stream], 32, 32, BitsAllocated=16)
    frames = open_frames(dataset, "1.2.840.10008.1.2.4.90")
    assert frames.stored(0).dtype == np.uint16 and frames.stored(0)[0, 0] == 65536 - 900
    assert (np.diff(frames.grey(0).reshape(-1).astype(int)) >= 0).all()


@pytest.mark.parametrize("kind", ["50", "80", "90"])
def test_the_size_is_the_code_streams_own(kind: str) -> None:
    encode = {"50": imagecodecs.jpeg8_encode, "80": imagecodecs.jpegls_encode,
              "90": imagecodecs.jpeg2k_encode}[kind]  # fmt: skip
    dataset = encapsulated([encode(noise((30, 70)))], 16, 16)
    assert open_frames(dataset, f"1.2.840.10008.1.2.4.{kind}").size(0) == (30, 70)
    assert open_frames(*shipped("MR_small_RLE.dcm")).size(0) == (64, 64)


def test_a_comment_after_the_tile_parts_does_not_stop_reading() -> None:
    samples = noise((32, 32))
    stream = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k")
    odd = stream[:-2] + b"\xff\x64\x00\x08\x00\x01ABCD" + stream[-2:]
    frames = open_frames(encapsulated([odd], 32, 32), "1.2.840.10008.1.2.4.90")
    assert np.array_equal(frames.stored(0), samples)


def test_a_damaged_size_of_jpeg_2000_does_not_stop_reading() -> None:
    damaged = open_frames(*shipped("JPEG2000-embedded-sequence-delimiter.dcm"))
    whole = open_frames(*shipped("JPEG2000.dcm"))
    assert np.array_equal(damaged.stored(0), whole.stored(0))


def test_code_streams_under_a_native_syntax_are_read() -> None:
    samples = noise((16, 16))
    stream = imagecodecs.jpeg8_encode(samples, lossless=True, predictor=1)
    frames = open_frames(encapsulated([stream], 16, 16), EXPLICIT)
    assert frames.misnamed and np.array_equal(frames.stored(0), samples)


def test_deflated_frames_are_read() -> None:
    samples = noise((2, 16, 16))
    coder = [zlib.compressobj(wbits=-15) for _ in samples]
    streams = [c.compress(s.tobytes()) + c.flush() for c, s in zip(coder, samples, strict=True)]
    dataset = encapsulated(streams, 16, 16)
    frames = open_frames(dataset, "1.2.840.10008.1.2.8.1")
    assert np.array_equal(frames.stored(1), samples[1])


@pytest.mark.parametrize(
    ("stored", "high", "signed", "raw", "value"),
    [(12, 11, 0, 0xF123, 0x123), (12, 11, 1, 0x0FFF, -1), (12, 15, 0, 0x1234, 0x123),
     (12, 15, 1, 0xFFF7, -1), (16, 15, 1, 0x8000, -32768)],
)  # fmt: skip
def test_unused_bits_are_cleared_and_signs_extended(
    stored: int, high: int, signed: int, raw: int, value: int
) -> None:
    dataset = picture(raw.to_bytes(2, "little"), 1, 1, BitsAllocated=16, BitsStored=stored,
                      HighBit=high, PixelRepresentation=signed)  # fmt: skip
    assert open_frames(dataset, IMPLICIT).stored(0).item() == value


def test_float_pixels_are_read() -> None:
    values = np.linspace(-1, 1, 16, dtype="<f4").reshape(4, 4)
    dataset = picture(b"", 4, 4)
    del dataset.PixelData
    dataset.FloatPixelData = values.tobytes()
    frames = open_frames(dataset, EXPLICIT)
    assert np.array_equal(frames.stored(0), values) and np.ptp(frames.grey(0).astype(int)) > 200


def test_white_and_black_change_places_under_monochrome1() -> None:
    samples = noise((8, 8))
    inverse = picture(samples.tobytes(), 8, 8, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(open_frames(inverse, EXPLICIT).grey(0), 255 - samples)


def test_masks_of_one_bit_show_black_and_white() -> None:
    dataset, syntax = shipped("liver_1frame.dcm")
    assert set(np.unique(open_frames(dataset, syntax).grey(0))) == {0, 255}


def test_a_palette_without_tables_shows_its_indices() -> None:
    samples = noise((8, 8))
    dataset = picture(samples.tobytes(), 8, 8, PhotometricInterpretation="PALETTE COLOR")
    assert np.array_equal(open_frames(dataset, EXPLICIT).grey(0), samples)


def test_no_picture_is_no_frame() -> None:
    empty = picture(b"", 4, 4)
    assert open_frames(empty, EXPLICIT).count == 0
    del empty.Rows
    assert open_frames(replaced(empty, b"ab", {}), EXPLICIT).count == 0


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.102", "1.2.3", ""])
def test_unreadable_syntaxes_are_refused(syntax: str) -> None:
    with pytest.raises(DeidRefusal):
        open_frames(picture(b"ab", 1, 2), syntax)


@pytest.mark.parametrize(
    ("syntax", "stream"),
    [("50", b"\xff\xd8\xff\xd9"), ("50", b"junk"), ("80", b"\xff\xd8\xff\xf7\0\x0b\x08\xff\xff"),
     ("90", b"\xff\x4f\xff\x51junk"), ("70", b"\xff\xd8")],
)  # fmt: skip
def test_undecodable_frames_are_refused(syntax: str, stream: bytes) -> None:
    frames = open_frames(encapsulated([stream], 8, 8), f"1.2.840.10008.1.2.4.{syntax}")
    with pytest.raises(DeidRefusal):
        frames.grey(0)


def test_a_stream_that_claims_more_than_its_object_is_refused() -> None:
    stream = imagecodecs.jpeg8_encode(np.zeros((2000, 2000), np.uint8))
    with pytest.raises(DeidRefusal):
        open_frames(encapsulated([stream], 16, 16), "1.2.840.10008.1.2.4.50").grey(0)
    with pytest.raises(DeidRefusal):
        open_frames(encapsulated([b"x"], 65535, 65535), "1.2.840.10008.1.2.4.50")


def test_an_empty_run_length_segment_is_refused() -> None:
    frame = rle.encode(noise((4, 4)))
    dataset = encapsulated([frame[:64]], 4, 4)
    with pytest.raises(DeidRefusal):
        open_frames(dataset, "1.2.840.10008.1.2.5").grey(0)
