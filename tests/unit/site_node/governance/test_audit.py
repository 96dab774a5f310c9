"""The audit log: written with the change or not at all, and every tampering shows."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from schemas.errors import ErrorCode, InternalError
from site_node.context import SiteContext, open_site
from site_node.governance.audit import WITNESS_NAME, AuditWord
from tests.support.sites import TestClock, tamper


def write(site: SiteContext, count: int = 3) -> None:
    for number in range(count):
        with site.audit.recording(AuditWord.CARD_EXPORTED, number=number):
            pass


def test_an_untouched_log_verifies(site: SiteContext) -> None:
    write(site)
    report = site.audit.verify()
    assert report.is_intact
    assert report.entries == len(site.audit.rows())
    assert report.head == site.audit.head()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'exported', 'invented') AS BLOB) "
        "WHERE idx = 6",
        "UPDATE audit SET hash = lower(hex(randomblob(32))) WHERE idx = 6",
        "UPDATE audit SET checkpoint = (SELECT checkpoint FROM audit WHERE idx = 5) WHERE idx = 6",
        "DELETE FROM audit WHERE idx = 6",
        "DELETE FROM audit WHERE idx >= 6",
        "UPDATE audit SET body = x'00' WHERE idx = 6",
        "UPDATE audit SET idx = 60 WHERE idx = 6",
    ],
)
def test_every_tampering_is_found(site: SiteContext, sql: str) -> None:
    write(site)
    tamper(site, sql)
    assert not site.audit.verify().is_intact


def test_an_older_copy_of_the_database_is_found(site: SiteContext) -> None:
    site.db.close()
    raw = sqlite3.connect(site.folders.database)
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    older = site.folders.state / "older"
    shutil.copy(site.folders.database, older)
    write(site)
    site.db.close()
    for name in ("site.db-wal", "site.db-shm"):
        (site.folders.state / name).unlink(missing_ok=True)
    shutil.copy(older, site.folders.database)
    report = site.audit.verify()
    assert "put back" in report.problems[0]


def test_a_removed_or_foreign_witness_is_found(sites: list[SiteContext]) -> None:
    site, other = sites[0], sites[1]
    witness = site.folders.state / WITNESS_NAME
    witness.unlink()
    assert not site.audit.verify().is_intact
    shutil.copy(other.folders.state / WITNESS_NAME, witness)
    assert not site.audit.verify().is_intact


def test_rows_cannot_be_changed_by_mistake(site: SiteContext) -> None:
    for sql in ("UPDATE audit SET hash = ''", "DELETE FROM audit"):
        with pytest.raises(InternalError), site.db.write() as connection:
            connection.execute(sql)
    assert site.audit.verify().is_intact


def test_a_change_that_fails_leaves_no_event(site: SiteContext) -> None:
    before = len(site.audit.rows())
    with pytest.raises(KeyError), site.audit.recording(AuditWord.CARD_EXPORTED):
        raise KeyError
    assert len(site.audit.rows()) == before


def test_a_clock_set_back_is_written_down_and_the_chain_holds(
    site: SiteContext, clock: TestClock
) -> None:
    clock.forward(hours=-2)
    write(site, 2)
    words = [row.event.event for row in site.audit.rows(last=3)]
    assert words == ["clock.set_back", "card.exported", "card.exported"]
    assert site.audit.verify().is_intact


def test_an_event_that_cannot_be_written_stops_the_change(
    site: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.db.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    site.db._connection().execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(InternalError) as caught:
        for _ in range(200):
            with site.audit.recording(AuditWord.CARD_EXPORTED, text="x" * 290):
                pass
    assert caught.value.code is ErrorCode.AUDIT_UNAVAILABLE
    site.db._connection().execute("PRAGMA max_page_count = 1000000")
    assert site.audit.verify().is_intact


def test_a_witness_that_cannot_be_written_counts_as_not_written(
    site: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("site_node.governance.audit.write_atomically", full)
    with pytest.raises(InternalError) as caught:
        write(site)
    assert caught.value.code is ErrorCode.AUDIT_UNAVAILABLE


def test_a_log_that_grows_while_it_is_read_verifies(
    site: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`audit verify` beside a serving node: what comes after the first look is no rollback."""
    write(site)
    busy = open_site(site.home, site.clock)
    read = site.db.rows

    def rows_then_more(sql: str, *arguments: object) -> list[sqlite3.Row]:
        found = read(sql, *arguments)
        write(busy, 1)
        return found

    monkeypatch.setattr(site.db, "rows", rows_then_more)
    assert site.audit.verify().problems == ()


def test_an_unforced_event_leaves_the_witness_to_the_next_forced_one(site: SiteContext) -> None:
    """A power cut may take an unforced event; a witness of it would then look like a rollback."""
    write(site)
    witness = site.folders.state / WITNESS_NAME
    before = witness.read_bytes()
    with site.audit.recording(AuditWord.EGRESS_LISTED, is_forced=False):
        pass
    assert witness.read_bytes() == before
    assert site.audit.verify().is_intact
    write(site, 1)
    assert witness.read_bytes() != before
