"""What may stand in the site's operational log? Constant event names and listed keys only."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

ALLOWED_KEYS: Final = frozenset(
    {
        "event", "level", "timestamp", "site", "study", "plan", "kind", "round", "attempt",
        "code", "path", "n_bytes", "count", "seconds", "pid", "process", "exit_status",
        "port", "state", "step", "sites", "object", "version", "location", "dropped_keys",
    }
)  # fmt: skip
MAX_VALUE_CHARACTERS: Final = 128  # a code, a digest or a short name; never a message


def keep_allowed_keys(
    _logger: Any, _method: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop every key that is not listed and every value that is not short, and count the drops.

    A dropped value leaves no trace but the count, because it may hold a patient's name.
    """
    kept: dict[str, Any] = {}
    dropped = 0
    for key, value in entry.items():
        plain = value is None or isinstance(value, (bool, int, float))
        short = isinstance(value, str) and len(value) <= MAX_VALUE_CHARACTERS
        if key in ALLOWED_KEYS and (plain or short):
            kept[key] = value
        else:
            dropped += 1
    if dropped:
        kept["dropped_keys"] = dropped
    return kept


def configure_logs(site_id: str, process: str, stream: TextIO | None = None) -> None:
    """Send JSON lines to ``stream`` (stderr), each carrying the site and process name.

    Logging of other libraries is cut to warnings without their text: only logger name and
    level survive, because a library's message may quote data.
    """
    target = stream if stream is not None else sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%SZ", utc=True),
            keep_allowed_keys,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(site=site_id, process=process)
    root = logging.getLogger()
    root.handlers[:] = [_CodesOnly()]
    root.setLevel(logging.WARNING)


class _CodesOnly(logging.Handler):
    """Turn a library's record into an event that says who and how bad, and nothing else.

    Our own modules that log through the standard library name a constant event and ``key=%s``
    pairs; of those the pairs go through the same allow-list.
    """

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        if not record.name.startswith("cohortium."):
            location = f"{record.name}:{record.lineno}"
            structlog.get_logger().info("library.message", location=location, state=level)
            return
        name, *pairs = str(record.msg).split(" ")
        keys = [pair.partition("=")[0] for pair in pairs]
        values = record.args if isinstance(record.args, tuple) else ()
        fields = {
            k: v if isinstance(v, int) else str(v) for k, v in zip(keys, values, strict=False)
        }
        structlog.get_logger().info(name, state=level, **fields)


def event(name: str, **fields: str | int | float | None) -> None:
    """Log one event: a constant dotted name and listed keys."""
    structlog.get_logger().info(name, **fields)
