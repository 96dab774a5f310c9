"""What did a run cost? Memory and CPU of whole process trees, sampled while they live."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType

import psutil

_SAMPLE_SECONDS = 0.5
_MIB = 1 << 20


def tree(pids: Iterable[int]) -> list[psutil.Process]:
    """Give the processes of `pids` and all their descendants that are alive."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            for each in (process, *process.children(recursive=True)):
                found[each.pid] = each
        except psutil.Error:
            continue
    return list(found.values())


def cpu_seconds(pids: Iterable[int]) -> float:
    """Add up the CPU seconds (user and system) of whole process trees so far."""
    total = 0.0
    for process in tree(pids):
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            continue
    return total


class PeakMemory:
    """Samples the resident memory of process trees; shared pages count once per process."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        """Watch the trees of whatever `pids` names at each sample."""
        self._pids = pids
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_mib = 0.0
        self.most_processes = 0

    def __enter__(self) -> PeakMemory:
        """Begin sampling."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop sampling."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            total, count = 0, 0
            for process in tree(self._pids()):
                try:
                    total += process.memory_info().rss
                    count += 1
                except psutil.Error:
                    continue
            self.peak_mib = max(self.peak_mib, total / _MIB)
            self.most_processes = max(self.most_processes, count)
