"""Which values in this one file identify? (phase 1: look at everything, change nothing)

The whole tree is walked, what will be removed with it: nested items, private blocks, values coded
UN, embedded documents, preamble and file meta. Names and numbers go to the text cleaner, which
takes them out of whatever text stays; all of them are looked for in the written bytes at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from pydicom._dicom_dict import DicomDictionary

from deid.actions import Kind
from deid.dicom.charset import DEFAULT, Charset
from deid.dicom.container import Source
from deid.dicom.documents import DOCUMENT_TAG, MIME_TAG, printable, stand_in_document
from deid.dicom.elements import Element, Item, dictionary_vr
from deid.dicom.values import (
    CODED_VRS,
    STAND_IN_DATE,
    STRING_VRS,
    full_days,
    is_standard_uid,
    spellings_of_day,
)
from deid.marking import IMPLEMENTATION_UID
from deid.rules import ClassRules, Decision
from deid.text import OwnValues, is_common

CHARACTER_SET, PATIENT_ID = 0x00080005, 0x00100020
PATIENT_NAME, BIRTH_DATE = 0x00100010, 0x00100030
STUDY_UID, SOP_UID, SOP_CLASS = 0x0020000D, 0x00080018, 0x00080016
_GONE = frozenset([Kind.REMOVE, Kind.EMPTY, Kind.DUMMY, Kind.PATIENT, Kind.RECORD])
_KEPT = frozenset([Kind.KEEP, Kind.TECHNICAL])
_NO_NEEDLE = frozenset(["AS", "CS", "DS", "IS", "TM", "AT", "UR"])
# What describes rather than names; a removed description may share words with what is kept.
_DESCRIPTIVE = re.compile(
    r"(?:Description|Comments?|Reason|Protocol|Label|Text|Narrative|History|Title|Meaning|Notes|"
    r"Name|Version|Versions|Results|Findings|Impression|Values?|Type|Status|Category|Group|"
    r"Instructions?|Code|Method|Annotation|Interpretation|Remarks|Information)"
)
_IDENTITY = re.compile(
    r"(?:Patient|Physician|Institution|Operator|Address|Phone|Telephone|Person|Station|Issuer|"
    r"Responsible|Author|Observer|Custodial|Insurance|Military|Country|Region|Referring|Consult)"
)
_DOTTED = re.compile(r"[0-9]+(?:\.[0-9]+){3,}")
_QUANTITY = re.compile(r"(?:[-+]?(?:\d{0,6}|\d*\.\d*)(?:[eE][-+]?\d{1,3})?)")
_SHORTEST = 3  # a number of one or two characters would be found in every text
_SHORTEST_WEAK = 6  # private text and descriptions: what is shorter is rarely anybody's
_LONGEST = 256  # of a removed text, the part that is searched for
_MANY_DIGITS = 4


@dataclass(slots=True)
class Collected:
    """Gather what one file says about persons.

    Attributes:
        own: names, numbers and phrases, for the text cleaner.
        strong: removed values that must be nowhere in the output.
        weak: removed values that may happen to equal what is kept: descriptions, private text.
        uids: replaced UIDs.
        days: replaced days, YYYYMMDD.
        names, identifiers, phrases: what goes to `own`, once it is known what stays.
        kept: texts that stay as they are.
        allowed: values that an option lets stay, so that they may stand anywhere.
        top: values of top-level attributes by tag, decoded: those the engine itself needs.
    """

    own: OwnValues = field(default_factory=OwnValues)
    strong: set[str] = field(default_factory=set)
    weak: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)
    days: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    identifiers: set[str] = field(default_factory=set)
    phrases: set[str] = field(default_factory=set)
    allowed: set[str] = field(default_factory=lambda: {IMPLEMENTATION_UID})
    top: dict[int, str] = field(default_factory=dict)


_TOP = frozenset([PATIENT_ID, PATIENT_NAME, STUDY_UID, SOP_UID, SOP_CLASS, MIME_TAG])
# Of the file meta: lengths, version, class, syntax, and the UID of the software that wrote it.
_META_OF_NOBODY = frozenset([0x00020000, 0x00020001, 0x00020002, 0x00020010, 0x00020012])
_OUT_OF_SCOPE = Decision(
    Kind.REMOVE, "X", "group 0000 to 0006: not part of a stored object (PS3.10 7.2)"
)


def top_values(source: Source) -> dict[int, str]:
    """Give the values that are needed before any rule can be asked: class, instance, patient."""
    found: dict[int, str] = {}
    charset = _charset(source.elements, DEFAULT)
    for element in source.elements:
        if element.tag in _TOP and element.items is None:
            found[element.tag] = charset.decode(element.value).strip()
    return found


def collect(source: Source, rules: ClassRules, top: dict[int, str]) -> Collected:
    """Decide every element of a file, and gather its own values; `element.decision` is set."""
    gathered = Collected(top=top)
    _Collector(rules, gathered).items(source.elements, 0, DEFAULT, False)
    for text in source.outside:
        gathered.weak.update(printable(text))
    for tag, value in source.meta.items():
        if tag == 0x00020003:
            if rules.decide(SOP_UID).kind is not Kind.KEEP:
                gathered.uids.add(value.decode("latin-1").strip(" \0"))
        elif tag not in _META_OF_NOBODY:
            gathered.weak.update(printable(value))
    own, allowed = gathered.own, gathered.allowed
    for name in gathered.names:
        own.add_name(name)
    for number in gathered.identifiers - allowed:
        own.add_identifier(number)
    for phrase in gathered.phrases - allowed:
        own.add_phrase(phrase)
    return gathered


def _charset(elements: Item, outer: Charset) -> Charset:
    for element in elements:
        if element.tag >= CHARACTER_SET:
            return Charset.of(element.value) if element.tag == CHARACTER_SET else outer
    return outer


class _Collector:
    def __init__(self, rules: ClassRules, gathered: Collected) -> None:
        self._decide = rules.decide
        self._rules = rules
        self._into = gathered

    def items(self, elements: Item, parent: int, outer: Charset, gone: bool) -> None:
        """Look at one data set or item; `gone`: it is removed with its sequence."""
        charset = _charset(elements, outer)
        creators: dict[int, str] = {}
        decide = self._decide
        for element in elements:
            tag = element.tag
            if tag & 0x10000:
                self._private(element, parent, charset, creators, gone)
                continue
            decision = decide(tag, parent) if tag >= 0x00080000 else _OUT_OF_SCOPE
            element.decision = decision
            kind = decision.kind
            if element.items is not None:
                inner = gone or kind in (Kind.REMOVE, Kind.EMPTY, Kind.DUMMY)
                for item in element.items:
                    self.items(item, tag, charset, inner)
                continue
            if not element.value or (kind is Kind.PIXELS and not gone):
                continue
            vr = element.vr
            if vr == "UN" or len(vr) > 2:
                vr = dictionary_vr(tag)
            if kind is Kind.KEEP and not gone:
                if vr == "PN":
                    self._names(charset.names(element.value))
                elif vr == "CS":
                    self._into.kept.add(element.value.decode("latin-1"))
                elif vr == "UI" or vr in CODED_VRS:
                    text = charset.decode(element.value)
                    self._into.allowed.update(part.strip() for part in text.split("\\"))
                continue
            self._value(element, vr, kind, charset, gone)

    def _value(self, element: Element, vr: str, kind: Kind, charset: Charset, gone: bool) -> None:
        into, tag = self._into, element.tag
        if vr == "UI":
            for uid in element.value.decode("latin-1").split("\\"):
                text = uid.strip(" \0")
                if text and not is_standard_uid(text):
                    into.uids.add(text)
        elif vr in ("DA", "DT"):
            days = full_days(element.value.decode("latin-1").strip(" \0"))
            into.days.update(days)
            if tag == BIRTH_DATE:  # the one date that people write into anything
                for day in set(days) - {STAND_IN_DATE}:
                    into.identifiers.update(spellings_of_day(day))
        elif vr == "PN":
            self._names(charset.names(element.value))
        elif kind is Kind.DOCUMENT or tag == DOCUMENT_TAG:
            into.weak.update(printable(element.value))
            into.kept.update(printable(stand_in_document(into.top.get(MIME_TAG, ""))))
        elif kind in _KEPT and not gone:
            if vr in CODED_VRS or vr == "CS":
                into.kept.add(charset.decode(element.value))
        elif vr in CODED_VRS or vr in ("AE", "UR"):
            text = charset.decode(element.value)
            if kind in _GONE or gone:
                self._removed(tag, vr, text, kind)
        elif vr == "UN" and len(element.value) <= _LONGEST:
            into.weak.update(printable(element.value))

    def _removed(self, tag: int, vr: str, text: str, kind: Kind) -> None:
        """Sort a removed text: a number, a phrase that names, or a description."""
        weak = _is_weak(tag) and not (
            kind in (Kind.PATIENT, Kind.RECORD) and tag in DicomDictionary
        )
        for part in text.split("\\") if vr not in ("LT", "ST", "UT") else [text]:
            value = part.strip()[:_LONGEST]
            if len(value) < _SHORTEST or is_common(value):
                continue
            if weak or kind in _KEPT:
                self._into.weak.add(value)
                continue
            self._into.strong.add(value)
            digits = sum(character.isdigit() for character in value)
            if kind in (Kind.PATIENT, Kind.RECORD) or vr == "AE" or digits >= _MANY_DIGITS:
                self._into.identifiers.add(value)
            else:
                self._into.phrases.add(value)

    def _names(self, readings: tuple[str, ...]) -> None:
        for reading in readings:
            for name in reading.split("\\"):
                if name.strip(" ^="):
                    self._into.names.add(name.strip())

    def _private(
        self,
        element: Element,
        parent: int,
        charset: Charset,
        creators: dict[int, str],
        gone: bool,
    ) -> None:
        tag = element.tag
        number = tag & 0xFFFF
        if number < 0x1000:
            if 0x10 <= number <= 0xFF and element.items is None:
                creators[tag & 0xFFFF0000 | number << 8] = charset.decode(element.value).strip()
            return
        creator = creators.get(tag & 0xFFFFFF00, "")
        decision = self._rules.decide_private(creator, tag, element.vr, parent)
        if decision.kind is not Kind.REMOVE:
            wanted = self._rules.private_vr(creator, tag)
            if element.vr == "UN" and wanted and element.items is None:
                element.vr = wanted
            if wanted and element.vr != wanted:
                decision = _OTHER_VR
        element.decision = decision
        if element.items is not None:
            for item in element.items:
                self.items(item, tag, charset, gone or decision.kind is Kind.REMOVE)
        elif decision.kind is Kind.REMOVE and element.value:
            self._private_value(element, charset)

    def _private_value(self, element: Element, charset: Charset) -> None:
        vr = element.vr
        if vr == "PN":
            self._names(charset.names(element.value))
        elif vr == "UI":
            self._value(element, vr, Kind.REMOVE, charset, True)
        elif vr in STRING_VRS:
            if vr not in _NO_NEEDLE and vr not in ("DA", "DT"):
                text = charset.decode(element.value).strip()[:_LONGEST]
                self._into.weak.update(part.strip() for part in text.split("\\"))
        elif vr in ("UN", "OB") and len(element.value) <= _LONGEST:
            self._into.weak.update(printable(element.value))


_OTHER_VR = Decision(
    Kind.REMOVE, "X", "a safe private element of another value representation than documented"
)


@lru_cache(maxsize=8_192)
def _is_weak(tag: int) -> bool:
    """Tell an attribute whose removed values are descriptions, not somebody's."""
    entry = DicomDictionary.get(tag)
    if entry is None:
        return True
    return _IDENTITY.search(entry[4]) is None and _DESCRIPTIVE.search(entry[4]) is not None


def needles_of(gathered: Collected, written_days: set[str]) -> set[str]:
    """Give what must not be found in the written file.

    A removed day is not looked for where another date moved onto it, nor a weak value that is part
    of a text which the rules keep.
    """
    needles = {text for text in gathered.own.spellings() if not is_common(text)} - written_days
    needles |= gathered.strong
    needles.update(uid for uid in gathered.uids if not is_standard_uid(uid))
    kept = "\n".join(gathered.kept).casefold()
    for text in gathered.weak:
        if len(text) < _SHORTEST_WEAK or is_standard_uid(text) or _is_quantity(text):
            continue
        if text.casefold() not in kept and not is_common(text):
            needles.add(text)
    needles |= gathered.days - written_days - {STAND_IN_DATE}
    allowed = "\n".join(gathered.allowed)  # a kept UID begins with its maker's root
    return {
        text
        for text in needles - gathered.allowed
        if not _is_ours(text) and not (text in allowed and _DOTTED.fullmatch(text))
    }


def _is_quantity(text: str) -> bool:
    """Tell measured numbers: they recur in any file, and a number of six digits is nobody's."""
    return all(_QUANTITY.fullmatch(part) for part in re.split(r"[\\ ,;]+", text))


_OURS = "REMOVED ANONYMOUS ISO_IR 192 COHORTIUM_1 UNMODIFIED DCM 1.2.840.10008"


@lru_cache(maxsize=16_384)
def _is_ours(text: str) -> bool:
    """Tell a value that every output holds: an object may come here de-identified before."""
    return text.strip(" ^").upper() in _OURS
