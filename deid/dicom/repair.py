"""What is taken out of a written object in which a removed value was still found?

The rules keep what is safe by kind; a value may be unsafe in this one object, as a patient's name
in a protocol name. The elements that verification names are cleaned, emptied or dropped, whatever
their rule; if that does not help, the object is refused.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from deid.dicom.charset import Charset
from deid.dicom.container import Out, Writer, plain_vr
from deid.dicom.elements import BrokenError, Coding, Element, Item, Parser
from deid.dicom.values import BULK_SIZES, CODED_VRS, STRING_VRS, stand_in
from deid.rules import ClassRules
from deid.text import TextCleaner
from deid.verification import Needles, search

_UTF8 = Charset(b"ISO_IR 192")
# Without these the object is none, or no longer this patient's; their values are our own.
_UNTOUCHABLE = frozenset([0x00080016, 0x00080018, 0x00100010, 0x00100020, 0x0020000D, 0x0020000E])
_SHORTEST_BULK = 1_024  # bytes; a hit in a longer binary value is no text that could be cleaned


def repair(
    body: bytes,
    coding: Coding,
    offsets: Iterable[int],
    needles: Needles,
    rules: ClassRules,
    cleaner: TextCleaner,
) -> list[Out] | None:
    """Give an object's elements without what stands at some offsets; None if that cannot be.

    Args:
        body: the written data set, not deflated.
        coding: how it is written.
        offsets: where in `body` something was found.
        needles: what was looked for.
        rules: say which attributes must stay present.
        cleaner: knows the object's own values.
    """
    try:
        elements, _ = Parser(body, coding).data_set(0, len(body))
    except BrokenError:
        return None
    return _Repair(sorted(offsets), needles, rules, cleaner, Writer(coding)).items(elements, 0)


class _Repair:
    def __init__(
        self,
        offsets: list[int],
        needles: Needles,
        rules: ClassRules,
        cleaner: TextCleaner,
        writer: Writer,
    ) -> None:
        self._offsets = offsets
        self._needles = needles
        self._rules = rules
        self._cleaner = cleaner
        self._writer = writer

    def items(self, elements: Item, parent: int) -> list[Out] | None:
        outs: list[Out] = []
        for element in elements:
            if element.items is not None:
                inner = [self.items(item, element.tag) for item in element.items]
                if any(item is None for item in inner):
                    return None
                encoded = (self._writer.elements(item) for item in inner if item is not None)
                outs.append(Out(element.tag, "SQ", self._writer.items(encoded)))
                continue
            vr = plain_vr(element.tag, element.vr, element.value)
            kept = Out(element.tag, vr, element.value, element.undefined)
            if not self._is_hit(element):
                outs.append(kept)
                continue
            if element.tag in _UNTOUCHABLE and parent == 0:
                return None
            if element.undefined or (vr in BULK_SIZES and len(element.value) > _SHORTEST_BULK):
                return None
            new = self._changed(element, vr, parent)
            if new is not None:
                outs.append(new)
        return outs

    def _is_hit(self, element: Element) -> bool:
        first = bisect_left(self._offsets, element.start)
        return first < len(self._offsets) and self._offsets[first] < element.end

    def _is_found(self, value: bytes) -> bool:
        return bool(search(self._needles, value)) or (
            self._needles.find_word(_UTF8.decode(value)) is not None
        )

    def _changed(self, element: Element, vr: str, parent: int) -> Out | None:
        tag = element.tag
        if tag & 0x10000:
            return None
        required = self._rules.decide(tag, parent).type
        if vr in STRING_VRS and b"\\" in element.value:
            parts = element.value.rstrip(b" \0").split(b"\\")
            sound = [b"" if self._is_found(part) else part for part in parts]
            while sound and not sound[-1]:
                sound.pop()
            if any(sound) and sound != parts:
                return Out(tag, vr, b"\\".join(sound))
        if vr in CODED_VRS:
            text = _UTF8.decode(element.value)
            clean = self._cleaner.clean(text)
            if clean and clean != text:
                return Out(tag, vr, clean.encode("utf-8"))
        if required == 1:
            return Out(tag, vr, stand_in(vr))
        return Out(tag, vr, b"") if required == 2 or vr in STRING_VRS else None
