"""What is done to one attribute or column that the keep-list names?

The letters are those of PS3.15 Table E.1-1a: K keep, Z empty, U new UID, C clean, D stand-in.
Whatever is not named gets X, remove.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Name the treatment of a kept attribute."""

    KEEP = "keep"  # as it is; in a sequence, its items are walked by the same list
    EMPTY = "empty"  # present without a value, where the object class demands presence
    PATIENT = "patient"  # the patient's keyed pseudonym
    RECORD = "record"  # the keyed pseudonym of an accession or record number
    UID = "uid"  # a keyed new UID, the same for every reference to it
    SHIFT_DATE = "shift-date"  # moved by the patient's own number of days


@dataclass(frozen=True, slots=True)
class Action:
    """Hold one treatment, its letter in Table E.1-1a and its sentence for people."""

    kind: Kind
    letter: str
    sentence: str

    def explain(self) -> str:
        """Say in one line what is done."""
        return f"{self.letter}: {self.sentence}"


_ACTIONS = {
    Kind.KEEP: Action(Kind.KEEP, "K", "kept; items of a sequence are walked by the same list"),
    Kind.EMPTY: Action(Kind.EMPTY, "Z", "kept present, without a value"),
    Kind.PATIENT: Action(Kind.PATIENT, "D", "replaced by the patient's keyed pseudonym"),
    Kind.RECORD: Action(Kind.RECORD, "D", "replaced by the record's keyed pseudonym"),
    Kind.UID: Action(Kind.UID, "U", "replaced by a keyed new UID, the same wherever it occurs"),
    Kind.SHIFT_DATE: Action(Kind.SHIFT_DATE, "C", "moved by the patient's own number of days"),
}
DICOM_ACTIONS = {kind.value: action for kind, action in _ACTIONS.items()}
TABLE_ACTIONS = {
    kind.value: _ACTIONS[kind] for kind in (Kind.KEEP, Kind.PATIENT, Kind.RECORD, Kind.SHIFT_DATE)
}
REMOVED = "remove"  # the count's name in reports for everything the list does not mention
