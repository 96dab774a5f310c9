"""Is any planted identifier in these bytes or files? Search for the tests and the demo."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deid.residual import NeedleIndex


@dataclass(frozen=True, slots=True)
class Needle:
    """Hold one planted identifier and every way it may be written."""

    kind: str
    value: str
    site: str
    study: str

    def variants(self) -> tuple[str, ...]:
        """Give the identifier as planted and as systems rewrite it."""
        forms = [self.value]
        if self.kind in ("name", "staff") and "^" in self.value:
            family, _, given = self.value.partition("^")
            forms += [f"{family} {given}", f"{family}{given}", f"{given} {family}"]
            forms += [f"{family}, {given}"]
        if self.kind == "date":
            digits = self.value.replace("-", "")
            year, month, day = digits[:4], digits[4:6], digits[6:]
            forms += [mark.join((year, month, day)) for mark in ("", "-", "/", ".")]
        return tuple(dict.fromkeys(forms))


@dataclass(frozen=True, slots=True)
class Found:
    """Say which kind of needle was found, where; the value itself is for the test's eyes."""

    kind: str
    encoding: str
    offset: int
    value: str


class Needles:
    """Search for all planted identifiers at once, in every encoding, digits normalised."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        pairs = [(needle, form) for needle in needles for form in needle.variants()]
        self._needles = [needle for needle, _ in pairs]
        self._index = NeedleIndex([form for _, form in pairs])

    def __len__(self) -> int:
        return len(set(self._needles))

    def search(self, raw: bytes) -> list[Found]:
        """Give everything found in the bytes."""
        return [
            Found(self._needles[hit.needle].kind, hit.encoding, hit.offset,
                  self._needles[hit.needle].value)
            for hit in self._index.search(raw)
        ]  # fmt: skip


def load_needles(path: Path) -> Needles:
    """Read `identifiers.json` as `scripts/make_data.py` writes it."""
    body = json.loads(path.read_text(encoding="utf-8"))
    assert body["version"] == 1
    return Needles(Needle(**row) for row in body["identifiers"])


def search_bytes(raw: bytes, needles: Needles) -> list[Found]:
    """Give every planted identifier found in the bytes."""
    return needles.search(raw)


def search_tree(root: Path, needles: Needles) -> dict[Path, list[Found]]:
    """Search all files below a folder, their names too; gives only files with a find."""
    found: dict[Path, list[Found]] = {}
    for path in sorted(root.rglob("*")):
        hits = needles.search(str(path.relative_to(root)).encode("utf-8", "surrogateescape"))
        if path.is_file() and not path.is_symlink():
            hits += needles.search(path.read_bytes())
        if hits:
            found[path] = hits
    return found
