"""What in an object's pixel data is no pixel, and how does the data look without it?

Without decoding: comments and application data of JPEG code streams, bytes after their end,
fragments beyond the frames, wrong offset tables, native bytes beyond the last frame, and the bits
of native samples that hold no pixel (retired overlays lay there: PS3.5 8.1.1, PS3.3 C.9.2).
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from deid.pixels import encapsulation, j2k, markers, rle
from deid.pixels.codec import (
    DEFLATED_FRAMES,
    J2K,
    JPEG,
    JPEG_LS,
    NATIVE,
    RLE,
    Frames,
    undecodable,
)
from deid.pixels.form import PixelForm, pixel_bytes, pixel_form
from deid.pixels.native import BIG_ENDIAN, exact_size
from deid.pixels.plain import uncompressed


def strip_pixel_data(dataset: Dataset, transfer_syntax: str) -> bytes | None:
    """Give an object's pixel data without what is no pixel; None if nothing has to change.

    Where the object has an Extended Offset Table, see :func:`offset_changes`.

    Raises:
        DeidRefusal: fragments or marker segments cannot be walked, or the transfer syntax is none
            we can walk, as video (DICOM_PIXELS_UNDECODABLE).
    """
    data = pixel_bytes(dataset)
    if not data:
        return None
    form = pixel_form(dataset)
    if form is None:
        return b""  # no rows or columns: whatever these bytes are, they are no picture
    if transfer_syntax in NATIVE:
        if encapsulation.is_encapsulated(data):
            return _unwrapped(dataset, form, transfer_syntax)
        return strip_native(data, form, transfer_syntax)
    items = encapsulation.parse(data, form.frames)
    cleaned: dict[int, bytes] = {}
    for index in range(len(items.frames)):
        stream = items.frame(index)
        clean = clean_stream(stream, form, transfer_syntax)
        if clean is not stream:
            cleaned[index] = clean
    if items.tidy and not cleaned:
        return None
    return encapsulation.assemble(items, cleaned)


def _unwrapped(dataset: Dataset, form: PixelForm, transfer_syntax: str) -> bytes:
    """Decode code streams that lie under a transfer syntax for native pixels.

    Seen in the field; written on as they are, a reader would take them for samples.
    """
    data, changes = uncompressed(Frames(dataset, transfer_syntax), form, {})
    same = changes["PhotometricInterpretation"] == form.photometric
    if not same or changes["BitsAllocated"] != form.bits_allocated or form.planar:
        raise undecodable()
    if transfer_syntax == BIG_ENDIAN:
        raise undecodable()
    return data


def clean_stream(stream: bytes, form: PixelForm, transfer_syntax: str) -> bytes:
    """Give one frame's code stream without what decoding does not need; the same object if clean.

    Raises:
        DeidRefusal: it cannot be walked (DICOM_PIXELS_UNDECODABLE).
    """
    if transfer_syntax in JPEG | JPEG_LS:
        return markers.cleaned(stream)
    if transfer_syntax in J2K:
        return j2k.cleaned(stream)
    if transfer_syntax in RLE:
        return rle.cleaned(stream, form)
    if transfer_syntax in DEFLATED_FRAMES:
        return stream
    raise undecodable()


def strip_native(data: bytes, form: PixelForm, transfer_syntax: str) -> bytes | None:
    """Cut native pixel data to its frames and clear bits that hold no pixel; None if all is well.

    The pad byte after an odd count of bytes becomes zero. Bits above the sign of a signed sample
    are kept if they repeat the sign, as many writers do.
    """
    size = exact_size(form, len(data))
    kept = data[:size]
    pixels = -(-form.frame_bits * (form.frames or 0) // 8)
    swapped = transfer_syntax == BIG_ENDIAN and form.words and form.bits_allocated <= 8
    pad = size - 2 if swapped else size - 1  # bytes of words change places in big endian
    if pixels % 2 and size == pixels + 1 and kept[pad]:
        kept = kept[:pad] + b"\x00" + kept[pad + 1 :]
    kept = _cleared(kept, form, transfer_syntax)
    return None if kept is data else kept


def _cleared(data: bytes, form: PixelForm, transfer_syntax: str) -> bytes:
    width = form.bits_allocated // 8
    if form.is_float or form.bits_stored == form.bits_allocated or width not in (1, 2, 4, 8):
        return data
    order = ">" if transfer_syntax == BIG_ENDIAN else "<"
    whole = len(data) // width * width
    samples = np.frombuffer(data[:whole], f"{order}u{width}")
    low = form.high_bit + 1 - form.bits_stored
    mask = ((1 << form.bits_stored) - 1) << low
    spare = ((1 << form.bits_allocated) - 1) & ~mask
    if not int(np.bitwise_or.reduce(samples, initial=0)) & spare:
        return data
    clear = samples & mask
    if form.signed and not low:
        extended = clear | np.where(clear >> form.high_bit & 1, spare, 0).astype(clear.dtype)
        clear = np.where(samples & spare, extended, clear)
        if np.array_equal(samples, clear):
            return data
    return clear.astype(samples.dtype).tobytes() + data[whole:]


def offset_changes(dataset: Dataset, transfer_syntax: str, data: bytes) -> dict[str, object]:
    """Give the Extended Offset Table's new values for new pixel data; empty without a table.

    A value None means that the element goes: frames of several fragments may not have one.
    """
    names = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    if not any(name in dataset for name in names):
        return {}
    form = pixel_form(dataset)
    if form is None or transfer_syntax in NATIVE:
        return dict.fromkeys(names)
    spans = encapsulation.parse(data, form.frames).frames
    if any(len(group) != 1 for group in spans):
        return dict.fromkeys(names)
    return dict(zip(names, encapsulation.extended_offsets(spans), strict=True))
