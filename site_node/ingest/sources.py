"""How are raw rows and image files read, one at a time, without trusting them?"""

from __future__ import annotations

import codecs
import csv
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deid.dicom import MAX_FILE_BYTES
from schemas.errors import ConfigError, ErrorCode

EXTRACT_NAME, LABELS_NAME, IMAGES_NAME = "extract.csv", "labels.csv", "images"
MAX_TABLE_BYTES = 4 * 1024**3  # a table of 10^7 rows is about 1 GiB
_ENCODINGS = ("utf-8-sig", "cp949")  # what hospital systems here export; cp949 contains EUC-KR
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one row: its line (1 is the header) and its cells, None if it cannot be read."""

    line: int
    cells: list[str] | None


@dataclass(frozen=True, slots=True)
class RawTable:
    """Hold a table that can be read.

    Attributes:
        path: the file.
        encoding: the text encoding found.
        header: column names; empty with a `problem`.
        lines: about how many lines there are, for a progress display.
        problem: why no row can be read at all, or None.
    """

    path: Path
    encoding: str
    header: tuple[str, ...]
    lines: int
    problem: ErrorCode | None = None

    def rows(self) -> Iterator[Row]:
        """Give the rows in order; a row that is no CSV, or of another width, has no cells."""
        if self.problem is not None:
            return
        with self.path.open(encoding=self.encoding, newline="") as file:
            reader = csv.reader(file, strict=True)
            first = True
            while True:
                try:
                    cells = next(reader, None)
                except csv.Error:
                    yield Row(reader.line_num, None)
                    continue
                if cells is None:
                    return
                if first:
                    first = False
                elif cells:
                    yield Row(reader.line_num, cells if len(cells) == len(self.header) else None)


def open_table(source: Path, name: str) -> RawTable:
    """Find and probe a table: `source` itself if it is a file, else the file `name` inside it.

    Raises:
        ConfigError: there is no such file.
    """
    path = source if source.is_file() else source / name
    if not path.is_file():
        raise _missing()
    size = path.stat().st_size
    if size == 0:
        return RawTable(path, "", (), 0, ErrorCode.FILE_EMPTY)
    if size > MAX_TABLE_BYTES:
        return RawTable(path, "", (), 0, ErrorCode.FILE_TOO_LARGE)
    encoding, lines = _probe(path)
    if encoding is None:
        return RawTable(path, "", (), lines, ErrorCode.FILE_ENCODING)
    with path.open(encoding=encoding, newline="") as file:
        try:
            header = next(csv.reader(file, strict=True), None)
        except csv.Error:
            header = None
    if not header:
        return RawTable(path, encoding, (), lines, ErrorCode.FILE_UNREADABLE)
    return RawTable(path, encoding, tuple(name.strip() for name in header), lines)


def _probe(path: Path) -> tuple[str | None, int]:
    """Find the first encoding that reads the whole file, and count its lines."""
    lines = 0
    for encoding in _ENCODINGS:
        decoder = codecs.getincrementaldecoder(encoding)()
        lines = 0
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    decoder.decode(chunk)
                    lines += chunk.count(b"\n")
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding, lines
    return None, lines


def image_files(source: Path) -> list[Path]:
    """List the image files below `source/images` (or `source`), in one stable order.

    Raises:
        ConfigError: there is no such folder.
    """
    folder = source / IMAGES_NAME if (source / IMAGES_NAME).is_dir() else source
    if not folder.is_dir():
        raise _missing()
    found: list[Path] = []
    for base, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(base) / name for name in names if name != LABELS_NAME]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def read_image_file(path: Path) -> bytes | ErrorCode:
    """Give a file's bytes, or the code of why it cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return ErrorCode.FILE_UNREADABLE
        if status.st_size == 0:
            return ErrorCode.FILE_EMPTY
        if status.st_size > MAX_FILE_BYTES:
            return ErrorCode.FILE_TOO_LARGE
        return path.read_bytes()
    except OSError:
        return ErrorCode.FILE_UNREADABLE


def _missing() -> ConfigError:
    return ConfigError(
        ErrorCode.SOURCE_MISSING,
        "The source folder does not hold what the study needs.",
        hint=f"Tables: {EXTRACT_NAME}. Images: {IMAGES_NAME}/ and {LABELS_NAME}.",
    )
