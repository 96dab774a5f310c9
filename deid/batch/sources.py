"""Which files does the input hold, in one stable order, and what are a file's bytes?

Nothing is trusted and nothing is changed: links are not followed, devices and pipes are never
opened, and whatever cannot be read is named, so that it is quarantined instead of overlooked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigError, ErrorCode

Stamp = tuple[int, int, int]
"""Size in bytes, modification time and change time in nanoseconds: equal means not touched."""


@dataclass(frozen=True, slots=True)
class Item:
    """Name one thing found.

    Attributes:
        relative: its path below the input, with "/".
        path: its path as given to the operating system.
        stamp: what tells whether it was touched since an earlier run.
        problem: why it is not even opened, or None.
    """

    relative: str
    path: str
    stamp: Stamp = (0, 0, 0)
    problem: ErrorCode | None = None


def walk(root: Path) -> Iterator[Item]:
    """Give everything below a folder (or one file), sorted by the bytes of each path part.

    One folder's names are held at a time, so memory follows the largest folder, not the archive.

    Raises:
        ConfigError: there is no such folder or file.
    """
    if root.is_file():
        yield _item(root.name, str(root), root.stat())
        return
    if not root.is_dir():
        raise ConfigError(
            ErrorCode.SOURCE_MISSING,
            "The input folder or file does not exist.",
            hint="Check the first path of the command.",
        )
    yield from _below(str(root), "")


def _below(folder: str, prefix: str) -> Iterator[Item]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except OSError:
        yield Item(prefix.rstrip("/"), folder, problem=ErrorCode.FILE_UNREADABLE)
        return
    entries.reverse()
    while entries:  # popped, so that a name is let go as soon as it was given
        entry = entries.pop()
        relative = prefix + entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, relative + "/")
                continue
            status = entry.stat(follow_symlinks=False)
        except OSError:
            yield Item(relative, entry.path, problem=ErrorCode.FILE_UNREADABLE)
            continue
        yield _item(relative, entry.path, status)


def _item(relative: str, path: str, status: os.stat_result) -> Item:
    if not stat.S_ISREG(status.st_mode):  # a link, a pipe, a device
        return Item(relative, path, problem=ErrorCode.FILE_UNREADABLE)
    return Item(relative, path, stamp_of(status))


def stamp_of(status: os.stat_result) -> Stamp:
    """Give what tells whether a file was touched."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_source(path: str, max_bytes: int) -> tuple[bytes | ErrorCode, Stamp]:
    """Read one regular file, of at most `max_bytes`, and give the stamp it was read at.

    Returns:
        The bytes, or the code of why there are none. A file that changes while it is read counts
        as unreadable: half of it may be another patient's.
    """
    try:
        # O_NONBLOCK: a pipe that took the file's place meanwhile must not hold the worker.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ErrorCode.FILE_UNREADABLE, (0, 0, 0)
    with open(handle, "rb", buffering=0) as file:
        try:
            status = os.fstat(handle)
            stamp = stamp_of(status)
            if not stat.S_ISREG(status.st_mode):
                return ErrorCode.FILE_UNREADABLE, stamp
            if status.st_size == 0:
                return ErrorCode.FILE_EMPTY, stamp
            if status.st_size > max_bytes:
                return ErrorCode.FILE_TOO_LARGE, stamp
            raw = file.readall()
            unchanged = stamp_of(os.fstat(handle)) == stamp and len(raw) == stamp[0]
        except OSError:
            return ErrorCode.FILE_UNREADABLE, (0, 0, 0)
    return (raw if unchanged else ErrorCode.FILE_UNREADABLE), stamp
