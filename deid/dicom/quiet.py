"""How is pydicom kept from logging and warning? Its messages quote the offending value.

Counted, so that nested and parallel uses share one change of the process-wide settings and the
last one out restores them.
"""

from __future__ import annotations

import logging
import threading
import warnings
from types import TracebackType

from pydicom import config


class _Silence:
    """Keep pydicom silent between enter and exit; one object serves every caller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught: warnings.catch_warnings[None] | None = None
        self._modes = (config.WARN, config.WARN)
        self._disabled = False

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            settings, logger = config.settings, logging.getLogger("pydicom")
            self._modes = (settings.reading_validation_mode, settings.writing_validation_mode)
            self._disabled = logger.disabled
            settings.reading_validation_mode = config.IGNORE
            settings.writing_validation_mode = config.IGNORE
            logger.disabled = True
            self._caught = warnings.catch_warnings()
            self._caught.__enter__()
            warnings.simplefilter("ignore")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside or self._caught is None:
                return
            self._caught.__exit__(None, None, None)
            self._caught = None
            settings = config.settings
            settings.reading_validation_mode, settings.writing_validation_mode = self._modes
            logging.getLogger("pydicom").disabled = self._disabled


silent_pydicom = _Silence()
