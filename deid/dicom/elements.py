"""Which data elements do these bytes hold? (PS3.5 section 7, read without believing any length)

A parser of our own, because two things are needed that a general library does not give: every
element as it stands, nested ones included, at about a microsecond each; and a refusal, not a
guess, where the bytes end early. Values stay bytes: nothing is decoded here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR

from deid.errors import DeidRefusal
from deid.rules import Decision
from schemas.errors import ErrorCode

MAX_DEPTH = 32  # levels of sequences; reports nest about ten, and Python's stack allows hundreds
UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_GROUP, _ROWS = 0x7FE00000, 0x00280010
_ZEROS = bytes(8)
_WHOLE = 0xFFFF  # higher than any group
_MAX_TAIL = 1_024  # bytes behind an object without pixels; more is part of it
_SHORT = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
_LONG = "OB OD OF OL OV OW SQ SV UC UN UR UT UV"  # a 32-bit length after two reserved bytes
VRS: dict[bytes, tuple[str, bool]] = {
    vr.encode("ascii"): (vr, long)
    for names, long in ((_SHORT, False), (_LONG, True))
    for vr in names.split()
}
LONG_VRS = frozenset(_LONG.split())
_dictionary: dict[int, str] = {}


class BrokenError(Exception):
    """Say that the bytes are no data set; `at` is the offset of the element that cannot be read."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at


class Element:
    """Hold one element as it stands in the source.

    Attributes:
        tag: group and element as one number.
        vr: the value representation as coded, or the dictionary's in implicit coding.
        start, end: where the value's bytes lie in the data set (a sequence's items; fragments).
        value: the value's bytes; empty for a sequence.
        items: a sequence's items, each a list of elements; None for anything else.
        undefined: the value is a run of fragments (encapsulated pixel data, PS3.5 A.4).
        recoded: read out of a UN value, so it is implicit little endian whatever the file is.
        decision: what the rules say of it; set while values are collected.
    """

    __slots__ = (
        "decision", "end", "items", "recoded", "start", "tag", "undefined", "value", "vr",
    )  # fmt: skip

    def __init__(self, tag: int, vr: str, start: int, end: int, value: bytes) -> None:
        self.tag = tag
        self.vr = vr
        self.start = start
        self.end = end
        self.value = value
        self.items: list[Item] | None = None
        self.undefined = False
        self.recoded = False
        self.decision: Decision | None = None


Item = list[Element]


@dataclass(frozen=True, slots=True)
class Coding:
    """Name one of the ways to write elements (PS3.5 Annex A)."""

    implicit: bool
    little: bool


EXPLICIT_LITTLE, IMPLICIT_LITTLE = Coding(False, True), Coding(True, True)
EXPLICIT_BIG = Coding(False, False)


def dictionary_vr(tag: int) -> str:
    """Give a standard attribute's VR; "UN" for what the dictionary does not list."""
    vr = _dictionary.get(tag)
    if vr is None:
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            vr = "UN"
        if len(_dictionary) < 65_536:  # a hostile file names any number of unknown tags
            _dictionary[tag] = vr
    return vr


class Parser:
    """Read the elements of one data set.

    Args:
        raw: the bytes, which may hold something else before the data set.
        coding: how the elements are written.
    """

    def __init__(self, raw: bytes, coding: Coding) -> None:
        self._raw = raw
        self._implicit = coding.implicit
        order = "<" if coding.little else ">"
        self._short = struct.Struct(order + "HH2sH").unpack_from
        self._pair = struct.Struct(order + "HHL").unpack_from
        self._size = struct.Struct(order + "L").unpack_from
        self._group = struct.Struct(order + "HH").unpack_from

    def data_set(self, start: int, end: int) -> tuple[Item, int]:
        """Give the elements from `start`, and where the last whole one ends.

        Bytes behind the data set are not an error where they cannot be a cut element: zeros,
        anything after the pixel data, and a little that does not continue the order of tags.

        Raises:
            BrokenError: the data set ends in the midst of an element.
        """
        elements: Item = []
        position = start
        while position < end:
            try:
                if self._raw[position : position + 8] == _ZEROS:
                    raise BrokenError(position)
                position = self._element(elements, position, end, 0)
            except BrokenError:
                if not self._is_tail(elements, position, end):
                    raise
                break
        return elements, position

    def one(self, start: int, end: int) -> tuple[Element | None, int]:
        """Give the element at `start` (None: a group length) and where it ends."""
        elements: Item = []
        stop = self._element(elements, start, end, 0)
        return (elements[0] if elements else None), stop

    def items(self, start: int, end: int, depth: int) -> tuple[list[Item], int, bool]:
        """Give a sequence's items (PS3.5 7.5), where they end, and whether a delimiter said so."""
        if depth > MAX_DEPTH:
            raise DeidRefusal(ErrorCode.DICOM_UNREADABLE)
        raw_items: list[Item] = []
        position = start
        while position < end:
            if end - position < 8:
                raise BrokenError(position)
            group, number, size = self._pair(self._raw, position)
            tag = group << 16 | number
            position += 8
            if tag == SEQUENCE_END:
                return raw_items, position, True
            if tag != ITEM:
                raise BrokenError(position)
            item: Item = []
            if size == UNDEFINED:
                position = self._until(item, position, end, depth)
            else:
                stop = position + size
                if stop > end:
                    raise BrokenError(position)
                while position < stop:
                    position = self._element(item, position, stop, depth)
            raw_items.append(item)
        return raw_items, position, False

    def _until(self, item: Item, position: int, end: int, depth: int) -> int:
        """Read the elements of an item of undefined length; give where its delimiter ends."""
        pair = self._pair
        while True:
            if end - position < 8:
                raise BrokenError(position)
            group, number, _ = pair(self._raw, position)
            if group == 0xFFFE:
                if number != 0xE00D:
                    raise BrokenError(position)
                return position + 8
            position = self._element(item, position, end, depth)

    def _element(self, into: Item, position: int, end: int, depth: int) -> int:
        """Read one element into a list; give where it ends."""
        raw = self._raw
        if end - position < 8:
            raise BrokenError(position)
        group, number, code, size = self._short(raw, position)
        tag = group << 16 | number
        start = position + 8
        known = None if self._implicit else VRS.get(code)
        if known is not None:
            vr, long = known
            if long:
                if end - position < 12:
                    raise BrokenError(position)
                (size,) = self._size(raw, start)
                start += 4
        else:
            if group == 0xFFFE:
                raise BrokenError(position)  # a delimiter that closes nothing
            if self._implicit or not (code.isalpha() and code.isupper()):
                vr = "UN" if group & 1 else dictionary_vr(tag)
                (whole,) = self._size(raw, position + 4)  # some writers slip implicit ones in,
                if self._implicit or whole == UNDEFINED or start + whole <= end:
                    size = whole  # and some leave the VR blank: then the short length holds
            else:  # a VR of a later edition has the long form (PS3.5 7.1.2)
                if end - position < 12:
                    raise BrokenError(position)
                (size,) = self._size(raw, start)
                start += 4
                vr = "UN"
        if size == UNDEFINED:
            return self._undefined(into, tag, vr, start, end, depth)
        stop: int = start + size
        if stop > end:
            raise BrokenError(position)
        if vr == "SQ":
            element = Element(tag, vr, start, stop, b"")
            element.items, last, _ = self.items(start, stop, depth + 1)
            if last > stop:
                raise BrokenError(position)
        else:
            element = Element(tag, vr, start, stop, raw[start:stop])
            if vr == "UN" and raw[start : start + 4] == b"\xfe\xff\x00\xe0":
                _read_hidden_sequence(element, depth)
        if number or group == 0:
            into.append(element)  # without group lengths: retired, and wrong after any change
        return stop

    def _undefined(self, into: Item, tag: int, vr: str, start: int, end: int, depth: int) -> int:
        if tag == PIXEL_DATA or vr in ("OB", "OW", "OB or OW"):
            stop = self._fragments(start, end)
            element = Element(tag, vr, start, stop, self._raw[start:stop])
            element.undefined = True
            into.append(element)
            return stop + 8
        parser = self if vr != "UN" or self._implicit else Parser(self._raw, IMPLICIT_LITTLE)
        items, last, closed = parser.items(start, end, depth + 1)
        if not closed:
            raise BrokenError(start)  # it ran to the end without its delimiter
        element = Element(tag, "SQ", start, last - 8, b"")
        element.items = items
        element.recoded = parser is not self
        into.append(element)
        return last

    def _fragments(self, start: int, end: int) -> int:
        """Give where a run of fragments ends, its delimiter not counted (PS3.5 A.4)."""
        position = start
        while end - position >= 8:
            group, number, size = self._pair(self._raw, position)
            if group != 0xFFFE or number not in (0xE000, 0xE0DD):
                break
            if number == 0xE0DD:
                return position
            position += 8 + size
        raise BrokenError(start)

    def _is_tail(self, elements: Item, position: int, end: int) -> bool:
        """Tell bytes behind a whole data set from the remains of a cut or damaged one."""
        if not elements:
            return False
        rest = self._raw[position:end]
        if not rest.strip(b"\0"):
            return True
        group, number = self._group(self._raw, position) if len(rest) >= 4 else (_WHOLE, 0)
        if group == 0xFFFE:
            return False  # a delimiter that closes nothing: what stood before it is not sound
        last = elements[-1].tag
        if last >= _PIXEL_GROUP:
            return True
        is_image = any(element.tag == _ROWS for element in elements)
        return len(rest) <= _MAX_TAIL and not is_image and (group << 16 | number) <= last


def _read_hidden_sequence(element: Element, depth: int) -> None:
    """Read the items inside a UN value: implicit little endian (PS3.5 6.2.2), or as found."""
    value = element.value
    for coding in (IMPLICIT_LITTLE, EXPLICIT_LITTLE):
        try:
            items, last, _ = Parser(value, coding).items(0, len(value), depth + 1)
        except BrokenError:
            continue
        if last == len(value):
            element.items, element.recoded, element.vr = items, True, "SQ"
            return
