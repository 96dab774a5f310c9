"""How does one study go from approved plan to signed model and co-signed results?

`StudyRun` drives the protocol with an injected `exchange`, so the same code runs over Flower, in
memory and against scripted faults. It holds no power: every rule that protects a patient is checked
again by each site, and what the coordinator decides here is only who is asked and when to give up.

Order of one attempt (READY → COHORT → charge → sample → compute → UPLOAD → sum): a lost site voids
the attempt, unless the plan is recoverable and `coordinator.recovery` saves it; fresh keys, sample
and noise follow under the next attempt number, within the plan's retry cap and with enough sites.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from coordinator.answers import check_final, check_ready, read_upload
from coordinator.asking import Asker, Exchange, Patience
from coordinator.calls import Calls
from coordinator.model import FinalModel, rebuild
from coordinator.recovery import Recovery
from coordinator.sums import Charges, RoundSum, Sums, SumStore, Uploads
from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.secagg.masking import MaskedSum
from schemas.secagg.messages import SignedReady
from schemas.signing import SignedDocument
from schemas.wire import (
    FinalReply,
    Frame,
    Kind,
    ReadyReply,
    ReleaseReply,
    Upload,
)

__all__ = ["Book", "RoundSum", "StudyEnded", "StudyRun"]


class Book(SumStore, Protocol):
    """What a run needs from the coordinator's durable store (see `coordinator.book`)."""

    def weights(self) -> bytes: ...
    def approvals(self) -> Mapping[str, SignedDocument]: ...
    def stopped_sites(self) -> frozenset[str]: ...
    def used_attempts(self) -> Mapping[tuple[Kind, int], int]: ...
    def open_attempt(
        self, kind: Kind, round_: int, attempt: int, roster: Sequence[str]
    ) -> None: ...
    def close_attempt(
        self, kind: Kind, round_: int, attempt: int, n_bytes: Mapping[str, int], code: str
    ) -> None: ...
    def note_bytes(self, kind: str, n_bytes: Mapping[str, int]) -> None: ...
    def finals(self) -> Mapping[str, SignedDocument]: ...
    def store_final(self, final: SignedDocument) -> None: ...
    def store_model(self, model: FinalModel) -> None: ...
    def evaluation_roster(self) -> tuple[str, ...]: ...
    def store_release(self, body: bytes, signatures: Mapping[str, str]) -> None: ...
    def note_waits(self, reasons: Mapping[str, str]) -> None: ...


class StudyEnded(CohortiumError):
    """The study cannot go on now; the code says why."""

    exit_code = 7


@dataclass(slots=True)
class StudyRun:
    """One study over its sites, resumable from the book.

    Attributes:
        should_stop: asked between attempts; the book holds everything to go on from.
    """

    plan: StudyPlan
    book: Book
    exchange: Exchange
    online: Callable[[], frozenset[str]]
    sleep: Callable[[float], None]
    monotonic: Callable[[], float]
    patience: Patience = field(default_factory=Patience)
    should_stop: Callable[[], bool] = lambda: False
    _digest: str = ""
    _asker: Asker = field(init=False)
    _sums: Sums = field(init=False)
    _calls: Calls = field(init=False)
    _attempts: dict[tuple[Kind, int], int] = field(init=False)
    _readies: dict[str, SignedReady] = field(default_factory=dict)
    _invited: set[str] = field(default_factory=set)
    _charges: Charges = field(init=False)

    def __post_init__(self) -> None:
        """Resume from what the book holds."""
        self._digest = self.plan.digest()
        self._asker = Asker(self.exchange, self.online, self.monotonic, self.patience)
        self._sums = Sums(self.book)
        self._calls = Calls(self._digest, self._sums, self.book)
        self._attempts = dict(self.book.used_attempts())
        self._charges = Charges(self._sums.between(0, len(self._sums)))

    def run(self) -> None:
        """Run the preparation, if there is one, and every step; close; evaluate once.

        Raises:
            StudyEnded: with the reason the study waits or ended early.
        """
        finals: Mapping[str, SignedDocument] = {}
        while not finals:  # the last sum may be refused at CLOSE and its round be repeated
            while len(self._sums) < self.plan.rounds:
                self._check_going_on(self.plan.fewest_summed)
                self._train_round(len(self._sums))
            finals = self._close()
        self._evaluate(finals)

    # -- training ----------------------------------------------------------------------------

    def _train_round(self, round_: int) -> None:
        attempt = self._next_attempt("train", round_)
        self._invite("train", round_, attempt, finals={})
        readies = {site: self._readies[site] for site in sorted(self._readies)}
        self._readies = {}
        calls = self._calls.cohort(readies, round_, attempt, self._invited)
        uploads, code = self._collect(calls, "train", round_, attempt)
        closed, code = self._sum_up(round_, attempt, readies, uploads, code)
        if closed is not None:
            self._sums.keep(closed)
            self._charges.summed(closed)
        else:
            self._readies = {}
        self.book.close_attempt("train", round_, attempt, uploads.sizes, code)
        if closed is None:
            self._take_back(calls)

    def _sum_up(
        self,
        round_: int,
        attempt: int,
        readies: Mapping[str, SignedReady],
        uploads: Uploads,
        code: str,
    ) -> tuple[RoundSum | None, str]:
        """Make the sum of an attempt's uploads, or say why there is none."""
        if self.plan.is_recoverable:
            asker, note = self._asker, self.book.note_bytes
            return Recovery(self.plan, asker, note, round_, attempt, readies, uploads).run()
        if code:
            return None, code
        summed = uploads.running.total(readies)
        return RoundSum(round_, attempt, summed, tuple(readies.values())), ""

    def _take_back(self, asked: Collection[str]) -> bool:
        """Take the last sum back if every site refuses it: one of them has sent a wrong part.

        Nobody has applied it, so its round is repeated; what was charged for it stays charged.
        """
        altered = ErrorCode.SUM_ALTERED.value
        if self._sums.last is None or not asked:
            return False
        if any(self._asker.reason_of(site) != altered for site in asked):
            return False
        self._sums.drop_last()
        self._readies = {}
        return True

    def _next_attempt(self, kind: Kind, round_: int) -> int:
        """Number the attempt: the one already promised in READY messages, else a fresh one."""
        alike = self._mechanism(kind, round_)
        used = sum(n for place, n in self._attempts.items() if self._mechanism(*place) == alike)
        if used >= self._attempts_allowed(alike):
            raise StudyEnded(
                ErrorCode.STUDY_RETRIES_SPENT,
                "The study used every attempt its plan allows.",
                hint="Write a new plan; what was charged stays charged.",
            )
        if self._readies:
            return next(iter(self._readies.values())).ready.attempt
        return self._attempts.get((kind, round_), 0)

    def _mechanism(self, kind: Kind, round_: int) -> str:
        """Name what an attempt is charged as; retries of one leave the others' alone."""
        return kind if kind == "evaluate" else self.plan.sum_terms(round_).mechanism

    def _attempts_allowed(self, mechanism: str) -> int:
        if mechanism == "preparation" and self.plan.preparation is not None:
            return self.plan.preparation.attempts
        training = self.plan.training
        return training.attempts if mechanism == "training" else 1 + training.retry_cap

    def _invite(
        self, kind: Kind, round_: int, attempt: int, finals: Mapping[str, SignedDocument]
    ) -> None:
        """Gather READY messages until enough sites are in, or patience ends.

        Sites that already sent the READY of this attempt with their last upload are not asked
        again; a site that was away is asked as soon as it is online again, without holding up
        the others once enough of them are ready. An evaluation waits for its whole roster.
        """
        fewest = self.plan.fewest_summed if kind == "train" else self.plan.cohort_minimum
        started = self.monotonic()
        self._invited = set()
        while True:
            wanted = sorted(finals) if kind == "evaluate" else sorted(self._allowed())
            self._readies = {s: r for s, r in self._readies.items() if s in wanted}
            asked = self._asker.invitable(s for s in wanted if s not in self._readies)
            if self._ask_ready(asked, kind, round_, attempt, finals):
                started = self.monotonic()
            missing = [s for s in wanted if s not in self._readies]
            self.book.note_waits(self._asker.why(missing))
            enough = len(self._readies) >= fewest
            late = self.monotonic() - started > self.patience.rejoin_seconds
            if enough and (not missing or (kind == "train" and (round_ > 0 or late))):
                return
            if late:
                raise StudyEnded(
                    ErrorCode.STUDY_QUORUM_LOST,
                    "Fewer sites than needed answered in time.",
                    hint="See the reason beside each site; the study goes on when they are back.",
                )
            self._check_going_on(fewest)
            self.sleep(self.patience.pause_seconds)

    def _ask_ready(
        self,
        sites: Sequence[str],
        kind: Kind,
        round_: int,
        attempt: int,
        finals: Mapping[str, SignedDocument],
    ) -> bool:
        """Ask for READY; True if a site took part of the sums it lacks and wants the rest."""
        requests = self._calls.opening(sites, kind, round_, attempt, finals)
        frames = self._asker.ask(requests, (ReadyReply,), self.patience.invite_seconds)
        for site, frame in frames.items():
            assert isinstance(frame.header, ReadyReply)
            if self._keep_ready(site, frame.header.ready, kind, round_, attempt):
                self._invited.add(site)
                self._calls.knows(site, round_ - 1)
        behind = self._calls.took_a_part(sites, self._asker.reasons)
        self._asker.spare(s for s in sites if s not in self._readies and s not in behind)
        return bool(behind)

    def _keep_ready(
        self, site: str, signed: SignedReady, kind: Kind, round_: int, attempt: int
    ) -> bool:
        """Keep a READY for the next cohort, unless it is not what was asked for."""
        try:
            ready = check_ready(self.plan, site, signed, kind, round_, attempt)
            self._charges.check(ready.ready)
            self._readies[site] = ready
        except CohortiumError as error:
            self._asker.reasons[site] = error.code.value
            return False
        return True

    def _collect(
        self, calls: Mapping[str, bytes], kind: Kind, round_: int, attempt: int
    ) -> tuple[Uploads, str]:
        """Send each site its COHORT; add up the uploads; say why the first lost one is lost."""
        # Written down before the cohort is announced: from here on the attempt may be charged.
        self.book.open_attempt(kind, round_, attempt, sorted(calls))
        self._attempts[kind, round_] = attempt + 1
        started, enough = self.monotonic(), self.plan.fewest_contributors(kind, len(calls))
        uploads = Uploads(hashes=kind == "train" and self.plan.is_recoverable)
        for site, frame in self._asker.answers(
            calls, (Upload,), self._asker.answer_seconds(), enough
        ):
            self._add_upload(uploads, site, frame, kind, round_, attempt)
            del frame  # a whole vector, which is in the sum now: gone while the next one comes
        lost = [site for site in calls if site not in uploads.sites]
        if lost:
            return uploads, self._asker.reason_of(lost[0])
        self._asker.took(self.monotonic() - started)
        return uploads, ""

    def _add_upload(
        self, uploads: Uploads, site: str, frame: Frame, kind: Kind, round_: int, attempt: int
    ) -> None:
        """Add one site's upload and keep the READY beside it; what is wrong is its reason."""
        header = frame.header
        assert isinstance(header, Upload)
        try:
            uploads.add(site, read_upload(self.plan, frame, kind, round_, attempt))
        except CohortiumError as error:
            self._asker.reasons[site] = error.code.value
            return
        if kind == "train":
            self._calls.knows(site, round_)
        # A round that was opened before, and taken back, needs READYs of a later attempt.
        if header.next_ready is not None and (kind, round_ + 1) not in self._attempts:
            self._keep_ready(site, header.next_ready, kind, round_ + 1, 0)

    # -- end of training ---------------------------------------------------------------------

    def _close(self) -> dict[str, SignedDocument]:
        """Deliver the last sum; gather every site's signature on the final model.

        Returns:
            Site id → signed final model; none if every site refused the last sum.
        """
        started = self.monotonic()
        model = rebuild(self.plan, self.book.weights(), self._sums.masked())
        finals = dict(self.book.finals())
        while True:
            waiting = [s for s in sorted(self._allowed()) if s not in finals]
            asked = self._asker.invitable(waiting)
            bodies = self._calls.closing(asked)
            frames = self._asker.ask(bodies, (FinalReply,), self._asker.answer_seconds())
            for site, frame in frames.items():
                assert isinstance(frame.header, FinalReply)
                try:
                    final = check_final(self.plan, site, frame.header.final, model.model_hash)
                except CohortiumError as error:
                    self._asker.reasons[site] = error.code.value
                    continue
                finals[site] = final
                self.book.store_final(final)
            behind = self._calls.took_a_part(asked, self._asker.reasons)
            self._asker.spare(s for s in asked if s not in finals and s not in behind)
            if not finals and len(asked) >= self.plan.cohort_minimum and self._take_back(asked):
                return {}
            started = self.monotonic() if behind else started
            waiting = [s for s in waiting if s not in finals]
            self.book.note_waits(self._asker.why(waiting))
            late = self.monotonic() - started > self.patience.rejoin_seconds
            if len(finals) >= self.plan.cohort_minimum and (not waiting or late):
                self.book.store_model(model)
                return finals
            if late:
                raise StudyEnded(
                    ErrorCode.STUDY_QUORUM_LOST,
                    "Too few sites signed the final model.",
                    hint="The study goes on when the sites are back; training is not repeated.",
                )
            self._check_going_on()
            self.sleep(self.patience.pause_seconds)

    # -- evaluation --------------------------------------------------------------------------

    def _evaluate(self, finals: Mapping[str, SignedDocument]) -> None:
        """Run the one coordinator-blind evaluation; retried only with the identical roster.

        A site that signs the model after the first attempt comes too late for it.
        """
        roster = sorted(self.book.evaluation_roster() or finals)
        finals = {site: finals[site] for site in roster}
        while True:
            self._readies = {}
            attempt = self._next_attempt("evaluate", 0)
            self._invite("evaluate", 0, attempt, finals)
            readies = [self._readies[site] for site in roster]
            calls = dict.fromkeys(roster, self._calls.evaluation(readies, attempt))
            uploads, code = self._collect(calls, "evaluate", 0, attempt)
            self.book.close_attempt("evaluate", 0, attempt, uploads.sizes, code)
            if not code and self._gather_release(attempt, uploads.running.total(roster), roster):
                return
            self._check_going_on()

    def _gather_release(self, attempt: int, summed: MaskedSum, roster: Sequence[str]) -> bool:
        """Return the blind sum to the sites; accept only bytes that all of them signed."""
        body = self._calls.result(attempt, summed)
        frames = self._asker.ask(
            dict.fromkeys(roster, body), (ReleaseReply,), self._asker.answer_seconds()
        )
        signatures: dict[str, str] = {}
        bodies: set[bytes] = set()
        for site, frame in frames.items():
            header = frame.header
            if isinstance(header, ReleaseReply) and len(frame.blobs) == 1:
                signatures[site] = header.signature
                bodies.add(bytes(frame.blobs[0]))
        self.book.note_waits(self._asker.why(set(roster) - set(signatures)))
        if set(signatures) != set(roster) or len(bodies) != 1:
            return False
        self.book.store_release(bodies.pop(), signatures)
        return True

    # -- helpers -----------------------------------------------------------------------------

    def _allowed(self) -> frozenset[str]:
        """Sites of the plan that approved it and did not stop it."""
        return frozenset(self.book.approvals()) - self.book.stopped_sites()

    def _check_going_on(self, fewest: int = 0) -> None:
        """Leave when the coordinator shuts down or too many sites stopped the study.

        Args:
            fewest: sites that the present phase needs; the cohort minimum by default.

        Raises:
            StudyEnded: INTERNAL_PROCESS_ENDED or STUDY_QUORUM_LOST.
        """
        if self.should_stop():
            raise StudyEnded(ErrorCode.INTERNAL_PROCESS_ENDED, "The coordinator is shutting down.")
        if len(self._allowed()) < (fewest or self.plan.cohort_minimum):
            raise StudyEnded(
                ErrorCode.STUDY_QUORUM_LOST, "Fewer sites than the plan's minimum are left."
            )
