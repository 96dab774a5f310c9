"""What has this hospital spent on its patients' privacy, durably, over all studies?

The arithmetic and the rules are ``schemas.privacy.ledger``; this module keeps the entries on disk,
signs every head, and refuses what the rules refuse before anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.canonical import parse
from schemas.errors import CohortiumError, ErrorCode, TrustError
from schemas.ids import format_time
from schemas.limits import MAX_AUDIT_EVENT_BYTES
from schemas.privacy.budget import Budget, Caps, budget_of, check_reserve
from schemas.privacy.ledger import (
    GENESIS,
    SALT_BYTES,
    Charge,
    ChargedMechanism,
    LedgerEntry,
    LedgerHead,
    LedgerState,
    Reserve,
    Settle,
    append,
    parse_entry,
    step,
)
from schemas.privacy.statement import privacy_statement
from schemas.secagg.messages import roster_hash
from schemas.signing import Context, SignedDocument, open_signed, public_hex, seal
from site_node.clock import Clock, utc_now
from site_node.db import Database
from site_node.floors import Floors
from site_node.governance.audit import Audit, AuditWord, ChainReport, Recording
from site_node.governance.witness import Point, Witness

if TYPE_CHECKING:
    import sqlite3

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from schemas.entropy import Entropy
    from schemas.governance.study import StudyPlan
    from schemas.wire import Kind

__all__ = ["Budget", "ChargeRef", "Ledger", "LedgerRow"]

_EMPTY: Final = Point(entries=0, head=GENESIS)


@dataclass(frozen=True, slots=True)
class ChargeRef:
    """One attempt that was charged: where it stands in the ledger."""

    index: int
    plan_digest: str
    kind: str
    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One entry as it stands on disk."""

    index: int
    entry: LedgerEntry
    head: str
    written_at: str


class Ledger:
    """The durable ledger of one site."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        identity: Ed25519PrivateKey,
        floors: Floors,
        *,
        witness: Witness,
        site_id: str,
        entropy: Entropy = os.urandom,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._audit = audit
        self._identity = identity
        self.witness = witness
        self._seen = (_EMPTY, LedgerState())
        self.caps = Caps(
            floors.maximum_epsilon_total, floors.maximum_delta, floors.maximum_delta_total
        )
        self._site_id = site_id
        self._entropy = entropy
        self._clock = clock

    # --- reading ---------------------------------------------------------------------------

    def rows(self) -> tuple[LedgerRow, ...]:
        """Read every entry in order."""
        found = self._database.rows("SELECT * FROM ledger ORDER BY idx")
        return tuple(
            LedgerRow(row["idx"], parse_entry(row["body"]), row["head"], row["written_at"])
            for row in found
        )

    def state(self) -> LedgerState:
        """Replay the ledger: what is reserved, charged and left, plan by plan."""
        return self._replayed()[1]

    def _replayed(self) -> tuple[Point, LedgerState]:
        """Replay what was added since the last look of this process; all of it if it is another.

        Nothing but the replay is kept, and only while the head it ended with stands where it did.
        """
        seen, state = self._seen
        sql = "SELECT idx, body, head FROM ledger WHERE idx >= ? ORDER BY idx"
        rows = self._database.rows(sql, max(0, seen.entries - 1))
        if seen.entries:
            if rows and (rows[0]["idx"], rows[0]["head"]) == (seen.entries - 1, seen.head):
                rows = rows[1:]
            else:
                seen, state = _EMPTY, LedgerState()
                rows = self._database.rows(sql, 0)
        for row in rows:
            state = step(state, parse_entry(row["body"]))
        if rows:
            seen = Point(entries=seen.entries + len(rows), head=rows[-1]["head"])
        self._seen = (seen, state)
        return seen, state

    def signatures(self) -> tuple[str, ...]:
        """Read the signature under every head, in order."""
        found = self._database.rows("SELECT signature FROM ledger ORDER BY idx")
        return tuple(SignedDocument.model_validate_json(row[0]).signature for row in found)

    def head(self) -> str:
        """Give the hash of the whole ledger; it travels in every READY."""
        row = self._database.row("SELECT head FROM ledger ORDER BY idx DESC LIMIT 1")
        return GENESIS if row is None else str(row["head"])

    def charges(self, digest: str) -> int:
        """Count the attempts charged under one plan, evaluation apart; every READY of it tells.

        Not over all plans: the number would tell the other hospitals of this plan how much this
        one does elsewhere.
        """
        account = self.state().accounts.get(digest)
        return 0 if account is None else account.charged

    def has_charge(self, charge: ChargeRef) -> bool:
        """Say whether exactly this charge stands in the ledger."""
        row = self._database.row("SELECT body FROM ledger WHERE idx = ?", charge.index)
        if row is None:
            return False
        entry = parse_entry(row["body"])
        return isinstance(entry, Charge) and charge == ChargeRef(
            charge.index, entry.plan_digest, entry.kind, entry.round, entry.attempt
        )

    def budget(self, plan: StudyPlan | None = None) -> Budget:
        """Compute the budget now, and with a plan added that is not reserved yet."""
        also = None if plan is None else self._reserve(plan, plan.digest())
        return budget_of(self.state(), self.caps, also)

    def budget_of(self, state: LedgerState) -> Budget:
        """Compute the budget of a state that was read before."""
        return budget_of(state, self.caps)

    def check_budget(self, plan: StudyPlan) -> None:
        """Refuse a plan this hospital's totals do not cover.

        Raises:
            BudgetExceeded: LEDGER_INSUFFICIENT, LEDGER_DELTA_SPENT.
        """
        check_reserve(self.state(), self.caps, self._reserve(plan, plan.digest()))

    def point(self) -> Point:
        """Say where the ledger stands: its entries and its head."""
        row = self._database.row("SELECT idx, head FROM ledger ORDER BY idx DESC LIMIT 1")
        return Point(entries=row["idx"] + 1, head=row["head"]) if row else _EMPTY

    def check_witness(self) -> None:
        """Refuse a ledger that its witness does not know.

        Raises:
            TrustError: LEDGER_WITNESS_ROLLBACK, LEDGER_WITNESS_MISSING; the hint says what to do.
            InternalError: LEDGER_UNWRITABLE, AUDIT_UNAVAILABLE.
        """
        self.witness.check_unlocked(self.point)

    def accept_witness(self) -> Recording:
        """Begin the witness anew from this ledger; a steward's decision, for a lost file.

        Raises:
            TrustError: LEDGER_BROKEN, the chain does not hold; LEDGER_WITNESS_ROLLBACK, the
                ledger lacks entries its witness saw: that is never accepted.
        """
        report = self.verify()
        if not report.is_intact:
            raise TrustError(
                ErrorCode.LEDGER_BROKEN,
                f"The ledger of this site does not verify: {report.problems[0]}.",
                hint="Put the newest database back first.",
            )
        with self._audit.recording(AuditWord.WITNESS_ACCEPTED) as recording:
            here = self.point()  # under the write lock
            said = self.witness.read()
            seen = None if said is None else said.confirmed
            if seen is not None and not self._went_through(seen):
                self.witness.check(here)
            recording.attributes["ledger_entries"] = here.entries
            recording.attributes["ledger_head"] = here.head
            recording.attributes["before"] = "none" if seen is None else seen.entries
            recording.after.append(lambda: self.witness.accept(here))
        return recording

    def _went_through(self, point: Point) -> bool:
        """Say whether this ledger was once exactly there."""
        if point == _EMPTY:
            return True
        row = self._database.row("SELECT head FROM ledger WHERE idx = ?", point.entries - 1)
        return row is not None and row["head"] == point.head

    # --- writing ---------------------------------------------------------------------------

    def reserve_within(self, recording: Recording, plan: StudyPlan, digest: str) -> None:
        """Set aside the whole cost of a plan, in the transaction of its approval.

        Raises:
            BudgetExceeded: LEDGER_INSUFFICIENT, LEDGER_DELTA_SPENT.
            ProtocolError: it was reserved before.
            TrustError: the ledger is not the one its witness knows.
        """
        self._append(recording, self._reserve(plan, digest))

    def charge_within(
        self,
        recording: Recording,
        digest: str,
        kind: Kind,
        mechanism: ChargedMechanism,
        round_number: int,
        attempt: int,
        roster: Sequence[str],
    ) -> ChargeRef:
        """Charge one attempt, in the transaction that also moves the journal.

        Raises:
            BudgetExceeded: LEDGER_RESERVE_SPENT.
            ProtocolError: charged before, older than the last, settled, or never reserved.
            TrustError: the ledger is not the one its witness knows.
        """
        entry = Charge(
            plan_digest=digest,
            kind=kind,
            mechanism=mechanism,
            round=round_number,
            attempt=attempt,
            roster_hash=roster_hash(roster),
            salt=self._salt(),
        )
        recording.attributes["mechanism"] = mechanism
        return ChargeRef(self._append(recording, entry), digest, kind, round_number, attempt)

    def settle_within(self, recording: Recording, digest: str) -> int:
        """Close a plan for good; attempts never opened are free again.

        Returns:
            How many came back; 0 if it was never reserved or is settled already.
        """
        account = self.state().accounts.get(digest)
        if account is None or account.settled:
            return 0
        self._append(recording, Settle(plan_digest=digest, salt=self._salt()))
        return account.remaining

    def settle(self, digest: str) -> int:
        """Close a finished plan; see ``settle_within``."""
        account = self.state().accounts.get(digest)
        if account is None or account.settled:
            return 0
        with self._audit.recording(
            AuditWord.BUDGET_SETTLED, plan_digest=digest, returned=account.remaining
        ) as recording:
            return self.settle_within(recording, digest)

    def verify(self) -> ChainReport:
        """Recompute chain, signatures and rules of every entry, and compare with the audit log."""
        with self._database.snapshot():
            return self._verify()

    def _verify(self) -> ChainReport:
        problems: list[str] = []
        state, head, count = LedgerState(), GENESIS, 0
        for row in self._database.rows("SELECT * FROM ledger ORDER BY idx"):
            index = int(row["idx"])
            try:
                entry = parse_entry(row["body"])
                state = step(state, entry)
                following = append(head, entry)
            except CohortiumError as error:
                problems.append(f"entry {index}: {error.code.meaning}")
                break
            if index != count or following != row["head"]:
                problems.append(f"entry {count} was changed, removed or put in later")
                break
            if not self._signed(row["signature"], count + 1, following):
                problems.append(f"entry {index} is not signed by this site")
                break
            head, count = following, count + 1
        if not problems:
            problems += self._missing_against_audit(head, count)
        return ChainReport(count, head, tuple(problems))

    def _missing_against_audit(self, head: str, count: int) -> list[str]:
        """Find an end that was cut off: the audit log names every head the ledger ever had."""
        newest = None
        for row in reversed(self._audit.rows()):
            named = row.event.attributes.get("ledger_head")
            if named is not None:
                newest = (row.event.attributes["ledger_entries"], named)
                break
        if newest is None and count == 0:
            return []
        if newest != (count, head):
            return ["the last entries are not those the audit log speaks of"]
        return []

    def _append(self, recording: Recording, entry: LedgerEntry) -> int:
        """Write one entry in the recording's transaction; at most one belongs to each."""
        connection: sqlite3.Connection = recording.connection
        # Read inside the transaction: another process may have written since.
        here, state = self._replayed()
        self.witness.check(here)
        step(state, entry)
        if isinstance(entry, Reserve):
            check_reserve(state, self.caps, entry)
        index = here.entries
        head = append(here.head, entry)
        now = format_time(self._clock())
        signed = seal(
            self._identity,
            Context.LEDGER,
            LedgerHead(site_id=self._site_id, entries=index + 1, head=head, at=now),
        )
        following = Point(entries=index + 1, head=head)
        self.witness.announce(here, following)
        connection.execute(
            "INSERT INTO ledger (idx, body, head, signature, written_at) VALUES (?, ?, ?, ?, ?)",
            (index, entry.canonical(), head, signed.canonical(), now),
        )
        recording.attributes["ledger_entries"] = index + 1
        recording.attributes["ledger_head"] = head
        recording.after.append(lambda: self.witness.confirm(following))
        return index

    def _signed(self, raw: bytes, entries: int, head: str) -> bool:
        try:
            signed = open_signed(
                parse(SignedDocument, raw, max_bytes=2 * MAX_AUDIT_EVENT_BYTES),
                Context.LEDGER,
                LedgerHead,
                expected_signer=public_hex(self._identity),
                max_bytes=MAX_AUDIT_EVENT_BYTES,
            )
        except CohortiumError:
            return False
        return (signed.site_id, signed.entries, signed.head) == (self._site_id, entries, head)

    def _reserve(self, plan: StudyPlan, digest: str) -> Reserve:
        statement = privacy_statement(plan)
        return Reserve(
            plan_digest=digest,
            study_id=plan.study_id,
            mechanisms=statement.events,
            delta=plan.privacy.delta,
            hospitals_per_patient=plan.privacy.hospitals_per_patient,
            collusion_bound=statement.collusion_bound,
            has_initial_weights=plan.model.initial_weights_origin is not None,
            salt=self._salt(),
        )

    def _salt(self) -> str:
        return self._entropy(SALT_BYTES).hex()
