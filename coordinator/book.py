"""How does a running study write itself down? `Book` of `coordinator.rounds` over the database."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from pydantic import TypeAdapter

from coordinator.db import Database, Event
from coordinator.lifecycle import StudyState
from coordinator.model import FinalModel
from coordinator.studies import Studies, StudyRecord
from coordinator.sums import RoundSum
from schemas.errors import ErrorCode
from schemas.secagg.messages import SignedReady
from schemas.signing import SignedDocument
from schemas.wire import Kind


class StudyBook:
    """The durable record of one plan digest, as its run needs it."""

    def __init__(self, studies: Studies, database: Database, record: StudyRecord) -> None:
        """Keep the book of `record`'s plan."""
        self._studies = studies
        self._db = database
        self._record = record
        self._digest = record.digest

    def weights(self) -> bytes:
        """Give the initial weights (safetensors)."""
        return self._studies.weights(self._digest)

    def approvals(self) -> Mapping[str, SignedDocument]:
        """Give site id → signed approval."""
        return self._studies.approvals(self._digest)

    def stopped_sites(self) -> frozenset[str]:
        """Name the sites whose steward stopped the study."""
        return frozenset(self._studies.stops(self._digest))

    def used_attempts(self) -> Mapping[tuple[Kind, int], int]:
        """Count the attempts opened so far, by kind and round."""
        used: dict[tuple[Kind, int], int] = {}
        for entry in self._studies.attempts(self._digest):
            place = (entry.kind, entry.round)
            used[place] = max(used.get(place, 0), entry.attempt + 1)
        return used

    def open_attempt(self, kind: Kind, round_: int, attempt: int, roster: Sequence[str]) -> None:
        """Write down that an attempt begins and who takes part; move the study to that phase."""
        wanted = StudyState.TRAINING if kind == "train" else StudyState.EVALUATING
        if self._studies.by_digest(self._digest).state is not wanted:
            self._studies.set_state(self._digest, wanted)
        self._studies.record_attempt_opened(
            self._digest, kind=kind, round=round_, attempt=attempt, roster=roster
        )

    def close_attempt(
        self, kind: Kind, round_: int, attempt: int, n_bytes: Mapping[str, int], code: str
    ) -> None:
        """Write down how an attempt ended; a code makes it void."""
        self._studies.record_attempt_closed(
            self._digest,
            kind=kind,
            round=round_,
            attempt=attempt,
            state="void" if code else "summed",
            reason_code=code,
            n_bytes=n_bytes,
        )

    def note_bytes(self, kind: str, n_bytes: Mapping[str, int]) -> None:
        """Count what arrived from each site beside its uploads, which the attempt's end counts."""
        for site_id, count in n_bytes.items():
            self._db.tally(site_id, self._record.study_id, kind, count)

    def store_sum(self, closed: RoundSum) -> None:
        """Keep a noised sum, the signed cohort behind it and who of it contributed."""
        readies = b"[" + b",".join(ready.canonical() for ready in closed.readies) + b"]"
        with self._db.write(Event("cohort.stored", self._digest, {"round": closed.round})) as sql:
            sql.execute(
                "INSERT OR REPLACE INTO cohorts VALUES (?, ?, ?)",
                (self._digest, closed.round, readies),
            )
            sql.execute(
                "DELETE FROM survivors WHERE digest = ? AND round = ?",
                (self._digest, closed.round),
            )
            if closed.survivors:
                sql.execute(
                    "INSERT OR REPLACE INTO survivors VALUES (?, ?, ?)",
                    (self._digest, closed.round, json.dumps(closed.survivors)),
                )
        self._studies.store_sum(self._digest, closed.round, closed.summed, attempt=closed.attempt)

    def drop_sum(self, round_: int) -> None:
        """Forget the sum of a round that every site refuses; its attempt is void."""
        code = ErrorCode.SUM_ALTERED.value
        event = Event("sum.dropped", self._digest, {"round": round_, "code": code})
        with self._db.write(event) as sql:
            for table in ("sums", "cohorts", "survivors"):
                sql.execute(
                    f"DELETE FROM {table} WHERE digest = ? AND round = ?",
                    (self._digest, round_),
                )
            sql.execute(
                "UPDATE attempts SET state = 'void', reason_code = ? "
                "WHERE digest = ? AND kind = 'train' AND round = ? AND state = 'summed'",
                (code, self._digest, round_),
            )

    def count_sums(self) -> int:
        """Count the closed rounds."""
        return len(self._studies.summed_rounds(self._digest))

    def load_sums(self, first: int, before: int) -> Iterator[RoundSum]:
        """Read the sums of rounds `first` to `before` - 1 in order, each when it is asked for."""
        rounds = self._studies.summed_rounds(self._digest)
        return map(self._load_sum, [each for each in rounds if first <= each < before])

    def _load_sum(self, round_: int) -> RoundSum:
        with self._db.read() as sql:
            row = sql.execute(
                "SELECT readies FROM cohorts WHERE digest = ? AND round = ?",
                (self._digest, round_),
            ).fetchone()
        stored = self._studies.sum_of(self._digest, round_)
        return RoundSum(
            stored.round,
            stored.attempt,
            stored.summed,
            _READIES.validate_json(row["readies"]),
            self._studies.survivors(self._digest).get(round_, ()),
        )

    def finals(self) -> Mapping[str, SignedDocument]:
        """Give site id → signed final model hash."""
        return {site: item[1] for site, item in self._studies.finals(self._digest).items()}

    def store_final(self, final: SignedDocument) -> None:
        """Keep one site's signature on the final model."""
        self._studies.record_final(self._record.plan, final)

    def store_model(self, model: FinalModel) -> None:
        """Keep the final model."""
        self._studies.store_model(self._digest, model.model_hash, model.safetensors)

    def store_release(self, body: bytes, signatures: Mapping[str, str]) -> None:
        """Keep the co-signed release."""
        self._studies.store_release(self._record.plan, body, signatures)

    def evaluation_roster(self) -> tuple[str, ...]:
        """Name the sites of the first evaluation attempt; none if there was none."""
        attempts = self._studies.attempts(self._digest)
        return next((each.roster for each in attempts if each.kind == "evaluate"), ())

    def note_waits(self, reasons: Mapping[str, str]) -> None:
        """Show why a site is being waited for; sites not named are not."""
        for site in self._record.plan.sites:
            self._studies.set_wait(self._digest, site.site_id, reasons.get(site.site_id, ""))


_READIES: TypeAdapter[tuple[SignedReady, ...]] = TypeAdapter(tuple[SignedReady, ...])
