"""What does one value become: moved, mapped, stood in for, or found to be outside its VR?

Dates move by whole days (PS3.5 6.2 DA, DT; times stay), so that intervals of one patient keep.
What cannot be read as a date is emptied: it must not pass as one. UIDs of the standard itself stay.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from pydicom._uid_dict import UID_dictionary

STAND_IN_TEXT = "REMOVED"
STAND_IN_DATE = "19000101"
TEXT_VRS = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"])
STRING_VRS = TEXT_VRS | frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"])
CODED_VRS = frozenset(
    ["LO", "LT", "PN", "SH", "ST", "UC", "UT"]
)  # where Specific Character Set applies
NUMBER_SIZES = {
    "AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8,
}  # fmt: skip
BULK_SIZES = {"OB": 1, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2, "UN": 1}
_FIXED = {
    "AE": STAND_IN_TEXT, "AS": "000Y", "CS": STAND_IN_TEXT, "DA": STAND_IN_DATE, "DS": "0",
    "DT": STAND_IN_DATE + "000000", "IS": "0", "TM": "000000", "UR": "urn:removed",
}  # fmt: skip
_ONE = {
    "AE": r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,15})",
    "AS": r"\d{3}[DWMY]",
    "CS": r"[A-Z0-9_ ]{0,16}",
    "DA": r"\d{8}|\d{4}\.\d\d\.\d\d",
    "DS": r"[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?",
    "DT": r"\d{4,14}(?:\.\d{1,6})?(?:[+-]\d{4})?",
    "IS": r"[+-]?\d{1,12}+",
    "TM": r"(?:[01]\d|2[0-4])(?::?[0-5]\d(?::?(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?",
    "UI": r"[0-9.]{1,64}",
}
_REPERTOIRE: dict[str, Callable[[bytes], re.Match[bytes] | None]] = {
    # Possessive throughout: a value of a megabyte of blanks is read once, not squared.
    vr: re.compile(rf" *+(?:{one})?+ *+(?:\\ *+(?:{one})?+ *+)*+[ \0]*+".encode()).fullmatch
    for vr, one in _ONE.items()
}
_DATE = re.compile(r"(\d{4})([-./]?)(\d\d)\2(\d\d)")
_DATETIME = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d{2,6}(?:\.\d{1,6})?)?([+-]\d{4})?")
_CLOCK = re.compile(r"(?:[01]\d|2[0-4])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?")
_ZONE = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")
_LONG_NUMBER = 6
_TEXT_BYTES = 16
_PRINTABLE = re.compile(rb"[\x20-\x7e]++\0*+")
_WORD = re.compile(rb"[A-Za-z]{3}")
_WHOLE_NUMBER = re.compile(rb"(?<![0-9.])([0-9]{6,})(?![0-9])(?:\.0*+(?![0-9]))?+(?![.eE])")
_UID = re.compile(r"[0-9][0-9.]{0,63}")
# Where the standard goes on assigning: classes, transfer syntaxes, context groups, schemes. Numbers
# there have up to four digits: what is longer was put under this root by somebody else.
_STANDARD_UID = re.compile(
    r"1\.2\.840\.10008\.(?:(?:5\.1|1\.2|2|7|8|9|15)(?:\.(?:0|[1-9]\d{0,2})){1,9}"
    r"|[67]\.1\.[1-9]\d{0,3})"
)


def in_repertoire(vr: str, value: bytes) -> bool:
    """Tell whether a value is one its VR allows (PS3.5 table 6.2-1); True for free-text VRs."""
    matches = _REPERTOIRE.get(vr)
    if matches is not None:
        return matches(value) is not None
    size = NUMBER_SIZES.get(vr)
    return size is None or (len(value) % size == 0 and not _is_text(value))


def _is_text(value: bytes) -> bool:
    """Tell text put where numbers are due: by chance, 1 in 10^6 lists of two doubles looks so."""
    if len(value) < _TEXT_BYTES or not value.isascii():
        return False
    return _PRINTABLE.fullmatch(value) is not None and _WORD.search(value) is not None


def long_numbers(value: bytes) -> list[str]:
    """Give the whole numbers of six digits and more in a DS or IS value, without a fraction.

    A count or a measured value is rarely that long; a chart, telephone or registration number is.
    """
    if len(value) < _LONG_NUMBER:
        return []
    return [number.decode("ascii") for number in _WHOLE_NUMBER.findall(value)]


def stand_in(vr: str, little: bool = True) -> bytes:
    """Give a value that says nothing but is one of its VR (action D of Table E.1-1a)."""
    size = NUMBER_SIZES.get(vr) or BULK_SIZES.get(vr)
    if size is not None:
        return b"\0" * max(size, 2)
    del little  # zeros look alike in both orders
    return _FIXED.get(vr, STAND_IN_TEXT).encode("ascii")


def shift_dates(vr: str, text: str, shift: Callable[[date], date]) -> str:
    """Move every date of a DA or DT value by a patient's days; "" for what cannot be read.

    | value                        | becomes                                    |
    | 20240229                     | the day moved                              |
    | 2024.02.29, 2024-02-29       | the day moved, written 8 digits            |
    | 20240101-20240131, 20240101- | a range, both ends moved                   |
    | 202402 (DT)                  | the month of the moved first day           |
    | 20240229101500.5+0900        | the day moved, time and offset as they are |
    | 20230229, 1.3.2024, text     | ""                                         |
    """
    one = _shift_day if vr == "DA" else _shift_datetime
    moved = [one(part.strip(" \0"), shift) for part in text.split("\\")]
    return "\\".join(moved) if any(moved) else ""


def _shift_day(text: str, shift: Callable[[date], date]) -> str:
    found = _DATE.fullmatch(text)
    if found is not None:
        return _moved(found[1], found[3], found[4], shift)
    first, dash, last = text.partition("-")
    if not dash or not (first or last):
        return ""
    ends = [_shift_day(end.strip(), shift) if end.strip() else "" for end in (first, last)]
    if (first and not ends[0]) or (last and not ends[1]):
        return ""
    return f"{ends[0]}-{ends[1]}"


def _shift_datetime(text: str, shift: Callable[[date], date]) -> str:
    found = _DATETIME.fullmatch(text)
    if found is None:
        day = _DATE.fullmatch(text)
        return "" if day is None else _moved(day[1], day[3], day[4], shift)
    year, month, day_of, rest, offset = found.groups(default="")
    if rest and not day_of:
        return ""
    if _CLOCK.fullmatch(rest) is None:
        rest = ""  # 80:05:15 is a date of birth rather than a time of day
    if _ZONE.fullmatch(offset) is None:
        offset = ""
    moved = _moved(year, month or "01", day_of or "01", shift)
    return (moved[: len(year + month + day_of)] + rest + offset) if moved else ""


def _moved(year: str, month: str, day: str, shift: Callable[[date], date]) -> str:
    try:
        new = shift(date(int(year), int(month), int(day)))
    except (ValueError, OverflowError):
        return ""
    return f"{new.year:04d}{new.month:02d}{new.day:02d}"


def full_days(text: str) -> tuple[str, ...]:
    """Give the days that a DA or DT value names, written YYYYMMDD."""
    days = []
    for part in re.split(r"\\|(?<=\d)-(?=\d{4})", text):
        found = _DATE.match(part.strip())
        if found is not None:
            days.append(found[1] + found[3] + found[4])
    return tuple(days)


def spellings_of_day(day: str) -> tuple[str, ...]:
    """Give the ways in which text writes one day, from YYYYMMDD."""
    try:
        parts = date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        return ()
    year, month, number = f"{parts:%Y}", f"{parts:%m}", f"{parts:%d}"
    return (
        day,
        *(f"{year}{sign}{month}{sign}{number}" for sign in "-./"),
        f"{month}/{number}/{year}",
        f"{parts.month}/{parts.day}/{year}",
        f"{number}.{month}.{year}",
        f"{year[2:]}{month}{number}",
        f"{year}년 {parts.month}월 {parts.day}일",
    )


def map_uids(text: str, replace: Callable[[str], str]) -> str:
    """Replace every UID but those that the standard itself assigns (root 1.2.840.10008)."""
    parts = (part.strip(" \0") for part in text.split("\\"))
    return "\\".join(p if not p or is_standard_uid(p) else replace(p) for p in parts)


def is_uid(text: str) -> bool:
    """Tell what can be a UID (PS3.5 9.1)."""
    return _UID.fullmatch(text) is not None


def is_standard_uid(uid: str) -> bool:
    """Tell whether a UID is the standard's own (PS3.6 Annex A), of a later edition maybe."""
    return uid.startswith("1.2.840.10008.") and (
        uid in UID_dictionary or _STANDARD_UID.fullmatch(uid) is not None
    )


def cap_age(value: bytes, cap_years: int) -> bytes:
    """Give an age (AS) of more than the cap as one year above it (45 CFR 164.514(b)(2)(i)(C))."""
    text = value.decode("latin-1").strip(" \0")
    if not re.fullmatch(r"\d{3}[DWMY]", text):
        return value
    per_year = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[text[3]]
    years = int(text[:3]) / per_year
    return b"%03dY" % (cap_years + 1) if years >= cap_years + 1 else value


def encode(vr: str, value: object, little: bool) -> bytes:
    """Encode a number, text, or list of them as one VR's bytes.

    Raises:
        ValueError: the VR holds neither numbers nor text.
    """
    values: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    code = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
    if vr in code:
        order = "<" if little else ">"
        numbers = [float(v) if vr[0] == "F" else int(v) for v in values]
        return struct.pack(f"{order}{len(values)}{code[vr]}", *numbers)
    if vr in STRING_VRS:
        return "\\".join(str(v) for v in values).encode("utf-8")
    if isinstance(value, bytes):
        return value
    raise ValueError("no encoding for this value representation")


def shifter(shift_days: int) -> Callable[[date], date]:
    """Give the move of one patient's dates into the past, bounded at year 1."""

    def moved(day: date) -> date:
        return day - timedelta(days=min(shift_days, day.toordinal() - 1))

    return moved
