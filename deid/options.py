"""Which options of PS3.15 Annex E may a profile switch on?

The twelve options of E.3, each with the word a profile file uses, its column in Table E.1-1 (none
for the two that act on pixels) and its code in CID 7050 (PS3.16).
"""

from __future__ import annotations

from enum import StrEnum

BASIC_CODE = ("113100", "Basic Application Confidentiality Profile")


class Option(StrEnum):
    """Name one option as a profile file writes it."""

    CLEAN_PIXEL_DATA = "clean-pixel-data"  # text burned into pixels is found and removed
    CLEAN_VISUAL_FEATURES = "clean-visual-features"  # faces: nothing is defaced, heads are held
    CLEAN_GRAPHICS = "clean-graphics"  # graphics text cleaned; overlays and curves removed
    CLEAN_STRUCTURED_CONTENT = "clean-structured-content"  # items of reports cleaned one by one
    CLEAN_DESCRIPTORS = "clean-descriptors"  # free text reduced to words that identify nobody
    RETAIN_FULL_DATES = "retain-full-dates"  # dates as they are
    RETAIN_MODIFIED_DATES = "retain-modified-dates"  # dates moved, intervals kept
    RETAIN_PATIENT_CHARACTERISTICS = "retain-patient-characteristics"  # sex, age, size, weight
    RETAIN_DEVICE_IDENTITY = "retain-device-identity"  # serial numbers, station names
    RETAIN_UIDS = "retain-uids"  # UIDs as they are
    RETAIN_SAFE_PRIVATE = "retain-safe-private"  # our own short list of private numbers
    RETAIN_INSTITUTION_IDENTITY = "retain-institution-identity"  # hospital's name and address

    @property
    def code(self) -> str:
        """Give the option's code value in CID 7050."""
        return _CID_7050[self][0]

    @property
    def title(self) -> str:  # type: ignore[override]  # the code's, not the string's
        """Give the option's code meaning in CID 7050."""
        return _CID_7050[self][1]

    @property
    def column(self) -> str:
        """Give the option's column in our copy of Table E.1-1; empty where it has none."""
        return _COLUMNS.get(self, "")


_CID_7050 = {
    Option.CLEAN_PIXEL_DATA: ("113101", "Clean Pixel Data Option"),
    Option.CLEAN_VISUAL_FEATURES: ("113102", "Clean Recognizable Visual Features Option"),
    Option.CLEAN_GRAPHICS: ("113103", "Clean Graphics Option"),
    Option.CLEAN_STRUCTURED_CONTENT: ("113104", "Clean Structured Content Option"),
    Option.CLEAN_DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    Option.RETAIN_FULL_DATES: (
        "113106",
        "Retain Longitudinal Temporal Information Full Dates Option",
    ),
    Option.RETAIN_MODIFIED_DATES: (
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
    ),
    Option.RETAIN_PATIENT_CHARACTERISTICS: ("113108", "Retain Patient Characteristics Option"),
    Option.RETAIN_DEVICE_IDENTITY: ("113109", "Retain Device Identity Option"),
    Option.RETAIN_UIDS: ("113110", "Retain UIDs Option"),
    Option.RETAIN_SAFE_PRIVATE: ("113111", "Retain Safe Private Option"),
    Option.RETAIN_INSTITUTION_IDENTITY: ("113112", "Retain Institution Identity Option"),
}
_COLUMNS = {
    Option.CLEAN_GRAPHICS: "cleanGraphOpt",
    Option.CLEAN_STRUCTURED_CONTENT: "cleanStructContOpt",
    Option.CLEAN_DESCRIPTORS: "cleanDescOpt",
    Option.RETAIN_FULL_DATES: "rtnLongFullDatesOpt",
    Option.RETAIN_MODIFIED_DATES: "rtnLongModifDatesOpt",
    Option.RETAIN_PATIENT_CHARACTERISTICS: "rtnPatCharsOpt",
    Option.RETAIN_DEVICE_IDENTITY: "rtnDevIdOpt",
    Option.RETAIN_UIDS: "rtnUIDsOpt",
    Option.RETAIN_SAFE_PRIVATE: "rtnSafePrivOpt",
    Option.RETAIN_INSTITUTION_IDENTITY: "rtnInstIdOpt",
}
