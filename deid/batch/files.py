"""How does a file appear whole or not at all?

Bytes go to a temporary file, are forced to the disk, and only then get their name: a reader, or a
machine that lost its power, never sees a part (POSIX rename).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from schemas.errors import CohortiumError, ConfigError, ErrorCode, InternalError


class NewFile:
    """Hold a file that is not there yet.

    Args:
        path: its name once it is complete.
        mode: its permissions.

    Raises:
        ConfigError: the folder is missing or cannot be written.
    """

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        self._path = path
        self._fresh = path.with_name(f".{path.name}.new")  # fixed: a killed run's is replaced
        try:
            self._fresh.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._fresh, flags, mode), "wb")
            os.fchmod(self._file.fileno(), mode)  # whatever the umask is
        except OSError as error:
            raise refused(error) from None

    def write(self, raw: bytes) -> None:
        """Append bytes.

        Raises:
            CohortiumError: the disk is full or refuses.
        """
        try:
            self._file.write(raw)
        except OSError as error:
            raise refused(error) from None

    def commit(self) -> None:
        """Force the bytes to the disk and give the file its name."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._fresh.replace(self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise refused(error) from None

    def abandon(self) -> None:
        """Leave nothing behind; harmless after `commit`."""
        if not self._file.closed:
            with suppress(OSError):  # a full disk: what waits to be written is let go
                self._file.close()
            self._fresh.unlink(missing_ok=True)


def write_file(path: Path, raw: bytes) -> None:
    """Write a new file and force it to the disk; what a dead process left there is replaced.

    Raises:
        OSError: the disk is full or refuses.
    """
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refused(error: OSError) -> CohortiumError:
    """Give the error a person can act on; the system's own text may name a patient's file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InternalError(
            ErrorCode.INTERNAL_DISK_FULL,
            "The disk is full.",
            hint="Make room and run the same command again: it goes on where it stopped.",
        )
    return ConfigError(
        ErrorCode.CONFIG_FILE_UNWRITABLE,
        "A file or folder of the output cannot be written.",
        hint="Check that the folders exist and that you may write there.",
        detail=errno.errorcode.get(error.errno or 0, ""),
    )
