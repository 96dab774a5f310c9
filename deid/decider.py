"""What becomes of one attribute that an object's class demands this strongly?

Table E.1-1 of PS3.15 decides what it lists: its Basic Profile code, unless an option that is on has
a letter for the row (C before K, because cleaning is the stricter of the two). A compound code is
resolved by the attribute's type: the leftmost letter that it allows. What the table does not list
follows its VR and a reviewed list (`deid.unlisted`); what the dictionary does not know, what is
retired and not reviewed, and what is private and not listed, is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deid import standard
from deid.actions import Kind
from deid.iod import Type
from deid.options import Option
from deid.private import safe_element
from deid.profile import Profile
from deid.standard import Row
from deid.unlisted import Reviewed, Verdict, verdicts

TEXT_VRS = frozenset({"LO", "SH", "LT", "ST", "UT", "UC"})
DATE_VRS = frozenset({"DA", "DT", "TM"})
VALUE_VRS = frozenset(
    ["AT", "CS", "DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV", "US or SS"]
)
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ENCAPSULATED_DOCUMENT = 0x00420011
_TIMEZONE_OFFSET = 0x00080201
_GRAPHIC_ANNOTATION = 0x00700001
_UNFORMATTED_TEXT = 0x00700006
_TEXT_VALUE = 0x0040A160
# Content items (PS3.3 10.2): ContentSequence, AcquisitionContextSequence and the four that are not
# in the table: specimen preparation and localisation, protocol context and item modifier.
_CONTENT_SEQUENCES = frozenset(
    {0x0040A730, 0x00400555, 0x00400612, 0x00400620, 0x00400440, 0x00400441}
)
_MOST_DECIDED = 65_536  # a hostile file names any number of tags
_PATIENT_LINKS = frozenset({0x00100010, 0x00100020})  # name and number: one pseudonym
# Numbers that join objects: a keyed stand-in keeps the join where the code asks for a value.
_RECORD_LINKS = frozenset({
    0x00080050, 0x00200010,  # AccessionNumber, StudyID
    0x00120020, 0x00120040,  # ClinicalTrialProtocolID, ClinicalTrialSubjectID
    0x00181000,  # DeviceSerialNumber
    0x00400512, 0x00400551,  # ContainerIdentifier, SpecimenIdentifier
})  # fmt: skip
_ALWAYS_LINKED = frozenset({0x00080050, 0x00200010})  # code Z: the stand-in rather than nothing
# Code X, though the Presentation State Identification module demands a value (PS3.3 C.11.10, both
# Type 1): a stand-in, which says as little, keeps the object valid (PS3.15 E.1.1).
_STAND_INS_FOR_X = frozenset({0x00700082, 0x00700083})  # PresentationCreationDate and -Time
_STRICTNESS = {Kind.KEEP: 0, Kind.TECHNICAL: 1, Kind.DUMMY: 3, Kind.EMPTY: 3, Kind.REMOVE: 4}


@dataclass(frozen=True, slots=True)
class Decision:
    """Hold what is done to one attribute.

    Attributes:
        kind: the treatment.
        code: the rule, for example "X/Z/D → D", "technical", "not in the dictionary".
        because: one sentence with the source.
        type: how strongly the object's class demands the attribute.
    """

    kind: Kind
    code: str
    because: str
    type: Type = Type.OPTIONAL


class Decider:
    """Decide by attribute and type alone; what `ClassRules` and the conformance page share."""

    def __init__(self, profile: Profile) -> None:
        self._options = profile.options
        self._overrides = profile.overrides
        self._dates = profile.dates
        self._keeps_references = profile.references == "keep"
        self._decided: dict[tuple[int, Type], Decision] = {}  # what classes share

    def decide(self, tag: int, kind: Type) -> Decision:
        """Decide an attribute that the object's class demands as strongly as `kind` says."""
        decision = self._decided.get((tag, kind))
        if decision is None:
            decision = self._decide(tag, kind)
            if len(self._decided) < _MOST_DECIDED:
                self._decided[tag, kind] = decision
        return decision

    def _decide(self, tag: int, kind: Type) -> Decision:
        decision = self.by_standard(tag, kind)
        override = self._overrides.get(tag)
        if override is None:
            return decision
        stricter = _absent(kind).kind if override is Kind.REMOVE else override
        if strictness(stricter) <= strictness(decision.kind):
            return decision
        return Decision(stricter, f"override: {override}", "the profile overrides the rule", kind)

    def decide_private(self, creator: str, tag: int, vr: str) -> Decision:
        """Decide a private element; see `ClassRules.decide_private`."""
        if Option.RETAIN_SAFE_PRIVATE not in self._options:
            return Decision(Kind.REMOVE, "X", "private; Table E.1-1 removes it")
        found = safe_element(creator, tag)
        if found is None:
            return Decision(Kind.REMOVE, "X", "private, and not on our list of safe elements")
        if vr not in (found.vr, "UN"):
            return Decision(Kind.REMOVE, "X", "private, and not of the VR our list gives")
        return Decision(Kind.KEEP, "safe private", found.why)

    def by_standard(self, tag: int, kind: Type) -> Decision:
        """Decide an attribute without the profile's overrides."""
        group, element = tag >> 16, tag & 0xFFFF
        row = standard.rows().get(tag)
        if group & 1 and row is None:
            return Decision(Kind.REMOVE, "X", "private; kept only by creator, if at all")
        if row is not None:
            return self._listed(tag, row, kind)
        if element == 0:
            return Decision(Kind.REMOVE, "group length", "retired; lengths are written afresh")
        if group < 0x0008 or group >= 0xFFFC:
            return Decision(Kind.REMOVE, "not of a data set", "file and message structure")
        pattern = _repeating(group, element)
        if pattern:
            return Decision(Kind.REMOVE, "X", f"{pattern}; removal is how graphics are cleaned")
        return self._unlisted(tag, kind)

    def _listed(self, tag: int, row: Row, kind: Type) -> Decision:
        entry = standard.entry(tag)
        vr = entry.vr if entry else ""
        letters = {o: letter for o, letter in row.letters.items() if o in self._options}
        cleaning = [option for option, letter in letters.items() if letter == "C"]
        if cleaning:
            cleaned = _clean(tag, vr)
            if cleaned is not None:
                because = f"Table E.1-1, {_names(cleaning)}"
                return Decision(cleaned, f"{row.code} → C", because, kind)
        elif letters:
            kept = _kept(vr, letters)
            return Decision(kept, f"{row.code} → K", f"Table E.1-1, {_names(letters)}", kind)
        if tag == _UNFORMATTED_TEXT and Option.CLEAN_GRAPHICS in self._options:
            because = "part of GraphicAnnotationSequence, which Clean Graphics cleans"
            return Decision(Kind.CLEAN_TEXT, f"{row.code} → C", because, kind)
        if self._keeps_references and row.code.endswith("U*"):
            because = "a reference; the profile keeps them all, with new UIDs"
            return Decision(Kind.KEEP, f"{row.code} → U*", because, kind)
        return _basic(tag, vr, row.code, kind)

    def _unlisted(self, tag: int, kind: Type) -> Decision:
        entry = standard.entry(tag)
        if entry is None:
            return Decision(Kind.REMOVE, "unknown", "not in the dictionary", kind)
        reviewed = verdicts().get(tag)
        if entry.retired and (reviewed is None or reviewed.verdict is not Verdict.RETIRED):
            return Decision(Kind.REMOVE, "retired", "retired and not on the reviewed list", kind)
        if reviewed is not None:
            return self._reviewed(reviewed, kind)
        return self._by_vr(tag, entry.vr, kind)

    def _reviewed(self, reviewed: Reviewed, kind: Type) -> Decision:
        match reviewed.verdict:
            case Verdict.TECHNICAL:
                return Decision(Kind.TECHNICAL, "technical", reviewed.why, kind)
            case Verdict.BULK | Verdict.RETIRED:
                return Decision(Kind.KEEP, reviewed.verdict.value, reviewed.why, kind)
            case Verdict.REMOVE:
                pass
            case _:
                if _GATES[reviewed.verdict] in self._options:
                    return Decision(Kind.KEEP, f"{reviewed.verdict} → K", reviewed.why, kind)
        gone = Kind.REMOVE if reviewed.even_if_demanded else _absent(kind).kind
        return Decision(gone, reviewed.verdict.value, reviewed.why, kind)

    def _by_vr(self, tag: int, vr: str, kind: Type) -> Decision:
        if tag in PIXELS:
            return Decision(Kind.PIXELS, "pixels", "pixel data", kind)
        if vr == "SQ":
            if tag in _CONTENT_SEQUENCES and Option.CLEAN_STRUCTURED_CONTENT in self._options:
                return Decision(Kind.CLEAN_CONTENT, "content", "holds content items", kind)
            return Decision(Kind.KEEP, "sequence", "its items are walked by the same rules", kind)
        if vr in VALUE_VRS:
            return Decision(Kind.KEEP, "value", f"VR {vr}: a number or a defined term", kind)
        if vr == "UI":
            if Option.RETAIN_UIDS in self._options:
                return Decision(Kind.KEEP, "UID → K", "by VR, Retain UIDs Option", kind)
            return Decision(Kind.UID, "UID", "by VR; the standard's own UIDs stay", kind)
        if vr in DATE_VRS and self._dates != "remove":
            shifted = self._dates == "modify"
            return Decision(Kind.SHIFT_DATE if shifted else Kind.KEEP, "date", "by VR", kind)
        if vr in TEXT_VRS and self._cleans_text(tag):
            return Decision(Kind.CLEAN_TEXT, "text", "text off the list, Clean Descriptors", kind)
        if vr == "UR":
            return Decision(Kind.REMOVE, "address", "an address names its archive", kind)
        return _absent(kind)

    def _cleans_text(self, tag: int) -> bool:
        if Option.CLEAN_DESCRIPTORS in self._options:
            return True
        return tag == _TEXT_VALUE and Option.CLEAN_STRUCTURED_CONTENT in self._options


def strictness(kind: Kind) -> int:
    """Rank a treatment: 0 keeps, 1 keeps unless known, 2 replaces, 3 blanks, 4 removes."""
    return _STRICTNESS.get(kind, 2)


_GATES = {
    Verdict.PATIENT: Option.RETAIN_PATIENT_CHARACTERISTICS,
    Verdict.DEVICE: Option.RETAIN_DEVICE_IDENTITY,
    Verdict.INSTITUTION: Option.RETAIN_INSTITUTION_IDENTITY,
}


def _basic(tag: int, vr: str, code: str, kind: Type) -> Decision:
    """Resolve a Basic Profile code by the attribute's type (PS3.15 Table E.1-1a).

    Type 3 takes the leftmost letter, Type 2 the first that leaves the attribute present, Type 1 the
    first that leaves it a value. Z may be a stand-in by definition, so Type 1 makes it one.
    """
    letters = code.split("/")
    letter = letters[0]
    if kind is not Type.OPTIONAL and letter == "X" and len(letters) > 1:
        letter = letters[1]
    if kind is Type.VALUE and tag in _STAND_INS_FOR_X:
        letter = "D"
    if kind is Type.VALUE and letter == "Z":
        letter = letters[-1] if letters[-1] != "Z" else "D"
    shown = code if letter == code else f"{code} → {letter}"
    return Decision(_treatment(tag, vr, letter), shown, "Table E.1-1, Basic Profile", kind)


def _treatment(tag: int, vr: str, letter: str) -> Kind:
    if letter == "X":
        return Kind.REMOVE
    if tag in _PATIENT_LINKS:
        return Kind.PATIENT
    if letter == "U*":
        return Kind.KEEP  # a sequence of references: the UIDs inside it are replaced
    if vr == "UI":
        return Kind.UID  # U, and D of a UID: a keyed new one is a stand-in that stays consistent
    if tag in _ALWAYS_LINKED or (letter == "D" and tag in _RECORD_LINKS):
        return Kind.RECORD
    if letter == "D" and tag == _ENCAPSULATED_DOCUMENT:
        return Kind.DOCUMENT
    return Kind.EMPTY if letter == "Z" else Kind.DUMMY


def _clean(tag: int, vr: str) -> Kind | None:
    """Say how an attribute is cleaned; None where it cannot be: then the Basic Profile holds."""
    if vr in DATE_VRS:
        return Kind.SHIFT_DATE
    if tag == _TIMEZONE_OFFSET:
        return Kind.TECHNICAL  # times of day stay, so their zone must
    if vr in TEXT_VRS:
        return Kind.CLEAN_TEXT
    if vr != "SQ":
        return None  # application entities, time stamps in bulk data, coded reasons
    if tag == _GRAPHIC_ANNOTATION:
        return Kind.CLEAN_GRAPHIC
    return Kind.CLEAN_CONTENT if tag in _CONTENT_SEQUENCES else Kind.KEEP


def _kept(vr: str, letters: Mapping[Option, str]) -> Kind:
    if vr in TEXT_VRS and set(letters) == {Option.RETAIN_PATIENT_CHARACTERISTICS}:
        return Kind.TECHNICAL
    return Kind.KEEP


def _absent(kind: Type) -> Decision:
    """Give what becomes of an attribute that is not on any list: gone, unless demanded."""
    because = "not on the keep-list"
    match kind:
        case Type.OPTIONAL:
            return Decision(Kind.REMOVE, "not listed", because, kind)
        case Type.PRESENT:
            return Decision(Kind.EMPTY, "not listed → Z", because, kind)
        case Type.VALUE:
            return Decision(Kind.DUMMY, "not listed → D", because, kind)


def _repeating(group: int, element: int) -> str:
    if group & 0xFF00 == 0x5000:
        return "curves"
    if group & 0xFF00 == 0x6000:
        return "overlays"
    return ""


def _names(options: Iterable[Option]) -> str:
    return " and ".join(option.title for option in options)
