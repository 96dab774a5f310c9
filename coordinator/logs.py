"""How does the coordinator write its operational log? One JSON object a line, allow-listed keys."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

ALLOWED_KEYS: Final = frozenset(
    {
        "event", "level", "timestamp", "site_id", "study_id", "plan_digest",
        "plan", "code", "process",
        "pid", "port", "exit_status", "kind", "round", "attempt", "n_bytes", "state", "seconds",
        "status", "path", "dropped_keys",
    }
)  # fmt: skip


def keep_allowed_keys(_logger: Any, _name: str, fields: MutableMapping[str, Any]) -> dict[str, Any]:
    """Drop every key that is not on the allow-list and say how many were dropped."""
    kept = {key: value for key, value in fields.items() if key in ALLOWED_KEYS}
    dropped = len(fields) - len(kept)
    if dropped:
        kept["dropped_keys"] = dropped
    return kept


def configure() -> None:
    """Send the log to standard error as JSON lines; called once per process."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            keep_allowed_keys,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def event(name: str, **fields: str | int | float) -> None:
    """Log one event: a constant name and allow-listed keys."""
    get_logger().info(name, **fields)


def get_logger() -> Any:
    """Return the process's logger; event names are constants, never formatted text."""
    return structlog.get_logger()
