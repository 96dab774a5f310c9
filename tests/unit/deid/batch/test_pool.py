"""Does a file that kills, hangs or slows its worker change nothing but its own fate?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deid.batch.journal import Entry
from deid.batch.messages import Done, Job, Setup
from deid.batch.pool import WINDOW, Pool, Ready, Task
from schemas.errors import ErrorCode, InternalError
from tests.support.deid_fake_worker import fake_worker, stillborn_worker

SETUP = Setup("basic", "", bytes(32), "", None, False, "/nowhere")


def _pool(workers: int = 2, seconds: float = 60.0) -> Pool:
    return Pool(SETUP, workers, seconds, fake_worker)


def _jobs(*paths: str) -> Iterator[Task]:
    yield from (Job(number, path, f"mark{number}") for number, path in enumerate(paths))


def _all(pool: Pool, tasks: Iterator[Task]) -> list[Done]:
    return [done for batch in pool.results(tasks) for done in batch]


def _codes(results: list[Done]) -> list[ErrorCode | None]:
    assert [done.number for done in results] == list(range(len(results)))
    return [done.entry.code if done.entry else None for done in results]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    results = _all(_pool(workers), _jobs(*["slow", "a", "b"] * 5))
    assert _codes(results) == [None] * 15


def test_a_file_that_kills_its_worker_twice_is_set_aside_and_the_rest_goes_on() -> None:
    results = _all(_pool(), _jobs("a", "die", "b", "die", "c"))
    ended = ErrorCode.INTERNAL_PROCESS_ENDED
    assert _codes(results) == [None, ended, None, ended, None]
    assert results[1].entry == Entry("mark1", "", code=ended)  # no stamp: it is tried again


def test_a_file_whose_worker_dies_by_chance_is_done_again(tmp_path: Path) -> None:
    results = _all(_pool(), _jobs("a", f"die-once:{tmp_path / 'x'}", "b"))
    assert _codes(results) == [None] * 3


def test_a_file_over_the_time_limit_is_set_aside() -> None:
    results = _all(_pool(2, 0.5), _jobs("a", "hang", "b"))
    assert _codes(results) == [None, ErrorCode.INTERNAL_PROCESS_ENDED, None]


def test_files_whose_fate_is_known_start_no_worker() -> None:
    pool = Pool(SETUP, 2, 60.0, stillborn_worker)
    tasks = (Ready(number, Entry(f"m{number}", "s")) for number in range(3 * WINDOW))
    assert len(_all(pool, tasks)) == 3 * WINDOW


def test_no_more_is_begun_than_the_window_holds() -> None:
    begun = 0

    def tasks() -> Iterator[Task]:
        nonlocal begun
        for number in range(3 * WINDOW):
            begun += 1
            yield Ready(number, Entry(f"m{number}", "s"))

    first = next(_pool().results(tasks()))
    assert len(first) <= WINDOW and begun <= WINDOW + 1


def test_a_worker_that_cannot_start_ends_the_run_instead_of_blaming_files() -> None:
    with pytest.raises(InternalError) as caught:
        _all(Pool(SETUP, 1, 60.0, stillborn_worker), _jobs("a", "b"))
    assert caught.value.code is ErrorCode.INTERNAL_PROCESS_ENDED


def test_a_worker_is_replaced_after_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deid.batch.pool.RETIRED_AFTER", 2)
    started: list[object] = []
    start = Pool._start
    monkeypatch.setattr(Pool, "_start", lambda pool: started.append(1) or start(pool))
    assert _codes(_all(_pool(1), _jobs(*"abcde"))) == [None] * 5
    assert len(started) == 3
