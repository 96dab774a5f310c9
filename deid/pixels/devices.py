"""Which rectangles does a device write identity into? (a list that a hospital can extend)"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pydicom.dataset import Dataset

from deid.pixels.boxes import Box
from schemas.errors import ConfigError, ErrorCode

_FIELDS = ("manufacturer", "model", "modality", "sop_class")
_KEYS = frozenset({*_FIELDS, "rows", "columns", "boxes", "because"})


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """One layout: the header values it needs, and the rectangles it blanks."""

    needs: tuple[tuple[str, str], ...]
    rows: int
    columns: int
    boxes: tuple[Box, ...]
    because: str

    def fits(self, dataset: Dataset) -> bool:
        """Whether every named header value and the picture's size are those of the layout."""
        if (dataset.get("Rows"), dataset.get("Columns")) != (self.rows, self.columns):
            return False
        return all(_folded(dataset.get(keyword)) == value for keyword, value in self.needs)


def device_boxes(dataset: Dataset) -> tuple[Box, ...]:
    """The rectangles that the shipped list names for this object's device; () when none does."""
    return tuple(box for rule in shipped_rules() if rule.fits(dataset) for box in rule.boxes)


@cache
def shipped_rules() -> tuple[DeviceRule, ...]:
    """The rules of ``deid/data/devices.toml``."""
    return parse_rules((resources.files("deid") / "data" / "devices.toml").read_bytes())


def parse_rules(raw: bytes) -> tuple[DeviceRule, ...]:
    """Read a list of device rules.

    Raises:
        ConfigError: not TOML, an unknown key, a rule without size, reason or boxes, or a box
            that does not lie inside the picture.
    """
    try:
        content = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise _refuse("The list of devices is not TOML.") from None
    if set(content) != {"version", "device"} or content["version"] != 1:
        raise _refuse("The list of devices needs `version = 1` and [[device]] entries, no more.")
    return tuple(_rule(entry) for entry in content["device"])


def _rule(entry: dict[str, object]) -> DeviceRule:
    unknown = set(entry) - _KEYS
    if unknown:
        raise _refuse(f"A device rule has an unknown key: {min(unknown)}.")
    rows, columns, because = entry.get("rows"), entry.get("columns"), entry.get("because")
    if not isinstance(rows, int) or not isinstance(columns, int) or not isinstance(because, str):
        raise _refuse("A device rule needs rows, columns and the reason (because).")
    if not entry.get("manufacturer"):
        raise _refuse("A device rule needs a manufacturer; a size alone fits too many pictures.")
    keywords = dict(zip(_FIELDS, _KEYWORDS, strict=True))
    needs = tuple((keywords[name], _folded(entry[name])) for name in _FIELDS if name in entry)
    boxes = entry.get("boxes")
    if not isinstance(boxes, list) or not boxes:
        raise _refuse("A device rule needs boxes: [[top, left, bottom, right], …].")
    return DeviceRule(
        needs, rows, columns, tuple(_box(box, rows, columns) for box in boxes), because
    )


_KEYWORDS = ("Manufacturer", "ManufacturerModelName", "Modality", "SOPClassUID")


def _box(corners: object, rows: int, columns: int) -> Box:
    if isinstance(corners, list) and len(corners) == 4 and all(type(c) is int for c in corners):
        top, left, bottom, right = corners
        if 0 <= top < bottom <= rows and 0 <= left < right <= columns:
            return Box(top, left, bottom, right, None, "device")
    raise _refuse("A device rule's box is not [top, left, bottom, right] inside the picture.")


def _folded(value: object) -> str:
    return " ".join(str(value or "").casefold().split())


def _refuse(sentence: str) -> ConfigError:
    return ConfigError(ErrorCode.DEID_PROFILE_INVALID, sentence)
