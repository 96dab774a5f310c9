"""What was decided, by name, for standard attributes that Table E.1-1 does not list?

`deid/data/keep.toml` is that review. Whatever it does not name follows the rules by VR in
`deid.decider`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType

from deid.standard import read_data, tags_of_keywords

KEEP_FILE = "keep.toml"


class Verdict(StrEnum):
    """Name one part of the review."""

    TECHNICAL = "technical"  # text a device writes
    BULK = "bulk"  # numbers stored as bulk data
    RETIRED = "retired"  # retired, but needed in older files
    PATIENT = "patient"  # stays only under Retain Patient Characteristics
    DEVICE = "device"  # stays only under Retain Device Identity
    INSTITUTION = "institution"  # stays only under Retain Institution Identity
    REMOVE = "remove"  # goes, though the rule by VR would keep or clean it


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Hold one reviewed attribute.

    Attributes:
        verdict: the part of the review that names it.
        why: the reason given there.
        even_if_demanded: it goes even where the object class demands it; else a stand-in stays.
    """

    verdict: Verdict
    why: str
    even_if_demanded: bool = False


@cache
def verdicts() -> Mapping[int, Reviewed]:
    """Give the reviewed attributes by tag.

    Raises:
        KeyError: the review names an attribute the dictionary does not know.
        ValueError: it names an attribute twice.
    """
    tags = tags_of_keywords()
    found: dict[int, Reviewed] = {}
    for word, groups in tomllib.loads(read_data(KEEP_FILE).decode("utf-8")).items():
        for group in groups:
            reviewed = Reviewed(
                Verdict(word), group["why"], bool(group.get("even_if_demanded", False))
            )
            for keyword in group["attributes"]:
                if tags[keyword] in found:
                    raise ValueError(f"{keyword} is reviewed twice")
                found[tags[keyword]] = reviewed
    return MappingProxyType(found)
