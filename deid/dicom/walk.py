"""What is left of each element once its rule is applied? (phase 2: write what may stay)

One pass over the tree that `collect` decided. A kept value that is plain goes out as the bytes it
came in; only what changes is decoded. Nothing is believed about a value: a kept one must be of the
VR that the dictionary says, and within that VR's repertoire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from deid.actions import Kind
from deid.dicom.charset import DEFAULT, Charset
from deid.dicom.collect import CHARACTER_SET, PATIENT_ID
from deid.dicom.container import Out, Writer, plain_vr
from deid.dicom.documents import stand_in_document
from deid.dicom.elements import Element, Item, dictionary_vr
from deid.dicom.structured import Mode, content_stand_in, mode_of_replaced, treat_in
from deid.dicom.tables import ICC_PROFILE, icc_profile, trim_tables
from deid.dicom.trust import agreed_vr, due_vr, is_code, is_known_code
from deid.dicom.values import (
    BULK_SIZES,
    CODED_VRS,
    STAND_IN_TEXT,
    STRING_VRS,
    cap_age,
    full_days,
    in_repertoire,
    long_numbers,
    map_uids,
    shift_dates,
    stand_in,
)
from deid.pseudonym import Pseudonymiser
from deid.rules import Decision
from deid.text import TextCleaner


@dataclass(slots=True)
class Walk:
    """Carry what one object's walk needs and gathers.

    Attributes:
        patient: what the patient is known by, for pseudonym and date shift.
        writer: encodes items in the file's coding; `little` is its byte order.
        age_cap: years above which all ages become one; None leaves them.
        mime_type: of the object's encapsulated document.
        shift: moves a day by the patient's number of days.
        cleaner: knows this object's own values.
        changed: texts that were cleaned, as they were.
        days: days that the output holds after the shift.
        counts: attributes by what was done.
        unicode: some output text is not ASCII, so it is UTF-8.
        notes: fixed words on what was unusual.
    """

    patient: str
    pseudonyms: Pseudonymiser
    cleaner: TextCleaner
    writer: Writer
    little: bool
    age_cap: int | None
    mime_type: str
    shift: Callable[[date], date]
    changed: set[str] = field(default_factory=set)
    days: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    notes: set[str] = field(default_factory=set)
    unicode: bool = False
    uids: dict[str, str] = field(default_factory=dict)

    def data_set(
        self,
        elements: Item,
        outer: Charset = DEFAULT,
        mode: Mode = Mode.PLAIN,
    ) -> dict[int, Out]:
        """Give a data set's or item's part that stays, by tag."""
        charset = outer
        outs: dict[int, Out] = {}
        creators: dict[int, Element] = {}
        counts, handlers = self.counts, _HANDLERS
        for element in elements:
            tag = element.tag
            decision = element.decision
            if decision is None:  # a private creator
                creators[tag] = element
                continue
            if tag == CHARACTER_SET:  # what is written is ASCII or UTF-8, said once at the top
                charset = Charset.of(element.value)
                continue
            kind = decision.kind
            if mode is not Mode.PLAIN:
                kind = treat_in(mode, kind, element)
            counts[kind] += 1
            out = handlers[kind](self, element, decision, charset, mode)
            if out is not None:
                outs[tag] = out
                if tag & 0x10000:
                    self._reserve(outs, creators, tag, charset)
        trim_tables(outs, self.little)
        return outs

    def _reserve(
        self, outs: dict[int, Out], creators: dict[int, Element], tag: int, charset: Charset
    ) -> None:
        """Keep the private creator of a block in which something is kept (PS3.5 7.8.1)."""
        block = tag & 0xFFFF0000 | (tag >> 8 & 0xFF)
        creator = creators.get(block)
        if creator is not None and block not in outs:
            outs[block] = Out(block, "LO", self._encoded(charset.decode(creator.value)))

    def _sequence(self, element: Element, charset: Charset, mode: Mode) -> Out | None:
        assert element.items is not None
        if element.recoded and not self.little:
            return None  # its numbers are little endian in a big endian file
        items = [
            self.writer.elements(_ordered(self.data_set(item, charset, mode)))
            for item in element.items
        ]
        return Out(element.tag, "SQ", self.writer.items(items))

    def _encoded(self, text: str) -> bytes:
        if text.isascii():
            return text.encode("ascii")
        self.unicode = True
        return text.encode("utf-8", "replace")

    def _keep(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        if element.items is not None:
            if not element.tag & 0x10000 and dictionary_vr(element.tag) not in ("SQ", "UN"):
                return None
            return self._sequence(element, charset, mode)
        tag, value = element.tag, element.value
        vr = element.vr if tag & 0x10000 else agreed_vr(element)
        if vr is None or element.undefined:
            return self._instead(element, decision)
        if not value:
            return Out(tag, vr, b"")
        if vr in CODED_VRS:
            if tag & 0x10000 and self.cleaner.holds_identifier(charset.decode(value)):
                return None
            return Out(tag, vr, self._text_bytes(value, charset))
        if not in_repertoire(vr, value):
            return self._irregular(element, vr, decision, charset)
        if vr == "CS":
            if not is_known_code(value) and self.cleaner.holds_identifier(charset.decode(value)):
                return self._sound_codes(element, decision, charset)
        elif vr in ("DS", "IS"):
            if long_numbers(value):
                value = self._without_identifiers(value)
                if not value:
                    return None if tag & 0x10000 else self._instead(element, decision, vr)
        elif vr == "AS" and self.age_cap is not None:
            capped = cap_age(value, self.age_cap)
            if capped != value:
                self.notes.add("age-capped")
            value = capped
        if tag == ICC_PROFILE:
            profile = icc_profile(value)
            return Out(tag, vr, profile) if profile is not None else None
        if vr == "DA" or vr == "DT":
            self.days.update(full_days(value.decode("latin-1")))
        return Out(tag, vr, value)

    def _text_bytes(self, value: bytes, charset: Charset) -> bytes:
        if value.isascii() and b"\x1b" not in value:
            return value.rstrip(b"\0")
        return self._encoded(charset.decode(value))

    def _irregular(
        self, element: Element, vr: str, decision: Decision, charset: Charset
    ) -> Out | None:
        """Treat a value outside its VR: of a code, parts that are in it or ordinary words stay."""
        if vr == "CS":
            return self._sound_codes(element, decision, charset)
        return self._instead(element, decision, vr)

    def _sound_codes(self, element: Element, decision: Decision, charset: Charset) -> Out | None:
        """Give a list of codes without those that are none or hold a known identifier."""
        parts = charset.decode(element.value).split("\\")
        known = self.cleaner.holds_identifier
        sound = [part if is_code(part) and not known(part) else "" for part in parts]
        if any(sound):
            return Out(element.tag, "CS", "\\".join(sound).rstrip("\\").encode("ascii"))
        return self._instead(element, decision, "CS")

    def _without_identifiers(self, value: bytes) -> bytes:
        """Give a list of numbers with an empty place for each that is one of a person's numbers."""
        known = self.cleaner.holds_identifier
        parts = [
            b"" if any(known(number) for number in long_numbers(part)) else part
            for part in value.split(b"\\")
        ]
        return b"\\".join(parts).rstrip(b"\\")

    def _instead(self, element: Element, decision: Decision, vr: str | None = None) -> Out | None:
        """Put what an attribute's type demands where its value cannot be trusted."""
        self.notes.add("value-irregular")
        vr = vr or plain_vr(element.tag, dictionary_vr(element.tag), b"")
        if vr in ("SQ", "UN"):
            return None
        if decision.type == 1:
            return Out(element.tag, vr, stand_in(vr))
        return Out(element.tag, vr, b"") if decision.type == 2 or vr in STRING_VRS else None

    def _remove(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        return None

    def _empty(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        return Out(element.tag, due_vr(element), b"")

    def _dummy(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        tag, vr = element.tag, due_vr(element)
        if vr == "SQ":
            stand = content_stand_in(tag, self.writer)
            if stand is not None:
                return stand
            inner = mode_of_replaced(tag)
            return None if element.items is None else self._sequence(element, charset, inner)
        if vr == "UI":
            return self._uid(element, decision, charset, mode)
        return Out(tag, vr, stand_in(vr))

    def _patient(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        identity = self.patient
        if element.tag == PATIENT_ID:  # of another patient, it may be, in a nested item
            identity = charset.decode(element.value).strip() or identity
        pseudonym = self.pseudonyms.patient(identity)
        return Out(element.tag, due_vr(element), pseudonym.encode("ascii"))

    def _record(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        text = charset.decode(element.value).strip()
        value = self.pseudonyms.record(text).encode("ascii") if text else b""
        return Out(element.tag, due_vr(element), value)

    def new_uid(self, uid: str) -> str:
        """Give the keyed UID of an original one."""
        found = self.uids.get(uid)
        if found is None:
            found = self.uids[uid] = self.pseudonyms.uid(uid)
        return found

    def _uid(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        if element.items is not None:
            return self._sequence(element, charset, mode)
        text = map_uids(element.value.decode("latin-1"), self.new_uid)
        if not text.strip("\\") and decision.kind is Kind.DUMMY:
            text = self.new_uid(f"{self.patient} {element.tag:08x}")
        return Out(element.tag, "UI", text.encode("ascii", "replace"))

    def _shift_date(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        if element.items is not None:
            return self._sequence(element, charset, mode)
        vr = due_vr(element)
        text = element.value.decode("latin-1").strip(" \0")
        if vr == "TM":
            return self._keep(element, decision, charset, mode)
        if vr not in ("DA", "DT"):
            return None
        moved = shift_dates(vr, text, self.shift)
        if text and not moved:
            return self._instead(element, decision, vr)
        self.days.update(full_days(moved))
        return Out(element.tag, vr, moved.encode("ascii"))

    def _clean_text(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        if element.items is not None:
            inner = Mode.CLEAN if mode is Mode.PLAIN else mode
            return self._sequence(element, charset, inner)
        vr = due_vr(element)
        if vr not in STRING_VRS:
            return None
        text = charset.decode(element.value)
        clean = self.clean_text(text, vr)
        if text.strip() and not clean.strip("\\ "):
            clean = STAND_IN_TEXT if decision.type == 1 or mode is not Mode.PLAIN else ""
        if not in_repertoire(vr, clean.encode("utf-8")):
            return self._instead(element, decision, vr)
        return Out(element.tag, vr, self._encoded(clean))

    def clean_text(self, text: str, vr: str = "UT") -> str:
        """Clean one text value, its parts each by itself; what it was is remembered if changed."""
        if vr in ("LT", "ST", "UT"):
            clean = self.cleaner.clean(text)
        else:
            clean = "\\".join(self.cleaner.clean(part) for part in text.split("\\"))
        if clean != text and _squeezed(clean) != _squeezed(text):
            self.changed.add(text.strip())
        return clean

    def _technical(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        if element.items is not None or agreed_vr(element) not in STRING_VRS:
            return self._keep(element, decision, charset, mode)
        text = charset.decode(element.value)
        if text and self.cleaner.holds_identifier(text):
            return self._clean_text(element, decision, charset, mode)
        return self._keep(element, decision, charset, mode)

    def _content(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        if element.items is None:
            return self._clean_text(element, decision, charset, mode)
        return self._sequence(element, charset, Mode.CONTENT)

    def _graphic(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        if element.items is None:
            return None
        return self._sequence(element, charset, Mode.CLEAN)

    def _document(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        return Out(element.tag, "OB", stand_in_document(self.mime_type))

    def _pixels(
        self, element: Element, decision: Decision, charset: Charset, mode: Mode
    ) -> Out | None:
        if element.items is not None:
            return None
        vr = plain_vr(element.tag, element.vr, element.value)
        if element.undefined:
            vr = "OB"  # whatever the file says: PS3.5 A.4
        elif vr not in BULK_SIZES or vr == "UN":
            vr = "OW"
        return Out(element.tag, vr, element.value, element.undefined)


def _squeezed(text: str) -> str:
    """Give letters and digits only: text that differs in blanks alone was not cleaned."""
    return "".join(filter(str.isalnum, text)).casefold()


def _ordered(outs: dict[int, Out]) -> list[Out]:
    return [outs[tag] for tag in sorted(outs)]


_HANDLERS = {
    Kind.KEEP: Walk._keep,
    Kind.REMOVE: Walk._remove,
    Kind.EMPTY: Walk._empty,
    Kind.DUMMY: Walk._dummy,
    Kind.PATIENT: Walk._patient,
    Kind.RECORD: Walk._record,
    Kind.UID: Walk._uid,
    Kind.SHIFT_DATE: Walk._shift_date,
    Kind.CLEAN_TEXT: Walk._clean_text,
    Kind.CLEAN_CONTENT: Walk._content,
    Kind.CLEAN_GRAPHIC: Walk._graphic,
    Kind.DOCUMENT: Walk._document,
    Kind.PIXELS: Walk._pixels,
    Kind.TECHNICAL: Walk._technical,
}
