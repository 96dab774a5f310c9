"""What is done to one attribute of an object, or one column of a table?

The letters are those of PS3.15 Table E.1-1a: X remove, Z empty, D stand-in, U new UID, C clean,
K keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Name the final treatment of one attribute or column."""

    KEEP = "keep"  # as it is; in a sequence, its items are walked by the same rules
    REMOVE = "remove"  # gone, with everything inside it
    EMPTY = "empty"  # present without a value, where the object class demands presence
    DUMMY = "dummy"  # a stand-in of the same VR that is the same for everybody
    PATIENT = "patient"  # the patient's keyed pseudonym
    RECORD = "record"  # the keyed pseudonym of an accession, study or specimen number
    UID = "uid"  # a keyed new UID, the same for every reference to it
    SHIFT_DATE = "shift-date"  # moved by the patient's own number of days; times of day stay
    CLEAN_TEXT = "clean-text"  # reduced to words that identify nobody
    CLEAN_CONTENT = "clean-content"  # content items walked: texts, names, dates, references
    CLEAN_GRAPHIC = "clean-graphic"  # graphic annotation items walked: their texts cleaned
    DOCUMENT = "document"  # an encapsulated document replaced by a stand-in of its type
    PIXELS = "pixels"  # examined for burned-in text; code streams stripped of comments
    TECHNICAL = "technical"  # text a device writes: kept, unless it holds a known identifier


@dataclass(frozen=True, slots=True)
class Action:
    """Hold one treatment, its letter in Table E.1-1a and its sentence for people."""

    kind: Kind
    letter: str
    sentence: str

    def explain(self) -> str:
        """Say in one line what is done."""
        return f"{self.letter}: {self.sentence}"


DICOM_ACTIONS = {
    action.kind.value: action
    for action in (
        Action(Kind.KEEP, "K", "kept; items of a sequence are walked by the same rules"),
        Action(Kind.REMOVE, "X", "removed, with everything inside it"),
        Action(Kind.EMPTY, "Z", "kept present, without a value"),
        Action(Kind.DUMMY, "D", "replaced by a stand-in that is the same for everybody"),
        Action(Kind.PATIENT, "D", "replaced by the patient's keyed pseudonym"),
        Action(Kind.RECORD, "D", "replaced by the record's keyed pseudonym"),
        Action(Kind.UID, "U", "replaced by a keyed new UID, the same wherever it occurs"),
        Action(Kind.SHIFT_DATE, "C", "moved by the patient's own number of days"),
        Action(Kind.CLEAN_TEXT, "C", "reduced to words that identify nobody"),
        Action(Kind.CLEAN_CONTENT, "C", "its content items are cleaned one by one"),
        Action(Kind.CLEAN_GRAPHIC, "C", "its annotations stay, their texts are cleaned"),
        Action(Kind.DOCUMENT, "D", "replaced by a stand-in document of the same type"),
        Action(Kind.PIXELS, "C", "pixels by rule; comments in code streams are stripped"),
        Action(Kind.TECHNICAL, "K", "kept, unless it holds a known identifier"),
    )
}
TABLE_ACTIONS = {
    kind.value: DICOM_ACTIONS[kind.value]
    for kind in (Kind.KEEP, Kind.PATIENT, Kind.RECORD, Kind.SHIFT_DATE)
}
REMOVED = Kind.REMOVE.value  # the count's name in reports for everything that is not listed
