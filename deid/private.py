"""Which private elements may stay under Retain Safe Private?

Our own short list (`deid/data/safe_private.toml`), not Table E.3.10-1. It goes by the creator
string, because a block number means nothing by itself (PS3.5 7.8.1).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from deid.standard import read_data

SAFE_PRIVATE_FILE = "safe_private.toml"


@dataclass(frozen=True, slots=True)
class SafeElement:
    """Hold one listed private element: the VR it must have, and what it is for."""

    vr: str
    why: str


@cache
def safe_elements() -> Mapping[tuple[str, int, int], SafeElement]:
    """Give the list by (creator, group, element within the block).

    Raises:
        ValueError: an element is listed twice.
    """
    found: dict[tuple[str, int, int], SafeElement] = {}
    for block in tomllib.loads(read_data(SAFE_PRIVATE_FILE).decode("utf-8"))["block"]:
        for element, vr in block["elements"].items():
            key = (block["creator"], int(block["group"], 16), int(element, 16))
            if key in found:
                raise ValueError("a private element is listed twice")
            found[key] = SafeElement(vr, block["why"])
    return MappingProxyType(found)


def safe_element(creator: str, tag: int) -> SafeElement | None:
    """Look up one private element; `creator` as it stands in the file, padding stripped."""
    element = tag & 0xFFFF
    if not tag >> 16 & 1 or element < 0x1000:  # creators and their unassigned elements
        return None
    return safe_elements().get((creator.strip(" \x00"), tag >> 16, element & 0xFF))
