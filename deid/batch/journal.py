"""What became of each input file so far, so that a run can stop anywhere and go on?

One JSON line a file, appended and forced to the disk before the clean file gets its name. Inputs
are named by keyed digests only, so the journal, which lies in the output folder, tells nobody
which hospital file stands behind a clean one. While a run goes on its lines are in `next.jsonl`;
at its end they replace `journal.jsonl`. A line cut by a crash ends the reading: what comes after
it is done again, which gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from deid.batch.files import refused, sync_folder
from schemas.errors import ErrorCode

_PART = r"[0-9A-Za-z][0-9A-Za-z.\-]{0,99}"
_OUTPUT = re.compile(f"{_PART}/{_PART}/{_PART}")


class Pixels(BaseModel):
    """Say what was done to one object's pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    frames: int
    examined: int
    detected: int  # boxes from text detection
    ruled: int  # boxes from ultrasound regions and device rules
    removed: float  # fraction of the pixels that was blanked
    why: str
    outside_text: float = 0.0  # the part of `removed` where the detector found no text


class Detail(BaseModel):
    """Hold what the report says of one file: counts and fixed words."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    modality: str = ""
    actions: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    pixels: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Say what became of one input file.

    Attributes:
        source: keyed digest of the input's relative path.
        stamp: keyed digest of size and times; equal means that the file was not touched.
        content: keyed digest of its bytes; empty if they were not read.
        output: the clean file's path below the output folder; empty if quarantined.
        size: bytes of the clean file.
        code: why the file is quarantined, or None.
        setting: what else decided: text detection present, faces accepted ("t", "f", both, none).
        detail: for the report.
    """

    source: str
    stamp: str
    content: str = ""
    output: str = ""
    size: int = 0
    code: ErrorCode | None = None
    setting: str = ""
    detail: Detail = field(default_factory=Detail)

    def line(self) -> bytes:
        """Give the journal's line."""
        body = {
            "i": self.source,
            "s": self.stamp,
            "c": self.content,
            "o": self.output,
            "n": self.size,
            "x": self.code.value if self.code else "",
            "t": self.setting,
            "d": self.detail.model_dump(mode="json", exclude_defaults=True),
        }
        return json.dumps(body, separators=(",", ":"), sort_keys=True).encode("ascii") + b"\n"


def parse_entry(line: bytes) -> Entry | None:
    """Read one line; None if it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        body: dict[str, Any] = json.loads(line)
        source, stamp, content, output = (str(body[name]) for name in "isco")
        if output and not _OUTPUT.fullmatch(output):
            return None  # never a path that leads out of the folder, whoever wrote it
        code = ErrorCode(body["x"]) if body["x"] else None
        detail = Detail.model_validate_json(json.dumps(body["d"]))
        return Entry(source, stamp, content, output, int(body["n"]), code, body["t"], detail)
    except (ValueError, KeyError, TypeError, ValidationError):
        return None


class Index:
    """Find what earlier runs did with an input.

    A temporary database on disk (removed by the system when the process ends), so that memory
    does not grow with the archive.

    Args:
        folder: the state folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._done, self._next = folder / "journal.jsonl", folder / "next.jsonl"
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE old (source TEXT PRIMARY KEY, line BLOB, seen INT DEFAULT 0) "
            "WITHOUT ROWID; CREATE TABLE live (output TEXT PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE dropped (output TEXT PRIMARY KEY) WITHOUT ROWID; BEGIN;"
        )
        try:
            for path in (self._done, self._next):
                for entry, line in _entries(path):
                    self._load(entry, line)
        except OSError as error:
            raise refused(error) from None

    def close(self) -> None:
        """Let go of the database."""
        self._table.close()

    def old(self, source: str) -> Entry | None:
        """Give what an earlier run did with an input, and remember that the input is still there.

        Args:
            source: keyed digest of the input's path.
        """
        row = self._table.execute("SELECT line FROM old WHERE source = ?", (source,)).fetchone()
        if row is None:
            return None
        self._table.execute("UPDATE old SET seen = 1 WHERE source = ?", (source,))
        return parse_entry(row[0])

    def entries(self) -> Iterator[Entry]:
        """Give what earlier runs did with each input, in no order that means anything."""
        for (line,) in self._table.execute("SELECT line FROM old"):
            if (entry := parse_entry(line)) is not None:
                yield entry

    def hold(self, output: str) -> bool:
        """Say that an output belongs to this run; gives False if another input had it already."""
        done = self._table.execute("INSERT OR IGNORE INTO live VALUES (?)", (output,))
        return done.rowcount == 1

    def drop(self, output: str) -> None:
        """Say that an input no longer gives this output."""
        self._table.execute("INSERT OR IGNORE INTO dropped VALUES (?)", (output,))

    def dropped(self) -> Iterator[str]:
        """Give the outputs that nothing stands behind any more."""
        query = "SELECT output FROM dropped WHERE output NOT IN (SELECT output FROM live)"
        for (output,) in self._table.execute(query):
            yield output

    def left_over(self) -> Iterator[Entry]:
        """Give the entries of inputs that an earlier run had and this one did not find."""
        for (line,) in self._table.execute("SELECT line FROM old WHERE seen = 0 ORDER BY source"):
            if (entry := parse_entry(line)) is not None:
                yield entry

    def _load(self, entry: Entry, line: bytes) -> None:
        row = self._table.execute("SELECT line FROM old WHERE source = ?", (entry.source,))
        if (before := row.fetchone()) is not None:
            earlier = parse_entry(before[0])
            if earlier is not None and earlier.output not in ("", entry.output):
                self.drop(earlier.output)  # its removal may have been cut short
        self._table.execute(
            "INSERT OR REPLACE INTO old (source, line) VALUES (?, ?)", (entry.source, line)
        )


class Journal(Index):
    """Know what earlier runs did and write what this one does.

    Args:
        folder: the state folder.

    Raises:
        CohortiumError: the disk is full or refuses.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder
        try:
            self._keep_unfinished()
            self._file = open(self._next, "wb")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise refused(error) from None

    def close(self) -> None:
        """Let go of the files; nothing new that was appended is lost."""
        with contextlib.suppress(OSError):  # a full disk: `append` has said so already
            self._file.close()
        super().close()

    def append(self, entries: Sequence[Entry], *, is_new: bool) -> None:
        """Write entries; new ones are on the disk before this returns."""
        try:
            self._file.write(b"".join(entry.line() for entry in entries))
            if is_new:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise refused(error) from None

    def finish(self) -> None:
        """Make this run's entries the journal."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._next.replace(self._done)
            sync_folder(self._folder)
        except OSError as error:
            raise refused(error) from None

    def _keep_unfinished(self) -> None:
        """Move an unfinished run's lines behind the finished ones, before a new run begins."""
        if not self._next.exists():
            return
        _cut_torn_line(self._done)
        with open(self._done, "ab") as done:
            for _, line in _entries(self._next):
                done.write(line)
            done.flush()
            os.fsync(done.fileno())
        sync_folder(self._folder)


def moved(entry: Entry, stamp: str) -> Entry:
    """Give the entry of a file whose times changed but whose bytes did not."""
    return replace(entry, stamp=stamp)


def _entries(path: Path) -> Iterator[tuple[Entry, bytes]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            entry = parse_entry(line)
            if entry is None:
                return
            yield entry, line


def _cut_torn_line(path: Path) -> None:
    """Take a torn last line away, which would hide every line written after it."""
    whole = sum(len(line) for _, line in _entries(path))
    if path.exists() and path.stat().st_size != whole:
        os.truncate(path, whole)
