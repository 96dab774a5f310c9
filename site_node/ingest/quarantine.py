"""Which records were set aside, why, and where does the steward find them?

An entry is a code with its meaning, a column of the contract and a pointer (a line of the extract,
or the place of a file in the sorted raw folder). File names, cells and identifiers are never
copied: the original stays untouched in the raw folder, and the steward looks there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from schemas.errors import ErrorCode
from schemas.tables.contract import Finding, Severity

Kind = Literal["row", "image", "label"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Name one record set aside.

    Attributes:
        kind: a row of the extract, an image file, or a row of the label table.
        pointer: line number in the table (1 is the header), or place of the file in the sorted
            folder (1 is the first).
        code: why.
        column: the contract's column, or empty.
    """

    kind: Kind
    pointer: int
    code: ErrorCode
    column: str = ""


@dataclass(slots=True)
class Quarantine:
    """Gather what one ingest sets aside, and write it as one file."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, kind: Kind, pointer: int, code: ErrorCode, column: str = "") -> None:
        """Set one record aside."""
        self.entries.append(Entry(kind, pointer, code, column))

    def by_code(self, *kinds: Kind) -> dict[str, int]:
        """Count the entries of these kinds by code."""
        counts = Counter(entry.code.value for entry in self.entries if entry.kind in kinds)
        return dict(sorted(counts.items()))

    def findings(self, of: dict[Kind, int]) -> list[Finding]:
        """Give the entries as findings, counted by code and column; `of` is what was read."""
        counts = Counter((entry.kind, entry.code, entry.column) for entry in self.entries)
        return [
            Finding(code=code, column=column, severity=Severity.QUARANTINED, count=n, of=of[kind])
            for (kind, code, column), n in sorted(counts.items())
        ]

    def write(self, folder: Path, study_id: str) -> Path:
        """Replace the study's quarantine list by this one; owner-only, atomically."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = folder / f"{study_id}.jsonl"
        fresh = folder / f"{study_id}.jsonl.new"
        with fresh.open("w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            for entry in self.entries:
                line = {
                    "kind": entry.kind,
                    "pointer": entry.pointer,
                    "code": entry.code.value,
                    "column": entry.column,
                    "meaning": entry.code.meaning,
                }
                file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
        return target
