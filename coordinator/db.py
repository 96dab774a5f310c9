"""How does the coordinator write to disk? One SQLite file; a write and its audit event together."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from coordinator.clock import Clock, stamp, system_clock
from schemas.audit import GENESIS, AuditEvent, VerificationResult, chain, verify_chain
from schemas.errors import ErrorCode, InternalError

_BUSY_SECONDS: Final = 10.0  # longer than any write here; a longer wait means a stuck process


@dataclass(frozen=True, slots=True)
class Event:
    """What the audit trail keeps of one change: a constant name, codes and numbers."""

    name: str
    digest: str = ""
    attributes: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """What one site has sent of one kind."""

    site_id: str
    study_id: str
    kind: str
    n_messages: int
    n_bytes: int


class Database:
    """The coordinator's one database, usable from several threads and processes.

    Args:
        path: the SQLite file; made with its tables when missing.
        clock: source of the times that are stored.

    Raises:
        InternalError: the file cannot be opened or written (code ``internal.database``).
    """

    def __init__(self, path: Path, *, clock: Clock = system_clock) -> None:
        self.path = path
        self.clock = clock
        self._local = threading.local()
        script = (resources.files("coordinator") / "schema.sql").read_text(encoding="utf-8")
        with _storage_errors():
            self.connection().executescript(script)

    def now(self) -> str:
        """Return the present moment as stored text."""
        return stamp(self.clock())

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give a connection for looking; a consistent view while the block runs."""
        connection = self.connection()
        with _storage_errors():
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def write(self, event: Event) -> Iterator[sqlite3.Connection]:
        """Give a connection for one change; it and ``event`` are stored together or not at all.

        An exception inside the block undoes the change and leaves no event.
        """
        connection = self.connection()
        with _storage_errors():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                self._append(connection, event)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def tally(self, site_id: str, study_id: str, kind: str, n_bytes: int) -> None:
        """Count one message from a site outside any other change."""
        connection = self.connection()
        with _storage_errors():
            self.count(connection, site_id, study_id, kind, n_bytes)

    def count(
        self,
        connection: sqlite3.Connection,
        site_id: str,
        study_id: str,
        kind: str,
        n_bytes: int,
        n_messages: int = 1,
    ) -> None:
        """Count messages from a site inside a change; counters carry no audit event."""
        connection.execute(
            "INSERT INTO received VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (site_id, study_id, kind) DO UPDATE SET "
            "n_messages = n_messages + excluded.n_messages, "
            "n_bytes = n_bytes + excluded.n_bytes",
            (site_id, study_id, kind, n_messages, n_bytes),
        )

    def tally_transport(self, counts: Mapping[tuple[str, str], Sequence[int]]) -> None:
        """Count HTTP bodies: (site id, path) -> (how many, their bytes), in one transaction."""
        if not counts:
            return
        connection = self.connection()
        with _storage_errors():
            connection.execute("BEGIN IMMEDIATE")
            try:
                for (site_id, path), (messages, n_bytes) in counts.items():
                    self.count(connection, site_id, "", path, n_bytes, messages)
                    connection.execute(
                        "UPDATE sites SET last_seen = ? WHERE site_id = ?", (self.now(), site_id)
                    )
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def received(self) -> list[Received]:
        """Return what arrived from each site, by study and kind."""
        with self.read() as connection:
            rows = connection.execute("SELECT * FROM received ORDER BY site_id, study_id, kind")
            return [Received(*row) for row in rows]

    def events(self) -> list[AuditEvent]:
        """Return the whole audit trail, oldest first."""
        with self.read() as connection:
            rows = connection.execute("SELECT * FROM events ORDER BY position").fetchall()
        return [
            AuditEvent(
                index=row["position"] - 1,
                time=row["time"],
                event=row["event"],
                plan_digest=row["digest"] or None,
                attributes=json.loads(row["attributes"]),
                previous=row["previous"],
            )
            for row in rows
        ]

    def verify_events(self) -> VerificationResult:
        """Recompute the chain of the audit trail."""
        found = verify_chain(self.events())
        with self.read() as connection:
            last = connection.execute(
                "SELECT hash FROM events ORDER BY position DESC LIMIT 1"
            ).fetchone()
        if found.ok and last is not None and last["hash"] != found.head:
            return VerificationResult(
                found.count - 1, found.head, found.count - 1, ErrorCode.AUDIT_BROKEN
            )
        return found

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _append(self, connection: sqlite3.Connection, event: Event) -> None:
        last = connection.execute(
            "SELECT position, time, hash FROM events ORDER BY position DESC LIMIT 1"
        ).fetchone()
        previous = GENESIS if last is None else str(last["hash"])
        index = 0 if last is None else int(last["position"])
        entry = AuditEvent(
            index=index,
            # A clock that was set back must not make the trail look broken.
            time=max(self.now(), "" if last is None else str(last["time"])),
            event=event.name,
            plan_digest=event.digest or None,
            attributes=dict(event.attributes),
            previous=previous,
        )
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                index + 1,
                entry.time,
                event.name,
                event.digest,
                json.dumps(dict(event.attributes), sort_keys=True),
                previous,
                chain(previous, entry),
            ),
        )

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection; inside a `write` block it sees that change."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            with _storage_errors():
                connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
        return connection


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn a failing disk into our own error; the library's text stays local."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise InternalError(
            ErrorCode.INTERNAL_DATABASE,
            "The coordinator cannot write its records, so it does nothing further.",
            hint="Check the disk's free space and permissions, then run: "
            "cohortium-coordinator doctor",
            detail=str(error),
        ) from None
