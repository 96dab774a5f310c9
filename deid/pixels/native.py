"""Where do the pixels of native (unencapsulated) pixel data lie, and how are boxes blanked there?

PS3.5 8.1.1: samples follow each other without gaps, frames too; one-bit samples are packed from
the least significant bit, over frame ends (PS3.5 8.1.2); YBR 422 shares colour by pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deid.errors import DeidRefusal
from deid.pixels.boxes import Box, clipped
from deid.pixels.form import PixelForm
from schemas.errors import ErrorCode

BIG_ENDIAN = "1.2.840.10008.1.2.2"
Pixels = NDArray[np.generic]


def frame_count(form: PixelForm, size: int) -> int:
    """Give how many frames ``size`` bytes of native pixels hold, a cut last one included."""
    held = -(-size * 8 // form.frame_bits)
    return held if form.frames is None else min(held, form.frames)


def exact_size(form: PixelForm, size: int) -> int:
    """Give how many of ``size`` bytes are pixels, an even count as PS3.5 7.1.1 wants it.

    A source that names YBR 422 but stores full colour is taken at its length.
    """
    form = actual(form, size)
    if form.frames is None:
        return size - size % 2 if form.frame_bits % 8 else _even_frames(form, size)
    return min(size, _even(-(-form.frame_bits * form.frames // 8)))


def _even(count: int) -> int:
    return count + count % 2


def _even_frames(form: PixelForm, size: int) -> int:
    whole = size // (form.frame_bits // 8) * (form.frame_bits // 8)
    return min(size, _even(whole)) if whole else size


def actual(form: PixelForm, size: int) -> PixelForm:
    """Correct a form that says YBR 422 where the pixels' length says full colour."""
    full = form.rows * form.columns * form.samples * form.bits_allocated * (form.frames or 1) // 8
    if form.subsampled and size >= full:
        return replace(form, photometric=form.photometric.removesuffix("_422"))
    return form


class NativePixels:
    """Native pixels as a buffer of frames that can be read and blanked.

    Args:
        form: the header's layout.
        data: the element's value; never changed, a first blanking copies it.
        transfer_syntax: tells the byte order.

    Raises:
        DeidRefusal: samples of a width that cannot be addressed (DICOM_PIXELS_UNDECODABLE).
    """

    def __init__(self, form: PixelForm, data: bytes, transfer_syntax: str) -> None:
        form = actual(form, len(data))
        if form.bits_allocated not in (1, 8, 16, 32, 64):
            raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
        self.form = form
        self.count = frame_count(form, len(data))
        big = transfer_syntax == BIG_ENDIAN
        self._swapped = big and form.words and form.bits_allocated <= 8
        kind = "f" if form.is_float else "u"
        width = max(1, form.bits_allocated // 8)
        self._dtype = np.dtype(f"{'>' if big else '<'}{kind}{width}")
        self._size = len(data)
        self._bytes = np.frombuffer(data, np.uint8)
        if self._swapped:
            self._bytes = _swap(self._bytes)

    def frame(self, index: int) -> Pixels:
        """Give one frame's samples as they are stored, unsigned, unused bits included.

        Returns:
            (rows, columns) or (rows, columns, samples) in the machine's byte order. Pixels that a
            cut file lacks read 0; pairs of 422 share their colour.
        """
        form = self.form
        if form.bits_allocated == 1:
            return self._bits(index)
        per_frame = form.frame_bits // 8
        raw = self._bytes[index * per_frame : (index + 1) * per_frame]
        if len(raw) < per_frame:
            raw = np.concatenate([raw, np.zeros(per_frame - len(raw), np.uint8)])
        flat = raw.view(self._dtype).astype(self._dtype.newbyteorder("="), copy=False)
        if form.subsampled:
            return _full_colour(flat.reshape(form.rows, -1, 4), form.columns)
        if form.samples == 1:
            return flat.reshape(form.rows, form.columns)
        if form.planar:
            return np.moveaxis(flat.reshape(form.samples, form.rows, form.columns), 0, 2)
        return flat.reshape(form.rows, form.columns, form.samples)

    def _bits(self, index: int) -> Pixels:
        form = self.form
        first = index * form.frame_bits
        raw = self._bytes[first // 8 : -(-(first + form.frame_bits) // 8)]
        bits = np.unpackbits(raw, bitorder="little")[first % 8 :][: form.frame_bits]
        if len(bits) < form.frame_bits:
            bits = np.concatenate([bits, np.zeros(form.frame_bits - len(bits), np.uint8)])
        if form.samples == 1:
            return bits.reshape(form.rows, form.columns)
        return bits.reshape(form.rows, form.columns, form.samples)

    def blank(self, index: int, boxes: Sequence[Box], fill: Sequence[int | float]) -> None:
        """Write ``fill`` (one value per sample) over the boxes of one frame."""
        form = self.form
        if not self._bytes.flags.writeable:
            self._bytes = self._bytes.copy()
        for box in clipped(boxes, form.rows, form.columns):
            if form.bits_allocated == 1:
                self._blank_bits(index, box, int(fill[0]))
                continue
            for row in range(box.top, box.bottom):
                self._blank_row(index, row, box, fill)

    def _blank_row(self, index: int, row: int, box: Box, fill: Sequence[int | float]) -> None:
        form, width = self.form, self._dtype.itemsize
        start = index * (form.frame_bits // 8)
        if form.subsampled:
            pattern, unit = [fill[0], fill[0], fill[1], fill[2]], 4 * width
            left, right = box.left // 2, -(-box.right // 2)
            start += row * (form.columns // 2) * unit
        elif form.planar and form.samples > 1:
            plane = form.rows * form.columns * width
            for sample in range(form.samples):
                at = start + sample * plane + row * form.columns * width
                self._put(at, box.left, box.right, [fill[sample]])
            return
        else:
            pattern, unit = list(fill[: form.samples]), form.samples * width
            left, right = box.left, box.right
            start += row * form.columns * unit
        self._put(start, left, right, pattern)

    def _put(self, start: int, left: int, right: int, pattern: Sequence[int | float]) -> None:
        encoded = np.array(pattern).astype(self._dtype).view(np.uint8)
        unit = len(encoded)
        target = self._bytes[start + left * unit : start + right * unit]
        target[:] = np.tile(encoded, right - left)[: len(target)]

    def _blank_bits(self, index: int, box: Box, value: int) -> None:
        form = self.form
        for row in range(box.top, box.bottom):
            first = index * form.frame_bits + row * form.columns * form.samples
            low = first + box.left * form.samples
            high = min(first + box.right * form.samples, len(self._bytes) * 8)
            if low >= high:
                return
            span = slice(low // 8, -(-high // 8))
            bits = np.unpackbits(self._bytes[span], bitorder="little")
            bits[low % 8 : low % 8 + high - low] = value
            self._bytes[span] = np.packbits(bits, bitorder="little")

    def tobytes(self) -> bytes:
        """Give the element's value, of the length it had."""
        raw = _swap(self._bytes) if self._swapped else self._bytes
        return raw.tobytes()[: self._size]


def _swap(raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Exchange the bytes of each 16-bit word; an odd last byte stays."""
    even = len(raw) // 2 * 2
    swapped = raw.copy()
    swapped[:even] = raw[:even].reshape(-1, 2)[:, ::-1].reshape(-1)
    return swapped


def _full_colour(quads: Pixels, columns: int) -> Pixels:
    """Spread pairs (Y1, Y2, Cb, Cr), shape (rows, columns / 2, 4), to (rows, columns, 3)."""
    colour = np.repeat(quads[:, :, 2:], 2, axis=1)
    luma = quads[:, :, :2].reshape(quads.shape[0], -1, 1)
    return np.concatenate([luma, colour], axis=2)[:, :columns]
