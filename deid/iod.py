"""Must an attribute be present, and have a value, in an object of this class?

The compound codes of Table E.1-1 (X/Z, X/D, Z/D, X/Z/D, X/Z/U*) depend on it. The types come from
PS3.3 through highdicom's tables, condensed by `scripts/make_deid_tables.py`, which says how the
modules of a class are combined.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from deid.standard import read_data

TYPES_FILE = "standard/iod_types.json"


class Type(IntEnum):
    """Say how strongly an object's class demands an attribute; 1C counts as 1, 2C as 2."""

    VALUE = 1  # present, with a value
    PRESENT = 2  # present, perhaps without a value
    OPTIONAL = 3  # may be absent; also for whatever the class does not mention


@dataclass(frozen=True, slots=True)
class _Demand:
    value: int  # bit mask of the classes that demand a value at the top level
    present: int  # the same for presence
    nested: Type  # inside sequences
    exceptions: dict[int, Type]  # enclosing sequence: type, where it is another


@dataclass(frozen=True, slots=True)
class IodTypes:
    """Answer for one object class.

    Attributes:
        name: the IOD's name in highdicom's tables; empty for a class they do not know, which gets
            the strictest type of all classes: a stand-in is never less private than removal.
        mask: the class's bit, or every bit.
    """

    name: str
    mask: int

    def type_of(self, tag: int, parent: int = 0) -> Type:
        """Give an attribute's type at the top level (parent 0) or inside a sequence."""
        demand = _tables()[1].get(tag)
        if demand is None:
            return Type.OPTIONAL
        if parent:
            return demand.exceptions.get(parent, demand.nested)
        if demand.value & self.mask:
            return Type.VALUE
        return Type.PRESENT if demand.present & self.mask else Type.OPTIONAL


def types_for_class(sop_class_uid: str) -> IodTypes:
    """Give the attribute types of a SOP class."""
    classes, _, names = _tables()
    index = classes.get(sop_class_uid)
    if index is None:
        return IodTypes("", (1 << len(names)) - 1)
    return IodTypes(names[index], 1 << index)


def possible_types(tag: int) -> tuple[Type, ...]:
    """Give every type an attribute has in some class or sequence, strongest demand first."""
    demand = _tables()[1].get(tag)
    if demand is None:
        return (Type.OPTIONAL,)
    found = {Type.OPTIONAL, demand.nested, *demand.exceptions.values()}
    if demand.value:
        found.add(Type.VALUE)
    if demand.present:
        found.add(Type.PRESENT)
    return tuple(sorted(found))


@cache
def _tables() -> tuple[dict[str, int], dict[int, _Demand], list[str]]:
    document = json.loads(read_data(TYPES_FILE))
    types = {
        int(key, 16): _Demand(
            value=int(found.get("top1", "0"), 16),
            present=int(found.get("top2", "0"), 16),
            nested=Type(found.get("in", 3)),
            exceptions={int(p, 16): Type(rank) for p, rank in found.get("but", {}).items()},
        )
        for key, found in document["types"].items()
    }
    return document["classes"], types, document["iods"]
