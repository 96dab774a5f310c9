"""Does the log keep only listed keys?"""

from __future__ import annotations

from coordinator.logs import ALLOWED_KEYS, keep_allowed_keys


def test_unknown_keys_are_dropped_and_counted() -> None:
    kept = keep_allowed_keys(
        None, "info", {"event": "x", "site_id": "site-1", "patient": "Hong", "error": "text"}
    )
    assert kept == {"event": "x", "site_id": "site-1", "dropped_keys": 2}


def test_listed_keys_pass_untouched() -> None:
    fields = dict.fromkeys(ALLOWED_KEYS - {"dropped_keys"}, "x")
    assert keep_allowed_keys(None, "info", dict(fields)) == fields


def test_no_key_could_carry_an_exceptions_text() -> None:
    assert not {"error", "exception", "exc_info", "detail", "message", "text"} & ALLOWED_KEYS
