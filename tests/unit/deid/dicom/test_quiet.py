from __future__ import annotations

import logging
import threading
import warnings

import pytest
from pydicom import config

from deid.dicom.quiet import silent_pydicom


def test_settings_come_back_after_nested_and_failed_uses() -> None:
    before = (config.settings.reading_validation_mode, logging.getLogger("pydicom").disabled)
    with pytest.raises(RuntimeError), silent_pydicom, silent_pydicom:
        assert config.settings.reading_validation_mode == config.IGNORE
        warnings.warn("quotes a name", UserWarning, stacklevel=1)
        raise RuntimeError
    after = (config.settings.reading_validation_mode, logging.getLogger("pydicom").disabled)
    assert before == after


def test_another_thread_leaving_does_not_end_the_silence() -> None:
    def use() -> None:
        with silent_pydicom:
            pass

    with silent_pydicom:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert logging.getLogger("pydicom").disabled
