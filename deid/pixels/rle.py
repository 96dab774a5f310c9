"""How is one run-length coded frame (PS3.5 Annex G) read, written and freed of surplus bytes?"""

from __future__ import annotations

from struct import Struct

import imagecodecs
import numpy as np
import rle.rle as coder
from numpy.typing import NDArray

from deid.errors import DeidRefusal
from deid.pixels.form import PixelForm
from schemas.errors import ErrorCode

_HEADER = Struct("<16L")
_LIMIT = 15


def _undecodable() -> DeidRefusal:
    return DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)


def segments(frame: bytes) -> list[tuple[int, int]]:
    """Give where a frame's segments lie.

    Raises:
        DeidRefusal: the header is cut, or its offsets do not ascend inside the frame
            (DICOM_PIXELS_UNDECODABLE).
    """
    if len(frame) < _HEADER.size:
        raise _undecodable()
    count, *offsets = _HEADER.unpack_from(frame)
    starts = offsets[:count]
    if not 0 < count <= _LIMIT or starts != sorted(set(starts)):
        raise _undecodable()
    if starts[0] < _HEADER.size or starts[-1] >= len(frame):
        raise _undecodable()
    return list(zip(starts, [*starts[1:], len(frame)], strict=True))


def decode(frame: bytes, form: PixelForm) -> NDArray[np.generic]:
    """Decode one frame.

    Returns:
        (rows, columns) or (rows, columns, samples), unsigned, in the machine's byte order.

    Raises:
        DeidRefusal: it does not hold the pixels that the header states.
    """
    pixels = form.rows * form.columns
    width = max(1, form.bits_allocated // 8)
    spans = segments(frame)
    if len(spans) != form.samples * width:
        raise _undecodable()
    planes = np.zeros((form.samples, width, pixels), np.uint8)
    for index, (start, end) in enumerate(spans):
        plain = _plain(frame[start:end], pixels)[0]
        # Segments go from the most to the least significant byte of each sample (PS3.5 G.2).
        planes[index // width, width - 1 - index % width, : len(plain)] = plain
    samples = np.ascontiguousarray(planes.transpose(2, 0, 1)).view(f"<u{width}")
    native = samples.astype(f"=u{width}", copy=False)
    shape = (form.rows, form.columns)
    return native.reshape(shape if form.samples == 1 else (*shape, form.samples))


def _plain(segment: bytes, pixels: int) -> tuple[NDArray[np.uint8], int]:
    """Decode a segment to at most ``pixels`` bytes; give also how many bytes of it that took."""
    plain = _unpacked(segment)  # surplus bytes at the end may read like a run that is cut
    if len(plain) in (pixels, pixels + 1):  # one byte more: the pad to an even length
        return plain[:pixels], len(segment)
    used = _used(segment, pixels)
    plain = _unpacked(segment[:used])
    if not len(plain):
        raise _undecodable()
    return plain[:pixels], used


def _unpacked(segment: bytes) -> NDArray[np.uint8]:
    """Decode all runs (PackBits); empty if the last one is cut."""
    try:
        return np.frombuffer(imagecodecs.packbits_decode(segment), np.uint8)
    except (RuntimeError, ValueError):
        return np.zeros(0, np.uint8)


def _used(segment: bytes, pixels: int) -> int:
    """Count the bytes of a segment that ``pixels`` decoded bytes take (PS3.5 G.3.2)."""
    position, made, size = 0, 0, len(segment)
    while made < pixels and position < size:
        control = segment[position]
        if control < 128:
            step, made = control + 2, made + control + 1
        elif control > 128:
            step, made = 2, made + 257 - control
        else:
            step = 1
        if position + step > size:
            return position  # the file was cut inside this run
        position += step
    return position


def cleaned(frame: bytes, form: PixelForm) -> bytes:
    """Give a frame without bytes outside its runs; the same object where there are none.

    Raises:
        DeidRefusal: the header or a segment cannot be walked (DICOM_PIXELS_UNDECODABLE).
    """
    spans = segments(frame)
    pixels = form.rows * form.columns
    used = [_plain(frame[start:end], pixels)[1] for start, end in spans]
    unused = _HEADER.unpack_from(frame)[1 + len(spans) :]
    whole = all(count == end - start for count, (start, end) in zip(used, spans, strict=True))
    if whole and spans[0][0] == _HEADER.size and not any(unused):
        return frame
    return _joined([frame[start : start + n] for (start, _), n in zip(spans, used, strict=True)])


def _joined(parts: list[bytes]) -> bytes:
    even = [part + b"\x00" * (len(part) % 2) for part in parts]
    offsets = [_HEADER.size]
    for part in even[:-1]:
        offsets.append(offsets[-1] + len(part))
    header = _HEADER.pack(len(even), *offsets, *[0] * (_LIMIT - len(offsets)))
    return b"".join([header, *even])


def encode(pixels: NDArray[np.generic]) -> bytes:
    """Encode one frame as ``decode`` gave it; each row's runs end with the row (PS3.5 G.3.1)."""
    rows, columns = pixels.shape[:2]
    width = pixels.dtype.itemsize
    flat = np.ascontiguousarray(pixels).reshape(rows * columns, -1).astype(f"<u{width}")
    planes = flat.view(np.uint8).reshape(rows * columns, -1, width)
    parts = [
        bytes(coder.encode_segment(planes[:, sample, byte].tobytes(), columns))
        for sample in range(planes.shape[1])
        for byte in reversed(range(width))
    ]
    return _joined(parts)
