"""May this plan run here? The steward's approval, refusal and stop, re-checked at every round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.errors import (
    CohortiumError,
    ErrorCode,
    InternalError,
    PolicyDenied,
    TrustError,
)
from schemas.governance.approval import Approval, Stop
from schemas.ids import format_time, parse_time
from schemas.signing import Context, public_hex, seal
from site_node.clock import Clock, utc_now
from site_node.config import SiteConfig
from site_node.db import Database
from site_node.floors import check_floors
from site_node.governance.audit import Audit, AuditWord, Recording
from site_node.governance.checks import (
    EpsilonOf,
    PatientsOf,
    PlanChecks,
    PlanState,
    check_state,
    patients_unknown,
    recomputed_epsilon,
)
from site_node.governance.inbox import Inbox, ReceivedPlan, open_plan
from site_node.governance.ledger import Budget, Ledger
from site_node.governance.peers import PeerCheck, Peers
from site_node.kem import encapsulate, keep_within

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from site_node.keys import SiteKeys


@dataclass(frozen=True, slots=True)
class SentUpload:
    """One masked answer that left before a stop."""

    kind: str
    round: int
    attempt: int
    n_bytes: int
    sent_at: str


@dataclass(frozen=True, slots=True)
class StopReport:
    """What a stop found: what had left already, and what it now prevents."""

    plan_digest: str
    sent: tuple[SentUpload, ...]
    held_back: int
    attempts_returned: int
    statement_signed: bool
    recording: Recording


@dataclass(frozen=True, slots=True)
class Review:
    """Everything ``plan show`` needs to say about one plan."""

    received: ReceivedPlan
    state: PlanState
    peers: tuple[PeerCheck, ...]
    problems: tuple[CohortiumError, ...]
    budget: Budget


class Approvals:
    """The steward's decisions on plans, and what they allow now."""

    def __init__(
        self,
        *,
        database: Database,
        audit: Audit,
        ledger: Ledger,
        inbox: Inbox,
        peers: Peers,
        keys: SiteKeys,
        config: SiteConfig,
        clock: Clock = utc_now,
        epsilon_of: EpsilonOf = recomputed_epsilon,
        patients_of: PatientsOf = patients_unknown,
    ) -> None:
        self._database = database
        self._audit = audit
        self._ledger = ledger
        self._inbox = inbox
        self._peers = peers
        self._keys = keys
        self._config = config
        self._clock = clock
        self._checks = PlanChecks(keys, config, peers, clock, epsilon_of, patients_of)
        self._parsed: dict[str, StudyPlan] = {}

    # --- what holds now --------------------------------------------------------------------

    def state(self, plan_digest: str, expires: str | None = None) -> PlanState:
        """Say where a plan stands; ``expires`` is read from the plan if not given."""
        row = self._database.row(
            "SELECT EXISTS (SELECT 1 FROM stops WHERE plan_digest = ?1) AS stopped, "
            "EXISTS (SELECT 1 FROM approvals WHERE plan_digest = ?1) AS approved, "
            "EXISTS (SELECT 1 FROM refusals WHERE plan_digest = ?1) AS refused",
            plan_digest,
        )
        assert row is not None  # an EXISTS query always gives one row
        if row["stopped"]:
            return PlanState.STOPPED
        if row["refused"]:
            return PlanState.REFUSED
        until = expires if expires is not None else self._plan(plan_digest).expires
        if self._clock() >= parse_time(until):
            return PlanState.EXPIRED
        return PlanState.APPROVED if row["approved"] else PlanState.PENDING

    def approved_plan(self, plan_digest: str) -> StudyPlan:
        """Give the plan if this hospital's steward approved it and it may still run.

        Called at every round; nothing is remembered but the parsed document itself. The floors
        are those this process started with: restart ``serve`` after tightening one.

        Raises:
            TrustError: PLAN_UNKNOWN, PLAN_UNAPPROVED.
            PolicyDenied: PLAN_STOPPED, PLAN_REFUSED, PLAN_EXPIRED, or a floor stricter than at
                the time of approval.
        """
        plan = self._plan(plan_digest)
        check_state(self.state(plan_digest, plan.expires))
        check_floors(plan, self._config.floors)
        return plan

    def in_force(self, name: str) -> tuple[ReceivedPlan, ...]:
        """Give the plans of a study (or hash) that are approved, not stopped and not finished.

        A name alone is not enough to tell them: the newest plan of a name may be one that nobody
        has approved, sent by anybody. Newest last; empty if none is in force.
        """
        rows = self._database.rows(
            "SELECT plan_digest FROM approvals WHERE plan_digest NOT IN "
            "(SELECT plan_digest FROM stops) ORDER BY rowid"
        )
        accounts = self._ledger.state().accounts
        done = {digest for digest, account in accounts.items() if account.settled}
        plans = (self._inbox.plan(r["plan_digest"]) for r in rows if r["plan_digest"] not in done)
        return tuple(received for received in plans if received.is_called(name))

    def approved_bundles(self) -> frozenset[str]:
        """Give the SHA-256 of every app bundle an approved, unstopped plan names."""
        rows = self._database.rows(
            "SELECT plan_digest FROM approvals WHERE plan_digest NOT IN "
            "(SELECT plan_digest FROM stops)"
        )
        return frozenset(self._plan(row["plan_digest"]).app_bundle_sha256 for row in rows)

    def is_stopped(self, plan_digest: str) -> bool:
        """Say whether the steward stopped this plan."""
        found = self._database.row("SELECT 1 FROM stops WHERE plan_digest = ?", plan_digest)
        return found is not None

    def own_approval(self, plan_digest: str) -> Approval | None:
        """Give this hospital's own approval statement, or None."""
        row = self._database.row(
            "SELECT statement FROM approvals WHERE plan_digest = ?", plan_digest
        )
        if row is None:
            return None
        from schemas.limits import MAX_APPROVAL_BYTES
        from schemas.signing import SignedDocument, open_signed

        signed = SignedDocument.model_validate_json(row["statement"])
        return open_signed(
            signed,
            Context.APPROVAL,
            Approval,
            expected_signer=public_hex(self._keys.approval),
            max_bytes=MAX_APPROVAL_BYTES,
        )

    def _plan(self, plan_digest: str) -> StudyPlan:
        if plan_digest not in self._parsed:
            self._parsed[plan_digest] = self._inbox.plan(plan_digest).plan
        return self._parsed[plan_digest]

    # --- the steward's decisions -----------------------------------------------------------

    def review(self, received: ReceivedPlan) -> Review:
        """Check everything about a plan without deciding, for a person to read."""
        plan, digest = received.plan, received.digest
        problems: list[CohortiumError] = []
        for check in (self._check_decidable, *self._checks.all, self._ledger.check_budget):
            try:
                check(plan)
            except CohortiumError as error:
                problems.append(error)
        return Review(
            received,
            self.state(digest, plan.expires),
            self._peers.checks(plan),
            tuple(problems),
            self._ledger.budget(plan),
        )

    def approve(self, sealed: bytes, expected_hash: str) -> tuple[Approval, Recording]:
        """Sign a plan for this hospital and reserve its whole budget.

        Args:
            sealed: the plan as the vendor sealed it.
            expected_hash: the digest the steward read and typed, 64 hex characters.

        Raises:
            TrustError: PLAN_TAMPERED, PLAN_HASH_MISMATCH, PLAN_VENDOR_UNKNOWN, OWN_KEY_WRONG,
                PEER_UNKNOWN, PEER_UNCONFIRMED or PEER_KEY_SUBSTITUTED.
            PolicyDenied: decided already, expired, not yet valid, a floor, an unknown bundle.
            BudgetExceeded: the hospital's total does not cover it.
            InternalError: AUDIT_UNAVAILABLE, LEDGER_UNWRITABLE; look at its state before going on.
        """
        try:
            return self._approve(sealed, expected_hash)
        except CohortiumError as error:
            if not isinstance(error, InternalError):  # nothing was denied: it cannot be written
                with self._audit.recording(AuditWord.APPROVAL_DENIED, code=error.code.value):
                    pass
            raise

    def _approve(self, sealed: bytes, expected_hash: str) -> tuple[Approval, Recording]:
        plan = open_plan(sealed)
        digest = plan.digest()
        if expected_hash.strip().lower() != digest:
            raise TrustError(
                ErrorCode.PLAN_HASH_MISMATCH,
                "The hash you gave is not the hash of this plan.",
                hint="Read `cohortium-site plan show` again: a changed plan has a new hash and "
                "needs a new reading.",
            )
        for check in (self._check_decidable, *self._checks.all, self._ledger.check_budget):
            check(plan)
        self._inbox.receive("plan", plan.study_id, sealed)
        now = format_time(self._clock())
        made = encapsulate(plan, self._config.site_id, self._keys.kem) if plan.is_hybrid else ()
        approval = Approval(
            plan_digest=digest,
            study_id=plan.study_id,
            site_id=self._config.site_id,
            peers={check.site_id: check.fingerprint for check in self._peers.checks(plan)},
            encapsulations={each.peer: each.ciphertext for each in made},
            approved_at=now,
        )
        statement = seal(self._keys.approval, Context.APPROVAL, approval).canonical()
        with self._audit.recording(
            AuditWord.PLAN_APPROVED,
            plan_digest=digest,
            study=plan.study_id,
            vendor=plan.vendor_key,
            attempts=plan.attempts,
        ) as recording:
            self._check_decidable(plan)  # again: another command may have stopped it meanwhile
            self._ledger.reserve_within(recording, plan, digest)
            recording.connection.execute(
                "INSERT INTO approvals VALUES (?, ?, ?, ?)", (digest, plan.study_id, statement, now)
            )
            keep_within(recording.connection, digest, made)
            self._inbox.queue(recording.connection, "approval", digest, statement)
        return approval, recording

    def refuse(self, plan_digest: str, reason_code: str = "plan.refused") -> Recording:
        """Say no to a plan that nobody has decided on yet; final for this digest.

        The others learn of it by a signed stop, which the courier hands in.
        """
        plan = self._plan(plan_digest)
        self._check_decidable(plan)
        now = format_time(self._clock())
        statement = self._signed_stop(
            Stop(
                plan_digest=plan_digest,
                site_id=self._config.site_id,
                stopped_at=now,
                reason_code=reason_code,
            )
        )
        with self._audit.recording(
            AuditWord.PLAN_REFUSED, plan_digest=plan_digest, study=plan.study_id, code=reason_code
        ) as recording:
            self._check_decidable(plan)  # again: another command may have approved it meanwhile
            recording.connection.execute(
                "INSERT INTO refusals VALUES (?, ?, ?, ?)",
                (plan_digest, plan.study_id, reason_code, now),
            )
            if statement:
                self._inbox.queue(recording.connection, "stop", plan_digest, statement)
        return recording

    def stop(self, plan_digest: str, reason_code: str = "stop.steward") -> StopReport:
        """Stop a plan at once, here, for good; nothing is asked of the network.

        From the moment this returns no further answer of this plan passes the gate or the
        gateway. Attempts already opened stay charged; the others are given back.

        Raises:
            PolicyDenied: PLAN_STOPPED, it was stopped before.
            InternalError: AUDIT_UNAVAILABLE; then nothing leaves either, for the same reason.
        """
        plan = self._plan(plan_digest)
        if self.is_stopped(plan_digest):
            raise PolicyDenied(
                ErrorCode.PLAN_STOPPED,
                "This plan was stopped before; it stays stopped.",
                hint="A new study needs a new plan from the vendor.",
            )
        now = format_time(self._clock())
        stop = Stop(
            plan_digest=plan_digest,
            site_id=self._config.site_id,
            stopped_at=now,
            reason_code=reason_code,
        )
        statement = self._signed_stop(stop)
        with self._audit.recording(
            AuditWord.PLAN_STOPPED, plan_digest=plan_digest, study=plan.study_id, code=reason_code
        ) as recording:
            connection = recording.connection
            connection.execute(
                "INSERT INTO stops VALUES (?, ?, ?, ?, ?)",
                (plan_digest, plan.study_id, reason_code, statement, now),
            )
            if statement:
                self._inbox.queue(connection, "stop", plan_digest, statement)
            returned = self._settled(recording, plan_digest)
            sent, held_back = _sent_before(recording, plan_digest)
            recording.attributes["uploads_sent"] = len(sent)
            recording.attributes["uploads_held_back"] = held_back
        return StopReport(plan_digest, sent, held_back, returned, bool(statement), recording)

    def settle_stopped(self) -> int:
        """Close stopped plans whose ledger could not be closed when they were stopped.

        Returns:
            Attempts that came back.
        """
        rows = self._database.rows("SELECT plan_digest FROM stops")
        return sum(self._ledger.settle(row["plan_digest"]) for row in rows)

    def _settled(self, recording: Recording, plan_digest: str) -> int:
        # The stop takes effect even if the ledger is not to be trusted at this moment: then
        # nothing is given back, which only ever costs budget.
        try:
            return self._ledger.settle_within(recording, plan_digest)
        except (TrustError, InternalError):
            return 0

    def _signed_stop(self, stop: Stop) -> bytes:
        # The stop takes effect here even if the approval key cannot be used at this moment:
        # only the message to the others then has to wait for the steward.
        try:
            return seal(self._keys.approval, Context.STOP, stop).canonical()
        except CohortiumError:
            return b""

    def _check_decidable(self, plan: StudyPlan) -> None:
        state = self.state(plan.digest(), plan.expires)
        if state is PlanState.APPROVED:
            raise PolicyDenied(
                ErrorCode.PLAN_ALREADY_APPROVED,
                "This hospital has approved this plan already.",
                hint="`cohortium-site stop STUDY` takes it back, for good.",
            )
        if state in (PlanState.STOPPED, PlanState.REFUSED):
            check_state(state)


def _sent_before(recording: Recording, plan_digest: str) -> tuple[tuple[SentUpload, ...], int]:
    """List masked answers whose objects the gateway has sent, and count those it has not."""
    rows = recording.connection.execute(
        "SELECT r.id, r.kind, r.round, r.attempt, r.n_bytes, min(s.sent_at) AS sent_at "
        "FROM released r LEFT JOIN manifest m ON m.released_id = r.id "
        "LEFT JOIN sent s ON s.object_id = m.object_id "
        "WHERE r.plan_digest = ? AND r.kind IN ('masked-update', 'masked-evaluation') "
        "GROUP BY r.id ORDER BY r.id",
        (plan_digest,),
    ).fetchall()
    sent = tuple(
        SentUpload(row["kind"], row["round"], row["attempt"], row["n_bytes"], row["sent_at"])
        for row in rows
        if row["sent_at"] is not None
    )
    return sent, len(rows) - len(sent)
