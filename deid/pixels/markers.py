"""Which marker segments of a JPEG or JPEG-LS code stream are needed to decode it, which may go?

ITU-T T.81 (JPEG) Annex B and T.87 (JPEG-LS) Annex C: segments between markers, then entropy-coded
data in which FF is stuffed, so that a marker there is always real. Comments and application data
name devices, patients and software; only the colour transform is ever needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deid.errors import DeidRefusal
from schemas.errors import ErrorCode

SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
DHT, DQT, DRI, DNL, DAC, COM = 0xC4, 0xDB, 0xDD, 0xDC, 0xCC, 0xFE
APP0, APP8, APP14, APP15 = 0xE0, 0xE8, 0xEE, 0xEF
SOF_LS, LSE = 0xF7, 0xF8
_FRAMES = frozenset({*range(0xC0, 0xD0), SOF_LS} - {DHT, DAC, 0xC8})
_NEEDED = _FRAMES | {DHT, DQT, DRI, DNL, DAC, SOS, LSE, 0xDE, 0xDF}
_JFIF_BYTES, _ADOBE_BYTES = 14, 12


@dataclass(frozen=True, slots=True)
class Segment:
    """Hold where one marker segment lies.

    Attributes:
        marker: second byte of the marker.
        start: position of the marker's FF.
        body: position after the length field.
        end: position after the segment.
        scan_end: for SOS, position after its entropy-coded data; else ``end``.
    """

    marker: int
    start: int
    body: int
    end: int
    scan_end: int


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Hold a JPEG or JPEG-LS frame header: T.81 B.2.2.

    Attributes:
        marker: which SOF it is (0xF7 for JPEG-LS).
        precision: bits of a sample.
        rows, columns: size.
        components: for each (identifier, horizontal, vertical sampling, quantisation table).
    """

    marker: int
    precision: int
    rows: int
    columns: int
    components: tuple[tuple[int, int, int, int], ...]


def walk(stream: bytes) -> tuple[list[Segment], int]:
    """List a code stream's segments.

    Returns:
        The segments and the position after EOI (or of the end, where EOI is missing).

    Raises:
        DeidRefusal: no SOI, or a segment reaches beyond the stream (DICOM_PIXELS_UNDECODABLE).
    """
    if not stream.startswith(b"\xff\xd8"):
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
    segments: list[Segment] = []
    position, size, low = 2, len(stream), 0x01
    while position + 2 <= size:
        if stream[position] != 0xFF:
            raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
        marker = stream[position + 1]
        if marker == EOI:
            return segments, position + 2
        if marker == 0xFF:  # fill byte before a marker (T.81 B.1.1.2)
            position += 1
            continue
        length = int.from_bytes(stream[position + 2 : position + 4], "big")
        end = position + 2 + length
        if length < 2 or end > size:
            raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
        if marker == SOF_LS:
            low = 0x80
        stop = _scan_end(stream, end, low) if marker == SOS else end
        segments.append(Segment(marker, position, position + 4, end, stop))
        position = stop
    return segments, size


def _scan_end(stream: bytes, start: int, low: int) -> int:
    """Find the marker that ends entropy-coded data; restart markers belong to the data."""
    raw = np.frombuffer(stream, np.uint8, offset=start)
    at = np.flatnonzero(raw[:-1] == 0xFF)
    following = raw[at + 1]
    real = (following >= low) & (following != 0xFF) & ((following & 0xF8) != 0xD0)
    found = at[real]
    return start + int(found[0]) if len(found) else len(stream)


def frame_header(stream: bytes, segments: list[Segment]) -> FrameHeader | None:
    """Read the first frame header; None without one."""
    for segment in segments:
        body = stream[segment.body : segment.end]
        if segment.marker in _FRAMES and len(body) >= 6 and len(body) >= 6 + 3 * body[5]:
            parts = [body[6 + 3 * i : 9 + 3 * i] for i in range(body[5])]
            return FrameHeader(
                segment.marker,
                body[0],
                int.from_bytes(body[1:3], "big"),
                int.from_bytes(body[3:5], "big"),
                tuple((part[0], part[1] >> 4, part[1] & 15, part[2]) for part in parts),
            )
    return None


def holds_rgb(stream: bytes, segments: list[Segment], header: FrameHeader, stated: bool) -> bool:
    """Tell whether three components are red, green and blue rather than luma and two colours.

    As decoders do: by JFIF, by Adobe's flag, by the components' names; else as the object states.
    """
    for segment in segments:
        body = stream[segment.body : segment.end]
        if segment.marker == APP0 and body.startswith(b"JFIF\x00"):
            return False
        if segment.marker == APP14 and body.startswith(b"Adobe") and len(body) >= _ADOBE_BYTES:
            return body[11] == 0
    return stated or bytes(component[0] for component in header.components) == b"RGB"


def needed(stream: bytes, segment: Segment) -> bytes | None:
    """Give a segment as it should be kept; None if decoders do without it.

    Kept beside the coding's own segments: JFIF (its thumbnail dropped) and Adobe's transform flag,
    from which decoders tell colour spaces, and JPEG-LS's colour transform (``mrfx``).
    """
    whole = stream[segment.start : segment.scan_end]
    body = stream[segment.body : segment.end]
    match segment.marker:
        case marker if marker in _NEEDED:
            return whole
        case 0xE0 if body.startswith(b"JFIF\x00") and len(body) >= _JFIF_BYTES:
            if len(body) == _JFIF_BYTES and not any(body[12:14]):
                return whole
            return b"\xff\xe0\x00\x10" + body[:12] + b"\x00\x00"
        case 0xEE if body.startswith(b"Adobe") and len(body) >= _ADOBE_BYTES:
            if len(body) == _ADOBE_BYTES:
                return whole
            return b"\xff\xee\x00\x0e" + body[:_ADOBE_BYTES]
        case 0xE8 if body.startswith(b"mrfx") and len(body) == 5:
            return whole
    return None


def cleaned(stream: bytes) -> bytes:
    """Give a JPEG or JPEG-LS code stream without what decoding does not need.

    Comments, application segments, fill bytes and all bytes after EOI go, between scans too. The
    same object comes back where nothing had to go.

    Raises:
        DeidRefusal: the segments cannot be walked (DICOM_PIXELS_UNDECODABLE).
    """
    segments, end = walk(stream)
    pieces = [needed(stream, segment) for segment in segments]
    kept = [piece for piece in pieces if piece is not None]
    trailing = stream[end:]
    size = 2 + sum(map(len, kept)) + (2 if stream[end - 2 : end] == b"\xff\xd9" else 0)
    if size == end and trailing in (b"", b"\x00", b"\xff"):
        return stream
    return b"".join([b"\xff\xd8", *kept, b"\xff\xd9"])
