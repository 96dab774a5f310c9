"""What do the frames of an object show? Decoded one by one, in every transfer syntax we can read.

Each frame is decoded alone, so that memory holds one or two whatever the object's length. Native
pixels are read where they lie; JPEG in all its processes, JPEG-LS, JPEG 2000 and HTJ2K go through
imagecodecs (libjpeg-turbo, CharLS, OpenJPEG), run-length coding through pylibjpeg-rle.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from deid.errors import DeidRefusal
from deid.pixels import encapsulation, j2k, markers, palette, rle, tone
from deid.pixels.form import PixelForm, pixel_bytes, pixel_form
from deid.pixels.native import NativePixels, Pixels
from schemas.errors import ErrorCode

_PREFIX = "1.2.840.10008.1.2"
NATIVE = frozenset({_PREFIX, f"{_PREFIX}.1", f"{_PREFIX}.1.99", f"{_PREFIX}.2"})
RLE = frozenset({f"{_PREFIX}.5"})
JPEG_SEQUENTIAL = frozenset({f"{_PREFIX}.4.50", f"{_PREFIX}.4.51"})
JPEG_PROGRESSIVE = frozenset({f"{_PREFIX}.4.53", f"{_PREFIX}.4.55"})
JPEG_LOSSLESS = frozenset({f"{_PREFIX}.4.57", f"{_PREFIX}.4.70"})
JPEG = JPEG_SEQUENTIAL | JPEG_PROGRESSIVE | JPEG_LOSSLESS
JPEG_LS = frozenset({f"{_PREFIX}.4.80", f"{_PREFIX}.4.81"})
HTJ2K = frozenset({f"{_PREFIX}.4.201", f"{_PREFIX}.4.202", f"{_PREFIX}.4.203"})
J2K = frozenset({f"{_PREFIX}.4.{n}" for n in (90, 91, 92, 93)}) | HTJ2K
DEFLATED_FRAMES = frozenset({f"{_PREFIX}.8.1"})
READABLE = NATIVE | RLE | JPEG | JPEG_LS | J2K | DEFLATED_FRAMES

_MAX_SAMPLES = 1 << 28  # 16,384 x 16,384: a frame's decoded size in memory, whatever is claimed
_DECODER_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, OverflowError, zlib.error)


@dataclass(frozen=True, slots=True)
class Coded:
    """Hold one frame as its coding gives it.

    Attributes:
        samples: (rows, columns) or (rows, columns, samples).
        precision: bits of a sample in the coding.
        photometric: what the samples mean here (a JPEG 2000 decoder, say, undoes YBR_RCT).
    """

    samples: Pixels
    precision: int
    photometric: str


class Frames:
    """Give one object's frames, decoded one by one.

    Attributes:
        count: frames the pixel data holds; 0 if there is no picture.
        rows, columns, samples, photometric, bits_stored, signed: as the header states them.
        misnamed: whether code streams lie under a transfer syntax for native pixels.
    """

    def __init__(self, dataset: Dataset, transfer_syntax: str) -> None:
        self._dataset = dataset
        self._syntax = transfer_syntax
        self.form = pixel_form(dataset)
        data = pixel_bytes(dataset)
        self._native: NativePixels | None = None
        self._items: encapsulation.Encapsulated | None = None
        form = self.form
        if form is None or not data:
            self.count = 0
        elif form.rows * form.columns * form.samples > _MAX_SAMPLES:
            raise undecodable()
        elif transfer_syntax in NATIVE and not encapsulation.is_encapsulated(data):
            self._native = NativePixels(form, data, transfer_syntax)
            self.form = form = self._native.form
            self.count = self._native.count
        else:
            self._items = encapsulation.parse(data, form.frames)
            self.count = len(self._items.frames)
        self.misnamed = transfer_syntax in NATIVE and self._items is not None
        self.rows, self.columns = (form.rows, form.columns) if form else (0, 0)
        self.samples = form.samples if form else 0
        self.photometric = form.photometric if form else ""
        self.bits_stored = form.bits_stored if form else 0
        self.signed = bool(form and form.signed)

    def coded(self, index: int) -> Coded:
        """Decode a frame to the very samples that its coding holds, signs not yet applied.

        Raises:
            DeidRefusal: it cannot be decoded (DICOM_PIXELS_UNDECODABLE).
        """
        if self.form is None or not 0 <= index < self.count:
            raise undecodable()
        if self._native is not None:
            pixels = self._native.frame(index)
            return Coded(pixels, self.form.bits_allocated, self.form.photometric)
        return decode_frame(self.stream(index), self.form, self._syntax)

    def stored(self, index: int) -> Pixels:
        """Decode a frame to stored values, colour as :attr:`photometric` says.

        Returns:
            (rows, columns) or (rows, columns, samples), unused bits cleared, signs extended.

        Raises:
            DeidRefusal: it cannot be decoded (DICOM_PIXELS_UNDECODABLE).
        """
        return self.values(self.coded(index))

    def values(self, coded: Coded) -> Pixels:
        """Read a frame's samples as the header says: which bits, and whether signed."""
        form, samples = self.form, coded.samples
        if form is None or form.is_float or samples.dtype.kind == "f":
            return samples
        width = 8 * samples.dtype.itemsize
        unsigned = samples.view(f"u{width // 8}")
        stored = min(form.bits_stored, coded.precision)
        shift = form.high_bit + 1 - form.bits_stored if self._native or self._is_rle() else 0
        spare = width - stored
        if form.signed or samples.dtype.kind == "i":
            lifted: Pixels = np.left_shift(unsigned, spare - shift)
            signed: Pixels = np.right_shift(lifted.view(f"i{width // 8}"), spare)
            return signed if form.signed else signed.view(unsigned.dtype)
        if not spare and not shift:
            return unsigned
        masked: Pixels = np.right_shift(unsigned, shift) & ((1 << stored) - 1)
        return masked

    def shown(self, coded: Coded) -> Pixels:
        """Read a frame's samples for the eye: where header and code stream differ on signs, signed.

        So do viewers that trust JPEG 2000's own header; the other reading folds the range.
        """
        if coded.samples.dtype.kind == "i":
            return coded.samples
        return self.values(coded)

    def _is_rle(self) -> bool:
        return self._syntax in RLE

    def grey(self, index: int) -> NDArray[np.uint8]:
        """Decode a frame to a picture for the detection of text, dark or bright.

        Returns:
            (rows, columns) of the frame's own code stream, which in tiled objects may be smaller
            than the header's; black is what a viewer shows black.

        Raises:
            DeidRefusal: it cannot be decoded (DICOM_PIXELS_UNDECODABLE).
        """
        coded = self.coded(index)
        kind, values = coded.photometric, self.shown(coded)
        if values.ndim == 3 and values.shape[2] >= 3:
            is_ybr = kind.startswith("YBR") and kind not in ("YBR_RCT", "YBR_ICT")
            return tone.grey_of_colours(tone.rgb_of_ybr(values) if is_ybr else values)
        values = values[..., 0] if values.ndim == 3 else values
        if kind.startswith("PALETTE"):
            colours = palette.colours_of(values, self._dataset, self._syntax)
            if colours is not None:
                return tone.grey_of_colours(colours)
        grey = tone.grey_of_samples(values if self.bits_stored > 1 else values * 255)
        return 255 - grey if kind == "MONOCHROME1" else grey

    def darkest_entry(self, values: Pixels) -> int:
        """Give the palette index of the darkest colour; the least one used if tables are bad."""
        entries = np.arange(1 << min(self.bits_stored, 16), dtype=f"u{values.dtype.itemsize}")
        colours = palette.colours_of(entries, self._dataset, self._syntax)
        if colours is None:
            return int(values.min())
        return int(colours.astype(np.int64).sum(axis=-1).argmin())

    def size(self, index: int) -> tuple[int, int]:
        """Give a frame's rows and columns as its own code stream states them, without decoding.

        Raises:
            DeidRefusal: the stream's header cannot be read (DICOM_PIXELS_UNDECODABLE).
        """
        if self._items is None or self._syntax in RLE | DEFLATED_FRAMES:
            return self.rows, self.columns
        stream = self.stream(index)
        if not stream.startswith(b"\xff\xd8"):
            siz = j2k.siz(stream)
            return siz.rows, siz.columns
        header = markers.frame_header(stream, markers.walk(stream)[0])
        if header is None:
            raise undecodable()
        return header.rows or self.rows, header.columns

    def stream(self, index: int) -> bytes:
        """Give a frame's code stream as it lies in encapsulated pixel data."""
        if self._items is None:
            raise undecodable()
        return self._items.frame(index)


def open_frames(dataset: Dataset, transfer_syntax: str) -> Frames:
    """Open an object's pixels for decoding frame by frame.

    Raises:
        DeidRefusal: the transfer syntax or the layout is none we read (DICOM_PIXELS_UNDECODABLE).
    """
    if transfer_syntax not in READABLE and pixel_bytes(dataset):
        raise undecodable()
    return Frames(dataset, transfer_syntax)


def undecodable() -> DeidRefusal:
    """Refuse an object whose pixels cannot be read."""
    return DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)


def decode_frame(stream: bytes, form: PixelForm, transfer_syntax: str) -> Coded:
    """Decode one frame's code stream.

    Raises:
        DeidRefusal: it cannot be decoded, even cleaned of foreign segments, or claims more samples
            than a frame may have (DICOM_PIXELS_UNDECODABLE).
    """
    try:
        if transfer_syntax in RLE:
            pixels = rle.decode(stream, form)
            return Coded(pixels, form.bits_allocated, form.photometric)
        if transfer_syntax in DEFLATED_FRAMES:
            return _inflated(stream, form)
        if transfer_syntax in J2K or not stream.startswith(b"\xff\xd8"):
            return _j2k(stream, form)
        return _jpeg(stream, form)
    except _DECODER_ERRORS:
        raise undecodable() from None


def _inflated(stream: bytes, form: PixelForm) -> Coded:
    size = -(-form.frame_bits // 8)
    plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream, size)
    pixels = NativePixels(form, plain, f"{_PREFIX}.1").frame(0)
    return Coded(pixels, form.bits_allocated, form.photometric)


def _j2k(stream: bytes, form: PixelForm) -> Coded:
    stream = j2k.codestream(stream)
    header = j2k.siz(stream)
    if not 0 < header.rows * header.columns <= _MAX_SAMPLES:  # damaged: the object's size stands in
        stream = j2k.resized(stream, form.rows, form.columns)
        header = j2k.siz(stream)
    _bounded(form, header.rows, header.columns, header.components)
    try:
        pixels = imagecodecs.jpeg2k_decode(stream)
    except RuntimeError:
        pixels = imagecodecs.jpeg2k_decode(j2k.cleaned(stream))
    return Coded(pixels, header.precision, "RGB" if header.transform else form.photometric)


def _jpeg(stream: bytes, form: PixelForm) -> Coded:
    segments, end = markers.walk(stream)
    header = markers.frame_header(stream, segments)
    if header is None:
        raise undecodable()
    _bounded(form, header.rows or form.rows, header.columns, len(header.components))
    if header.marker == markers.SOF_LS:
        if stream[end - 2 : end] != b"\xff\xd9":
            raise undecodable()  # CharLS takes seconds to say so of a cut stream
        return Coded(imagecodecs.jpegls_decode(stream), header.precision, form.photometric)
    if header.marker == 0xC3:
        pixels = imagecodecs.jpegsof3_decode(stream)
        return Coded(pixels, header.precision, form.photometric)
    if len(header.components) != 3:
        return Coded(imagecodecs.jpeg8_decode(stream), header.precision, form.photometric)
    # Both named alike: the components come as they are coded, and nothing is lost on the way.
    pixels = imagecodecs.jpeg8_decode(stream, colorspace="YCBCR", outcolorspace="YCBCR")
    is_rgb = markers.holds_rgb(stream, segments, header, form.photometric == "RGB")
    return Coded(pixels, header.precision, "RGB" if is_rgb else "YBR_FULL")


def _bounded(form: PixelForm, rows: int, columns: int, samples: int) -> None:
    """Refuse a code stream that claims far more samples than its object: it may fill the memory."""
    stated = form.rows * form.columns * max(3, form.samples)
    if not 0 < rows * columns * samples <= min(_MAX_SAMPLES, 4 * stated + 65_536):
        raise undecodable()
