"""What has this hospital spent on its patients' privacy, durably, over all studies?

The arithmetic and the rules are ``schemas.privacy.ledger``; this module keeps the entries on disk,
signs every head, and refuses what the rules refuse before anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.canonical import parse
from schemas.errors import BudgetExceeded, CohortiumError, ErrorCode
from schemas.ids import format_time
from schemas.limits import MAX_AUDIT_EVENT_BYTES
from schemas.privacy.ledger import (
    GENESIS,
    SALT_BYTES,
    Charge,
    LedgerEntry,
    LedgerHead,
    LedgerState,
    Reserve,
    Settle,
    append,
    parse_entry,
    replay,
    step,
)
from schemas.secagg.messages import roster_hash
from schemas.signing import Context, SignedDocument, open_signed, public_hex, seal
from site_node.clock import Clock, utc_now
from site_node.db import Database
from site_node.floors import Floors
from site_node.governance.audit import Audit, AuditWord, ChainReport, Recording

if TYPE_CHECKING:
    import sqlite3

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from schemas.entropy import Entropy
    from schemas.governance.study import StudyPlan
    from schemas.wire import Kind


@dataclass(frozen=True, slots=True)
class ChargeRef:
    """One attempt that was charged: where it stands in the ledger."""

    index: int
    plan_digest: str
    kind: str
    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Budget:
    """This hospital's privacy budget around one plan, over all studies on its patients.

    Attributes:
        spent: epsilon of every attempt opened so far.
        committed: epsilon if every approved plan uses all its attempts.
        after: the same with the plan in question added (equal if it is approved already).
        limit: the hospital's own cap on that.
        delta: the delta of all four.
    """

    spent: float
    committed: float
    after: float
    limit: float
    delta: float


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
        site_id: str,
        entropy: Entropy = os.urandom,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._audit = audit
        self._identity = identity
        self._floors = floors
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
        return replay(row.entry for row in self.rows())

    def head(self) -> str:
        """Give the hash of the whole ledger; it travels in every READY."""
        row = self._database.row("SELECT head FROM ledger ORDER BY idx DESC LIMIT 1")
        return GENESIS if row is None else str(row["head"])

    def charges(self, digest: str) -> int:
        """Count the training attempts charged under one plan; it travels in every READY of it.

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
        state = self.state()
        delta = self._floors.maximum_delta
        committed = state.committed_epsilon(delta=delta)
        after = committed
        if plan is not None and (digest := plan.digest()) not in state.accounts:
            after = state.committed_epsilon(delta=delta, also=self._reserve(plan, digest))
        return Budget(
            spent=state.charged_epsilon(delta=delta),
            committed=committed,
            after=after,
            limit=self._floors.maximum_epsilon_total,
            delta=delta,
        )

    def check_budget(self, plan: StudyPlan) -> None:
        """Refuse a plan this hospital's total does not cover.

        Raises:
            BudgetExceeded: LEDGER_INSUFFICIENT.
        """
        budget = self.budget(plan)
        if not budget.after <= budget.limit:
            raise BudgetExceeded(
                ErrorCode.LEDGER_INSUFFICIENT,
                f"With this plan the patients of this hospital could have spent epsilon "
                f"{budget.after:.4f}; the hospital allows {budget.limit:g} in total.",
                hint="Stop a study that is not needed any more (unopened attempts come back), or "
                "let the data steward raise floors.maximum_epsilon_total in site.toml.",
            )

    # --- writing ---------------------------------------------------------------------------

    def reserve_within(self, recording: Recording, plan: StudyPlan, digest: str) -> None:
        """Set aside the whole cost of a plan, in the transaction of its approval.

        Raises:
            BudgetExceeded: LEDGER_INSUFFICIENT.
            ProtocolError: it was reserved before.
        """
        self.check_budget(plan)
        self._append(recording, self._reserve(plan, digest))

    def charge_within(
        self,
        recording: Recording,
        digest: str,
        kind: Kind,
        round_number: int,
        attempt: int,
        roster: Sequence[str],
    ) -> ChargeRef:
        """Charge one attempt, in the transaction that also moves the journal.

        Raises:
            BudgetExceeded: LEDGER_RESERVE_SPENT.
            ProtocolError: charged before, older than the last, settled, or never reserved.
        """
        entry = Charge(
            plan_digest=digest,
            kind=kind,
            round=round_number,
            attempt=attempt,
            roster_hash=roster_hash(roster),
            salt=self._salt(),
        )
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
        connection: sqlite3.Connection = recording.connection
        rows = connection.execute("SELECT body, head FROM ledger ORDER BY idx").fetchall()
        # Replayed inside the transaction: another process may have written since.
        step(replay(parse_entry(row["body"]) for row in rows), entry)
        index = len(rows)
        head = append(rows[-1]["head"] if rows else GENESIS, entry)
        now = format_time(self._clock())
        signed = seal(
            self._identity,
            Context.LEDGER,
            LedgerHead(site_id=self._site_id, entries=index + 1, head=head, at=now),
        )
        connection.execute(
            "INSERT INTO ledger (idx, body, head, signature, written_at) VALUES (?, ?, ?, ?, ?)",
            (index, entry.canonical(), head, signed.canonical(), now),
        )
        recording.attributes["ledger_entries"] = index + 1
        recording.attributes["ledger_head"] = head
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
        return Reserve(
            plan_digest=digest,
            study_id=plan.study_id,
            attempts=plan.training.attempts,
            noise_multiplier=plan.privacy.noise_multiplier,
            sampling_rate=plan.training.sampling_rate,
            delta=plan.privacy.delta,
            hospitals_per_patient=plan.privacy.hospitals_per_patient,
            salt=self._salt(),
        )

    def _salt(self) -> str:
        return self._entropy(SALT_BYTES).hex()
