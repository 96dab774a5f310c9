"""Which studies are there, who approved them, and which may run now?"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from coordinator.db import Database, Event
from coordinator.lifecycle import FINAL_STATES, RUNNABLE_STATES, StudyState, transition
from coordinator.records import MAX_SIGNED_PLAN_BYTES, RoundRecords
from coordinator.weights import check_initial
from schemas.canonical import parse
from schemas.errors import ErrorCode, PolicyDenied, ProtocolError, TrustError
from schemas.governance.approval import Approval, Stop, open_approval, open_stop
from schemas.governance.study import StudyPlan, open_plan
from schemas.identity import open_card
from schemas.ids import parse_time
from schemas.limits import MAX_APPROVAL_BYTES, MAX_CARD_BYTES
from schemas.signing import Context, SignedDocument, open_signed

MAX_SIGNED_APPROVAL_BYTES: Final = 2 * MAX_APPROVAL_BYTES


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """One plan digest with where it stands."""

    digest: str
    study_id: str
    plan: StudyPlan
    signed_plan: SignedDocument
    state: StudyState
    reason_code: str
    created: str
    updated: str


@dataclass(frozen=True, slots=True)
class SiteWait:
    """Why one site is being waited for, by code."""

    site_id: str
    reason_code: str
    since: str


class Studies(RoundRecords):
    """Proposed plans, the hospitals' answers, and everything the runner records of a study."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)

    def propose(self, raw: bytes, weights: bytes, *, bundle_sha256: str) -> StudyRecord:
        """Store a vendor's sealed plan and ask its hospitals; the same plan again changes nothing.

        Args:
            raw: canonical bytes of the sealed plan (context plan).
            weights: the vendor's initial weights (safetensors); empty where a seed gives them.
            bundle_sha256: digest of the app bundle this coordinator serves.

        Raises:
            TrustError: the plan's signature does not hold, or a site's key is not the enrolled one.
            ProtocolError: the plan does not parse, is expired, or as `check_initial` says.
            PolicyDenied: a begun study of this name has not ended (code ``study.exists``).
        """
        signed = parse(SignedDocument, raw, max_bytes=MAX_SIGNED_PLAN_BYTES)
        plan = open_sealed_plan(signed)
        digest = plan.digest()
        known = self._find(digest)
        if known is not None:
            return known
        if parse_time(plan.expires) <= self._db.clock():
            raise ProtocolError(ErrorCode.PLAN_EXPIRED, "The plan has expired.")
        check_initial(plan, weights)
        if plan.app_bundle_sha256 != bundle_sha256:
            raise ProtocolError(
                ErrorCode.BUNDLE_UNKNOWN,
                "The plan names another app bundle than the one this coordinator serves.",
                hint="Run cohortium study plan again; it asks the coordinator for the digest.",
            )
        self._check_enrolled(plan)
        self._replace_older(plan)
        with self._db.write(Event("study.proposed", digest, {"study_id": plan.study_id})) as sql:
            now = self._db.now()
            sql.execute(
                "INSERT INTO studies VALUES (?, ?, ?, ?, '', ?, ?, ?)",
                (
                    digest,
                    plan.study_id,
                    signed.canonical(),
                    StudyState.PROPOSED.value,
                    now,
                    now,
                    plan.expires,
                ),
            )
            if weights:
                sql.execute("INSERT INTO weights VALUES (?, ?)", (digest, weights))
        return self.by_digest(digest)

    def add_approval(self, raw: bytes, *, from_site: str) -> str:
        """Store a steward's approval and return its study's name; a repeated one changes nothing.

        Raises:
            TrustError: not signed by the approval key that the plan pins for this site.
            ProtocolError: it is for an unknown plan or another site.
        """
        signed = parse(SignedDocument, raw, max_bytes=MAX_SIGNED_APPROVAL_BYTES)
        stated = open_signed(
            signed, Context.APPROVAL, Approval, expected_signer=None, max_bytes=MAX_APPROVAL_BYTES
        )
        record = self.by_digest(stated.plan_digest)
        approval = open_approval(record.plan, signed)
        _check_sender(approval.site_id, from_site)
        if from_site in self.approvals(record.digest):
            return record.study_id
        event = Event("approval.received", record.digest, {"site_id": from_site})
        with self._db.write(event) as sql:
            sql.execute(
                "INSERT INTO approvals VALUES (?, ?, ?, ?)",
                (record.digest, from_site, signed.canonical(), self._db.now()),
            )
        self._settle_answers(record.digest)
        return record.study_id

    def add_stop(self, raw: bytes, *, from_site: str) -> str:
        """Store a steward's stop or refusal and return its study's name; it is final.

        Raises:
            TrustError: not signed by the approval key that the plan pins for this site.
            ProtocolError: it is for an unknown plan or another site.
        """
        signed = parse(SignedDocument, raw, max_bytes=MAX_SIGNED_APPROVAL_BYTES)
        stop = open_signed(
            signed, Context.STOP, Stop, expected_signer=None, max_bytes=MAX_APPROVAL_BYTES
        )
        record = self.by_digest(stop.plan_digest)
        open_stop(record.plan, signed)
        _check_sender(stop.site_id, from_site)
        if from_site in self.stops(record.digest):
            return record.study_id
        event = Event(
            "stop.received", record.digest, {"site_id": from_site, "code": stop.reason_code}
        )
        with self._db.write(event) as sql:
            sql.execute(
                "INSERT INTO stops VALUES (?, ?, ?, ?, ?)",
                (record.digest, from_site, stop.reason_code, signed.canonical(), self._db.now()),
            )
        self._settle_answers(record.digest)
        return record.study_id

    def start_with_approved(self, digest: str) -> None:
        """Go on with those who approved, on the vendor's word, without waiting for the rest.

        Raises:
            PolicyDenied: fewer approved than the plan needs in a sum.
        """
        record = self.by_digest(digest)
        ready = set(self.approvals(digest)) - set(self.stops(digest))
        if len(ready) < record.plan.fewest_summed:
            raise PolicyDenied(
                ErrorCode.APPROVAL_MISSING,
                "Fewer hospitals have approved than the plan needs in a sum.",
                hint="Run cohortium study watch to see whose answer is missing.",
            )
        self.set_state(digest, StudyState.APPROVED)

    def approvals(self, digest: str) -> dict[str, SignedDocument]:
        """Return site id -> its signed approval."""
        return self._answers("approvals", digest)

    def stops(self, digest: str) -> dict[str, SignedDocument]:
        """Return site id -> its signed stop."""
        return self._answers("stops", digest)

    def stop_reasons(self, digest: str) -> dict[str, str]:
        """Return site id -> the code its stop names."""
        with self._db.read() as sql:
            rows = sql.execute("SELECT site_id, reason_code FROM stops WHERE digest = ?", (digest,))
            return {row["site_id"]: row["reason_code"] for row in rows}

    def roster(self, digest: str) -> dict[str, int]:
        """Return site id -> node id of those who approved, did not stop, and are registered."""
        willing = set(self.approvals(digest)) - set(self.stops(digest))
        with self._db.read() as sql:
            rows = sql.execute("SELECT site_id, node_id FROM sites WHERE node_id IS NOT NULL")
            return {
                row["site_id"]: int(row["node_id"]) for row in rows if row["site_id"] in willing
            }

    def set_wait(self, digest: str, site_id: str, reason_code: str) -> None:
        """Store why this site is being waited for; an empty code says it is not."""
        before = self.waits(digest).get(site_id)
        if ("" if before is None else before.reason_code) == reason_code:
            return
        event = Event("site.wait", digest, {"site_id": site_id, "code": reason_code})
        with self._db.write(event) as sql:
            sql.execute(
                "INSERT OR REPLACE INTO waits VALUES (?, ?, ?, ?)",
                (digest, site_id, reason_code, self._db.now()),
            )

    def waits(self, digest: str) -> dict[str, SiteWait]:
        """Return site id -> why it is being waited for."""
        with self._db.read() as sql:
            rows = sql.execute(
                "SELECT * FROM waits WHERE digest = ? AND reason_code != ''", (digest,)
            )
            return {
                row["site_id"]: SiteWait(row["site_id"], row["reason_code"], row["since"])
                for row in rows
            }

    def set_state(self, digest: str, state: StudyState | str, reason_code: str = "") -> None:
        """Move a study along the transition table; the same state only renews the reason.

        Raises:
            ProtocolError: the table has no such move.
        """
        new = StudyState(state)
        record = self.by_digest(digest)
        if record.state is new and record.reason_code == reason_code:
            return
        name = "study.reason" if record.state is new else transition(record.state, new).audit_event
        with self._db.write(Event(name, digest, {"code": reason_code})) as sql:
            changed = sql.execute(
                "UPDATE studies SET state = ?, reason_code = ?, updated = ?"
                " WHERE digest = ? AND state = ?",
                (new.value, reason_code, self._db.now(), digest, record.state.value),
            )
            if changed.rowcount != 1:
                raise ProtocolError(
                    ErrorCode.STUDY_STATE, "The study moved on in the meantime; look again."
                )

    def next_ready_to_run(self, skip: Collection[str] = ()) -> StudyRecord | None:
        """Return the study the runner should take up now, or ``None``.

        Begun studies come before new ones, waiting ones last, so that no wait blocks another
        study. Overdue studies are marked expired first.

        Args:
            skip: digests not to return, such as those just found still waiting.
        """
        self.expire_overdue()
        order = {state: place for place, state in enumerate(RUNNABLE_STATES)}
        ready = [
            record for record in self.all() if record.state in order and record.digest not in skip
        ]
        waiting = StudyState.WAITING
        ready.sort(key=lambda item: (item.state is waiting, order[item.state], item.created))
        return ready[0] if ready else None

    def expire_overdue(self) -> None:
        """Mark every unfinished study whose last day has passed."""
        now = self._db.clock()
        for record in self.all():
            if record.state not in FINAL_STATES and parse_time(record.plan.expires) <= now:
                self.set_state(record.digest, StudyState.EXPIRED, ErrorCode.PLAN_EXPIRED.value)

    def all(self) -> list[StudyRecord]:
        """Return every plan digest, oldest first."""
        with self._db.read() as sql:
            rows = sql.execute("SELECT * FROM studies ORDER BY created, rowid").fetchall()
        return [_record(row) for row in rows]

    def by_digest(self, digest: str) -> StudyRecord:
        """Return one plan's record.

        Raises:
            ProtocolError: no plan has this digest (code ``plan.unknown``).
        """
        found = self._find(digest)
        if found is None:
            raise ProtocolError(ErrorCode.PLAN_UNKNOWN, "No plan with this digest is known here.")
        return found

    def by_name(self, study_id: str) -> StudyRecord:
        """Return the newest plan of a study.

        Raises:
            ProtocolError: no study has this name (code ``study.unknown``).
        """
        with self._db.read() as sql:
            row = sql.execute(
                "SELECT * FROM studies WHERE study_id = ?"
                " ORDER BY created DESC, rowid DESC LIMIT 1",
                (study_id,),
            ).fetchone()
        if row is None:
            raise ProtocolError(
                ErrorCode.STUDY_UNKNOWN, "No such study.", hint="cohortium study list"
            )
        return _record(row)

    def _find(self, digest: str) -> StudyRecord | None:
        with self._db.read() as sql:
            row = sql.execute("SELECT * FROM studies WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else _record(row)

    def _answers(self, table: str, digest: str) -> dict[str, SignedDocument]:
        query = {
            "approvals": "SELECT site_id, body FROM approvals WHERE digest = ? ORDER BY site_id",
            "stops": "SELECT site_id, body FROM stops WHERE digest = ? ORDER BY site_id",
        }[table]
        with self._db.read() as sql:
            rows = sql.execute(query, (digest,)).fetchall()
        return {
            row["site_id"]: parse(SignedDocument, row["body"], max_bytes=MAX_SIGNED_APPROVAL_BYTES)
            for row in rows
        }

    def _settle_answers(self, digest: str) -> None:
        """Move a proposed study on once the hospitals' answers decide it."""
        record = self.by_digest(digest)
        if record.state is not StudyState.PROPOSED:
            return
        sites = {site.site_id for site in record.plan.sites}
        stopped = set(self.stops(digest))
        approved = set(self.approvals(digest)) - stopped
        if len(sites - stopped) < record.plan.fewest_summed:
            self.set_state(digest, StudyState.REFUSED, ErrorCode.STUDY_TOO_FEW_SITES.value)
        elif approved | stopped == sites:
            self.set_state(digest, StudyState.APPROVED)

    def _replace_older(self, plan: StudyPlan) -> None:
        named = [record for record in self.all() if record.study_id == plan.study_id]
        for record in [each for each in named if each.state not in FINAL_STATES]:
            foreign = record.plan.vendor_key != plan.vendor_key
            if foreign or record.state is not StudyState.PROPOSED:
                raise PolicyDenied(
                    ErrorCode.STUDY_EXISTS,
                    "A study of this name has begun, or is another vendor's.",
                    hint="Give the study a name of its own.",
                )
            self.set_state(record.digest, StudyState.REPLACED, ErrorCode.STUDY_EXISTS.value)

    def _check_enrolled(self, plan: StudyPlan) -> None:
        with self._db.read() as sql:
            rows = sql.execute("SELECT site_id, card FROM sites").fetchall()
        cards = {
            row["site_id"]: open_card(parse(SignedDocument, row["card"], max_bytes=MAX_CARD_BYTES))
            for row in rows
        }
        for site in plan.sites:
            card = cards.get(site.site_id)
            if card is None:
                raise ProtocolError(
                    ErrorCode.SITE_UNKNOWN,
                    "The plan names a site that is not enrolled.",
                    hint="Invite the site first, or take it out of the plan.",
                )
            if not site.has_keys_of(card):
                raise TrustError(
                    ErrorCode.PEER_KEY_SUBSTITUTED,
                    "The plan holds another key for a site than the one it enrolled with.",
                )


def open_sealed_plan(signed: SignedDocument) -> StudyPlan:
    """Open a sealed plan from outside; altered bytes get a code of their own.

    Raises:
        TrustError: the signature does not hold, or another key made it than the plan names.
        ProtocolError: the payload is not a study plan.
    """
    try:
        return open_plan(signed)
    except TrustError as error:
        if error.code is ErrorCode.SIGNATURE_INVALID:
            raise TrustError(
                ErrorCode.PLAN_TAMPERED, "The plan's bytes are not those that were signed."
            ) from None
        raise


def _check_sender(stated: str, from_site: str) -> None:
    if stated != from_site:
        raise ProtocolError(
            ErrorCode.MESSAGE_OTHER_SITE, "The answer is of another site than its sender."
        )


def _record(row: sqlite3.Row) -> StudyRecord:
    signed = parse(SignedDocument, row["plan"], max_bytes=MAX_SIGNED_PLAN_BYTES)
    return StudyRecord(
        digest=row["digest"],
        study_id=row["study_id"],
        plan=open_plan(signed),
        signed_plan=signed,
        state=StudyState(row["state"]),
        reason_code=row["reason_code"],
        created=row["created"],
        updated=row["updated"],
    )
