"""How are boxes of an object's picture blanked, and its pixels written back as they came?

Native pixels are blanked where they lie. Compressed frames that a box touches are encoded anew
without loss, or, of sequential JPEG, only the 8 x 8 blocks touched; other frames' fragments stay
byte for byte. What has no encoder is written as Explicit VR Little Endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset

from deid.pixels import encapsulation
from deid.pixels.boxes import Box, clipped
from deid.pixels.codec import JPEG_SEQUENTIAL, NATIVE, Frames, open_frames
from deid.pixels.encode import NoEncoder, encode_frame
from deid.pixels.form import PixelForm, pixel_bytes
from deid.pixels.jpeg_blocks import NotBlockwise, blank_blocks
from deid.pixels.native import NativePixels
from deid.pixels.paint import fill_of, painted
from deid.pixels.plain import uncompressed
from deid.pixels.strip import clean_stream, offset_changes, strip_native, strip_pixel_data

__all__ = ["Redacted", "redact", "strip_pixel_data"]

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True)
class Redacted:
    """Hold an object's pixel data after boxes were blanked.

    Attributes:
        pixel_data: the element's new value, also freed of what is no pixel.
        transfer_syntax: the source's, or Explicit VR Little Endian where that has no encoder.
        changes: keywords to set with their values; None deletes the element.
        exact_outside: whether all outside the boxes (for sequential JPEG: outside the 8 x 8 blocks
            they touch) decodes to what the source decodes to.
    """

    pixel_data: bytes
    transfer_syntax: str
    changes: dict[str, object] = field(default_factory=dict)
    exact_outside: bool = True


def redact(dataset: Dataset, transfer_syntax: str, boxes: Sequence[Box]) -> Redacted:
    """Blank boxes of an object's picture.

    Args:
        dataset: the object; it is not changed.
        transfer_syntax: its UID.
        boxes: what to blank, in pixels; parts outside the picture are ignored.

    Raises:
        DeidRefusal: a frame that a box touches cannot be decoded (DICOM_PIXELS_UNDECODABLE).
    """
    frames = open_frames(dataset, transfer_syntax)
    form = frames.form
    if form is None or not frames.count:
        return Redacted(strip_pixel_data(dataset, transfer_syntax) or b"", transfer_syntax)
    wanted = _by_frame(boxes, frames.count)
    if transfer_syntax in NATIVE and frames.misnamed:
        data, changes = uncompressed(frames, form, wanted)
        return Redacted(data, EXPLICIT_LITTLE, changes)
    if transfer_syntax in NATIVE:
        data = _native(dataset, frames, form, wanted, transfer_syntax)
        return Redacted(data, transfer_syntax)
    items = encapsulation.parse(pixel_bytes(dataset), form.frames)
    replaced: dict[int, bytes] = {}
    try:
        for index in range(frames.count):
            stream = items.frame(index)
            clean = clean_stream(stream, form, transfer_syntax)
            if index in wanted:
                clean = _blanked(frames, index, clean, wanted[index], transfer_syntax)
            if clean is not stream:
                replaced[index] = clean
    except NoEncoder:
        data, changes = uncompressed(frames, form, wanted)
        return Redacted(data, EXPLICIT_LITTLE, changes)
    moved: dict[str, object] = {}
    if form.photometric == "YBR_ICT" and len(wanted) == frames.count:
        moved["PhotometricInterpretation"] = "YBR_RCT"  # encoded reversibly (PS3.5 8.2.4)
    data = encapsulation.assemble(items, replaced)
    moved |= offset_changes(dataset, transfer_syntax, data)
    return Redacted(data, transfer_syntax, moved)


def _by_frame(boxes: Sequence[Box], count: int) -> dict[int, list[Box]]:
    wanted: dict[int, list[Box]] = {}
    for box in boxes:
        for index in range(count) if box.frame is None else [box.frame]:
            if 0 <= index < count:
                wanted.setdefault(index, []).append(box)
    return wanted


def _native(
    dataset: Dataset,
    frames: Frames,
    form: PixelForm,
    wanted: dict[int, list[Box]],
    transfer_syntax: str,
) -> bytes:
    pixels = NativePixels(form, pixel_bytes(dataset), transfer_syntax)
    for index, boxes in wanted.items():
        pixels.blank(index, boxes, fill_of(frames, frames.coded(index)))
    data = pixels.tobytes()
    stripped = strip_native(data, form, transfer_syntax)
    return data if stripped is None else stripped


def _blanked(
    frames: Frames, index: int, stream: bytes, boxes: list[Box], transfer_syntax: str
) -> bytes:
    """Blank boxes of one compressed frame; the stream itself if none lies in the picture."""
    if transfer_syntax in JPEG_SEQUENTIAL:
        try:
            is_rgb = frames.photometric == "RGB"
            return blank_blocks(stream, boxes, _jpeg_sample(frames), is_rgb)
        except NotBlockwise:
            raise NoEncoder from None
    if frames.form is None:
        raise NoEncoder
    coded = frames.coded(index)
    inside = clipped(boxes, *coded.samples.shape[:2])
    if not inside:
        return stream
    return encode_frame(painted(frames, coded, inside), stream, frames.form, transfer_syntax)


def _jpeg_sample(frames: Frames) -> int:
    """Give the coded sample of a JPEG's blank grey pixel: what a viewer shows darkest."""
    if frames.photometric.startswith("PALETTE"):
        return frames.darkest_entry(np.zeros(1, np.uint8))
    if frames.photometric == "MONOCHROME1":
        return (1 << frames.bits_stored) - 1 >> int(frames.signed)
    return 1 << (frames.bits_stored - 1) if frames.signed else 0
