"""Which fragments of encapsulated pixel data are which frame, and how are they put back?

PS3.5 A.4 and Annex A.4 Tables: an item holding the Basic Offset Table, then one item per fragment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct

from deid.errors import DeidRefusal
from schemas.errors import ErrorCode

_HEAD = Struct("<HHL")
_ITEM = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0"
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
"""How a code stream begins: JPEG family, JPEG 2000, and JPEG 2000 in a JP2 file."""


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """Hold where each frame's fragments lie in a pixel data element's value.

    Attributes:
        value: the element's value as read.
        frames: for each frame its fragments, each as (start, end) in ``value``.
        table: entries of the Basic Offset Table; empty where it has none.
        tidy: whether ``value`` holds nothing but these frames and a right table.
    """

    value: bytes
    frames: tuple[tuple[tuple[int, int], ...], ...]
    table: tuple[int, ...]
    tidy: bool

    def frame(self, index: int) -> bytes:
        """Give one frame's code stream, its fragments joined."""
        return b"".join(self.value[start:end] for start, end in self.frames[index])


def parse(value: bytes, frames: int | None) -> Encapsulated:
    """Find the frames of encapsulated pixel data.

    Args:
        value: the element's value: items, with or without the sequence delimiter.
        frames: Number of Frames, None where unknown.

    Raises:
        DeidRefusal: ``value`` is not a row of items (DICOM_PIXELS_UNDECODABLE).
    """
    items, end = _items(value)
    if not items:
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
    (first, last), fragments = items[0], items[1:]
    base = last  # offsets count from the first fragment's item tag (PS3.5 A.4)
    count = (last - first) // 4
    table = tuple(Struct(f"<{count}L").unpack_from(value, first))
    grouped = _by_table(value, fragments, [base + 8 + offset for offset in table])
    grouped = grouped or _by_start(value, fragments, frames)
    kept = grouped if frames is None else grouped[:frames]
    spans = tuple(tuple(group) for group in kept)
    right = tuple(group[0][0] - 8 - base for group in spans)
    tidy = end == len(value) and len(kept) == len(grouped) and (last - first) % 4 == 0
    if any((stop - start) % 2 for group in spans for start, stop in group):
        tidy = False
    return Encapsulated(value, spans, table, tidy and table in ((), right))


def is_encapsulated(value: bytes) -> bool:
    """Tell whether bytes are items whose first fragment begins as a JPEG or JPEG 2000 stream."""
    if not value.startswith(_ITEM):
        return False
    start = 8 + _HEAD.unpack_from(value.ljust(8, b"\x00"))[2]
    return value.startswith(_ITEM, start) and value.startswith(_STARTS, start + 8)


def _items(value: bytes) -> tuple[list[tuple[int, int]], int]:
    items: list[tuple[int, int]] = []
    position, size = 0, len(value)
    while position + 8 <= size and value[position : position + 4] == _ITEM:
        length = _HEAD.unpack_from(value, position)[2]
        start = position + 8
        if length == 0xFFFFFFFF:
            raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
        position = min(start + length, size)
        items.append((start, position))
    rest = value[position : position + 4]
    if size - position >= 8 and rest != _DELIMITER:
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
    return items, position


def _by_table(
    value: bytes, fragments: list[tuple[int, int]], starts: list[int]
) -> list[list[tuple[int, int]]]:
    """Group fragments by the Basic Offset Table; empty where the table is absent or wrong."""
    known = {start for start, _ in fragments}
    if not starts or not fragments or starts[0] != fragments[0][0]:
        return []
    if starts != sorted(set(starts)) or not known.issuperset(starts):
        return []
    if len(starts) == 1 and _codestreams(value, fragments) > 1:
        return []  # a table of one entry for several frames: written by mistake, seen in the field
    groups: list[list[tuple[int, int]]] = []
    wanted = set(starts)
    for span in fragments:
        if span[0] in wanted:
            groups.append([])
        groups[-1].append(span)
    return groups


def _codestreams(value: bytes, fragments: list[tuple[int, int]]) -> int:
    return sum(value.startswith(_STARTS, start) for start, _ in fragments)


def _by_start(
    value: bytes, fragments: list[tuple[int, int]], frames: int | None
) -> list[list[tuple[int, int]]]:
    """Group fragments without a table: one each, or a new frame where a code stream begins."""
    if frames == len(fragments):
        return [[span] for span in fragments]
    starting = _codestreams(value, fragments)
    if not starting:  # run-length coding: a frame is one fragment (PS3.5 A.4.2)
        return [fragments] if frames == 1 and fragments else [[span] for span in fragments]
    groups: list[list[tuple[int, int]]] = []
    for span in fragments:
        if not groups or value.startswith(_STARTS, span[0]):
            groups.append([])
        groups[-1].append(span)
    return groups


def assemble(source: Encapsulated, replaced: dict[int, bytes]) -> bytes:
    """Write pixel data anew: replaced frames as one fragment, the others' fragments as they were.

    A Basic Offset Table is written if the source had one; odd fragments get one zero byte.
    """
    body: list[bytes] = []
    sizes: list[int] = []
    for index, spans in enumerate(source.frames):
        parts = [replaced[index]] if index in replaced else [source.value[s:e] for s, e in spans]
        start = len(body)
        for part in parts:
            padded = part + b"\x00" if len(part) % 2 else part
            body += [_HEAD.pack(0xFFFE, 0xE000, len(padded)), padded]
        sizes.append(sum(map(len, body[start:])))
    offsets = [0, *accumulate(sizes)][: len(sizes)]
    fits = bool(source.table) and (not offsets or offsets[-1] < 1 << 32)
    table = Struct(f"<{len(offsets)}L").pack(*offsets) if fits else b""
    return b"".join([_HEAD.pack(0xFFFE, 0xE000, len(table)), table, *body])


def extended_offsets(spans: Sequence[Sequence[tuple[int, int]]]) -> tuple[bytes, bytes]:
    """Give Extended Offset Table and its Lengths for frames of one fragment (PS3.3 C.7.6.3.1.8)."""
    base = spans[0][0][0] - 8 if spans else 0
    offsets = [group[0][0] - 8 - base for group in spans]
    lengths = [group[0][1] - group[0][0] for group in spans]
    pack = Struct(f"<{len(spans)}Q").pack
    return pack(*offsets), pack(*lengths)
