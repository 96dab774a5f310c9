"""How far is each study here? Rounds only go forward, and a restart goes on from the last step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from schemas.errors import ErrorCode, ProtocolError
from site_node.db import Database

if TYPE_CHECKING:
    import sqlite3

_STATES_KEPT: Final = 2  # the newest, and the one a late closing message may still name


class Journal:
    """Durable progress of each plan: highest round, optimiser states, peers' ledger heads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def highest(self, plan_digest: str, kind: str) -> tuple[int, int] | None:
        """Give the highest (round, attempt) taken up for this plan and kind, or None."""
        row = self._database.row(
            "SELECT round, attempt FROM journal_rounds WHERE plan_digest = ? AND kind = ?",
            plan_digest,
            kind,
        )
        return None if row is None else (int(row["round"]), int(row["attempt"]))

    def advance(self, plan_digest: str, kind: str, round_number: int, attempt: int) -> None:
        """Move to a later (round, attempt), durably.

        Raises:
            ProtocolError: MESSAGE_REPLAYED if it is not later than the highest one.
            InternalError: AUDIT_UNAVAILABLE if it cannot be written.
        """
        with self._database.write() as connection:
            self.advance_within(connection, plan_digest, kind, round_number, attempt)

    def advance_within(
        self,
        connection: sqlite3.Connection,
        plan_digest: str,
        kind: str,
        round_number: int,
        attempt: int,
    ) -> None:
        """Move as ``advance`` does, inside a transaction that also holds the charge."""
        moved = connection.execute(
            "INSERT INTO journal_rounds (plan_digest, kind, round, attempt) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (plan_digest, kind) DO UPDATE SET round = excluded.round, "
            "attempt = excluded.attempt WHERE (excluded.round, excluded.attempt) > "
            "(journal_rounds.round, journal_rounds.attempt)",
            (plan_digest, kind, round_number, attempt),
        )
        if moved.rowcount != 1:
            raise ProtocolError(
                ErrorCode.MESSAGE_REPLAYED,
                "This round and attempt was taken up before, or is older than one that was.",
                hint="The coordinator must open a later attempt.",
            )

    def save_state(self, plan_digest: str, step: int, state: bytes, last_sum_hash: str) -> None:
        """Keep the optimiser state after ``step`` steps, and forget all but the last two.

        Not forced: the charge that follows forces it, and a state lost to a power cut is asked
        for again.
        """
        with self._database.write(is_forced=False) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO journal_states VALUES (?, ?, ?, ?)",
                (plan_digest, step, state, last_sum_hash),
            )
            connection.execute(
                "DELETE FROM journal_states WHERE plan_digest = ? AND step <= ?",
                (plan_digest, step - _STATES_KEPT),
            )

    def load_state(
        self, plan_digest: str, step: int | None = None
    ) -> tuple[int, bytes, str] | None:
        """Give (step, state, hash of the last sum) of the newest or a named step, or None."""
        row = self._database.row(
            "SELECT step, state, last_sum_hash FROM journal_states WHERE plan_digest = ? "
            "AND step = coalesce(?, step) ORDER BY step DESC LIMIT 1",
            plan_digest,
            step,
        )
        if row is None:
            return None
        return int(row["step"]), bytes(row["state"]), str(row["last_sum_hash"])

    def remember_head(self, plan_digest: str, peer: str, head: str, charges: int) -> bool:
        """Note a peer's ledger head and its charges; False if its ledger went back.

        A hospital that restores an old copy shows a head it had left before. If it could move on
        unseen meanwhile, the head is new, and only the number of charges tells (SECAGG-17).

        Args:
            plan_digest: the plan.
            peer: the other hospital.
            head: its ledger's head.
            charges: training attempts that it says it has charged under this plan.
        """
        with self._database.write(is_forced=False) as connection:
            fewest = connection.execute(
                "SELECT charges FROM journal_charges WHERE plan_digest = ? AND peer = ?",
                (plan_digest, peer),
            ).fetchone()
            if fewest is not None and charges < fewest["charges"]:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO journal_charges VALUES (?, ?, ?)",
                (plan_digest, peer, charges),
            )
            newest = connection.execute(
                "SELECT head FROM journal_heads WHERE plan_digest = ? AND peer = ? "
                "ORDER BY ordinal DESC LIMIT 1",
                (plan_digest, peer),
            ).fetchone()
            if newest is not None and newest["head"] == head:
                return True
            added = connection.execute(
                "INSERT OR IGNORE INTO journal_heads (plan_digest, peer, head) VALUES (?, ?, ?)",
                (plan_digest, peer, head),
            )
            return added.rowcount == 1

    def expect_charges(self, plan_digest: str, charges: Mapping[str, int]) -> None:
        """Note the charges that each of these peers must have, since it contributed to a sum."""
        with self._database.write(is_forced=False) as connection:
            connection.executemany(
                "INSERT INTO journal_charges VALUES (?, ?, ?) ON CONFLICT (plan_digest, peer) "
                "DO UPDATE SET charges = max(charges, excluded.charges)",
                [(plan_digest, peer, fewest) for peer, fewest in charges.items()],
            )

    def evaluation_roster(self, plan_digest: str) -> tuple[str, ...] | None:
        """Give the roster the one evaluation of this plan is tied to, or None."""
        row = self._database.row(
            "SELECT roster FROM evaluation_rosters WHERE plan_digest = ?", plan_digest
        )
        return None if row is None else tuple(json.loads(row["roster"]))

    def fix_evaluation_roster(self, plan_digest: str, roster: Sequence[str]) -> None:
        """Tie the evaluation of this plan to one roster, for good.

        Raises:
            ProtocolError: EVALUATION_ROSTER_CHANGED if it is tied to another one. Two rosters
                differing by one hospital would open that hospital's counts.
        """
        wanted = sorted(roster)
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO evaluation_rosters VALUES (?, ?)",
                (plan_digest, json.dumps(wanted)),
            )
            row = connection.execute(
                "SELECT roster FROM evaluation_rosters WHERE plan_digest = ?", (plan_digest,)
            ).fetchone()
        if json.loads(row["roster"]) != wanted:
            raise ProtocolError(
                ErrorCode.EVALUATION_ROSTER_CHANGED,
                "The evaluation of this plan was begun with other hospitals.",
                hint="It can be repeated only with exactly the same ones.",
            )

    def fix_evaluation_snapshot(self, plan_digest: str, sha256: str) -> None:
        """Tie the evaluation of this plan to the test patients as they are now, for good.

        Raises:
            ProtocolError: SNAPSHOT_CHANGED if it was begun with others. Two evaluations that
                differ by one patient would show that patient to a colluding hospital.
        """
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO evaluation_snapshots VALUES (?, ?)", (plan_digest, sha256)
            )
            row = connection.execute(
                "SELECT sha256 FROM evaluation_snapshots WHERE plan_digest = ?", (plan_digest,)
            ).fetchone()
        if row["sha256"] != sha256:
            raise ProtocolError(
                ErrorCode.SNAPSHOT_CHANGED,
                "The test patients changed since the evaluation of this plan was begun.",
                hint="Ingest the earlier extract again, or write a new plan.",
            )
