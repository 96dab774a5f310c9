"""What happened in each round? Attempts, noised sums, signed finals, and the one signed release."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from coordinator.db import Database, Event
from coordinator.releases import check_belongs, check_signatures
from coordinator.sum_records import SumRecords
from schemas.canonical import parse, sha256_hex
from schemas.errors import ErrorCode, ProtocolError, TrustError
from schemas.evaluation import Release
from schemas.governance.study import StudyPlan, open_plan
from schemas.limits import MAX_PLAN_BYTES, MAX_RELEASE_BYTES
from schemas.models import model_hash as hash_model
from schemas.models import read_final, weights_from_seed
from schemas.signing import Context, SignedDocument, open_signed
from schemas.wire import Final as FinalStatement

Kind = Literal["train", "evaluate"]
MAX_FINAL_BYTES: Final = 4096  # two hashes and a name
MAX_SIGNED_FINAL_BYTES: Final = 4 * MAX_FINAL_BYTES
MAX_SIGNED_PLAN_BYTES: Final = 2 * MAX_PLAN_BYTES  # base64 and the signature around it


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one round; a void one stays charged at the sites."""

    kind: Kind
    round: int
    attempt: int
    state: Literal["open", "summed", "void"]
    roster: tuple[str, ...]
    opened: str
    closed: str | None
    seconds: float | None
    reason_code: str
    survivors: tuple[str, ...] = ()  # the contributors, where some of the roster were lost


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """The released bytes, parsed, and who signed them."""

    body: bytes
    release: Release
    signatures: Mapping[str, str]
    received_at: str


class RoundRecords(SumRecords):
    """Everything the runner writes down between two rounds, so that a restart can go on."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._opened: dict[tuple[str, Kind, int, int], float] = {}

    def record_attempt_opened(
        self, digest: str, *, kind: Kind, round: int, attempt: int, roster: Collection[str]
    ) -> None:
        """Store that an attempt begins, and who takes part.

        Raises:
            ProtocolError: this attempt was opened before (code ``attempt.spent``).
        """
        event = Event(
            "attempt.opened",
            digest,
            {"kind": kind, "round": round, "attempt": attempt, "sites": len(roster)},
        )
        with self._db.write(event) as sql:
            try:
                sql.execute(
                    "INSERT INTO attempts VALUES (?, ?, ?, ?, 'open', ?, ?, NULL, NULL, '')",
                    (digest, kind, round, attempt, json.dumps(sorted(roster)), self._db.now()),
                )
            except sqlite3.IntegrityError:
                raise ProtocolError(
                    ErrorCode.ATTEMPT_SPENT, "This attempt was opened before."
                ) from None
        self._opened[digest, kind, round, attempt] = time.monotonic()

    def record_attempt_closed(
        self,
        digest: str,
        *,
        kind: Kind,
        round: int,
        attempt: int,
        state: Literal["summed", "void"],
        reason_code: str = "",
        n_bytes: Mapping[str, int] | None = None,
    ) -> None:
        """Store how an open attempt ended.

        Args:
            digest: the plan's digest.
            kind: a training step or the evaluation.
            round: 0-based round.
            attempt: 0-based attempt at this round.
            state: ``summed`` when the sum came together, else ``void``.
            reason_code: why it is void.
            n_bytes: site id -> bytes of its masked words, where they arrived.

        Raises:
            ProtocolError: the attempt is not open (code ``attempt.unknown``).
        """
        started = self._opened.pop((digest, kind, round, attempt), None)
        seconds = None if started is None else time.monotonic() - started
        event = Event(
            f"attempt.{state}",
            digest,
            {"kind": kind, "round": round, "attempt": attempt, "code": reason_code},
        )
        with self._db.write(event) as sql:
            changed = sql.execute(
                "UPDATE attempts SET state = ?, closed = ?, seconds = ?, reason_code = ?"
                " WHERE digest = ? AND kind = ? AND round = ? AND attempt = ? AND state = 'open'",
                (state, self._db.now(), seconds, reason_code, digest, kind, round, attempt),
            )
            if changed.rowcount != 1:
                raise ProtocolError(ErrorCode.ATTEMPT_UNKNOWN, "This attempt is not open.")
            what = "masked-update" if kind == "train" else "masked-evaluation"
            for site_id, count in (n_bytes or {}).items():
                self._db.count(sql, site_id, self._study_id(digest), what, count)

    def void_open_attempts(self, digest: str, reason_code: str) -> int:
        """Close as void whatever a stopped coordinator left open; return how many."""
        left = [item for item in self.attempts(digest) if item.state == "open"]
        for item in left:
            self.record_attempt_closed(
                digest,
                kind=item.kind,
                round=item.round,
                attempt=item.attempt,
                state="void",
                reason_code=reason_code,
            )
        return len(left)

    def attempts(self, digest: str) -> list[Attempt]:
        """Return all attempts of a study: training by round, then the evaluation."""
        known = {("train", "summed", at): who for at, who in self.survivors(digest).items()}
        with self._db.read() as sql:
            rows = sql.execute(
                "SELECT * FROM attempts WHERE digest = ? ORDER BY kind DESC, round, attempt",
                (digest,),
            ).fetchall()
        return [
            Attempt(
                kind=row["kind"],
                round=row["round"],
                attempt=row["attempt"],
                state=row["state"],
                roster=tuple(json.loads(row["roster"])),
                opened=row["opened"],
                closed=row["closed"],
                seconds=row["seconds"],
                reason_code=row["reason_code"],
                survivors=known.get((row["kind"], row["state"], row["round"]), ()),
            )
            for row in rows
        ]

    def record_final(self, plan: StudyPlan, final: SignedDocument) -> str:
        """Store one site's signed final model hash and return the site's id.

        Raises:
            TrustError: no site of the plan made this signature.
            ProtocolError: it speaks of another plan, or the site signed another model before.
        """
        digest = plan.digest()
        keys = {site.identity_key: site.site_id for site in plan.sites}
        site_id = keys.get(final.signer)
        if site_id is None:
            raise TrustError(
                ErrorCode.SIGNER_UNEXPECTED, "A final model is signed by no site of the plan."
            )
        statement = open_signed(
            final,
            Context.FINAL,
            FinalStatement,
            expected_signer=final.signer,
            max_bytes=MAX_FINAL_BYTES,
        )
        known = self.finals(digest).get(site_id)
        if (
            statement.plan_digest != digest
            or statement.site_id != site_id
            or (known is not None and known[0] != statement.model_hash)
        ):
            raise ProtocolError(
                ErrorCode.FINAL_MISMATCH,
                "A site's final statement does not fit the study or its earlier statement.",
            )
        raw = final.canonical()
        with self._db.write(Event("final.received", digest, {"site_id": site_id})) as sql:
            sql.execute(
                "INSERT OR REPLACE INTO finals VALUES (?, ?, ?, ?)",
                (digest, site_id, statement.model_hash, raw),
            )
            self._db.count(sql, site_id, plan.study_id, "model-hash", len(raw))
        return site_id

    def finals(self, digest: str) -> dict[str, tuple[str, SignedDocument]]:
        """Return site id -> (model hash, the signed statement)."""
        with self._db.read() as sql:
            rows = sql.execute(
                "SELECT * FROM finals WHERE digest = ? ORDER BY site_id", (digest,)
            ).fetchall()
        return {
            row["site_id"]: (
                row["model_hash"],
                parse(SignedDocument, row["body"], max_bytes=MAX_SIGNED_FINAL_BYTES),
            )
            for row in rows
        }

    def store_model(self, digest: str, model_hash: str, safetensors: bytes) -> None:
        """Keep the final model, whose hash every final statement must carry.

        Raises:
            ProtocolError: no site signed, one signed another hash, or the file has another hash
                (code ``final.mismatch``).
        """
        plan = self._plan(digest)
        signed = {known for known, _ in self.finals(digest).values()}
        if signed != {model_hash} or hash_model(*read_final(plan, safetensors)) != model_hash:
            raise ProtocolError(
                ErrorCode.FINAL_MISMATCH, "The sites did not all sign this final model."
            )
        with self._db.write(Event("model.stored", digest, {"model_hash": model_hash})) as sql:
            sql.execute(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?)", (digest, model_hash, safetensors)
            )

    def model(self, digest: str) -> tuple[str, bytes] | None:
        """Return (model hash, safetensors) once there is a final model."""
        with self._db.read() as sql:
            row = sql.execute(
                "SELECT model_hash, safetensors FROM models WHERE digest = ?", (digest,)
            ).fetchone()
        return None if row is None else (row["model_hash"], row["safetensors"])

    def store_release(self, plan: StudyPlan, body: bytes, signatures: Mapping[str, str]) -> None:
        """Accept the result: these exact bytes, signed by every site of the evaluation's roster.

        Args:
            plan: the study's plan; its identity keys are the only ones that count.
            body: canonical bytes of the `Release`, as every site derived them.
            signatures: site id -> signature over ``body`` (context release).

        Raises:
            ProtocolError: the bytes are not a strict canonical release, speak of another plan,
                roster or model, or another release is stored already.
            TrustError: a roster site's signature is missing or does not hold, or a stranger's
                is among them.
        """
        digest = plan.digest()
        release = parse(Release, body, max_bytes=MAX_RELEASE_BYTES)
        stored = self.model(digest)
        check_belongs(
            plan,
            release,
            finals={site: known for site, (known, _) in self.finals(digest).items()},
            evaluated={
                item.roster
                for item in self.attempts(digest)
                if item.kind == "evaluate" and item.roster
            },
            model_hash=None if stored is None else stored[0],
        )
        check_signatures(plan, release, body, signatures)
        before = self.release(digest)
        if before is not None:
            if before.body != body:
                raise ProtocolError(
                    ErrorCode.RELEASE_MISMATCH, "Another result of this study is stored already."
                )
            return
        event = Event(
            "release.stored", digest, {"sha256": sha256_hex(body), "sites": len(release.roster)}
        )
        with self._db.write(event) as sql:
            sql.execute(
                "INSERT INTO releases VALUES (?, ?, ?, ?)",
                (digest, body, json.dumps(dict(signatures), sort_keys=True), self._db.now()),
            )
            for site_id in release.roster:
                self._db.count(sql, site_id, plan.study_id, "release", len(body))

    def release(self, digest: str) -> StoredRelease | None:
        """Return the stored result, if there is one."""
        with self._db.read() as sql:
            row = sql.execute("SELECT * FROM releases WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return None
        return StoredRelease(
            body=row["body"],
            release=parse(Release, row["body"], max_bytes=MAX_RELEASE_BYTES),
            signatures=json.loads(row["signatures"]),
            received_at=row["received_at"],
        )

    def weights(self, digest: str) -> bytes:
        """Return the initial weights (safetensors): the vendor's file, or what the seed gives.

        Raises:
            ProtocolError: no plan has this digest.
        """
        model = self._plan(digest).model
        if model.initialisation == "seed":
            return weights_from_seed(model)
        with self._db.read() as sql:
            row = sql.execute("SELECT body FROM weights WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise _unknown_plan()
        return bytes(row["body"])

    def _study_id(self, digest: str) -> str:
        row = (
            self._db.connection()
            .execute("SELECT study_id FROM studies WHERE digest = ?", (digest,))
            .fetchone()
        )
        return "" if row is None else str(row["study_id"])

    def _plan(self, digest: str) -> StudyPlan:
        row = (
            self._db.connection()
            .execute("SELECT plan FROM studies WHERE digest = ?", (digest,))
            .fetchone()
        )
        if row is None:
            raise _unknown_plan()
        return open_plan(parse(SignedDocument, row["plan"], max_bytes=MAX_SIGNED_PLAN_BYTES))


def _unknown_plan() -> ProtocolError:
    return ProtocolError(ErrorCode.PLAN_UNKNOWN, "No plan with this digest is known here.")
