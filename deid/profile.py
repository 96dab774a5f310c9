"""Which options of PS3.15 Annex E does a hospital choose, and which columns may a table keep?

A profile is a TOML file. Its `[dicom]` part switches on options; what happens to an attribute then
follows from the standard's table (`deid.decider`). Its `[override]` part may only make a rule
stricter. Its `[table]` part is a keep-list: a column that is not named is removed. The digest goes
into the study plan, so the hospitals sign which rules are used; it covers the data files that the
rules draw on.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from deid.actions import TABLE_ACTIONS, Action, Kind
from deid.options import BASIC_CODE, Option
from schemas.errors import ConfigError, ErrorCode

MAX_PROFILE_BYTES = 65_536  # a profile is a page or two; more is not one
SHIPPED = ("basic", "research", "ehr-table")
AGE_CAP = 89  # years; older ages are joined as 90 (45 CFR 164.514(b)(2)(i)(C))
MAX_REMOVED_FRACTION = 0.5  # of an image's pixels; beyond it, redaction has eaten the image
MAX_OUTSIDE_TEXT_FRACTION = 0.5  # the same, of what is blanked where no text was detected
OVERRIDES = frozenset({Kind.CLEAN_TEXT, Kind.EMPTY, Kind.DUMMY, Kind.REMOVE})
_KEYS = frozenset({"version", "name", "title", "dicom", "override", "table"})
_DICOM_KEYS = frozenset(
    {"options", "references", "faces", "age_cap", "sop_classes", "transfer_syntaxes"}
    | {"max_removed_fraction", "max_outside_text_fraction"}
)
# What each option draws on besides the standard's tables; names under `deid/data`.
_DRAWN_ON = {
    Option.RETAIN_SAFE_PRIVATE: ("safe_private.toml",),
    Option.CLEAN_PIXEL_DATA: ("devices.toml",),
    Option.CLEAN_DESCRIPTORS: ("tokens",),
    Option.CLEAN_STRUCTURED_CONTENT: ("tokens",),
    Option.CLEAN_GRAPHICS: ("tokens",),
}
_ALWAYS_DRAWN_ON = ("standard/annex_e.json", "standard/iod_types.json", "keep.toml")


@dataclass(frozen=True, slots=True)
class Profile:
    """Hold one parsed profile.

    Attributes:
        name: the profile's name.
        title: one sentence for people.
        dicom: whether it has a `[dicom]` part; without one it accepts no DICOM object.
        options: the options of PS3.15 E.3 that are on.
        references: what becomes of references to other images (code X/Z/U*): "by-type" removes
            those that the object's class does not demand; "keep" leaves all, with new UIDs.
        faces: "hold" keeps objects back that show a face; "pass" releases them as they are.
        age_cap: highest age in years written as it is; None for no cap.
        max_removed_fraction: largest share of an image's pixels that redaction may remove.
        max_outside_text_fraction: largest share that it may remove where the detector found no
            text: by rules for regions and devices, and in whole JPEG blocks.
        sop_classes: object classes accepted; empty for every standard storage class.
        transfer_syntaxes: codings accepted; empty for every known one.
        overrides: tag to a stricter treatment.
        table: column name to action; a column that is absent is removed.
        digest: SHA-256 (hex) over the canonical content and the data files drawn on.
    """

    name: str
    title: str
    dicom: bool
    options: frozenset[Option]
    references: Literal["by-type", "keep"]
    faces: Literal["hold", "pass"]
    age_cap: int | None
    max_removed_fraction: float
    max_outside_text_fraction: float
    sop_classes: frozenset[str]
    transfer_syntaxes: frozenset[str]
    overrides: Mapping[int, Kind]
    table: Mapping[str, Action]
    digest: str

    @property
    def dates(self) -> Literal["remove", "modify", "keep"]:
        """Say what happens to dates; the value tells PS3.15 E.2's (0028,0303) too."""
        if Option.RETAIN_FULL_DATES in self.options:
            return "keep"
        return "modify" if Option.RETAIN_MODIFIED_DATES in self.options else "remove"

    @property
    def keep_uids(self) -> bool:
        """Say whether UIDs stay as they are."""
        return Option.RETAIN_UIDS in self.options

    @property
    def clean_pixels(self) -> bool:
        """Say whether pixels are examined for burned-in text."""
        return Option.CLEAN_PIXEL_DATA in self.options

    @property
    def method_codes(self) -> tuple[tuple[str, str], ...]:
        """Give code value and meaning (CID 7050) of what is claimed, 113100 first.

        Clean Recognizable Visual Features (113102) is never claimed: nothing here defaces.
        """
        claimed = self.options - {Option.CLEAN_VISUAL_FEATURES}
        return (BASIC_CODE, *((o.code, o.title) for o in Option if o in claimed))

    def explain(self) -> tuple[str, ...]:
        """List, one line each, what is done to every attribute and column."""
        from deid import conformance

        tags = (str(line) for line in conformance.lines(self)) if self.dicom else ()
        columns = (
            f"column {name}: {'K: kept' if action.kind is Kind.KEEP else action.explain()}"
            for name, action in self.table.items()
        )
        return (*tags, *columns, "everything else is removed")


def load_profile(path: Path) -> Profile:
    """Read a profile file.

    Raises:
        ConfigError: the file is too large, not TOML, names an unknown key, option, attribute or
            action, contradicts itself, or has an override that loosens a rule.
    """
    with path.open("rb") as file:
        raw = file.read(MAX_PROFILE_BYTES + 1)
    return parse_profile(raw)


def shipped_profile(name: str) -> Profile:
    """Give one of the profiles that come with the product, by its name in `SHIPPED`."""
    if name not in SHIPPED:
        raise _refuse("There is no such de-identification profile.")
    return parse_profile((resources.files("deid") / "profiles" / f"{name}.toml").read_bytes())


def parse_profile(raw: bytes) -> Profile:
    """Parse a profile from its bytes; raises as `load_profile`."""
    if len(raw) > MAX_PROFILE_BYTES:
        raise _refuse("The de-identification profile is too large.")
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _refuse("The de-identification profile is not valid TOML.") from error
    _check_keys(document, _KEYS)
    if document.get("version") != 2:
        raise _refuse("The de-identification profile is not of version 2.")
    if not isinstance(document.get("name"), str) or not document["name"]:
        raise _refuse("The de-identification profile has no name.")
    if not isinstance(document.get("title", ""), str):
        raise _refuse("The title of the profile must be a sentence.")
    dicom = _part(document, "dicom")
    _check_keys(dicom, _DICOM_KEYS)
    options = _options(dicom.get("options", []))
    profile = Profile(
        name=document["name"],
        title=document.get("title", ""),
        dicom="dicom" in document,
        options=options,
        references=_references(dicom.get("references", "by-type")),
        faces=_faces(dicom.get("faces", "hold"), options),
        age_cap=_age_cap(dicom.get("age_cap", AGE_CAP)),
        max_removed_fraction=_fraction(dicom, "max_removed_fraction", MAX_REMOVED_FRACTION),
        max_outside_text_fraction=_fraction(
            dicom, "max_outside_text_fraction", MAX_OUTSIDE_TEXT_FRACTION
        ),
        sop_classes=_uids(dicom.get("sop_classes", [])),
        transfer_syntaxes=_uids(dicom.get("transfer_syntaxes", [])),
        overrides=_overrides(_part(document, "override")),
        table=_table(_part(document, "table")),
        digest=_digest(document, options),
    )
    if profile.overrides:
        from deid.rules import loosening_overrides

        if not profile.dicom or loosening_overrides(profile):
            raise _refuse("An override of the profile is looser than the rule it replaces.")
    return profile


def _part(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = document.get(name, {})
    if not isinstance(part, dict):
        raise _refuse(f"The part [{name}] of the profile must be a table.")
    return part


def _check_keys(part: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in part:
        if key not in known:
            raise _refuse(f"The profile has the unknown key “{key}”{_nearest(key, known)}.")


def _options(words: object) -> frozenset[Option]:
    known = [option.value for option in Option]
    chosen = _strings(words, "options")
    for word in chosen:
        if word not in known:
            raise _refuse(f"The profile has the unknown option “{word}”{_nearest(word, known)}.")
    options = frozenset(Option(word) for word in chosen)
    if {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES} <= options:
        raise _refuse("The profile both keeps dates as they are and moves them.")
    return options


def _references(word: object) -> Literal["by-type", "keep"]:
    if word not in ("by-type", "keep"):
        raise _refuse("The profile's references must be “by-type” or “keep”.")
    return "keep" if word == "keep" else "by-type"


def _faces(word: object, options: frozenset[Option]) -> Literal["hold", "pass"]:
    if word not in ("hold", "pass"):
        raise _refuse("The profile's faces must be “hold” or “pass”.")
    if word == "pass" and Option.CLEAN_VISUAL_FEATURES in options:
        raise _refuse("The profile both cleans visual features and lets faces pass.")
    return "pass" if word == "pass" else "hold"


def _age_cap(years: object) -> int | None:
    if isinstance(years, bool) or not isinstance(years, int) or not 0 <= years <= 150:
        raise _refuse("The profile's age_cap must be a whole number of years, 0 for no cap.")
    return years or None


def _fraction(part: Mapping[str, Any], key: str, default: float) -> float:
    value = part.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise _refuse(f"The profile's {key} must be above 0 and at most 1.")
    return float(value)


def _uids(value: object) -> frozenset[str]:
    uids = _strings(value, "UIDs")
    if not all(uid and set(uid) <= set("0123456789.") for uid in uids):
        raise _refuse("The profile has a UID that is not one.")
    return frozenset(uids)


def _strings(value: object, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _refuse(f"The profile's {what} must be a list of strings.")
    if len(set(value)) != len(value):
        raise _refuse(f"The profile's {what} name one thing twice.")
    return value


def _overrides(part: Mapping[str, object]) -> Mapping[int, Kind]:
    if not part:
        return MappingProxyType({})
    from deid.standard import tags_of_keywords

    tags = tags_of_keywords()
    found: dict[int, Kind] = {}
    for keyword, word in part.items():
        if keyword not in tags:
            raise _refuse(f"The profile overrides the unknown attribute “{keyword}”.")
        if word not in OVERRIDES:
            allowed = ", ".join(sorted(OVERRIDES))
            raise _refuse(f"The override of {keyword} must be one of: {allowed}.")
        found[tags[keyword]] = Kind(str(word))
    return MappingProxyType(dict(sorted(found.items())))


def _table(part: Mapping[str, object]) -> Mapping[str, Action]:
    table: dict[str, Action] = {}
    for column, word in part.items():
        if not isinstance(word, str) or word not in TABLE_ACTIONS:
            raise _refuse(f"The profile has an unknown action for the column “{column}”.")
        table[column] = TABLE_ACTIONS[word]
    return MappingProxyType(table)


def _digest(document: Mapping[str, Any], options: frozenset[Option]) -> str:
    """Hash the content, comments and the order of lists excluded, with the data drawn on."""
    content = json.loads(json.dumps(document), object_hook=_sorted_lists)
    files: dict[str, str] = {}
    if "dicom" in document:
        names = {*_ALWAYS_DRAWN_ON, *(n for o in options for n in _DRAWN_ON.get(o, ()))}
        for name in sorted(names):
            files.update(_file_digests(resources.files("deid") / "data" / name, name))
    text = json.dumps({"profile": content, "data": files}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _sorted_lists(part: dict[str, Any]) -> dict[str, Any]:
    return {k: sorted(v) if isinstance(v, list) else v for k, v in part.items()}


def _file_digests(node: Traversable, name: str) -> dict[str, str]:
    if node.is_dir():
        parts = (_file_digests(child, f"{name}/{child.name}") for child in node.iterdir())
        return {key: value for part in parts for key, value in part.items()}
    return {name: hashlib.sha256(node.read_bytes()).hexdigest()}


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; “{close[0]}” is near" if close else ""


def _refuse(sentence: str) -> ConfigError:
    return ConfigError(
        ErrorCode.DEID_PROFILE_INVALID,
        sentence,
        hint="Use a shipped profile, or correct the file.",
    )
