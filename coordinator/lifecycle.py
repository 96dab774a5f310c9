"""Which state may a study be in, and which may follow? One table; everything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from schemas.errors import ErrorCode, ProtocolError


class StudyState(StrEnum):
    """Where one plan digest stands."""

    PROPOSED = "proposed"  # the hospitals have been asked; the coordinator waits for their answers
    APPROVED = "approved"  # enough stewards signed this digest; the runner may take it up
    TRAINING = "training"  # optimiser steps are being exchanged
    WAITING = "waiting"  # begun, but fewer sites than the cohort minimum can take part now
    EVALUATING = "evaluating"  # the final model is fixed; the one test-set sum is under way
    DONE = "done"  # the co-signed result is stored
    ENDED_EARLY = "ended-early"  # begun and given up, for the recorded reason
    REFUSED = "refused"  # never begun: too many hospitals refused
    REPLACED = "replaced"  # never begun: the vendor sent a changed plan, which is a new digest
    EXPIRED = "expired"  # the plan's last day passed before a result


@dataclass(frozen=True, slots=True)
class Transition:
    """One legal move: who causes it, and the event that records it."""

    owner: str
    audit_event: str
    meaning: str


_RUNNER = "runner"
_DESK = "desk"


def _early(meaning: str) -> Transition:
    return Transition(_RUNNER, "study.ended_early", meaning)


_EXPIRE: Final = Transition(_DESK, "study.expired", "the plan's last day passed")

TRANSITIONS: Final[Mapping[StudyState, Mapping[StudyState, Transition]]] = MappingProxyType(
    {
        StudyState.PROPOSED: {
            StudyState.APPROVED: Transition(
                _DESK, "study.approved", "every hospital approved, or the vendor goes on with those"
            ),
            StudyState.REFUSED: Transition(
                _DESK, "study.refused", "fewer hospitals than the cohort minimum can still approve"
            ),
            StudyState.REPLACED: Transition(
                _DESK, "study.replaced", "the vendor sent a changed plan for this study"
            ),
            StudyState.EXPIRED: _EXPIRE,
        },
        StudyState.APPROVED: {
            StudyState.TRAINING: Transition(_RUNNER, "study.started", "the first round is opened"),
            StudyState.WAITING: Transition(
                _RUNNER, "study.waiting", "too few sites can take part in the first round"
            ),
            StudyState.ENDED_EARLY: _early("stopped before the first round"),
            StudyState.EXPIRED: _EXPIRE,
        },
        StudyState.TRAINING: {
            StudyState.WAITING: Transition(
                _RUNNER, "study.waiting", "too few sites can take part in the next round"
            ),
            StudyState.EVALUATING: Transition(
                _RUNNER, "study.trained", "every site signed the same final model"
            ),
            StudyState.ENDED_EARLY: _early("attempts used up, or too few sites are left"),
            StudyState.EXPIRED: _EXPIRE,
        },
        StudyState.WAITING: {
            StudyState.TRAINING: Transition(_RUNNER, "study.resumed", "enough sites are back"),
            StudyState.EVALUATING: Transition(
                _RUNNER, "study.resumed", "enough sites are back for the evaluation"
            ),
            StudyState.ENDED_EARLY: _early("the wait cannot end well any more"),
            StudyState.EXPIRED: _EXPIRE,
        },
        StudyState.EVALUATING: {
            StudyState.WAITING: Transition(
                _RUNNER, "study.waiting", "a site of the fixed evaluation roster is away"
            ),
            StudyState.DONE: Transition(
                _RUNNER, "study.done", "the release is stored with every roster site's signature"
            ),
            StudyState.ENDED_EARLY: _early("the evaluation roster can never be complete again"),
            StudyState.EXPIRED: _EXPIRE,
        },
        StudyState.DONE: {},
        StudyState.ENDED_EARLY: {},
        StudyState.REFUSED: {},
        StudyState.REPLACED: {},
        StudyState.EXPIRED: {},
    }
)

FINAL_STATES: Final = frozenset(state for state, moves in TRANSITIONS.items() if not moves)
RUNNABLE_STATES: Final = (
    StudyState.EVALUATING,
    StudyState.TRAINING,
    StudyState.WAITING,
    StudyState.APPROVED,
)


def transition(old: StudyState, new: StudyState) -> Transition:
    """Return the move from ``old`` to ``new``.

    Raises:
        ProtocolError: the table has no such move (code ``study.state``).
    """
    move = TRANSITIONS[old].get(new)
    if move is None:
        raise ProtocolError(
            ErrorCode.STUDY_STATE,
            f"A study that is {old.value} cannot become {new.value}.",
            hint="Look at the study's present state first; it may have moved on meanwhile.",
        )
    return move


def states_page() -> str:
    """Write the table and its diagram as Markdown; ``coordinator/STATES.md`` is this text."""
    lines = [
        "# States of a study",
        "",
        "Written by `coordinator.lifecycle.states_page()`; a test keeps it true.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> proposed",
    ]
    names = {state: state.value.replace("-", "_") for state in StudyState}
    for old, moves in TRANSITIONS.items():
        lines += [f"    {names[old]} --> {names[new]}" for new in moves]
    lines += [f"    {names[state]} --> [*]" for state in StudyState if state in FINAL_STATES]
    lines += [
        "```",
        "",
        "| from | to | who | audit event | when |",
        "| --- | --- | --- | --- | --- |",
    ]
    for old, moves in TRANSITIONS.items():
        lines += [
            f"| {old.value} | {new.value} | {move.owner} | `{move.audit_event}` | {move.meaning} |"
            for new, move in moves.items()
        ]
    return "\n".join(lines) + "\n"
