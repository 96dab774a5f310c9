"""Blanked inside, the very same outside, in the same transfer syntax."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate_extended

from deid.errors import DeidRefusal
from deid.pixels import rle
from deid.pixels.boxes import Box
from deid.pixels.codec import JPEG_SEQUENTIAL, open_frames
from deid.pixels.encapsulation import parse
from deid.pixels.redact import EXPLICIT_LITTLE, redact
from tests.support.pixel_objects import EXPLICIT, encapsulated, noise, picture, replaced, shipped

_J = "1.2.840.10008.1.2.4"
_BOX = Box(3, 4, 11, 23)
_EXACT = [
    "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_rle_32bit.dcm", "rtdose_rle.dcm", "MR_small_jp2klossless.dcm", "GDCMJ2K_TextGBR.dcm",
    "SC_rgb_gdcm_KY.dcm", "J2K_pixelrep_mismatch.dcm", "MR_small_jpeg_ls_lossless.dcm",
    "JPEGLSNearLossless_16.dcm", "JPEGLSNearLossless_08.dcm", "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jls_lossy_sample.dcm", "SC_rgb_jpeg_gdcm.dcm", "liver_1frame.dcm", "rtdose_expb.dcm",
    "examples_palette.dcm", "ExplVR_BigEnd.dcm", "JPEG2000-embedded-sequence-delimiter.dcm",
]  # fmt: skip


def _check(dataset: Dataset, syntax: str, box: Box = _BOX, kept: bool = True) -> Dataset:
    before = open_frames(dataset, syntax)
    result = redact(dataset, syntax, [box])
    assert (result.transfer_syntax == syntax) is kept and result.exact_outside
    assert len(result.pixel_data) % 2 == 0
    clean = replaced(dataset, result.pixel_data, result.changes)
    after = open_frames(clean, result.transfer_syntax)
    assert after.count == before.count
    for index in range(before.count):
        old, new = before.stored(index).copy(), after.stored(index)
        assert old.shape == new.shape
        if box.frame in (None, index):
            area = (slice(box.top, box.bottom), slice(box.left, box.right))
            inside = new[area].reshape(-1, *new.shape[2:])
            assert (inside == inside[0]).all()
            old[area] = new[area]
        assert np.array_equal(old, new)
    return clean


@pytest.mark.parametrize("name", _EXACT)
def test_real_files_are_exact_outside(name: str) -> None:
    dataset, syntax = shipped(name)
    rows, columns = dataset.Rows, dataset.Columns
    _check(dataset, syntax, Box(2, 2, min(11, rows - 1), min(23, columns - 1)))


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("kind", ["70", "57", "80", "90", "91", "201", "202", "203", "5"])
def test_every_depth_is_written_back(kind: str, signed: int, bits: int) -> None:
    samples = noise((2, 24, 31), bits)
    coded = [_coded(frame, kind, bits) for frame in samples]
    dataset = encapsulated(
        coded, 24, 31, BitsAllocated=8 if bits == 8 else 16, BitsStored=bits, HighBit=bits - 1,
        PixelRepresentation=signed,
    )  # fmt: skip
    syntax = f"{_J}.{kind}" if kind != "5" else "1.2.840.10008.1.2.5"
    clean = _check(dataset, syntax, Box(3, 4, 11, 23, 1))
    items, old = parse(clean.PixelData, 2), parse(dataset.PixelData, 2)
    assert items.frame(0) == old.frame(0)
    assert items.tidy and len(items.table) == 2


def _coded(frame: np.ndarray, kind: str, bits: int) -> bytes:
    if kind in ("70", "57"):
        predictor = 1 if kind == "70" else 4
        return imagecodecs.jpeg8_encode(
            frame, lossless=True, predictor=predictor, bitspersample=bits
        )
    if kind == "80":
        import jpeg_ls

        return bytes(jpeg_ls.encode_buffer(frame.tobytes(), *frame.shape, 1, bits))
    if kind == "5":
        return rle.encode(frame)
    from deid.pixels.j2k import cleaned

    stream = imagecodecs.jpeg2k_encode(
        frame, level=0, reversible=True, codecformat="j2k", bitspersample=bits
    )
    return cleaned(stream)


@pytest.mark.parametrize("kind", ["90", "201", "202"])
@pytest.mark.parametrize("transform", [True, False])
def test_colour_keeps_its_transform(kind: str, transform: bool) -> None:
    samples = noise((24, 31, 3))
    stream = imagecodecs.jpeg2k_encode(
        samples, level=0, reversible=True, codecformat="j2k", mct=transform
    )
    name = "YBR_RCT" if transform else "RGB"
    dataset = encapsulated([stream], 24, 31, SamplesPerPixel=3, PhotometricInterpretation=name)
    clean = _check(dataset, f"{_J}.{kind}")
    assert clean.PhotometricInterpretation == name
    header = parse(clean.PixelData, 1).frame(0)
    assert (header[header.index(b"\xff\x52") + 8] == 1) is transform
    if kind == "202":
        assert header[header.index(b"\xff\x52") + 5] == 2 and b"\xff\x55" in header  # RPCL, TLM


def test_lossy_jpeg_2000_is_written_without_further_loss() -> None:
    samples = noise((64, 64, 3))
    stream = imagecodecs.jpeg2k_encode(samples, level=30, reversible=False, codecformat="j2k")
    attributes = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_ICT"}
    clean = _check(encapsulated([stream], 64, 64, **attributes), f"{_J}.91")
    assert clean.PhotometricInterpretation == "YBR_RCT"
    two = encapsulated([stream, stream], 64, 64, **attributes)
    assert "PhotometricInterpretation" not in redact(two, f"{_J}.91", [Box(0, 0, 9, 9, 1)]).changes


@pytest.mark.parametrize("name", ["SC_rgb_dcmtk_+eb+cy+n1.dcm", "JPGExtended.dcm",
                                  "examples_ybr_color.dcm", "SC_rgb_jpeg.dcm"])  # fmt: skip
def test_sequential_jpeg_changes_only_near_the_box(name: str) -> None:
    dataset, syntax = shipped(name)
    assert syntax in JPEG_SEQUENTIAL
    result = redact(dataset, syntax, [Box(32, 32, 48, 80, 0)])
    assert result.transfer_syntax == syntax and not result.changes
    before = open_frames(dataset, syntax)
    after = open_frames(replaced(dataset, result.pixel_data, {}), syntax)
    old, new = before.stored(0), after.stored(0)
    inside = new[32:48, 32:80] if new.ndim == 2 else new[32:48, 32:80, 0]
    assert len(np.unique(inside)) == 1
    far = np.ones(old.shape[:2], np.bool_)
    far[30:50, 30:82] = False  # colour is spread over a pixel more when it is magnified
    assert np.array_equal(old[far], new[far])
    for index in range(1, before.count):
        assert np.array_equal(before.stored(index), after.stored(index))


def test_what_has_no_encoder_becomes_explicit_little_endian() -> None:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(noise((24, 31, 3))).save(buffer, "JPEG", quality=90, progressive=True)
    dataset = encapsulated([buffer.getvalue()] * 2, 24, 31, SamplesPerPixel=3,
                           PhotometricInterpretation="YBR_FULL_422")  # fmt: skip
    clean = _check(dataset, f"{_J}.55", kept=False)
    assert clean.PhotometricInterpretation == "YBR_FULL" and clean.PlanarConfiguration == 0
    result = redact(dataset, f"{_J}.55", [_BOX])
    assert result.transfer_syntax == EXPLICIT_LITTLE
    assert len(result.pixel_data) == 2 * 24 * 31 * 3


def test_comments_go_with_the_redaction() -> None:
    stream = imagecodecs.jpeg8_encode(noise((24, 31)), lossless=True, predictor=1)
    dirty = stream[:2] + b"\xff\xfe\x00\x0eHONG GILDONG" + stream[2:]
    out = redact(encapsulated([dirty, dirty], 24, 31), f"{_J}.70", [Box(0, 0, 4, 4, 0)])
    assert b"HONG" not in out.pixel_data


def test_extended_offsets_follow() -> None:
    streams = [rle.encode(noise((24, 31), seed=n)) for n in range(2)]
    value, offsets, lengths = encapsulate_extended(streams)
    dataset = picture(value, 24, 31, "OB", NumberOfFrames=2)
    dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    result = redact(dataset, "1.2.840.10008.1.2.5", [Box(0, 0, 9, 9, 0)])
    assert result.changes["ExtendedOffsetTable"] != offsets
    assert set(result.changes) == {"ExtendedOffsetTable", "ExtendedOffsetTableLengths"}


def test_boxes_outside_the_picture_change_nothing() -> None:
    dataset, syntax = shipped("MR_small_RLE.dcm")
    for box in (Box(64, 0, 99, 9), Box(0, 0, 9, 9, 5)):
        assert redact(dataset, syntax, [box]).pixel_data == dataset.PixelData


def test_a_frame_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(DeidRefusal):
        redact(encapsulated([b"\xff\xd8\xff\xd9"], 8, 8), f"{_J}.70", [Box(0, 0, 4, 4)])


def test_an_object_without_a_picture_comes_back() -> None:
    assert redact(picture(b"", 8, 8), EXPLICIT, [_BOX]).pixel_data == b""
