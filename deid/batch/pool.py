"""How do several processes share the work, in order, without one bad file stopping it?

Each worker has one file at a time. A worker that dies (a crash in a decoder, the kernel out of
memory) takes only its own file with it: that file is tried once more, alone, in a fresh process,
and is quarantined if that dies too. A file over the time limit is quarantined at once. Results
come out in the order the files went in, from a window of bounded size, so neither the number of
workers nor their speed shows in anything that is written.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from deid.batch.journal import Entry
from deid.batch.messages import Done, Job, Setup, start_worker
from schemas.errors import ErrorCode, InternalError

RETIRED_AFTER = 2000  # files; what a decoder leaks in one worker goes with it
WINDOW = 256  # files between the first unfinished one and the last begun; about 1 KB each
_START_SECONDS = 120.0  # imports and models from a slow disk
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ready:
    """Stand for a file whose fate is known without a worker."""

    number: int
    entry: Entry


Task = Job | Ready


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Job | None = None
    deadline: float = 0.0
    is_ready: bool = False
    jobs: int = 0


@dataclass(slots=True)
class Pool:
    """Run jobs on worker processes, which start when there is work.

    Attributes:
        setup: what each worker is told.
        workers: how many at most.
        time_limit_seconds: how long one file may take.
        target: what a worker process runs; it gets its end of the pipe.
    """

    setup: Setup
    workers: int
    time_limit_seconds: float
    target: Callable[[Connection], None] = start_worker
    _running: list[_Worker] = field(default_factory=list)
    _suspects: list[Job] = field(default_factory=list)
    _done: dict[int, Done] = field(default_factory=dict)

    def results(self, tasks: Iterator[Task]) -> Iterator[list[Done]]:
        """Do the tasks, numbered from 0, and give what is done, in order, in small lists.

        Raises:
            InternalError: workers cannot be started.
        """
        held = next(tasks, None)
        begun = given = 0
        try:
            while True:
                while held is not None and begun - given < WINDOW and self._begin(held):
                    begun += 1
                    held = next(tasks, None)
                if given < begun and given not in self._done:
                    self._wait()
                batch = []
                while given in self._done:
                    batch.append(self._done.pop(given))
                    given += 1
                if batch:
                    yield batch
                if held is None and given == begun:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """End the workers; what they had in hand is not recorded, so it is done again."""
        for worker in self._running:
            worker.connection.close()  # an idle one ends by itself
        for worker in self._running:
            if worker.job is not None:
                worker.process.kill()
            worker.process.join(_END_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join(_END_SECONDS)
        self._running.clear()

    def _begin(self, task: Task) -> bool:
        """Begin a task, or say that no worker is free for it."""
        if isinstance(task, Ready):
            self._done[task.number] = Done(task.number, task.entry)
            return True
        if self._suspects:
            return False
        idle = next((worker for worker in self._running if worker.job is None), None)
        if idle is not None and idle.jobs >= RETIRED_AFTER:
            self._bury(idle)
            idle = None
        if idle is None:
            if len(self._running) >= self.workers:
                return False
            idle = self._start()
        self._give(idle, task)
        return True

    def _give(self, worker: _Worker, job: Job) -> None:
        worker.job, worker.jobs = job, worker.jobs + 1
        starting = 0.0 if worker.is_ready else _START_SECONDS
        worker.deadline = time.monotonic() + self.time_limit_seconds + starting
        with contextlib.suppress(OSError):  # it died while idle: its closed pipe is seen later
            worker.connection.send(job)

    def _wait(self) -> None:
        """Wait for at least one worker to answer, die or run out of time."""
        busy = [worker for worker in self._running if worker.job is not None]
        if not busy:
            suspect = self._suspects.pop()  # nobody else runs: the whole machine is its own
            busy = [self._start()]
            self._give(busy[0], suspect)
            while busy[0].job is not None and busy[0] in self._running:
                self._settle(busy, is_last_try=True)
            return
        self._settle(busy, is_last_try=False)

    def _settle(self, busy: list[_Worker], *, is_last_try: bool) -> None:
        patience = min(worker.deadline for worker in busy) - time.monotonic()
        answered = wait([worker.connection for worker in busy], max(0.0, patience))
        for worker in busy:
            job = worker.job
            assert job is not None
            if worker.connection in answered:
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    is_over = is_last_try
                else:
                    if answer is None:
                        worker.is_ready = True
                        worker.deadline = time.monotonic() + self.time_limit_seconds
                    else:
                        self._done[job.number] = answer
                        worker.job = None
                    continue
            elif worker.deadline > time.monotonic():
                continue
            else:
                is_over = True
            self._bury(worker)
            if not worker.is_ready:
                raise InternalError(
                    ErrorCode.INTERNAL_PROCESS_ENDED,
                    "A worker process could not be started.",
                    hint="Check that memory is left and that the profile file did not change. "
                    "COHORTIUM_DEBUG=1 shows what the worker prints.",
                )
            if is_over:
                self._done[job.number] = _gave_up(job)
            else:
                self._suspects.append(job)

    def _bury(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join(_END_SECONDS)
        worker.connection.close()
        self._running.remove(worker)

    def _start(self) -> _Worker:
        # A server process that imports the engine once and forks for each worker: quick, memory
        # is shared, and no thread, lock or open pipe of this process gets into the copies.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["deid.batch.worker"])
        ours, theirs = context.Pipe()
        process = context.Process(target=self.target, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._running.append(worker)
        with contextlib.suppress(OSError):  # it died at once: the same
            ours.send(self.setup)
        return worker


def stop_server() -> None:
    """End the process that workers are forked from, and wait for it.

    It would end with this process anyway; waited for, its work is counted with ours by whoever
    measures the command. Python offers no public name for this.
    """
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # not in the stubs


def _gave_up(job: Job) -> Done:
    # No stamp: the next run tries the file again.
    return Done(job.number, Entry(job.source, "", code=ErrorCode.INTERNAL_PROCESS_ENDED))
