"""Does nothing leave that is not written down, and does an old copy of a ledger show?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from schemas.errors import ErrorCode, InternalError
from site_node.flower.client_app import ClientApp
from tests.support.by_hand import Footprint, Hand, unharmed


@contextmanager
def unwritable(site, table: str) -> Iterator[None]:
    """Let every insert into one table of a site's database fail, as a full disk would."""
    connection = site.db._connection()
    connection.execute(
        f"CREATE TEMP TRIGGER full_disk BEFORE INSERT ON main.{table} "
        "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    )
    try:
        yield
    finally:
        connection.execute("DROP TRIGGER temp.full_disk")


@contextmanager
def read_only(site) -> Iterator[None]:
    """Make the whole database read-only, as a failing disk is remounted."""
    site.db._connection().execute("PRAGMA query_only = ON")
    try:
        yield
    finally:
        site.db._connection().execute("PRAGMA query_only = OFF")


def unavailable(hand: Hand, site: str, request: bytes) -> None:
    with pytest.raises(InternalError) as refused:
        hand.consortium.rounds[site].answer(request)
    assert refused.value.code == "audit.unavailable"


@pytest.mark.parametrize("table", ["audit", "ledger", "journal_rounds"])
def test_without_a_durable_charge_nothing_is_computed_and_nothing_leaves(
    shared, table, monkeypatch
) -> None:
    from site_node.training import dp_sgd

    consortium = shared.consortium
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    monkeypatch.setattr(dp_sgd, "clipped_integer_sum", lambda *_: pytest.fail("computed"))
    site = consortium.sites["site-1"]
    before = site.audit.head()
    with unharmed(consortium), unwritable(site, table):
        unavailable(shared, "site-1", shared.cohort(readies.values(), 0, attempt))
    assert site.audit.head() == before
    assert site.ledger.verify().is_intact
    assert site.audit.verify().is_intact


def test_a_read_only_disk_answers_nothing_not_even_a_refusal(shared) -> None:
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    site = shared.consortium.sites["site-1"]
    with unharmed(shared.consortium), read_only(site):
        unavailable(shared, "site-1", shared.cohort(readies.values(), 0, attempt))
        unavailable(shared, "site-1", shared.open(0, attempt + 50))
        unavailable(shared, "site-1", shared.open(0, 0, plan_digest="ab" * 32))
        unavailable(shared, "site-1", b"nonsense")
        with pytest.raises(InternalError):
            ClientApp(site).refuse(ErrorCode.INTERNAL_UNEXPECTED)


@pytest.mark.parametrize("table", ["released", "audit"])
def test_an_upload_that_cannot_be_written_down_stays_and_stays_charged(
    shared, table, monkeypatch
) -> None:
    """The disk fills up between the charge and the gate."""
    from site_node import round as site_round

    consortium = shared.consortium
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    site = consortium.sites["site-2"]
    before = Footprint.of(consortium, "site-2")
    charged = consortium.charged("site-2")
    honest = site_round.masked_upload
    failing = unwritable(site, table)

    def fill_up(keys, vector, **more):
        failing.__enter__()
        return honest(keys, vector, **more)

    monkeypatch.setattr(site_round, "masked_upload", fill_up)
    unavailable(shared, "site-2", shared.cohort(readies.values(), 0, attempt))
    failing.__exit__(None, None, None)
    assert Footprint.of(consortium, "site-2").masked == before.masked
    assert consortium.charged("site-2") == charged + 1
    # With space again the attempt is not taken up a second time.
    with unharmed(consortium):
        assert shared.refusal("site-2", shared.open(0, attempt)) == "attempt.spent"


def test_a_step_that_cannot_be_kept_is_not_taken(consortium) -> None:
    hand = Hand(consortium)
    first = hand.play(0, 0)
    readies = hand.readies(1, 0)
    call = hand.cohort(readies.values(), 1, 0, previous=first)
    with unharmed(consortium, "site-1"):
        with unwritable(consortium.sites["site-1"], "journal_states"):
            unavailable(hand, "site-1", call)
        session = consortium.rounds["site-1"]._sessions[consortium.digest]
        assert session.standing.rounds == 0
    hand.upload("site-1", call)
    assert consortium.standing("site-1").rounds == 1


def test_a_full_disk_at_one_site_voids_the_attempt_for_the_others(consortium) -> None:
    failing = unwritable(consortium.sites["site-4"], "ledger")
    calls = []

    def fault(site, request, honest):
        if site == "site-4" and len(consortium.book.attempts) == 2 and not calls:
            calls.append(failing.__enter__())
        elif calls == [None] and len(consortium.book.attempts) == 3:
            calls.append(failing.__exit__(None, None, None))
        return honest(request)

    consortium.fault = fault
    consortium.study_run().run()
    assert consortium.book.attempts[1][4] == "transport.timeout"
    assert [consortium.charged(site) for site in consortium.sites] == [5, 5, 5, 4]


# -- rollback --------------------------------------------------------------------------------


def test_an_old_copy_of_a_peers_database_is_noticed_by_every_peer(consortium, tmp_path) -> None:
    hand = Hand(consortium)
    first = hand.play(0, 0)
    consortium.back_up("site-4", tmp_path / "old.db")
    second = hand.play(1, 0, previous=first)
    third = hand.play(2, 0, previous=second)
    assert consortium.charged("site-4") == 3
    consortium.put_back("site-4", tmp_path / "old.db")
    assert consortium.charged("site-4") == 1  # its spent budget is back, if nobody looks
    missing = [first, second]
    readies = hand.readies(3, 0, sites=["site-1", "site-2", "site-3"])
    readies |= hand.readies(3, 0, sites=["site-4"], missing=missing)
    call = hand.cohort(readies.values(), 3, 0, previous=third)
    for site in ("site-1", "site-2", "site-3"):
        charged = consortium.charged(site)
        assert hand.refusal(site, call) == "ledger.rollback"
        assert consortium.charged(site) == charged
    # The site itself can tell as well: its audit log is older than the witness beside it.
    assert not consortium.sites["site-4"].audit.verify().is_intact


def test_a_restored_site_is_left_behind_and_the_others_finish(consortium, tmp_path) -> None:
    copied = []

    def fault(site, request, honest):
        if site == "site-4" and len(consortium.book.sums) == 1 and not copied:
            consortium.back_up("site-4", tmp_path / "old.db")
            copied.append(1)
        if site == "site-4" and len(consortium.book.sums) == 3 and len(copied) == 1:
            consortium.put_back("site-4", tmp_path / "old.db")
            copied.append(2)
        return honest(request)

    consortium.fault = fault
    consortium.study_run().run()
    later = [roster for *_, roster, code in consortium.book.attempts[3:] if code == ""]
    assert later == [("site-1", "site-2", "site-3")] * 2
    assert set(consortium.book.release[1]) == {"site-1", "site-2", "site-3"}


def test_a_ledger_that_only_grew_is_no_rollback(consortium) -> None:
    """Heads repeat while a site waits, and move on for reasons of its own."""
    hand = Hand(consortium)
    for attempt in range(3):  # no charge in between: the same head is shown three times
        readies = hand.readies(0, attempt)
        call = hand.cohort(readies.values(), 0, attempt)
        if attempt < 2:
            session = consortium.rounds["site-1"]._sessions[consortium.digest]
            session.watch_heads(tuple(readies.values()))
        else:
            assert len(hand.upload("site-1", call).words) == consortium.plan.model.parameters
