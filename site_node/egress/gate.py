"""May these bytes leave this hospital? The only door: rules, then audit on disk, then ``Released``.

Read this file to know what can leave. The transport accepts a ``Released`` only, and the gateway,
another process, forwards only the objects listed for one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from schemas.canonical import Document, sha256_hex
from schemas.errors import CohortiumError, ErrorCode, PolicyDenied
from schemas.ids import format_time
from schemas.signing import Context, is_valid, sign
from schemas.wire import (
    Confirmation,
    FinalReply,
    ReadyReply,
    Refusal,
    ReleaseReply,
    Unmasking,
    Upload,
    decode,
)
from site_node.clock import Clock, utc_now
from site_node.db import Database
from site_node.egress.released import Released, _release
from site_node.egress.rules import REFUSAL, AttemptReply, Candidate, first_broken
from site_node.governance.audit import Audit, AuditWord

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from schemas.governance.study import StudyPlan
    from site_node.governance.inbox import Outgoing
    from site_node.governance.ledger import ChargeRef

_ANSWERS: Final[tuple[type[Document], ...]] = (
    ReadyReply,
    Upload,
    Confirmation,
    Unmasking,
    FinalReply,
    ReleaseReply,
)
_UNSTOPPABLE: Final = frozenset({REFUSAL, "approval", "stop"})  # a code, or a person's decision
_LISTED_NOW: Final = (
    "SELECT m.*, r.kind FROM manifest m JOIN released r ON r.id = m.released_id "
    "WHERE m.object_id = ? AND (r.kind IN ('refusal', 'approval', 'stop') OR NOT EXISTS "
    "(SELECT 1 FROM stops s WHERE s.plan_digest = r.plan_digest))"
)
_FLUSH_SECONDS: Final = 1.0  # byte totals of calls that carry no answer may lag this much


@dataclass(frozen=True, slots=True)
class _Whole:
    """A document that is one object on the wire."""

    id: str
    sha256: str
    n_bytes: int


class TransportObject(Protocol):
    """One object of an answer as the transport will send it."""

    @property
    def id(self) -> str:
        """Name it on the wire."""

    @property
    def sha256(self) -> str:
        """Hash its bytes on the wire."""

    @property
    def n_bytes(self) -> int:
        """Count its bytes on the wire."""


class Gate:
    """The egress gate of one site."""

    def __init__(
        self,
        *,
        database: Database,
        audit: Audit,
        identity: Ed25519PrivateKey,
        site_id: str,
        is_charged: Callable[[ChargeRef], bool],
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._audit = audit
        self._identity = identity
        self._site_id = site_id
        self._is_charged = is_charged
        self._clock = clock

    def release(
        self,
        kind: str,
        body: bytes,
        *,
        plan: StudyPlan,
        contributors: int,
        charge: ChargeRef | None = None,
    ) -> Released:
        """Let one answer go, if every rule holds and it is written down first.

        Args:
            kind: one of the plan's output kinds.
            body: the whole message as it will leave.
            plan: the approved plan it answers for.
            contributors: hospitals behind the sum it belongs to.
            charge: what ``SiteContext.charge`` gave for its attempt; needed for masked answers
                and for what confirms or unmasks their sum.

        Raises:
            PolicyDenied: a rule is broken; the refusal is in the audit log.
            ProtocolError: the bytes are not one whole message.
            InternalError: AUDIT_UNAVAILABLE; nothing is released.
        """
        digest = plan.digest()
        frame = decode(body, allowed=_ANSWERS)
        header = frame.header
        of_attempt = header if isinstance(header, AttemptReply) else None
        candidate = Candidate(
            kind=kind,
            plan=plan,
            plan_digest=digest,
            site_id=self._site_id,
            frame=frame,
            n_bytes=len(body),
            sha256=sha256_hex(body),
            contributors=contributors,
            charge=charge,
            charge_is_durable=charge is not None and self._is_charged(charge),
            is_stopped=self._is_stopped(digest),
            released_before=self._released_before(digest, of_attempt),
        )
        broken = first_broken(candidate)
        if broken is not None:
            self._keep_back(broken, kind, digest)
            raise broken
        place = (of_attempt.round, of_attempt.attempt) if of_attempt is not None else (None, None)
        counts: dict[str, str | int] = {"sites": contributors}
        if isinstance(header, Unmasking):
            counts["lost"] = len(header.seeds)
        try:
            return self._let_go(kind, digest, place, body, counts)
        except PolicyDenied as error:
            self._keep_back(error, kind, digest)
            raise

    def refuse(self, body: bytes, *, code: ErrorCode, plan_digest: str | None = None) -> Released:
        """Let a refusal go: a fixed message whose only content is a known code.

        Raises:
            PolicyDenied: the bytes say anything else.
            InternalError: AUDIT_UNAVAILABLE; then not even the refusal leaves.
        """
        header = decode(body, allowed=(Refusal,)).header
        if not isinstance(header, Refusal) or header.code != code.value or header.blobs:
            raise PolicyDenied(ErrorCode.EGRESS_KIND_REFUSED, "A refusal may hold a code only.")
        return self._let_go(REFUSAL, plan_digest or "", (None, None), body, {"code": code.value})

    def release_document(self, outgoing: Outgoing) -> Released:
        """Let a steward's own signed statement go, listed under the hash of its bytes.

        A stop does not hold back an approval or a stop: they say what a person decided.

        Raises:
            InternalError: AUDIT_UNAVAILABLE; then it must not be handed to the courier's call.
        """
        released = self._let_go(
            outgoing.kind, outgoing.plan_digest, (None, None), outgoing.body, {}
        )
        self._list(released, [_Whole(outgoing.sha256, outgoing.sha256, len(outgoing.body))])
        return released

    def manifest(self, released: Released, objects: Sequence[TransportObject]) -> None:
        """Put the transport's objects of one released body on the signed manifest.

        Raises:
            PolicyDenied: EGRESS_STOPPED, the plan was stopped since the release.
            InternalError: AUDIT_UNAVAILABLE; the gateway then forwards none of them.
        """
        self._list(released, objects)

    def _list(self, released: Released, objects: Sequence[TransportObject]) -> None:
        with self._audit.recording(
            AuditWord.EGRESS_LISTED,
            plan_digest=released.plan_digest or None,
            is_forced=False,  # the gateway's own record is, and comes before the wire
            kind=released.kind,
            released=released.id,
            objects=len(objects),
            n_bytes=sum(each.n_bytes for each in objects),
        ) as recording:
            if released.kind not in _UNSTOPPABLE:
                _check_not_stopped(recording.connection, released.plan_digest)
            recording.connection.executemany(
                "INSERT OR IGNORE INTO manifest VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        each.id,
                        released.id,
                        each.sha256,
                        each.n_bytes,
                        sign(self._identity, Context.MANIFEST, _row(each, released.id)),
                    )
                    for each in objects
                ],
            )

    def _let_go(
        self,
        kind: str,
        digest: str,
        attempt: tuple[int | None, int | None],
        body: bytes,
        attributes: dict[str, str | int],
    ) -> Released:
        sha256 = sha256_hex(body)
        if attempt[0] is not None and attempt[1] is not None:
            attributes |= {"round": attempt[0], "attempt": attempt[1]}
        with self._audit.recording(
            AuditWord.EGRESS_RELEASED,
            plan_digest=digest or None,
            kind=kind,
            sha256=sha256,
            n_bytes=len(body),
        ) as recording:
            recording.attributes.update(attributes)
            if kind not in _UNSTOPPABLE:
                # Again inside the transaction: a stop may have come between the rules and here.
                _check_not_stopped(recording.connection, digest)
            cursor = recording.connection.execute(
                "INSERT INTO released (kind, plan_digest, round, attempt, sha256, n_bytes, "
                "released_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (kind, digest, *attempt, sha256, len(body), format_time(self._clock())),
            )
            released_id = int(cursor.lastrowid or 0)
        return _release(released_id, kind, digest, body)

    def _keep_back(self, error: CohortiumError, kind: str, digest: str) -> None:
        with self._audit.recording(
            AuditWord.EGRESS_REFUSED, plan_digest=digest, kind=kind[:40], code=error.code.value
        ):
            pass

    def _is_stopped(self, digest: str) -> bool:
        found = self._database.row("SELECT 1 FROM stops WHERE plan_digest = ?", digest)
        return found is not None

    def _released_before(
        self, digest: str, answer: AttemptReply | None
    ) -> dict[str, frozenset[str]]:
        """Give kind → hashes of what this very attempt has released; nothing outside attempts."""
        if answer is None:
            return {}
        rows = self._database.rows(
            "SELECT kind, sha256 FROM released WHERE plan_digest = ? AND round = ? AND attempt = ?",
            digest,
            answer.round,
            answer.attempt,
        )
        kinds = {row["kind"] for row in rows}
        return {
            kind: frozenset(row["sha256"] for row in rows if row["kind"] == kind) for kind in kinds
        }


class Manifest:
    """The gateway's side of the door: what is listed, and what was put on the wire."""

    def __init__(self, database: Database, identity_public: str, clock: Clock = utc_now) -> None:
        self._database = database
        self._identity_public = identity_public
        self._clock = clock
        self._pending: dict[str, tuple[int, int]] = {}
        self._flushed_at = time.monotonic()

    def is_listed(self, object_id: str) -> bool:
        """Say whether an object may be forwarded now.

        It must be on the manifest, under this site's signature, for a body whose plan is not
        stopped at this moment.

        Raises:
            InternalError: AUDIT_UNAVAILABLE; then it may not.
        """
        rows = self._database.rows(_LISTED_NOW, object_id)
        return any(
            is_valid(
                self._identity_public,
                Context.MANIFEST,
                _signed_row(row["object_id"], row["sha256"], row["n_bytes"], row["released_id"]),
                row["signature"],
            )
            for row in rows
        )

    def record(self, path: str, n_bytes: int, object_id: str | None) -> None:
        """Write down one HTTP body before it is put on the wire.

        A body that carries an answer is on disk when this returns; polls and heartbeats are
        only counted, and their counts may reach the disk a second later.

        Raises:
            PolicyDenied: EGRESS_STOPPED, a stop came since `is_listed`; it must not be sent.
            InternalError: AUDIT_UNAVAILABLE; then it must not be sent.
        """
        before = dict(self._pending)
        calls, total = before.get(path, (0, 0))
        self._pending[path] = (calls + 1, total + n_bytes)
        if object_id is not None:
            try:
                # The envelope goes first and is forced; the parts that follow it need not be.
                self.flush((object_id, path, n_bytes), is_forced=path.endswith("/push-messages"))
            except CohortiumError:
                self._pending = before  # it is not sent
                raise
        elif time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()

    def flush(self, sent: tuple[str, str, int] | None = None, *, is_forced: bool = False) -> None:
        """Write the pending byte totals, and with them one answer about to be sent."""
        with self._database.write(is_forced=is_forced) as connection:
            if sent is not None:
                # Again inside the transaction: a stop may have come since `is_listed`, and has
                # then told the steward that this was held back.
                _check_some_plan_runs(connection, sent[0])
                connection.execute(
                    "INSERT INTO sent (object_id, path, n_bytes, sent_at) VALUES (?, ?, ?, ?)",
                    (*sent, format_time(self._clock())),
                )
            connection.executemany(
                "INSERT INTO byte_totals VALUES (?, ?, ?) ON CONFLICT (path) DO UPDATE SET "
                "calls = calls + excluded.calls, n_bytes = n_bytes + excluded.n_bytes",
                [(path, *counts) for path, counts in self._pending.items()],
            )
        self._pending.clear()
        self._flushed_at = time.monotonic()

    def totals(self) -> dict[str, tuple[int, int]]:
        """Give (calls, HTTP body bytes) sent so far for every path."""
        rows = self._database.rows("SELECT * FROM byte_totals ORDER BY path")
        return {row["path"]: (int(row["calls"]), int(row["n_bytes"])) for row in rows}


def _row(each: TransportObject, released_id: int) -> bytes:
    return _signed_row(each.id, each.sha256, each.n_bytes, released_id)


def _signed_row(object_id: str, sha256: str, n_bytes: int, released_id: int) -> bytes:
    return f"{object_id}\n{sha256}\n{n_bytes}\n{released_id}".encode("ascii")


def _check_some_plan_runs(connection: sqlite3.Connection, object_id: str) -> None:
    named = connection.execute("SELECT 1 FROM manifest WHERE object_id = ?", (object_id,))
    listed = connection.execute(_LISTED_NOW, (object_id,))
    if named.fetchone() is not None and listed.fetchone() is None:
        raise _stopped()


def _check_not_stopped(connection: sqlite3.Connection, plan_digest: str) -> None:
    found = connection.execute("SELECT 1 FROM stops WHERE plan_digest = ?", (plan_digest,))
    if found.fetchone() is not None:
        raise _stopped()


def _stopped() -> PolicyDenied:
    return PolicyDenied(
        ErrorCode.EGRESS_STOPPED,
        "The study was stopped here.",
        hint="Nothing more is sent. See `cohortium-site audit show`.",
    )
