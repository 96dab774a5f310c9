"""How is one SQLite file written so that a power cut or a full disk loses and leaks nothing?"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from schemas.errors import ErrorCode, InternalError

_BUSY_SECONDS: Final = 30.0  # several processes of one site share the file; writes take ms
SCHEMA_VERSION: Final = 1


def unavailable(detail: str = "") -> InternalError:
    """Build the refusal that stands for "it cannot be written down, so it does not happen"."""
    return InternalError(
        ErrorCode.AUDIT_UNAVAILABLE,
        "The audit log and ledger of this site cannot be written, so nothing was done or sent.",
        hint="Free disk space or make the site folder writable, then run `cohortium-site doctor`.",
        detail=detail,
    )


class Database:
    """One ``site.db``: WAL, synchronous=FULL, one connection a thread, writes are immediate."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self._local = threading.local()
        if not create and not path.exists():
            raise unavailable(f"{path} is missing")
        if create:
            self._create_schema()

    def _create_schema(self) -> None:
        script = resources.files("site_node").joinpath("schema.sql").read_text("utf-8")
        try:
            connection = self._connection()
            connection.executescript(script)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.Error as error:
            raise unavailable(type(error).__name__) from None
        self.path.chmod(0o600)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            self._local.connection = connection
        return connection

    @contextmanager
    def write(self, *, is_forced: bool = True) -> Iterator[sqlite3.Connection]:
        """Run one transaction; it is on disk when the block ends, or nothing of it is.

        Args:
            is_forced: wait until the disk has it. Without, it survives the end of the process
                but not a power cut, until the next forced transaction of any process of this
                site, which brings the whole log to disk in order. Only for what another forced
                write always follows before anything leaves.

        Raises:
            InternalError: AUDIT_UNAVAILABLE if it cannot be written (full disk, read-only, lock).
        """
        try:
            connection = self._connection()
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_forced else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise unavailable(type(error).__name__) from None
        try:
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            raise unavailable(type(error).__name__) from None
        except BaseException:
            self._roll_back(connection)
            raise

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        # A full disk makes SQLite roll back by itself; a second ROLLBACK would then fail.
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every read of the block see one moment, whatever other processes write meanwhile.

        Raises:
            InternalError: AUDIT_UNAVAILABLE if the file cannot be read.
        """
        try:
            connection = self._connection()
            connection.execute("BEGIN")
        except sqlite3.Error as error:
            raise unavailable(type(error).__name__) from None
        try:
            yield
        finally:
            self._roll_back(connection)

    def rows(self, sql: str, *arguments: object) -> list[sqlite3.Row]:
        """Read rows.

        Raises:
            InternalError: AUDIT_UNAVAILABLE if the file cannot be read.
        """
        try:
            return self._connection().execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise unavailable(type(error).__name__) from None

    def row(self, sql: str, *arguments: object) -> sqlite3.Row | None:
        """Read the first row, or None."""
        found = self.rows(sql, *arguments)
        return found[0] if found else None

    def close(self) -> None:
        """Close this thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None
