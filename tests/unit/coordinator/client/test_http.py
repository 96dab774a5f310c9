"""Whatever the coordinator says stays text on the reader's terminal."""

from __future__ import annotations

import httpx

from coordinator.client import http
from schemas.errors import ErrorCode, PolicyDenied

STEERING = "\x1b]0;owned\x07\u202e\x1b[2J"


def test_a_refusal_cannot_steer_the_terminal() -> None:
    problem = {
        "exit_code": PolicyDenied.exit_code,
        "code": ErrorCode.STUDY_EXISTS.value,
        "title": f"No{STEERING}.",
        "hint": f"한국어 stays; {STEERING}",
    }
    error = http._refusal(httpx.Response(409, json=problem))
    assert (type(error), error.code) == (PolicyDenied, ErrorCode.STUDY_EXISTS)
    assert error.sentence == "No?]0;owned???[2J."
    assert error.hint == "한국어 stays; ?]0;owned???[2J"


def test_an_answer_cannot_steer_the_terminal() -> None:
    body = {"sites": [{"name": f"가{STEERING}", "steps": 3}], f"a{STEERING}": None, "ok": True}
    found = http._object(httpx.Response(200, json=body))
    assert found == {
        "sites": [{"name": "가?]0;owned???[2J", "steps": 3}],
        "a?]0;owned???[2J": None,
        "ok": True,
    }
