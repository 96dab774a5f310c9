"""Are a change and its audit event stored together, and is the trail append-only?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.db import Database, Event
from schemas.errors import ErrorCode, InternalError
from tests.support.desk import StillClock


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "c.db", clock=StillClock())


def _token(sql: sqlite3.Connection, name: str) -> None:
    sql.execute("INSERT INTO tokens VALUES (?, 'x', 'vendor', 'now', NULL)", (name,))


def _tokens(database: Database) -> int:
    with database.read() as sql:
        return int(sql.execute("SELECT count(*) FROM tokens").fetchone()[0])


def test_change_and_event_are_stored_together(database: Database) -> None:
    with database.write(Event("access.granted", "", {"holder": "x"})) as sql:
        _token(sql, "a")
    assert _tokens(database) == 1
    assert [event.event for event in database.events()] == ["access.granted"]


def test_a_failing_change_leaves_neither_change_nor_event(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write(Event("access.granted")) as sql:
        _token(sql, "a")
        raise RuntimeError
    assert _tokens(database) == 0
    assert database.events() == []


def test_trail_verifies_and_grows(database: Database) -> None:
    for index in range(5):
        with database.write(Event("access.granted", "", {"n": index})):
            pass
    assert database.verify_events().ok
    assert [event.index for event in database.events()] == list(range(5))


def test_events_can_neither_be_changed_nor_removed(database: Database) -> None:
    with database.write(Event("access.granted")):
        pass
    for order in ("UPDATE events SET event = 'x.y'", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError):
            database.connection().execute(order)


@contextmanager
def _without_triggers(path: Path) -> Iterator[sqlite3.Connection]:
    raw = sqlite3.connect(path)
    raw.execute("DROP TRIGGER events_are_kept")
    raw.execute("DROP TRIGGER events_stay")
    yield raw
    raw.commit()
    raw.close()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE events SET attributes = '{\"n\": 9}' WHERE position = 2",
        "UPDATE events SET attributes = '{\"n\": 9}' WHERE position = 3",
        "DELETE FROM events WHERE position = 2",
    ],
)
def test_a_trail_altered_underneath_does_not_verify(database: Database, tampering: str) -> None:
    for index in range(3):
        with database.write(Event("access.granted", "", {"n": index})):
            pass
    with _without_triggers(database.path) as raw:
        raw.execute(tampering)
    assert not database.verify_events().ok


def test_a_clock_set_back_does_not_break_the_trail(tmp_path: Path) -> None:
    clock = StillClock()
    database = Database(tmp_path / "c.db", clock=clock)
    for minutes in (0, -30):
        clock.forward(minutes=minutes)
        with database.write(Event("access.granted")):
            pass
    assert database.verify_events().ok


def test_a_disk_that_cannot_be_written_is_our_own_error_without_its_text(tmp_path: Path) -> None:
    with pytest.raises(InternalError) as caught:
        Database(tmp_path / "no" / "such" / "folder" / "c.db")
    assert caught.value.code is ErrorCode.INTERNAL_DATABASE
    assert "unable to open" not in str(caught.value)


def test_a_full_database_refuses_the_change(database: Database) -> None:
    pages = database.connection().execute("PRAGMA page_count").fetchone()[0]
    database.connection().execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(InternalError), database.write(Event("study.proposed")) as sql:
        sql.execute(
            "INSERT INTO studies VALUES ('d', 's', ?, 'proposed', '', 'n', 'n', 'n')",
            (bytes(200_000),),
        )
    assert database.events() == []


def test_counts_add_up(database: Database) -> None:
    database.tally("site-1", "heart", "masked-update", 56)
    database.tally("site-1", "heart", "masked-update", 56)
    database.tally_transport({("site-1", "/v1/fleet/push-object"): [3, 900]})
    found = {(item.study_id, item.kind): item for item in database.received()}
    assert found["heart", "masked-update"].n_bytes == 112
    assert found["heart", "masked-update"].n_messages == 2
    assert found["", "/v1/fleet/push-object"].n_bytes == 900


def test_no_counts_write_nothing(database: Database) -> None:
    database.tally_transport({})
    assert database.received() == []
