"""How are the noised sums on disk, and read one at a time? A sum is as long as the model."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Final

from coordinator.db import Database, Event
from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.coordinator import words_from_bytes, words_to_bytes
from schemas.secagg.masking import MaskedSum

WORD_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class StoredSum:
    """One noised sum with the attempt that made it."""

    round: int
    attempt: int
    summed: MaskedSum


class SumRecords:
    """The sums of all studies, each with who contributed to it."""

    _db: Database

    def store_sum(self, digest: str, round: int, summed: MaskedSum, *, attempt: int) -> None:
        """Keep the noised sum of a training round; a second one for the round is refused.

        Raises:
            ProtocolError: the round has a sum already (code ``attempt.spent``).
        """
        event = Event("sum.stored", digest, {"round": round, "attempt": attempt})
        with self._db.write(event) as sql:
            try:
                sql.execute(
                    "INSERT INTO sums VALUES (?, ?, ?, ?, ?)",
                    (digest, round, attempt, words_to_bytes(summed.words), summed.tag),
                )
            except sqlite3.IntegrityError:
                raise ProtocolError(
                    ErrorCode.ATTEMPT_SPENT, "This round has its sum already."
                ) from None

    def summed_rounds(self, digest: str) -> list[int]:
        """Return the rounds that have a sum, in order."""
        with self._db.read() as sql:
            rows = sql.execute(
                "SELECT round FROM sums WHERE digest = ? ORDER BY round", (digest,)
            ).fetchall()
        return [row["round"] for row in rows]

    def sum_of(self, digest: str, round: int) -> StoredSum:
        """Return the sum of one round; its words look at what was read and cannot be changed.

        Raises:
            ProtocolError: the round has none (code ``sum.missing``).
        """
        with self._db.read() as sql:
            row = sql.execute(
                "SELECT * FROM sums WHERE digest = ? AND round = ?", (digest, round)
            ).fetchone()
        if row is None:
            raise ProtocolError(ErrorCode.SUM_MISSING, "This round has no sum.")
        words = words_from_bytes(row["words"], len(row["words"]) // WORD_BYTES)
        return StoredSum(row["round"], row["attempt"], MaskedSum(words, row["tag"]))

    def survivors(self, digest: str) -> dict[int, tuple[str, ...]]:
        """Return round -> contributors, for rounds that closed without some of their cohort."""
        with self._db.read() as sql:
            rows = sql.execute("SELECT * FROM survivors WHERE digest = ?", (digest,)).fetchall()
        return {row["round"]: tuple(json.loads(row["sites"])) for row in rows}
