"""What time is it? Injected everywhere, so that tests and replays choose it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    """Read the machine's clock, in UTC."""
    return dt.datetime.now(dt.UTC)
