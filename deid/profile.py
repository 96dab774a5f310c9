"""What may stay of a record, and how is each thing treated that stays?

A profile is a keep-list in TOML: whatever it does not name is removed, in nested sequences and
private blocks too. Its digest goes into the study plan, so the hospitals sign which list is used.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from pydicom.datadict import tag_for_keyword

from deid.actions import DICOM_ACTIONS, TABLE_ACTIONS, Action
from schemas.errors import ConfigError, ErrorCode

MAX_PROFILE_BYTES = 65_536  # a keep-list is a page or two; more is not one
SHIPPED = ("dicom-image", "ehr-table")
_KEYS = frozenset(
    {"version", "name", "standard", "sop_classes", "transfer_syntaxes", "dicom", "table"}
)


@dataclass(frozen=True, slots=True)
class Profile:
    """Hold one parsed keep-list.

    Attributes:
        name: the list's name.
        sop_classes: DICOM object classes that are accepted; others are quarantined.
        transfer_syntaxes: pixel codings that are accepted.
        dicom: tag to action; a tag that is absent is removed.
        table: column name to action; a column that is absent is removed.
        digest: SHA-256 (hex) over the list's canonical content, comments excluded.
    """

    name: str
    sop_classes: frozenset[str]
    transfer_syntaxes: frozenset[str]
    dicom: Mapping[int, Action]
    table: Mapping[str, Action]
    digest: str

    def explain(self) -> tuple[str, ...]:
        """List, one line each, what stays and what is done to it."""
        tags = (
            f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {action.explain()}"
            for tag, action in self.dicom.items()
        )
        columns = (f"column {name}: {a.explain()}" for name, a in self.table.items())
        return (*tags, *columns, "everything else is removed")


def load_profile(path: Path) -> Profile:
    """Read a keep-list file.

    Raises:
        ConfigError: the file is too large, not TOML, or names an unknown key, tag or action.
    """
    with path.open("rb") as file:
        raw = file.read(MAX_PROFILE_BYTES + 1)
    return parse_profile(raw)


def shipped_profile(name: str) -> Profile:
    """Give one of the lists that come with the product: "dicom-image" or "ehr-table"."""
    if name not in SHIPPED:
        raise _refuse("There is no such de-identification profile.")
    return parse_profile((resources.files("deid") / "profiles" / f"{name}.toml").read_bytes())


def parse_profile(raw: bytes) -> Profile:
    """Parse a keep-list from its bytes; raises as `load_profile`."""
    if len(raw) > MAX_PROFILE_BYTES:
        raise _refuse("The de-identification profile is too large.")
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _refuse("The de-identification profile is not valid TOML.") from error
    if set(document) - _KEYS or document.get("version") != 1 or not document.get("name"):
        raise _refuse("The de-identification profile has an unknown key or version.")
    dicom: dict[int, Action] = {}
    for keyword, word in document.get("dicom", {}).items():
        tag = tag_for_keyword(keyword)
        if tag is None or word not in DICOM_ACTIONS:
            raise _refuse("The de-identification profile names an unknown attribute or action.")
        dicom[int(tag)] = DICOM_ACTIONS[word]
    table: dict[str, Action] = {}
    for column, word in document.get("table", {}).items():
        if word not in TABLE_ACTIONS:
            raise _refuse("The de-identification profile names an unknown action.")
        table[column] = TABLE_ACTIONS[word]
    content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return Profile(
        name=str(document["name"]),
        sop_classes=frozenset(document.get("sop_classes", ())),
        transfer_syntaxes=frozenset(document.get("transfer_syntaxes", ())),
        dicom=MappingProxyType(dict(sorted(dicom.items()))),
        table=MappingProxyType(table),
        digest=hashlib.sha256(content.encode("ascii")).hexdigest(),
    )


def _refuse(sentence: str) -> ConfigError:
    return ConfigError(
        ErrorCode.DEID_PROFILE_INVALID,
        sentence,
        hint="Use a shipped profile, or correct the file; the plan names its digest.",
    )
