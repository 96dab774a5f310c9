"""What does PS3.15 Table E.1-1 say of an attribute, and what does the data dictionary say?

The table is data (`deid/data/standard/`, made by `scripts/make_deid_tables.py`): the Basic Profile
column of edition 2026c, the option columns of edition 2024e. Both are read once, on first use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType

from deid.options import Option

EDITION_BASIC = "2026c"
EDITION_OPTIONS = "2024e"
ANNEX_FILE = "standard/annex_e.json"


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one row of Table E.1-1.

    Attributes:
        code: the Basic Profile column, for example "X/Z/D".
        letters: the letter (K or C) in the column of each option that has one for this row.
        options_known: false for the rows that came after edition 2024e; they are treated under
            every option as the Basic Profile says.
    """

    code: str
    letters: Mapping[Option, str]
    options_known: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold what the data dictionary (PS3.6) says of one tag."""

    vr: str
    keyword: str
    retired: bool


@cache
def rows() -> Mapping[int, Row]:
    """Give the table's rows by tag, without the repeating groups and the private row."""
    return MappingProxyType({int(k, 16): row for k, row in _all().items() if _is_tag(k)})


@cache
def patterns() -> Mapping[str, Row]:
    """Give the rows that stand for many tags: "50XXXXXX", "60XX3000", "60XX4000", "odd"."""
    return MappingProxyType({k: row for k, row in _all().items() if not _is_tag(k)})


@lru_cache(maxsize=16_384)
def entry(tag: int) -> Entry | None:
    """Give the dictionary's entry of a tag; None where pydicom's dictionary does not know it."""
    found = _dictionary().get(tag)
    if found is None:
        return None
    return Entry(vr=found[0], keyword=found[4] or found[2], retired=bool(found[3]))


@cache
def every_tag() -> tuple[int, ...]:
    """Give every tag of the data dictionary and of the table, in order."""
    return tuple(sorted({*_dictionary(), *rows()}))


@cache
def tags_of_keywords() -> Mapping[str, int]:
    """Give the tag of every keyword of the data dictionary."""
    return MappingProxyType({found[4]: tag for tag, found in _dictionary().items() if found[4]})


def read_data(name: str) -> bytes:
    """Give one file of `deid/data`."""
    return (resources.files("deid") / "data" / name).read_bytes()


def show_tag(tag: int) -> str:
    """Write a tag as the standard does: "(0008,0050)"."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@cache
def _all() -> Mapping[str, Row]:
    document = json.loads(read_data(ANNEX_FILE))
    return {key: _row(text) for key, text in document["rows"].items()}


def _row(text: str) -> Row:
    code, *rest = text.split("|")
    letters = {}
    for part in rest:
        word, _, letter = part.partition("=")
        if letter:
            letters[Option(word)] = letter
    return Row(code, MappingProxyType(letters), "?" not in rest)


def _is_tag(key: str) -> bool:
    return key != "odd" and "X" not in key


@cache
def _dictionary() -> Mapping[int, tuple[str, str, str, str, str]]:
    # Imported on first use: a hospital that only de-identifies tables never pays for pydicom.
    from pydicom._dicom_dict import DicomDictionary

    return DicomDictionary
