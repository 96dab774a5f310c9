"""Which documents came in, and which wait to go out? Verified before they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.canonical import parse, sha256_hex
from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TrustError
from schemas.governance import study
from schemas.governance.approval import open_approval
from schemas.governance.study import StudyPlan
from schemas.ids import format_time
from schemas.limits import MAX_PLAN_BYTES, MAX_RELEASE_BYTES
from schemas.signing import SignedDocument
from site_node.clock import Clock, utc_now
from site_node.db import Database
from site_node.governance.audit import Audit, AuditWord, Recording

if TYPE_CHECKING:
    import sqlite3

PLAN, WEIGHTS, APPROVAL, RELEASE, RESULT = "plan", "weights", "approval", "release", "result"
_KINDS: Final = frozenset({PLAN, WEIGHTS, APPROVAL, RELEASE, RESULT})
MAX_SEALED_PLAN_BYTES: Final = 2 * MAX_PLAN_BYTES  # base64 and a signature around a plan


@dataclass(frozen=True, slots=True)
class ReceivedPlan:
    """A plan as it came in: the sealed bytes, and what they say."""

    digest: str
    plan: StudyPlan
    sealed: bytes
    received_at: str

    def is_called(self, name: str) -> bool:
        """Say whether a person means this plan: its study's name, or how its hash begins."""
        return self.plan.study_id == name or (len(name) >= 8 and self.digest.startswith(name))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A signed document waiting for the courier."""

    sha256: str
    kind: str
    plan_digest: str
    body: bytes


def open_plan(sealed: bytes) -> StudyPlan:
    """Read a sealed plan; it carries the vendor key that signed it.

    Raises:
        TrustError: PLAN_TAMPERED if the vendor's signature does not fit the bytes.
        ProtocolError: not a strict canonical plan (unknown field, duplicate, wrong value).
    """
    signed = parse(SignedDocument, sealed.strip(), max_bytes=MAX_SEALED_PLAN_BYTES)
    try:
        return study.open_plan(signed)
    except TrustError:
        raise TrustError(
            ErrorCode.PLAN_TAMPERED,
            "The plan's bytes are not those its vendor signed.",
            hint="Do not approve it. Ask the vendor for the plan by another way.",
        ) from None


class Inbox:
    """Documents from the coordinator, and signed documents on their way to it."""

    def __init__(
        self, database: Database, audit: Audit, own_site_id: str, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._audit = audit
        self._own_site_id = own_site_id
        self._clock = clock

    def receive(self, kind: str, study_id: str, body: bytes) -> Recording | None:
        """Verify one document and keep it.

        Args:
            kind: ``plan``, ``weights``, ``approval``, ``release`` or ``result``.
            study_id: the study it is said to belong to.
            body: its bytes.

        Returns:
            The audit event's recording, or None if it was known already.

        Raises:
            CohortiumError: it is not what it claims to be; nothing is kept.
        """
        digest = sha256_hex(body)
        if self._database.row("SELECT 1 FROM inbox WHERE sha256 = ?", digest) is not None:
            return None
        plan_digest = self._verified(kind, study_id, body, digest)
        with self._audit.recording(
            AuditWord.DOCUMENT_RECEIVED,
            plan_digest=plan_digest,
            kind=kind,
            study=study_id,
            sha256=digest,
            n_bytes=len(body),
        ) as recording:
            recording.connection.execute(
                "INSERT OR IGNORE INTO inbox VALUES (?, ?, ?, ?, ?, ?)",
                (digest, kind, study_id, plan_digest, body, format_time(self._clock())),
            )
        return recording

    def _verified(self, kind: str, study_id: str, body: bytes, digest: str) -> str:
        if kind not in _KINDS:
            raise ProtocolError(
                ErrorCode.MESSAGE_KIND_UNKNOWN, "A document of unknown kind arrived."
            )
        if kind == PLAN:
            plan = open_plan(body)
            if plan.study_id != study_id or self._own_site_id not in plan.site_ids:
                raise ProtocolError(
                    ErrorCode.PLAN_SITE_ABSENT, "A plan arrived that does not name this site."
                )
            return plan.digest()
        plans = [received for received in self.plans() if received.plan.study_id == study_id]
        if kind == WEIGHTS:
            for received in plans:
                if received.plan.model.initial_weights_sha256 == digest:
                    _check_weights(received.plan, body)
                    return received.digest
            raise ProtocolError(
                ErrorCode.WEIGHTS_MISMATCH, "Initial weights arrived that no plan here names."
            )
        if kind == APPROVAL:
            reason: CohortiumError = TrustError(
                ErrorCode.PLAN_UNKNOWN, "An approval arrived for a study not known here."
            )
            signed = parse(SignedDocument, body, max_bytes=MAX_SEALED_PLAN_BYTES)
            for received in plans:
                try:
                    return open_approval(received.plan, signed).plan_digest
                except CohortiumError as error:
                    reason = error
            raise reason
        if not plans or len(body) > 4 * MAX_RELEASE_BYTES:
            raise ProtocolError(
                ErrorCode.DOCUMENT_UNKNOWN, "A result arrived for a study not known here."
            )
        return plans[-1].digest

    def have(self) -> tuple[str, ...]:
        """List the SHA-256 of every document kept."""
        return tuple(r["sha256"] for r in self._database.rows("SELECT sha256 FROM inbox"))

    def plans(self) -> tuple[ReceivedPlan, ...]:
        """Give every plan received, oldest first."""
        rows = self._database.rows("SELECT * FROM inbox WHERE kind = 'plan' ORDER BY rowid")
        return tuple(_received(row) for row in rows)

    def plan(self, digest: str) -> ReceivedPlan:
        """Give the plan with this digest.

        Raises:
            TrustError: PLAN_UNKNOWN.
        """
        row = self._database.row(
            "SELECT * FROM inbox WHERE kind = 'plan' AND plan_digest = ?", digest
        )
        if row is None:
            raise TrustError(ErrorCode.PLAN_UNKNOWN, "No plan with this digest is known here.")
        return _received(row)

    def find(self, name: str) -> ReceivedPlan:
        """Give the newest plan of a study, or the plan whose digest begins with ``name``.

        Raises:
            TrustError: PLAN_UNKNOWN.
        """
        for received in reversed(self.plans()):
            if received.is_called(name):
                return received
        raise TrustError(
            ErrorCode.PLAN_UNKNOWN,
            f"No plan of a study {name} has arrived here.",
            hint="See `cohortium-site plan list`. The courier fetches plans while "
            "`cohortium-site serve` runs; a plan file can be read with `plan import FILE`.",
        )

    def weights(self, plan: StudyPlan) -> bytes:
        """Give the plan's initial weights (safetensors bytes).

        Raises:
            ProtocolError: WEIGHTS_MISSING, they have not arrived yet.
        """
        row = self._database.row(
            "SELECT body FROM inbox WHERE sha256 = ?", plan.model.initial_weights_sha256
        )
        if row is None:
            raise ProtocolError(ErrorCode.WEIGHTS_MISSING, "The initial weights are not here yet.")
        return bytes(row["body"])

    def approvals(self, plan_digest: str) -> tuple[SignedDocument, ...]:
        """Give the approvals of one plan that came from other hospitals."""
        rows = self._database.rows(
            "SELECT body FROM inbox WHERE kind = 'approval' AND plan_digest = ?", plan_digest
        )
        return tuple(SignedDocument.model_validate_json(row["body"]) for row in rows)

    def queue(
        self, connection: sqlite3.Connection, kind: str, plan_digest: str, body: bytes
    ) -> None:
        """Put a signed document into the outbox, inside the transaction that made it."""
        connection.execute(
            "INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?, ?, NULL)",
            (sha256_hex(body), kind, plan_digest, body, format_time(self._clock())),
        )

    def waiting(self) -> tuple[Outgoing, ...]:
        """Give the documents not yet handed over, stops first."""
        rows = self._database.rows(
            "SELECT * FROM outbox WHERE sent_at IS NULL ORDER BY kind = 'stop' DESC, rowid"
        )
        return tuple(
            Outgoing(row["sha256"], row["kind"], row["plan_digest"], bytes(row["body"]))
            for row in rows
        )

    def mark_sent(self, outgoing: Outgoing) -> None:
        """Note that the coordinator took a document."""
        with self._audit.recording(
            AuditWord.DOCUMENT_SENT,
            plan_digest=outgoing.plan_digest,
            kind=outgoing.kind,
            sha256=outgoing.sha256,
            n_bytes=len(outgoing.body),
        ) as recording:
            recording.connection.execute(
                "UPDATE outbox SET sent_at = ? WHERE sha256 = ?",
                (format_time(self._clock()), outgoing.sha256),
            )


def _check_weights(plan: StudyPlan, body: bytes) -> None:
    """Refuse a vendor's weights that no network could start from, though the plan names them.

    Raises:
        ProtocolError: WEIGHTS_MISMATCH, the plan starts from a seed; WEIGHTS_MALFORMED, not the
            layout's tensors, a value not finite, or not safetensors in the one accepted form.
    """
    from schemas.models import from_safetensors  # loads numpy; most rounds of the courier need none

    if plan.model.initialisation == "seed":
        raise ProtocolError(
            ErrorCode.WEIGHTS_MISMATCH, "Initial weights arrived for a plan that has a seed."
        )
    from_safetensors(plan.model, body)


def _received(row: sqlite3.Row) -> ReceivedPlan:
    plan = open_plan(row["body"])
    digest = plan.digest()
    if digest != row["plan_digest"]:
        raise TrustError(ErrorCode.PLAN_TAMPERED, "A stored plan was changed.")
    return ReceivedPlan(digest, plan, bytes(row["body"]), row["received_at"])
