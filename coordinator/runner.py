"""Which study runs now, and what becomes of it when it ends or cannot go on?

One study at a time, one Flower run each. A study that lacks sites waits, with the reason beside
each site, and does not block the next one; it is taken up again where its book left it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from coordinator.asking import Answer, Patience
from coordinator.book import StudyBook
from coordinator.lifecycle import StudyState
from coordinator.logs import get_logger
from coordinator.rounds import StudyEnded, StudyRun
from coordinator.studies import Studies, StudyRecord
from schemas.errors import CohortiumError, ErrorCode, TransportError

if TYPE_CHECKING:
    from coordinator.db import Database
    from coordinator.flower.control import Control
    from coordinator.flower.fleet import Fleet

_log = get_logger()
_TAKE_UP_SECONDS = 30.0
_WAIT_SECONDS = 15.0


class Runner:
    """Takes up runnable studies for as long as the coordinator serves."""

    def __init__(
        self,
        *,
        studies: Studies,
        database: Database,
        control: Control,
        fleet: Fleet,
        bundle: bytes,
        should_stop: Callable[[], bool],
        patience: Patience | None = None,
    ) -> None:
        """Run studies of `studies` over `fleet`; `bundle` is the code-free app bundle."""
        self._studies = studies
        self._database = database
        self._control = control
        self._fleet = fleet
        self._bundle = bundle
        self._should_stop = should_stop
        self._patience = patience or Patience()
        self._not_before: dict[str, float] = {}

    def run_forever(self, idle_seconds: float = 0.5) -> None:
        """Take up one study after another until told to stop."""
        while not self._should_stop():
            if not self.run_once():
                time.sleep(idle_seconds)

    def run_once(self) -> bool:
        """Run the next study as far as it goes; False when there was none."""
        now = time.monotonic()
        skip = [digest for digest, until in self._not_before.items() if until > now]
        record = self._studies.next_ready_to_run(skip)
        if record is None:
            return False
        self._studies.void_open_attempts(record.digest, ErrorCode.INTERNAL_PROCESS_ENDED.value)
        try:
            self._run(record)
        except StudyEnded as error:
            self._settle(record, error)
        except TransportError as error:
            _log.warning("study.interrupted", plan_digest=record.digest, code=error.code.value)
            self._not_before[record.digest] = time.monotonic() + 2.0
        return True

    def _run(self, record: StudyRecord) -> None:
        run_id = self._control.start_run(self._bundle)
        self._fleet.acquire(run_id, timeout_seconds=_TAKE_UP_SECONDS, stop=self._should_stop)
        ok = False
        try:
            StudyRun(
                plan=record.plan,
                book=StudyBook(self._studies, self._database, record),
                exchange=_Exchange(self._fleet, self._studies, record, self._should_stop),
                online=lambda: self._online(record),
                sleep=time.sleep,
                monotonic=time.monotonic,
                patience=self._patience,
                should_stop=self._should_stop,
            ).run()
            self._studies.set_state(record.digest, StudyState.DONE)
            _log.info("study.done", plan_digest=record.digest)
            ok = True
        finally:
            self._fleet.finish(ok)

    def _settle(self, record: StudyRecord, error: CohortiumError) -> None:
        """Let the study wait when sites are missing; end it when waiting cannot help."""
        state = self._studies.by_digest(record.digest).state
        if error.code is ErrorCode.INTERNAL_PROCESS_ENDED:
            return
        if error.code is ErrorCode.STUDY_QUORUM_LOST and self._can_recover(record):
            if state is not StudyState.WAITING:
                self._studies.set_state(record.digest, StudyState.WAITING, error.code.value)
            self._not_before[record.digest] = time.monotonic() + _WAIT_SECONDS
        else:
            self._studies.set_state(record.digest, StudyState.ENDED_EARLY, error.code.value)
        _log.info("study.paused", plan_digest=record.digest, code=error.code.value)

    def _can_recover(self, record: StudyRecord) -> bool:
        """Say whether enough sites are left that neither stopped nor refused."""
        willing = set(self._studies.approvals(record.digest))
        willing -= set(self._studies.stops(record.digest))
        attempts = self._studies.attempts(record.digest)
        closed = sum((each.kind, each.state) == ("train", "summed") for each in attempts)
        if closed < record.plan.rounds:
            return len(willing) >= record.plan.fewest_summed
        return len(willing) >= record.plan.cohort_minimum

    def _online(self, record: StudyRecord) -> frozenset[str]:
        nodes = self._fleet.online_nodes()
        roster = self._studies.roster(record.digest)
        return frozenset(site for site, node in roster.items() if node in nodes)


class _Exchange:
    """`Exchange` of `coordinator.rounds` over the fleet: site ids in, site ids out."""

    def __init__(
        self,
        fleet: Fleet,
        studies: Studies,
        record: StudyRecord,
        should_stop: Callable[[], bool],
    ) -> None:
        self._fleet = fleet
        self._studies = studies
        self._record = record
        self._should_stop = should_stop

    def __call__(
        self,
        requests: Mapping[str, bytes],
        *,
        timeout_seconds: float,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> Iterable[tuple[str, Answer]]:
        from coordinator.flower.fleet import Failure, Reply

        nodes = self._studies.roster(self._record.digest)
        known = {nodes[site]: site for site in requests if site in nodes}

        def read(answer: tuple[int, Reply | Failure]) -> tuple[str, Answer]:
            node, outcome = answer
            if isinstance(outcome, Reply):
                return known[node], Answer(outcome.body)
            return known[node], Answer(None, outcome.code.value)

        away = Answer(None, ErrorCode.SITE_OFFLINE.value)
        outcomes = self._fleet.answers(
            {node: requests[site] for node, site in known.items()},
            timeout_seconds=timeout_seconds,
            is_enough=is_enough,
            stop=self._should_stop,
        )
        # Not a loop: its variable would keep one answer while the next one comes.
        return chain(((s, away) for s in requests if s not in nodes), map(read, outcomes))
