"""Operational logs: constant names and listed keys, nothing else gets through."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from site_node.logs import configure_logs, event, keep_allowed_keys

CANARY = "홍길동 900101-1234567"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    target = io.StringIO()
    configure_logs("site-1", "test", target)
    yield target
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_listed_keys_are_kept(stream: io.StringIO) -> None:
    event("round.started", plan="abc", round=3)
    assert lines(stream)[0] | {"timestamp": ""} == {
        "event": "round.started",
        "level": "info",
        "plan": "abc",
        "process": "test",
        "round": 3,
        "site": "site-1",
        "timestamp": "",
    }


def test_unlisted_keys_and_long_values_are_dropped_and_counted() -> None:
    kept = keep_allowed_keys(
        None, "info", {"event": "x", "patient": CANARY, "code": CANARY * 20, "path": [CANARY]}
    )
    assert kept == {"event": "x", "dropped_keys": 3}


def test_a_librarys_message_never_reaches_the_log(stream: io.StringIO) -> None:
    logging.getLogger("pydicom").warning("bad value %s", CANARY)
    assert CANARY not in stream.getvalue()
    assert lines(stream)[0]["event"] == "library.message"
    assert str(lines(stream)[0]["location"]).startswith("pydicom:")


def test_our_own_standard_library_events_keep_only_listed_pairs(stream: io.StringIO) -> None:
    logging.getLogger("cohortium.executor").warning(
        "executor.refused code=%s patient=%s", "plan.stopped", CANARY
    )
    assert CANARY not in stream.getvalue()
    assert lines(stream)[0]["event"] == "executor.refused"
    assert lines(stream)[0]["code"] == "plan.stopped"
    assert lines(stream)[0]["dropped_keys"] == 1
