"""Where does every element of a file that we wrote begin and end?

A second, strict reader, independent of the library that wrote the file: it accepts only what a
sound writer produces (PS3.5 sections 6, 7 and annex A; PS3.10 section 7) and gives exact offsets,
so that what is found in the bytes can be traced to an element. It looks at no value but the
structure's own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

PIXEL_DATA: Final = 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_MAX_DEPTH = 64  # an SR tree nests some 20 deep; a file that nests more was not made to be read
_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)  # PS3.5 table 7.1-2: a length of two bytes
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # table 7.1-1
_VR_NAMES = {raw: raw.decode("ascii") for raw in _SHORT_VRS | _LONG_VRS}


class Element(NamedTuple):
    """Place one element: its value is `data[start:end]`.

    Attributes:
        tag: group and element number.
        parent: the tag of the sequence it stands in, 0 at top level.
        creator: the private creator that reserved its block, "" for a standard element.
        vr: value representation; "" in implicit VR where the dictionary has none.
        start: offset of the value; of a sequence, of its first item.
        end: offset behind the value, without a delimiter.
    """

    tag: int
    parent: int
    creator: str
    vr: str
    start: int
    end: int


_new = tuple.__new__  # half the time of Element(...), for tens of thousands in a report


@dataclass(slots=True)
class Layout:
    """Hold one file's structure.

    Attributes:
        data: the bytes that offsets refer to: the file itself, or its head and inflated data set.
        meta: values of the file meta information by tag, padding included.
        elements: the data set's, in order of their start, nested ones behind their sequence.
    """

    data: bytes
    meta: dict[int, bytes] = field(default_factory=dict)
    elements: list[Element] = field(default_factory=list)


class BadLayout(Exception):
    """Say at which offset the bytes stop being sound; carries no value."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"not sound at byte {offset}")
        self.offset = offset


def read_layout(raw: bytes, vr_of: Callable[[int], str], max_bytes: int) -> Layout:
    """Give the structure of a complete DICOM file.

    Args:
        raw: the file.
        vr_of: the dictionary's VR of a standard tag, "" where it has none (for implicit VR).
        max_bytes: what a deflated data set may become.

    Raises:
        BadLayout: the file is not one that a sound writer makes: wrong magic, a length beyond the
            end, an odd length, tags out of order, an unknown VR, bytes behind the data set.
    """
    if raw[128:132] != b"DICM":
        raise BadLayout(128)
    layout = Layout(raw)
    start = _read_meta(raw, layout.meta)
    syntax = layout.meta.get(0x00020010, b"").rstrip(b"\x00 ").decode("latin-1")
    if syntax == _DEFLATED:
        layout.data = raw[:start] + _inflate(raw[start:], start, max_bytes)
    walker = _Walker(layout, vr_of, "<" if syntax != _BIG_ENDIAN else ">", syntax != _IMPLICIT)
    end = walker.dataset(start, len(layout.data), 0, 0, delimited=False)
    if end != len(layout.data):
        raise BadLayout(end)
    return layout


def _inflate(raw: bytes, start: int, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(raw, max_bytes)
    except zlib.error:
        raise BadLayout(start) from None
    if not inflater.eof or inflater.unused_data.strip(b"\x00"):
        raise BadLayout(start)
    if len(inflater.unused_data) > 1:  # one byte makes the length even (PS3.5 A.5)
        raise BadLayout(start + len(raw) - len(inflater.unused_data))
    return data


def _read_meta(raw: bytes, meta: dict[int, bytes]) -> int:
    """Read group 0002, explicit VR little endian whatever follows (PS3.10 section 7.1)."""
    at, last, end = 132, 0, len(raw)
    while at + 8 <= end and raw[at : at + 2] == b"\x02\x00":
        number, vr, size = struct.unpack_from("<2xH2sH", raw, at)
        at += 8
        if vr in _LONG_VRS:
            if at + 4 > end:
                raise BadLayout(at)
            size = struct.unpack_from("<L", raw, at)[0]
            at += 4
        elif vr not in _SHORT_VRS:
            raise BadLayout(at)
        tag = 0x00020000 | number
        if at + size > end or size & 1 or tag <= last:
            raise BadLayout(at)
        meta[tag] = raw[at : at + size]
        at, last = at + size, tag
    length = meta.get(0x00020000, b"")
    if len(length) != 4 or 144 + struct.unpack("<L", length)[0] != at:
        raise BadLayout(132)
    return at


class _Walker:
    """Walk data sets and items; recursion follows sequences only, to a fixed depth."""

    def __init__(
        self, layout: Layout, vr_of: Callable[[int], str], order: str, explicit: bool
    ) -> None:
        self._data = layout.data
        self._out = layout.elements
        self._vr_of = vr_of
        self._order = order
        self._explicit = explicit
        self._tag = struct.Struct(order + "HH").unpack_from
        self._head = struct.Struct(order + "HH2sH").unpack_from
        self._long = struct.Struct(order + "L").unpack_from

    def dataset(self, at: int, end: int, parent: int, depth: int, *, delimited: bool) -> int:
        """Walk elements up to `end`, or to an item's delimiter; give the offset behind them."""
        if depth > _MAX_DEPTH:
            raise BadLayout(at)
        data, out, last = self._data, self._out, -1
        creators: dict[int, str] = {}
        while at < end:
            if at + 8 > end:
                raise BadLayout(at)
            group, number, code, size = self._head(data, at)
            tag = group << 16 | number
            if tag == _ITEM_END and delimited:
                if data[at + 4 : at + 8] != b"\x00\x00\x00\x00":
                    raise BadLayout(at)
                return at + 8
            if tag <= last or group in (0x0002, 0xFFFE, 0xFFFC) or group < 0x0004:
                raise BadLayout(at)
            last, at = tag, at + 8
            vr, at, size = self._form(tag, code, size, at, end)
            creator = ""
            if group & 1:
                if number < 0x0100:
                    if size <= 64:
                        creators[number] = data[at : at + size].decode("latin-1").rstrip(" \x00")
                else:
                    creator = creators.get(number >> 8, "")
            if vr == "SQ" or (size == _UNDEFINED and tag != PIXEL_DATA):
                at = self._sequence(tag, parent, creator, vr, at, end, size, depth)
                continue
            if size == _UNDEFINED:
                stop = self._fragments(at, end)
                out.append(Element(tag, parent, creator, vr, at, stop))
                at = stop + 8
                continue
            if size & 1 or at + size > end:
                raise BadLayout(at)
            out.append(_new(Element, (tag, parent, creator, vr, at, at + size)))
            at += size
        if delimited:
            raise BadLayout(at)
        return at

    def _form(self, tag: int, code: bytes, size: int, at: int, end: int) -> tuple[str, int, int]:
        """Give an element's VR, the offset of its value and the value's length."""
        if not self._explicit:
            # "OB or OW", "US or SS": the last fits as well as the first, for nothing is decoded
            return self._vr_of(tag)[-2:], at, self._long(self._data, at - 4)[0]
        if code in _SHORT_VRS:
            return _VR_NAMES[code], at, size
        if code not in _LONG_VRS or size or at + 4 > end:
            raise BadLayout(at)
        return _VR_NAMES[code], at + 4, self._long(self._data, at)[0]

    def _sequence(
        self, tag: int, parent: int, creator: str, vr: str, at: int, end: int, size: int, depth: int
    ) -> int:
        undefined = size == _UNDEFINED
        stop = end if undefined else at + size
        if stop > end:
            raise BadLayout(at)
        mine = len(self._out)
        self._out.append(Element(tag, parent, creator, vr, at, stop))
        walker = self
        if vr == "UN":  # PS3.5 6.2.2 note 2: such a value is in implicit VR little endian
            walker = _Walker(Layout(self._data, {}, self._out), self._vr_of, "<", False)
        while at < stop:
            if at + 8 > stop:
                raise BadLayout(at)
            group, number = walker._tag(self._data, at)
            length = walker._long(self._data, at + 4)[0]
            kind, at = group << 16 | number, at + 8
            if kind == _SEQUENCE_END and undefined and not length:
                self._out[mine] = self._out[mine]._replace(end=at - 8)
                return at
            if kind != _ITEM:
                raise BadLayout(at)
            delimited = length == _UNDEFINED
            if not delimited and at + length > stop:
                raise BadLayout(at)
            limit = stop if delimited else at + length
            at = walker.dataset(at, limit, tag, depth + 1, delimited=delimited)
        if undefined:
            raise BadLayout(at)
        return at

    def _fragments(self, at: int, end: int) -> int:
        """Pass over encapsulated pixel data; give the offset of its delimiter (PS3.5 A.4)."""
        while at + 8 <= end:
            group, number = self._tag(self._data, at)
            length = self._long(self._data, at + 4)[0]
            kind = group << 16 | number
            if kind == _SEQUENCE_END and not length:
                return at
            if kind != _ITEM or length & 1 or at + 8 + length > end:
                raise BadLayout(at)
            at += 8 + length
        raise BadLayout(at)
