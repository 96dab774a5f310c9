"""What does a run leave to read: which files were set aside, and what was done to the others?

The quarantine list names input files, so it stays with the hospital (mode 0600, beside the output,
never in it). The report holds counts and the names of clean files only.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from deid.batch.advice import what_to_do
from deid.batch.files import NewFile
from deid.batch.journal import Entry
from schemas.errors import ErrorCode

FACE_NOTE: Final = "face-accepted"
PROVES: Final = (
    "Every clean file was read again: it holds no attribute that the profile removes, and none of "
    "the values removed from it is left anywhere in its bytes (UTF-8, EUC-KR, UTF-16, Shift-JIS). "
    "Everyday words, and very short words and numbers, are not searched for: they occur by chance."
)
DOES_NOT_PROVE: Final = (
    "That nothing identifying is left: text that was not recognised, handwriting, rotated text, "
    "faces, and rare combinations of findings can still point at a person. The files are "
    "pseudonymised, not anonymous."
)


@dataclass(slots=True)
class Totals:
    """Count one run; made from the journal's entries, so a resumed run counts the same."""

    read: int = 0
    released: int = 0
    duplicates: int = 0  # released inputs whose bytes an earlier input had already
    faces: int = 0
    left_over: int = 0
    quarantined: Counter[ErrorCode] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    why: Counter[str] = field(default_factory=Counter)
    modalities: Counter[str] = field(default_factory=Counter)
    images: int = 0
    frames: int = 0
    examined: int = 0
    detected: int = 0
    ruled: int = 0
    redacted: int = 0
    removed_sum: float = 0.0
    removed_max: float = 0.0
    outside_sum: float = 0.0
    outside_max: float = 0.0

    def add(self, entry: Entry, *, is_first: bool) -> None:
        """Count one input; `is_first` if no earlier one had the same output."""
        self.read += 1
        if entry.code is not None:
            self.quarantined[entry.code] += 1
            return
        self.released += 1
        if not is_first:
            self.duplicates += 1
            return
        detail = entry.detail
        self.actions.update(detail.actions)
        self.notes.update(detail.notes)
        self.modalities[detail.modality] += 1
        self.faces += FACE_NOTE in detail.notes
        if (pixels := detail.pixels) is None or pixels.frames == 0:
            return
        self.images += 1
        self.why[pixels.why] += 1
        self.frames += pixels.frames
        self.examined += pixels.examined
        self.detected += pixels.detected
        self.ruled += pixels.ruled
        if pixels.removed > 0:
            self.redacted += 1
            self.removed_sum += pixels.removed
            self.removed_max = max(self.removed_max, pixels.removed)
            self.outside_sum += pixels.outside_text
            self.outside_max = max(self.outside_max, pixels.outside_text)

    def as_mapping(self) -> dict[str, Any]:
        """Give the counts, JSON-ready."""
        redacted = max(1, self.redacted)
        return {
            "counts": {
                "read": self.read,
                "released": self.released,
                "quarantined": self.quarantined.total(),
                "duplicates": self.duplicates,
                "no_longer_in_input": self.left_over,
            },
            "quarantined": [
                {
                    "code": code.value,
                    "files": count,
                    "meaning": code.meaning,
                    "what_to_do": what_to_do(code),
                }
                for code, count in sorted(self.quarantined.items())
            ],
            "actions": dict(sorted(self.actions.items())),
            "notes": dict(sorted(self.notes.items())),
            "modalities": dict(sorted(self.modalities.items())),
            "pixels": {
                "images": self.images,
                "by_outcome": dict(sorted(self.why.items())),
                "frames": self.frames,
                "frames_examined": self.examined,
                "boxes_detected": self.detected,
                "boxes_by_rule": self.ruled,
                "images_redacted": self.redacted,
                "removed_fraction_mean": round(self.removed_sum / redacted, 6),
                "removed_fraction_max": round(self.removed_max, 6),
                "outside_text_mean": round(self.outside_sum / redacted, 6),
                "outside_text_max": round(self.outside_max, 6),
            },
        }


class ReportWriter:
    """Write the report; entries go to the disk as they come, the counts before them at the end.

    Args:
        path: where the report goes; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries: NewFile | None = None
        self._is_first = True
        if path is not None:
            self._part = path.with_name(f".{path.name}.files")
            self._entries = NewFile(self._part)

    def __enter__(self) -> ReportWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._entries is not None:
            self._entries.abandon()
            self._part.unlink(missing_ok=True)

    def add(self, entry: Entry) -> None:
        """Append one released file, under its new name."""
        if self._entries is None:
            return
        detail = entry.detail.model_dump(mode="json")
        line = json.dumps({"output": entry.output, **detail}, sort_keys=True)
        self._entries.write((b"" if self._is_first else b",\n") + line.encode("ascii"))
        self._is_first = False

    def commit(self, head: dict[str, Any]) -> None:
        """Put the report in place: `head`, then "files"."""
        if self._entries is None or self._path is None:
            return
        self._entries.commit()
        report = NewFile(self._path)
        text = json.dumps(head, indent=1, ensure_ascii=False)
        report.write(text.removesuffix("\n}").encode("utf-8") + b',\n "files": [\n')
        with self._part.open("rb") as entries:
            while piece := entries.read(1 << 20):
                report.write(piece)
        report.write(b"\n]}\n")
        report.commit()


_FORMULA: Final = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
)  # begin one in a cell


class QuarantineList:
    """Write which input files were set aside, why, and what to do; for a spreadsheet.

    Args:
        path: where the list goes; it replaces the last run's.
    """

    def __init__(self, path: Path) -> None:
        self._file = NewFile(path, mode=0o600)
        self._file.write(b"\xef\xbb\xbf")  # spreadsheets take Hangul for Latin without it
        self._row("input_rel", "code", "meaning", "what_to_do")

    def __enter__(self) -> QuarantineList:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.abandon()

    def add(self, relative: str, code: ErrorCode) -> None:
        """Append one file."""
        if relative.startswith(_FORMULA):
            relative = f"./{relative}"  # the same path, and no spreadsheet computes it
        self._row(relative, code.value, code.meaning, what_to_do(code))

    def commit(self) -> None:
        """Put the list in place."""
        self._file.commit()

    def _row(self, *cells: str) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerow(cells)
        self._file.write(os.fsencode(text.getvalue()))


def percent(fraction: float) -> str:
    """Write a fraction as people read it."""
    if fraction and fraction < 0.0005:
        return "less than 0.1 %"
    return f"{math.floor(fraction * 1000 + 0.5) / 10:g} %"
