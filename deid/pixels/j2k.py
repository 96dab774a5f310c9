"""Which parts of a JPEG 2000 code stream are needed to decode it, and what does its header say?

ITU-T T.800 Annex A. The main header's comments go; those in tile-part headers, whose length other
markers count, are overwritten with zeros; what follows the last tile-part or EOC goes. Of a JP2
file, whose boxes hold text (T.800 Annex I), only the code stream stays, as PS3.5 8.2.4 asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from deid.errors import DeidRefusal
from schemas.errors import ErrorCode

_SOC, _EOC = b"\xff\x4f", b"\xff\xd9"
_SIZ, _COD, _QCD, _COM, _SOT, _SOD = 0x51, 0x52, 0x5C, 0x64, 0x90, 0x93


@dataclass(frozen=True, slots=True)
class Siz:
    """Hold what a main header says of the image (T.800 A.5.1, A.6.1).

    Attributes:
        rows, columns: size of the image.
        components: samples per pixel.
        precision: bits of a sample.
        signed: whether samples are signed.
        transform: whether a multiple component transform is used.
        reversible: whether the wavelet is the reversible 5-3.
    """

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool
    transform: bool
    reversible: bool


def codestream(stream: bytes) -> bytes:
    """Take the code stream out of a JP2 file; a bare one comes back as it is.

    Raises:
        DeidRefusal: neither (DICOM_PIXELS_UNDECODABLE).
    """
    if stream.startswith(_SOC):
        return stream
    position = 0
    while position + 8 <= len(stream):
        length = int.from_bytes(stream[position : position + 4], "big")
        kind, head = stream[position + 4 : position + 8], 8
        if length == 1:
            length, head = int.from_bytes(stream[position + 8 : position + 16], "big"), 16
        end = len(stream) if length == 0 else position + length
        if kind == b"jp2c" and stream.startswith(_SOC, position + head):
            return stream[position + head : end]
        if end < position + 8:
            break
        position = end
    raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)


def _headers(stream: bytes, position: int) -> tuple[list[tuple[int, int, int]], int]:
    """List segments (marker, start, end) up to SOT or SOD, and where that stands."""
    segments: list[tuple[int, int, int]] = []
    while position + 4 <= len(stream):
        if stream[position] != 0xFF:
            break
        marker = stream[position + 1]
        if marker in (_SOT, _SOD):
            return segments, position
        end = position + 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        if end < position + 4:
            break
        segments.append((marker, position, end))
        position = end
    raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)


def siz(stream: bytes) -> Siz:
    """Read a code stream's main header.

    Raises:
        DeidRefusal: it cannot be walked or lacks SIZ or COD (DICOM_PIXELS_UNDECODABLE).
    """
    stream = codestream(stream)
    found = {marker: stream[start:end] for marker, start, end in _headers(stream, 2)[0]}
    size, style = found.get(_SIZ, b""), found.get(_COD, b"")
    if len(size) < 43 or len(style) < 14:
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
    ends = [int.from_bytes(size[at : at + 4], "big") for at in (6, 10, 14, 18)]
    return Siz(
        rows=ends[1] - ends[3],
        columns=ends[0] - ends[2],
        components=int.from_bytes(size[38:40], "big"),
        precision=(size[40] & 0x7F) + 1,
        signed=bool(size[40] & 0x80),
        transform=bool(style[8]),
        reversible=style[13] == 1,
    )


def resized(stream: bytes, rows: int, columns: int) -> bytes:
    """Give a code stream with a plain SIZ of that size, one tile wide where the source's was not.

    For reading a stream whose SIZ is damaged; Rsiz, the size and the tile size are set (T.800
    A.5.1).
    """
    at = stream.index(b"\xff\x51") + 4
    tile = [int.from_bytes(stream[at + k : at + k + 4], "big") for k in (18, 22)]
    tile = [tile[0] if 0 < tile[0] <= columns else columns, tile[1] if tile[1] else rows]
    new = b"".join(
        [
            bytes(2),
            columns.to_bytes(4, "big"),
            rows.to_bytes(4, "big"),
            bytes(8),
            tile[0].to_bytes(4, "big"),
            tile[1].to_bytes(4, "big"),
        ]
    )
    return stream[:at] + new + stream[at + len(new) :]


def cleaned(stream: bytes) -> bytes:
    """Give a JPEG 2000 code stream without comments and without bytes beyond its end.

    The same object comes back where nothing had to go.

    Raises:
        DeidRefusal: the main header cannot be walked (DICOM_PIXELS_UNDECODABLE).
    """
    bare = codestream(stream)
    segments, tiles = _headers(bare, 2)
    header = [bare[start:end] for marker, start, end in segments if marker != _COM]
    end, comments, closed = _tile_parts(bare, tiles)
    trailing = bare[end + 2 if closed else end :]
    same = bare is stream and len(header) == len(segments) and not comments
    if same and trailing in (b"", b"\x00", b"\xff"):
        return stream
    body = bytearray(bare[:end])
    for start, stop in comments:
        body[start:stop] = bytes(stop - start)
    return b"".join([_SOC, *header, body[tiles:], _EOC if closed else b""])


def _tile_parts(stream: bytes, position: int) -> tuple[int, list[tuple[int, int]], bool]:
    """Walk the tile-parts.

    Returns:
        Where the last one ends, the spans of comment text that still say something, and whether
        EOC follows. A wrong tile-part length ends the walk: packets hold no marker above FF8F, so
        the next EOC is then the end.
    """
    comments: list[tuple[int, int]] = []
    size = len(stream)
    while stream.startswith(b"\xff\x90\x00\x0a", position):
        length = int.from_bytes(stream[position + 6 : position + 10], "big")
        try:
            segments, data = _headers(stream, position + 12)
        except DeidRefusal:
            segments, data = [], position + 12
        for marker, start, end in segments:
            if marker == _COM and any(stream[start + 4 : end]):
                comments.append((start + 4, end))
        end = position + length if length else size
        regular = length and data < end <= size and stream[end : end + 2] in (b"\xff\x90", _EOC)
        if not regular and not stream.startswith(b"\xff\x64", end):
            found = stream.find(_EOC, data)
            return (found, comments, True) if found >= 0 else (size, comments, False)
        position = end
    return position, comments, stream.find(_EOC, position) >= 0
