"""Is the table of a study's states total, and is its page true?"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from coordinator.lifecycle import (
    FINAL_STATES,
    RUNNABLE_STATES,
    TRANSITIONS,
    StudyState,
    states_page,
    transition,
)
from schemas.errors import ErrorCode, ProtocolError

PAGE = Path(__file__).resolve().parents[3] / "coordinator" / "STATES.md"


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(StudyState)


@pytest.mark.parametrize(("old", "new"), list(product(StudyState, StudyState)))
def test_every_pair_is_either_a_named_move_or_refused(old: StudyState, new: StudyState) -> None:
    if new in TRANSITIONS[old]:
        move = transition(old, new)
        assert move.owner in {"runner", "desk"}
        assert move.audit_event.startswith("study.")
        assert move.meaning
    else:
        with pytest.raises(ProtocolError) as caught:
            transition(old, new)
        assert caught.value.code is ErrorCode.STUDY_STATE


def test_no_state_leads_to_itself() -> None:
    assert all(state not in moves for state, moves in TRANSITIONS.items())


def test_every_state_is_reached_and_reaches_an_end() -> None:
    reached = {StudyState.PROPOSED}
    while True:
        further = {new for old in reached for new in TRANSITIONS[old]}
        if further <= reached:
            break
        reached |= further
    assert reached == set(StudyState)
    ends = set(FINAL_STATES)
    while True:
        more = {old for old, moves in TRANSITIONS.items() if set(moves) & ends}
        if more <= ends:
            break
        ends |= more
    assert ends == set(StudyState)


def test_only_begun_or_approved_studies_are_runnable() -> None:
    assert not set(RUNNABLE_STATES) & FINAL_STATES
    assert StudyState.PROPOSED not in RUNNABLE_STATES


def test_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == states_page()
    for old, moves in TRANSITIONS.items():
        for new in moves:
            assert f"| {old.value} | {new.value} |" in states_page()
