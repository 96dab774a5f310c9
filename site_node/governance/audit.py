"""What happened here, in which order, provably? The site's hash-chained, signed audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.audit import GENESIS, AuditCheckpoint, AuditEvent, chain, verify_chain
from schemas.canonical import parse
from schemas.errors import CohortiumError
from schemas.ids import format_time
from schemas.limits import MAX_AUDIT_EVENT_BYTES
from schemas.signing import Context, SignedDocument, open_signed, public_hex, seal
from site_node.clock import Clock, utc_now
from site_node.config import write_atomically
from site_node.db import Database, unavailable

if TYPE_CHECKING:
    import sqlite3

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

WITNESS_NAME = "audit.checkpoint"


class AuditWord(StrEnum):
    """Every event the site writes down; a word is never reused with another meaning."""

    SITE_CREATED = "site.created"  # keys, configuration and database were made
    CARD_EXPORTED = "card.exported"  # the own identity card was written to a file
    PEER_IMPORTED = "peer.imported"  # another hospital's card was read from a file
    PEER_CONFIRMED = "peer.confirmed"  # a steward confirmed its fingerprint
    ENROLLED = "site.enrolled"  # a certificate was received for an invite
    DATA_INGESTED = "data.ingested"  # an extract was de-identified, checked and stored
    DOCUMENT_RECEIVED = "document.received"  # a plan, weights, approval or release came in
    PLAN_APPROVED = "plan.approved"  # the steward signed, the budget was reserved
    APPROVAL_DENIED = "plan.approval_denied"  # an approval was asked for and not given, with code
    PLAN_REFUSED = "plan.refused"  # the steward said no
    PLAN_STOPPED = "plan.stopped"  # the steward stopped it, for good
    BUDGET_CHARGED = "budget.charged"  # an attempt was charged, before it is computed
    BUDGET_SETTLED = "budget.settled"  # attempts never opened were given back
    LEDGER_EXPORTED = "ledger.exported"  # the whole ledger was written to a file for auditors
    WITNESS_ACCEPTED = "ledger.witness_accepted"  # a steward began the ledger's witness anew
    ROUND_OPENED = "round.opened"  # an attempt that spends nothing was taken up
    EGRESS_RELEASED = "egress.released"  # the gate let one body go
    EGRESS_LISTED = "egress.listed"  # its objects were put on the signed manifest
    EGRESS_REFUSED = "egress.refused"  # the gate kept one body
    DOCUMENT_SENT = "document.sent"  # an approval or stop reached the coordinator
    CLOCK_SET_BACK = "clock.set_back"  # the machine's clock went backwards since the last event
    MEMBERSHIP_REPORTED = "membership.reported"  # attacks on a model were tried; stays here
    SERVICE_STARTED = "service.started"
    SERVICE_ENDED = "service.ended"


@dataclass(slots=True)
class Recording:
    """One write and the event that goes with it; ``written`` is set once both are on disk."""

    connection: sqlite3.Connection
    attributes: dict[str, str | int]
    written: AuditEvent | None = field(default=None)
    after: list[Callable[[], None]] = field(default_factory=list)  # once it is on disk

    @property
    def event(self) -> AuditEvent:
        """Give the event; only after the block has ended."""
        if self.written is None:
            raise RuntimeError("the transaction is still open")
        return self.written


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One stored event with its place in the chain."""

    event: AuditEvent
    hash: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """Whether a stored chain holds, how long it is, and what is wrong with it."""

    entries: int
    head: str
    problems: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """Say whether nothing was found."""
        return not self.problems


class Audit:
    """Append events together with the change they describe, and verify the whole log."""

    def __init__(
        self,
        database: Database,
        site_id: str,
        identity: Ed25519PrivateKey,
        witness: Path,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._site_id = site_id
        self._identity = identity
        self._witness = witness
        self._clock = clock

    @contextmanager
    def recording(
        self,
        word: AuditWord,
        *,
        plan_digest: str | None = None,
        is_forced: bool = True,
        **attributes: str | int,
    ) -> Iterator[Recording]:
        """Run a change and its audit event as one transaction.

        Args:
            word: what is being done.
            plan_digest: the plan it belongs to, if any.
            is_forced: as in ``Database.write``.
            attributes: codes, counts and digests; never values or names of patients.

        Yields:
            The open transaction; attributes may be added until the block ends.

        Raises:
            InternalError: AUDIT_UNAVAILABLE, and then neither change nor event happened.
        """
        with self._database.write(is_forced=is_forced) as connection:
            recording = Recording(connection, dict(attributes))
            yield recording
            event, checkpoint = self._append(connection, word, plan_digest, recording.attributes)
        if is_forced:
            self._bear_witness(event.index, checkpoint)
        for act in recording.after:
            act()
        recording.written = event

    def _append(
        self,
        connection: sqlite3.Connection,
        word: AuditWord,
        plan_digest: str | None,
        attributes: dict[str, str | int],
    ) -> tuple[AuditEvent, SignedDocument]:
        row = connection.execute("SELECT * FROM audit ORDER BY idx DESC LIMIT 1").fetchone()
        index, previous = (0, GENESIS) if row is None else (row["idx"] + 1, str(row["hash"]))
        now = format_time(self._clock())
        if row is not None and word is not AuditWord.CLOCK_SET_BACK:
            last = AuditEvent.model_validate_json(row["body"])
            if now < last.time:
                self._append(connection, AuditWord.CLOCK_SET_BACK, None, {"before": last.time})
                return self._append(connection, word, plan_digest, attributes)
        event = AuditEvent(
            index=index,
            time=now,
            event=word.value,
            plan_digest=plan_digest,
            attributes=attributes,
            previous=previous,
        )
        head = chain(previous, event)
        checkpoint = seal(
            self._identity,
            Context.AUDIT,
            AuditCheckpoint(site_id=self._site_id, index=index, head=head, time=now),
        )
        connection.execute(
            "INSERT INTO audit (idx, body, hash, checkpoint) VALUES (?, ?, ?, ?)",
            (index, event.canonical(), head, checkpoint.canonical()),
        )
        return event, checkpoint

    def _bear_witness(self, index: int, checkpoint: SignedDocument) -> None:
        """Keep the newest signed checkpoint outside the database, so that an older copy shows.

        Written only after a commit that is on disk: a crash in between leaves the witness
        behind, which is harmless; a database behind its witness is a rollback.
        """
        try:
            known = self._read_witness()
            if known is None or known.index < index:
                write_atomically(self._witness, checkpoint.canonical(), is_forced=False)
        except OSError as error:
            raise unavailable(type(error).__name__) from None

    def _read_witness(self) -> AuditCheckpoint | None:
        if not self._witness.exists():
            return None
        return self._open_checkpoint(self._witness.read_bytes())

    def _open_checkpoint(self, raw: bytes) -> AuditCheckpoint | None:
        """Read a checkpoint this site signed; None for anything else."""
        try:
            return open_signed(
                parse(SignedDocument, raw, max_bytes=2 * MAX_AUDIT_EVENT_BYTES),
                Context.AUDIT,
                AuditCheckpoint,
                expected_signer=public_hex(self._identity),
                max_bytes=MAX_AUDIT_EVENT_BYTES,
            )
        except CohortiumError:
            return None

    def rows(self, *, last: int | None = None) -> tuple[AuditRow, ...]:
        """Read the log in order, the whole of it or its ``last`` events."""
        limit = -1 if last is None else last
        found = self._database.rows("SELECT body, hash FROM audit ORDER BY idx DESC LIMIT ?", limit)
        return tuple(
            AuditRow(AuditEvent.model_validate_json(row["body"]), row["hash"])
            for row in reversed(found)
        )

    def head(self) -> str:
        """Give the hash of the newest event."""
        row = self._database.row("SELECT hash FROM audit ORDER BY idx DESC LIMIT 1")
        return GENESIS if row is None else str(row["hash"])

    def verify(self) -> ChainReport:
        """Recompute every hash and signature, and compare with the witness beside the database."""
        problems: list[str] = []
        # Before the rows: a node that serves may write both while they are read.
        witness = self._read_witness()
        events: list[AuditEvent] = []
        checkpoints: list[AuditCheckpoint] = []
        for row in self._database.rows("SELECT * FROM audit ORDER BY idx"):
            index = int(row["idx"])
            checkpoint = self._open_checkpoint(row["checkpoint"])
            try:
                event = parse(AuditEvent, row["body"], max_bytes=MAX_AUDIT_EVENT_BYTES)
            except CohortiumError:
                problems.append(f"event {index} cannot be read")
                break
            events.append(event)
            if checkpoint is None or (checkpoint.index, checkpoint.head) != (index, row["hash"]):
                problems.append(f"event {index} is not signed by this site")
                break
            checkpoints.append(checkpoint)
        found = verify_chain(events, checkpoints=checkpoints)
        if found.broken_at is not None:
            problems.append(f"event {found.broken_at} was changed, removed or put in later")
        if witness is None and events:
            problems.append("the witness file beside the database is missing or not this site's")
        elif witness is not None and not problems and not _holds(checkpoints, witness):
            problems.append(
                f"an older or other copy of the log was put back (event {witness.index})"
            )
        return ChainReport(found.count, found.head, tuple(problems))


def _holds(checkpoints: list[AuditCheckpoint], witness: AuditCheckpoint) -> bool:
    return witness.index < len(checkpoints) and checkpoints[witness.index].head == witness.head
