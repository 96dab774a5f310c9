"""How is a frame written back, exactly as given, in the transfer syntax it came in?

Only encodings that keep every sample; each is decoded again and compared before it is used. Lossy
JPEG 2000, HTJ2K and near-lossless JPEG-LS transfer syntaxes allow a lossless code stream, so their
frames lose nothing a second time.
"""

from __future__ import annotations

from collections.abc import Callable

import imagecodecs
import jpeg_ls
import numpy as np

from deid.errors import DeidRefusal
from deid.pixels import j2k, markers, rle
from deid.pixels.codec import JPEG_LOSSLESS, JPEG_LS, RLE, Coded, decode_frame
from deid.pixels.form import PixelForm
from deid.pixels.native import Pixels

_PREFIX = "1.2.840.10008.1.2.4"
_Encoder = Callable[[Coded, bytes], bytes]


class NoEncoder(Exception):
    """Say that a frame cannot be written in its transfer syntax."""


def encode_frame(coded: Coded, source: bytes, form: PixelForm, transfer_syntax: str) -> bytes:
    """Encode one frame without loss.

    Args:
        coded: its samples, as ``decode_frame`` gave them, some of them changed.
        source: the code stream they came from: its precision, signs and transform are kept.
        form: the header's layout.
        transfer_syntax: as the source's.

    Raises:
        NoEncoder: no encoder for it, or it did not give the samples back.
    """
    encoder = _encoder(transfer_syntax)
    if encoder is None:
        raise NoEncoder
    try:
        stream = encoder(coded, source)
        again = decode_frame(stream, form, transfer_syntax)
    except (RuntimeError, ValueError, TypeError, DeidRefusal):
        raise NoEncoder from None
    if again.samples.dtype != coded.samples.dtype:
        raise NoEncoder
    if again.photometric != coded.photometric or not np.array_equal(again.samples, coded.samples):
        raise NoEncoder
    return stream


def _encoder(transfer_syntax: str) -> _Encoder | None:
    if transfer_syntax in RLE:
        return lambda coded, source: rle.encode(coded.samples)
    if transfer_syntax in JPEG_LOSSLESS:
        return _jpeg_lossless
    if transfer_syntax in JPEG_LS:
        return _jpeg_ls
    return {
        f"{_PREFIX}.90": _j2k,
        f"{_PREFIX}.91": _j2k,
        f"{_PREFIX}.201": _htj2k,
        f"{_PREFIX}.202": _htj2k_rpcl,
        f"{_PREFIX}.203": _htj2k,
    }.get(transfer_syntax)


def _jpeg_lossless(coded: Coded, source: bytes) -> bytes:
    """Encode with the predictor of selection value 1, which both lossless syntaxes allow."""
    stream = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(coded.samples),
        lossless=True,
        predictor=1,
        bitspersample=coded.precision,
    )
    return bytes(stream)


def _jpeg_ls(coded: Coded, source: bytes) -> bytes:
    samples = coded.samples
    rows, columns = samples.shape[:2]
    count = 1 if samples.ndim == 2 else samples.shape[2]
    by_plane = count > 1 and _interleave(source) == 0
    ordered = np.moveaxis(samples, 2, 0) if by_plane else samples
    mode = 0 if by_plane or count == 1 else 2
    raw = np.ascontiguousarray(ordered).astype(ordered.dtype.newbyteorder("<")).tobytes()
    stream = jpeg_ls.encode_buffer(raw, rows, columns, count, coded.precision, 0, mode)
    return bytes(stream)


def _interleave(source: bytes) -> int:
    """Read the interleave mode of a JPEG-LS scan (T.87 C.2.3); 2, by sample, if unknown."""
    scans = [segment for segment in markers.walk(source)[0] if segment.marker == markers.SOS]
    return source[scans[0].end - 2] if scans else 2


def _j2k(coded: Coded, source: bytes) -> bytes:
    header = j2k.siz(source)
    stream = imagecodecs.jpeg2k_encode(
        np.ascontiguousarray(coded.samples),
        level=0,
        codecformat="j2k",
        bitspersample=coded.precision,
        reversible=True,
        mct=header.transform,
        resolutions=_resolutions(coded.samples),
        numthreads=1,
    )
    return j2k.cleaned(bytes(stream))


def _resolutions(samples: Pixels) -> int:
    """Give how many resolutions a picture bears, at most 6: each halves its shorter side."""
    shorter: int = min(samples.shape[:2])
    return max(1, min(6, shorter.bit_length() - 1))


def _htj2k(coded: Coded, source: bytes) -> bytes:
    return _high_throughput(coded, source, tiles=False)


def _htj2k_rpcl(coded: Coded, source: bytes) -> bytes:
    """Encode in the order RPCL with tile-part lengths, which ...4.202 asks for."""
    return _high_throughput(coded, source, tiles=True)


def _high_throughput(coded: Coded, source: bytes, *, tiles: bool) -> bytes:
    """Encode by OpenJPH, which takes only whole bytes: narrower samples go in as if signed.

    A signed sample is coded as it is, an unsigned one less half its range (T.800 G.1). So samples
    shifted here, with the true precision put into SIZ (A.5.1) afterwards, give a right code stream.
    """
    header = j2k.siz(source)
    samples, precision = coded.samples, coded.precision
    whole = precision == 8 * samples.dtype.itemsize
    if not whole and samples.dtype.kind == "u":
        signed = samples.astype(f"i{samples.dtype.itemsize}")
        samples = (signed - (1 << (precision - 1))).astype(signed.dtype)
    stream = bytearray(
        imagecodecs.htj2k_encode(
            np.ascontiguousarray(samples), reversible=True, rgb=header.transform, tlm=tiles
        )
    )
    if not whole:
        sign = 0x80 if coded.samples.dtype.kind == "i" else 0
        components = 1 if samples.ndim == 2 else samples.shape[2]
        at = stream.index(b"\xff\x51") + 40
        for component in range(components):
            stream[at + 3 * component] = sign | (precision - 1)
    return j2k.cleaned(bytes(stream))
