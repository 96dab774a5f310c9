"""How are boxes of a sequential JPEG blanked while every other block keeps its coefficients?

ITU-T T.81, processes 1, 2 and 4 with Huffman coding: baseline and extended, 8 and 12 bits, any
subsampling, restart intervals, one or several scans. An 8 x 8 block that a box touches loses its
AC coefficients and takes black's DC; the block after it in its component, whose DC is coded as a
difference, gets that difference anew. All other bits are copied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deid.errors import DeidRefusal
from deid.pixels import jpeg_huffman as huffman
from deid.pixels import markers
from deid.pixels.boxes import Box, clipped

_SEQUENTIAL = (0xC0, 0xC1)
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_Tables = dict[tuple[int, int], huffman.HuffmanTable]
_Bits = NDArray[np.uint8]


class NotBlockwise(Exception):
    """Say that a code stream is none whose blocks can be blanked one by one."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Hold one component's part in a scan.

    Attributes:
        dc, ac: identifiers of its Huffman tables.
        across, down: blocks in an MCU of this scan.
        touched: whether each block is to be blanked; shape (block rows, block columns).
        level: quantised DC of a blank block.
    """

    dc: int
    ac: int
    across: int
    down: int
    touched: NDArray[np.bool_]
    level: int


def blank_blocks(stream: bytes, boxes: Sequence[Box], value: int | None, is_rgb: bool) -> bytes:
    """Blank the 8 x 8 blocks that boxes touch.

    Args:
        stream: one frame's code stream, cleaned.
        boxes: in pixels; parts outside the picture are ignored.
        value: sample of a blank grey pixel; None for 0.
        is_rgb: what three components are where the stream does not say.

    Returns:
        The new code stream; the same object where no box lies in the picture.

    Raises:
        NotBlockwise: progressive, arithmetic, lossless, four components, or damaged.
    """
    try:
        segments, _ = markers.walk(stream)
        header = markers.frame_header(stream, segments)
        if header is None or header.marker not in _SEQUENTIAL or not header.rows:
            raise NotBlockwise
        if any(not 0 < size <= 4 for part in header.components for size in part[1:3]):
            raise NotBlockwise
        if header.rows * header.columns > 64 * 4 * len(stream):  # a block takes 2 bits at least
            raise NotBlockwise
        inside = clipped(boxes, header.rows, header.columns)
        if not inside:
            return stream
        samples = _blank_samples(stream, segments, header, value, is_rgb)
        return _Editor(stream, header, inside, samples).edit(segments)
    except (huffman.BadTable, DeidRefusal, LookupError, ValueError, ArithmeticError):
        raise NotBlockwise from None


def _blank_samples(
    stream: bytes,
    segments: list[markers.Segment],
    header: markers.FrameHeader,
    value: int | None,
    is_rgb: bool,
) -> list[int]:
    """Give each component's blank sample, its colour model told as decoders tell it."""
    if len(header.components) == 1:
        return [value or 0]
    if len(header.components) != 3:
        raise NotBlockwise
    is_rgb = markers.holds_rgb(stream, segments, header, is_rgb)
    half = 1 << (header.precision - 1)
    return [0, 0, 0] if is_rgb else [0, half, half]


class _Editor:
    """Rewrite one code stream's scans."""

    def __init__(
        self, stream: bytes, header: markers.FrameHeader, boxes: list[Box], samples: list[int]
    ) -> None:
        self._stream = stream
        self._header = header
        self._boxes = boxes
        self._samples = samples
        self._tables: _Tables = {}
        self._quantisers: dict[int, int] = {}
        self._interval = 0
        self._most_across = max(component[1] for component in header.components)
        self._most_down = max(component[2] for component in header.components)

    def edit(self, segments: list[markers.Segment]) -> bytes:
        """Give the new code stream."""
        out = [b"\xff\xd8"]
        for segment in segments:
            body = self._stream[segment.body : segment.end]
            if segment.marker == markers.SOS:
                out += self._scan(segment, body)
                continue
            out.append(self._stream[segment.start : segment.end])
            match segment.marker:
                case markers.DHT:
                    self._tables |= huffman.parse_tables(body)
                case markers.DQT:
                    self._read_quantisers(body)
                case markers.DRI:
                    self._interval = int.from_bytes(body[:2], "big")
                case markers.DNL:
                    raise NotBlockwise
        return b"".join([*out, b"\xff\xd9"])

    def _read_quantisers(self, body: bytes) -> None:
        """Remember each table's first element, the DC's (T.81 B.2.4.1)."""
        at = 0
        while at < len(body):
            width = 2 if body[at] >> 4 else 1
            self._quantisers[body[at] & 15] = int.from_bytes(body[at + 1 : at + 1 + width], "big")
            at += 1 + 64 * width

    def _scan(self, segment: markers.Segment, body: bytes) -> list[bytes]:
        parts, across, down = self._parts(body)
        data = self._stream[segment.end : segment.scan_end]
        marks = [match.group() for match in _RESTART.finditer(data)]
        pieces = [piece.replace(b"\xff\x00", b"\xff") for piece in _RESTART.split(data)]
        total = across * down
        interval = self._interval or total
        if len(pieces) != -(-total // interval):
            raise NotBlockwise
        layout = _layout(parts, across, down)
        per_mcu = sum(part.across * part.down for part in parts)
        readers = [
            (huffman.dc_reader(self._tables[0, p.dc]), huffman.ac_reader(self._tables[1, p.ac]))
            for p in parts
        ]
        intervals = []
        for number, piece in enumerate(pieces):
            first = number * interval
            chosen = slice(first * per_mcu, min(first + interval, total) * per_mcu)
            owners, touched = layout[0][chosen], layout[1][chosen]
            read = _read(piece, owners, readers)
            intervals.append(_Interval(piece, owners, touched, *read, parts))
        added = self._extend(parts, intervals)
        codes = [
            (self._tables[0, p.dc].codes(), self._tables[1, p.ac].codes().get(0, (0, 0)))
            for p in parts
        ]
        written = [interval_.written(codes) for interval_ in intervals]
        out = [*added, self._stream[segment.start : segment.end], written[0]]
        for mark, piece in zip(marks, written[1:], strict=True):
            out += [mark, piece]
        return out

    def _parts(self, body: bytes) -> tuple[list[_Part], int, int]:
        """Read a scan header; give its components' parts and its MCUs across and down.

        Its spectral selection means nothing in a sequential scan, and is wrong in real files.
        """
        header = self._header
        chosen = [body[1 + 2 * i : 3 + 2 * i] for i in range(body[0])]
        alone = len(chosen) == 1
        names = [component[0] for component in header.components]
        mcu_across = -(-header.columns // (8 * self._most_across))
        mcu_down = -(-header.rows // (8 * self._most_down))
        parts = []
        for name, tables in chosen:
            index = names.index(name)
            _, across, down, quantiser = header.components[index]
            if alone:  # T.81 A.2.2: blocks only as far as the component's samples go
                columns = -(-header.columns * across // self._most_across)
                rows = -(-header.rows * down // self._most_down)
                mcu_across, mcu_down = -(-columns // 8), -(-rows // 8)
                shape, mcu = (mcu_down, mcu_across), (1, 1)
            else:
                shape, mcu = (mcu_down * down, mcu_across * across), (across, down)
            touched = self._touched(shape, across, down)
            level = self._level(self._samples[index], self._quantisers[quantiser])
            parts.append(_Part(tables >> 4, tables & 15, *mcu, touched, level))
        return parts, mcu_across, mcu_down

    def _touched(self, shape: tuple[int, int], across: int, down: int) -> NDArray[np.bool_]:
        touched = np.zeros(shape, np.bool_)
        high, wide = 8 * self._most_down, 8 * self._most_across
        for box in self._boxes:
            rows = slice(box.top * down // high, -(-box.bottom * down // high))
            columns = slice(box.left * across // wide, -(-box.right * across // wide))
            touched[rows, columns] = True
        return touched

    def _level(self, sample: int, quantiser: int) -> int:
        """Give the DC that decodes to a sample: 8 times its distance from the middle (A.3.3)."""
        half = 1 << (self._header.precision - 1)
        distance = 8 * (sample - half)
        return -(-distance // quantiser) if distance > 0 else distance // quantiser

    def _extend(self, parts: list[_Part], intervals: list[_Interval]) -> list[bytes]:
        """Give tables the symbols that the new blocks need; return the DHT segments for that."""
        wanted: dict[tuple[int, int], set[int]] = {}
        for number, part in enumerate(parts):
            sizes = {size for interval in intervals for size in interval.sizes(number)}
            wanted.setdefault((0, part.dc), set()).update(sizes)
            if part.touched.any():
                wanted.setdefault((1, part.ac), set()).add(0)
        out = []
        for key, symbols in wanted.items():
            missing = frozenset(symbols - set(self._tables[key].symbols))
            if missing:
                self._tables[key] = self._tables[key].extended(missing)
                out.append(self._tables[key].segment(*key))
        return out


def _layout(
    parts: list[_Part], across: int, down: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Give, for each block in coding order, its part and whether it is touched (T.81 A.2)."""
    owners, touched = [], []
    for number, part in enumerate(parts):
        grid = part.touched.reshape(down, part.down, across, part.across)
        by_mcu = grid.transpose(0, 2, 1, 3).reshape(across * down, -1)
        touched.append(by_mcu)
        owners.append(np.full(by_mcu.shape, number, np.intp))
    return np.concatenate(owners, axis=1).reshape(-1), np.concatenate(touched, axis=1).reshape(-1)


def _read(
    data: bytes, owners: NDArray[np.intp], readers: list[tuple[list[int], list[int]]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find where each block of a restart interval begins, where its AC begin, and its DC.

    Returns:
        Bit positions of the blocks and, last, of the interval's end; of their AC; DC values.
    """
    ahead = huffman.bits_ahead(data)
    starts, middles, values = [], [], []
    before = [0] * len(readers)
    position = 0
    for owner in owners.tolist():
        dc, ac = readers[owner]
        starts.append(position)
        entry = dc[ahead[position]]
        if entry < 0:
            raise NotBlockwise
        size = entry & 31
        position += entry >> 5
        if size:
            extra = ahead[position] >> (16 - size)
            before[owner] += extra if extra >> (size - 1) else extra + 1 - (1 << size)
            position += size
        middles.append(position)
        values.append(before[owner])
        coefficient = 1
        while coefficient < 64:
            entry = ac[ahead[position]]
            coefficient += entry >> 6
            position += entry & 63
        if coefficient >= huffman.INVALID:
            raise NotBlockwise
    if position > 8 * len(data):
        raise NotBlockwise
    starts.append(position)
    return np.array(starts), np.array(middles), np.array(values)


class _Interval:
    """Hold one restart interval's blocks, and write it with the touched ones blank."""

    def __init__(
        self,
        data: bytes,
        owners: NDArray[np.intp],
        touched: NDArray[np.bool_],
        starts: NDArray[np.int64],
        middles: NDArray[np.int64],
        values: NDArray[np.int64],
        parts: list[_Part],
    ) -> None:
        self._data, self._owners, self._touched = data, owners, touched
        self._starts, self._middles = starts, middles
        self._differences = np.zeros(len(owners), np.int64)
        self._anew = touched.copy()
        for number, part in enumerate(parts):
            own = np.flatnonzero(owners == number)
            wanted = np.where(touched[own], part.level, values[own])
            self._differences[own] = np.diff(wanted, prepend=0)
            self._anew[own[1:]] |= touched[own[:-1]]

    def sizes(self, number: int) -> set[int]:
        """Give the sizes of a part's DC differences that are written anew."""
        chosen = self._anew & (self._owners == number)
        return {abs(value).bit_length() for value in self._differences[chosen].tolist()}

    def written(self, codes: list[tuple[dict[int, tuple[int, int]], tuple[int, int]]]) -> bytes:
        """Write the interval; the source's bytes where no block changes."""
        if not self._anew.any():
            return self._data.replace(b"\xff", b"\xff\x00")
        bits = np.unpackbits(np.frombuffer(self._data, np.uint8))
        pieces: list[_Bits] = []
        copied = 0
        for index in np.flatnonzero(self._anew).tolist():
            dc_codes, end_of_block = codes[self._owners[index]]
            pieces.append(bits[copied : self._starts[index]])
            pieces.append(huffman.dc_bits(int(self._differences[index]), dc_codes))
            copied = int(self._middles[index])
            if self._touched[index]:
                pieces.append(huffman.bits_of(*end_of_block))
                copied = int(self._starts[index + 1])
        pieces.append(bits[copied : self._starts[-1]])
        joined = np.concatenate(pieces)
        pad = np.ones(-len(joined) % 8, np.uint8)  # T.81 F.1.2.3
        packed = np.packbits(np.concatenate([joined, pad])).tobytes()
        return packed.replace(b"\xff", b"\xff\x00")
