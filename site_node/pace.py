"""When does an answer leave, so that its time says little about the patients it was computed on?

Work on a step is constant as far as the code can make it so (PRIVACY-16), yet a processor is not:
caches, branches on rare values, and the number of patients itself leave traces in milliseconds.
An answer therefore leaves only at a whole multiple of a quantum after its request was taken up,
and the multiple never shrinks: once a study needed k quanta, its later rounds take k at least.

| case | what a watcher on the network sees |
| --- | --- |
| the work of two neighbouring data sets ends in the same quantum | the same time |
| it ends in different quanta | a difference of a quantum, once: later rounds take the longer |
| the first answer after a start | its own multiple; loading data and libraries sets no mark |
| a refusal | the same as an answer |
| the machine stood still for a minute | its own multiple; a mark stays below `MOST_SECONDS` |
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

MOST_SECONDS: Final = 30.0
"""Seconds a mark may hold every later round: a longer hiccup may not slow a study for good."""


class Pace:
    """Holds answers back until a whole multiple of the quantum has passed.

    Args:
        quantum_seconds: the multiple is of this; positive.
        clock: seconds of a clock that never goes back.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        quantum_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not (math.isfinite(quantum_seconds) and quantum_seconds > 0):
            raise ValueError("a pace needs a positive quantum")
        self._quantum = quantum_seconds
        self._clock = clock
        self._sleep = sleep
        self._marks: dict[str, int] = {}

    @contextmanager
    def kept(self, work: str) -> Iterator[None]:
        """Do the work inside, then wait for the next multiple; refusals wait as answers do.

        Args:
            work: what is repeated and should always take the same time, as a study's training.
        """
        start = self._clock()
        try:
            yield
        finally:
            quanta = math.ceil((self._clock() - start) / self._quantum)
            mark = self._marks.get(work)
            if mark is None:
                self._marks[work] = 1
            else:
                quanta = max(quanta, mark)
                self._marks[work] = max(mark, min(quanta, int(MOST_SECONDS / self._quantum)))
            self._wait_until(start + max(quanta, 1) * self._quantum)

    def _wait_until(self, moment: float) -> None:
        while (left := moment - self._clock()) > 0:
            self._sleep(left)
