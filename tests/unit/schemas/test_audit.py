"""Is every change to an audit log found, wherever it is made?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.audit import GENESIS, AuditCheckpoint, AuditEvent, chain, verify_chain
from schemas.canonical import build, parse
from schemas.errors import ErrorCode

TIME = "2026-11-22T18:00:00Z"


def log(length: int, **changes: Any) -> tuple[list[AuditEvent], list[str]]:
    events: list[AuditEvent] = []
    heads = [GENESIS]
    for index in range(length):
        values: dict[str, Any] = {
            "index": index,
            "time": f"2026-11-22T18:{index // 60:02}:{index % 60:02}Z",
            "event": "egress.released",
            "plan_digest": "ab" * 32,
            "attributes": {"kind": "masked-update", "bytes": 4 * index},
            "previous": heads[-1],
        }
        if index == changes.get("at"):
            values.update(changes["values"])
        event = build(AuditEvent, values)
        events.append(event)
        heads.append(chain(heads[-1], event))
    return events, heads


def checkpoint(index: int, head: str) -> AuditCheckpoint:
    return AuditCheckpoint(site_id="site-1", index=index, head=head, time=TIME)


def test_a_whole_log_verifies_to_its_head() -> None:
    events, heads = log(5)
    result = verify_chain(events)
    assert result.ok and result.count == 5 and result.head == heads[-1]
    assert result.broken_at is None and result.reason is None


def test_an_empty_log_is_whole() -> None:
    assert verify_chain([]).ok and verify_chain([]).head == GENESIS


def test_events_survive_the_round_trip() -> None:
    for event in log(3)[0]:
        assert parse(AuditEvent, event.canonical(), max_bytes=10_000) == event


CHANGES: list[dict[str, Any]] = [
    {"attributes": {"kind": "masked-update", "bytes": 1}},
    {"event": "egress.refused"},
    {"plan_digest": None},
    {"time": "2026-11-22T18:00:59Z"},
    {"previous": "cd" * 32},
    {"index": 77},
]


@given(st.integers(1, 8), st.data(), st.sampled_from(CHANGES))
def test_a_changed_event_is_found_there_or_at_the_next(
    length: int, data: Any, change: dict[str, Any]
) -> None:
    events, heads = log(length)
    at = data.draw(st.integers(0, length - 1))
    events[at] = events[at].model_copy(update=change)
    result = verify_chain(events, checkpoints=[checkpoint(length - 1, heads[-1])])
    assert not result.ok and result.reason is ErrorCode.AUDIT_BROKEN
    assert result.broken_at in (at, at + 1)
    assert result.count == result.broken_at


@given(st.integers(2, 8), st.data())
def test_a_removed_or_swapped_event_is_found(length: int, data: Any) -> None:
    events, _ = log(length)
    at = data.draw(st.integers(0, length - 2))
    assert verify_chain(events[:at] + events[at + 1 :]).broken_at == at
    events[at], events[at + 1] = events[at + 1], events[at]
    assert verify_chain(events).broken_at == at


def test_a_cut_off_end_is_found_by_a_checkpoint_only() -> None:
    events, heads = log(5)
    assert verify_chain(events[:3]).ok
    cut = verify_chain(events[:3], checkpoints=[checkpoint(4, heads[-1])])
    assert cut.broken_at == 3
    assert verify_chain(events, checkpoints=[checkpoint(i, heads[i + 1]) for i in range(5)]).ok


def test_a_log_rewritten_from_the_first_event_is_found_by_a_checkpoint() -> None:
    rewritten, _ = log(5, at=1, values={"event": "egress.refused"})
    _, heads = log(5)
    assert verify_chain(rewritten).ok
    assert verify_chain(rewritten, checkpoints=[checkpoint(2, heads[3])]).broken_at == 2


def test_two_checkpoints_that_disagree_break_the_log() -> None:
    events, heads = log(3)
    both = [checkpoint(1, "ab" * 32), checkpoint(1, heads[2])]
    assert not verify_chain(events, checkpoints=both).ok


def test_time_may_stand_still_but_runs_back_only_by_its_own_event() -> None:
    earlier = {"time": "2026-11-22T17:00:00Z"}
    assert verify_chain(log(3, at=2, values=earlier)[0]).broken_at == 2
    assert verify_chain(log(3, at=2, values={**earlier, "event": "clock.set_back"})[0]).ok
    assert verify_chain(log(2, at=1, values={"time": "2026-11-22T18:00:00Z"})[0]).ok


def test_chain_refuses_an_event_of_another_place() -> None:
    events, heads = log(3)
    with pytest.raises(ValueError, match="does not follow"):
        chain(heads[1], events[2])


def test_a_known_chain_stays_the_same_for_ever() -> None:
    assert log(3)[1][-1] == "e373dd10bd948f007213928b75f7abff943208b04fdae51c4080ca1727c93096"


@pytest.mark.parametrize(
    "attributes",
    [
        {"Kind": "x"},
        {"kind": True},
        {"kind": 1.5},
        {"kind": None},
        {"kind": "x" * 301},
        {"kind": ("a",)},
        {f"k{i}": i for i in range(33)},
    ],
)
def test_attributes_are_few_and_plain(attributes: Any) -> None:
    with pytest.raises(ValidationError):
        AuditEvent(
            index=0,
            time=TIME,
            event="a.b",
            plan_digest=None,
            attributes=attributes,
            previous=GENESIS,
        )
