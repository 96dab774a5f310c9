"""What is there to see of the studies? One read-only picture for the page and the API alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Final, Literal

from coordinator.db import Database, Received
from coordinator.enrolment import Enrolment, Site
from coordinator.lifecycle import FINAL_STATES, StudyState
from coordinator.privacy_view import PrivacyView, View, privacy_view
from coordinator.records import Attempt
from coordinator.studies import Studies, StudyRecord
from schemas.errors import ErrorCode
from schemas.evaluation import Release
from schemas.governance.study import StudyPlan
from schemas.identity import fingerprint_words

_STATE_WORDS: Final[Mapping[StudyState, str]] = {
    StudyState.PROPOSED: "Waiting for the hospitals' answers",
    StudyState.APPROVED: "Approved; about to begin",
    StudyState.TRAINING: "Training",
    StudyState.WAITING: "Waiting for a hospital",
    StudyState.EVALUATING: "Evaluating the final model",
    StudyState.DONE: "Done",
    StudyState.ENDED_EARLY: "Ended early",
    StudyState.REFUSED: "Refused by the hospitals",
    StudyState.REPLACED: "Replaced by a changed plan",
    StudyState.EXPIRED: "Expired",
}
_PREPARING: Final = "Preparing the inputs"  # training has begun, with the sum before its steps
_OWN_REASONS: Final = {
    "waiting.answer": "It was asked and has not answered yet.",
    "stop.steward": "Its data steward stopped the study.",
    "approval.awaited": "Its data steward has not answered the plan yet.",
}

SiteStatus = Literal["approved", "awaited", "waiting", "stopped", "taking-part", "signed"]


class Sent(View):
    """What one site has sent of one kind."""

    kind: str
    messages: int
    bytes: int


class SiteView(View):
    """One hospital within one study."""

    site_id: str
    name: str
    status: SiteStatus
    reason_code: str
    reason: str
    since: str
    sent: tuple[Sent, ...]
    sent_bytes: int


class RoundView(View):
    """One attempt at a round; ``step`` counts optimiser steps from 0, below 0: the preparation."""

    kind: str
    round: int
    step: int
    attempt: int
    state: str
    sites: int
    sites_lost: int
    seconds: float | None
    reason_code: str
    reason: str


class AggregationView(View):
    """How the hospitals' updates are added, and what happens when one is lost."""

    mode: str
    maximum_dropouts: int
    survivor_threshold: int | None  # signatures under a list of survivors; none in atomic mode
    fewest_summed: int
    pair_root: str


class ResultView(View):
    """The released numbers, with who signed them."""

    release: Release
    method: str
    sensitivity_method: str
    signed_by: tuple[str, ...]
    released_at: str


class StudyView(View):
    """One study as people read it."""

    study_id: str
    title: str
    purpose: str
    digest: str
    state: StudyState
    state_words: str
    is_final: bool
    reason_code: str
    reason: str
    created: str
    updated: str
    expires: str
    vendor: str
    recipients: tuple[str, ...]
    architecture: str
    parameters: int
    steps: int
    steps_done: int
    cohort_minimum: int
    aggregation: AggregationView
    attempts_opened: int
    attempts_void: int
    round_seconds_median: float | None
    sites: tuple[SiteView, ...]
    rounds: tuple[RoundView, ...]
    privacy: PrivacyView
    model_hash: str
    result: ResultView | None


class EnrolledView(View):
    """One hospital as the coordinator knows it."""

    site_id: str
    name: str
    fingerprint: str
    words: str
    enrolled_at: str
    registered: bool
    last_seen: str
    received_bytes: int


class Overview:
    """Reads the database; writes nothing."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._studies = Studies(database)

    def studies(self) -> list[StudyView]:
        """Return every study that was not replaced, newest first."""
        shown = [r for r in self._studies.all() if r.state is not StudyState.REPLACED]
        received = self._db.received()
        return [self._study(record, received) for record in reversed(shown)]

    def study(self, study_id: str) -> StudyView:
        """Return the newest plan of one study.

        Raises:
            ProtocolError: no study has this name.
        """
        return self._study(self._studies.by_name(study_id), self._db.received())

    def enrolled(self, sites: Sequence[Site]) -> list[EnrolledView]:
        """Return the enrolled hospitals with their fingerprints, for comparing by telephone."""
        arrived: dict[str, int] = {}
        for item in self._db.received():
            if not item.study_id:  # what the gateway counted at its socket, all studies together
                arrived[item.site_id] = arrived.get(item.site_id, 0) + item.n_bytes
        return [
            EnrolledView(
                site_id=site.site_id,
                name=site.name,
                fingerprint=site.fingerprint,
                words=fingerprint_words(site.fingerprint),
                enrolled_at=site.enrolled_at,
                registered=site.node_id is not None,
                last_seen=site.last_seen or "",
                received_bytes=arrived.get(site.site_id, 0),
            )
            for site in sites
        ]

    def hospitals(self) -> list[EnrolledView]:
        """Return every enrolled hospital."""
        return self.enrolled(Enrolment(self._db).sites())

    def _study(self, record: StudyRecord, received: Sequence[Received]) -> StudyView:
        plan = record.plan
        attempts = self._studies.attempts(record.digest)
        training = [item for item in attempts if item.kind == "train"]
        seconds = [
            item.seconds for item in training if item.state == "summed" and item.seconds is not None
        ]
        finals = self._studies.finals(record.digest)
        sites = self._sites(record, attempts, finals, received)
        reason_code, reason = record.reason_code, reason_text(record.reason_code)
        if record.state is StudyState.PROPOSED:
            reason_code = ErrorCode.STUDY_WAITING_APPROVAL.value
            awaited = sum(site.status == "awaited" for site in sites)
            reason = f"{awaited} of {len(sites)} hospitals have not answered the plan yet."
        return StudyView(
            study_id=record.study_id,
            title=plan.title,
            purpose=plan.purpose,
            digest=record.digest,
            state=record.state,
            state_words=_state_words(record, training),
            is_final=record.state in FINAL_STATES,
            reason_code=reason_code,
            reason=reason,
            created=record.created,
            updated=record.updated,
            expires=plan.expires,
            vendor=plan.vendor,
            recipients=plan.recipients,
            architecture=plan.model.architecture.value,
            parameters=plan.model.parameters,
            steps=plan.training.steps,
            steps_done=sum(
                item.state == "summed" and item.round >= plan.preparation_rounds
                for item in training
            ),
            cohort_minimum=plan.cohort_minimum,
            aggregation=_aggregation(plan),
            attempts_opened=len(training),
            attempts_void=sum(item.state == "void" for item in training),
            round_seconds_median=round(median(seconds), 3) if seconds else None,
            sites=sites,
            rounds=tuple(_round(item, plan) for item in attempts),
            privacy=privacy_view(plan, len(training)),
            model_hash=next((known for known, _ in finals.values()), ""),
            result=self._result(record),
        )

    def _sites(
        self,
        record: StudyRecord,
        attempts: Sequence[Attempt],
        finals: Collection[str],
        received: Sequence[Received],
    ) -> tuple[SiteView, ...]:
        approvals = self._studies.approvals(record.digest)
        stops = self._studies.stop_reasons(record.digest)
        waits = self._studies.waits(record.digest)
        last = attempts[-1].roster if attempts else ()
        views = []
        for site in sorted(record.plan.sites, key=lambda item: item.site_id):
            code, since = "", ""
            status: SiteStatus = "approved"
            if site.site_id in stops:
                status, code = "stopped", stops[site.site_id]
            elif site.site_id not in approvals:
                status, code = "awaited", "approval.awaited"
            elif site.site_id in waits and record.state not in FINAL_STATES:
                status = "waiting"
                code, since = waits[site.site_id].reason_code, waits[site.site_id].since
            elif site.site_id in finals:
                status = "signed"
            elif site.site_id in last:
                status = "taking-part"
            sent = tuple(
                Sent(kind=item.kind, messages=item.n_messages, bytes=item.n_bytes)
                for item in received
                if item.site_id == site.site_id and item.study_id == record.study_id
            )
            views.append(
                SiteView(
                    site_id=site.site_id,
                    name=site.name,
                    status=status,
                    reason_code=code,
                    reason=reason_text(code),
                    since=since,
                    sent=sent,
                    sent_bytes=sum(item.bytes for item in sent),
                )
            )
        return tuple(views)

    def _result(self, record: StudyRecord) -> ResultView | None:
        stored = self._studies.release(record.digest)
        if stored is None:
            return None
        return ResultView(
            release=stored.release,
            method="DeLong on binned scores, 95 % interval; bound covers binning and rounding",
            sensitivity_method="at the plan's threshold; Wilson, 95 %",
            signed_by=tuple(sorted(stored.signatures)),
            released_at=stored.received_at,
        )


def reason_text(code: str) -> str:
    """Return what a code means to a person; an unknown code stands for itself."""
    if not code:
        return ""
    if code in _OWN_REASONS:
        return _OWN_REASONS[code]
    try:
        return ErrorCode(code).meaning
    except ValueError:
        return f"Reason given: {code}"


def _round(item: Attempt, plan: StudyPlan) -> RoundView:
    return RoundView(
        kind=item.kind,
        round=item.round,
        step=item.round - plan.preparation_rounds,
        attempt=item.attempt,
        state=item.state,
        sites=len(item.roster),
        sites_lost=len(item.roster) - len(item.survivors) if item.survivors else 0,
        seconds=None if item.seconds is None else round(item.seconds, 3),
        reason_code=item.reason_code,
        reason=reason_text(item.reason_code),
    )


def _state_words(record: StudyRecord, training: Sequence[Attempt]) -> str:
    """Say a state in words; training begins with the preparation, where the plan has one."""
    prepared = record.plan.preparation_rounds
    done = not prepared or any(x.round < prepared and x.state == "summed" for x in training)
    if record.state is StudyState.TRAINING and not done:
        return _PREPARING
    return _STATE_WORDS[record.state]


def _aggregation(plan: StudyPlan) -> AggregationView:
    return AggregationView(
        mode=plan.aggregation.mode,
        maximum_dropouts=plan.aggregation.maximum_dropouts,
        survivor_threshold=plan.survivor_threshold if plan.is_recoverable else None,
        fewest_summed=plan.fewest_summed,
        pair_root=plan.aggregation.pair_root,
    )
