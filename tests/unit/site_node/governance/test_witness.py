"""PRIVACY-17: the witness file knows where the ledger must be, whatever happened in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import CohortiumError, ConfigError, ErrorCode, InternalError
from schemas.governance.study import StudyPlan
from site_node.config import parse_config
from site_node.context import SiteContext, open_site
from site_node.doctor import Colour, check_ledger, examine
from site_node.governance.audit import AuditWord
from site_node.governance.witness import Point, Witness
from site_node.service import Service
from tests.support.ledger_faults import refusal
from tests.support.sites import approve

EMPTY = Point(entries=0, head="0" * 64)
FIRST, SECOND = Point(entries=1, head="1a" * 32), Point(entries=2, head="2a" * 32)
OTHER_FIRST = Point(entries=1, head="1b" * 32)
ROLLBACK, MISSING = ErrorCode.LEDGER_WITNESS_ROLLBACK, ErrorCode.LEDGER_WITNESS_MISSING


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def witness(tmp_path: Path, key: Ed25519PrivateKey) -> Witness:
    return Witness(tmp_path / "elsewhere" / "ledger.witness", "site-1", key)


def charge(site: SiteContext, plan: StudyPlan, number: int) -> None:
    site.charge(plan, "train", number, 0, plan.site_ids)


# --- the file -------------------------------------------------------------------------------


def test_an_empty_ledger_needs_no_witness_and_any_other_does(witness: Witness) -> None:
    """PRIVACY-17: a lost file is no proof of anything."""
    witness.check(EMPTY)
    assert refusal(lambda: witness.check(FIRST)) is MISSING


def test_before_and_after_are_both_possible_until_it_is_confirmed(witness: Witness) -> None:
    """PRIVACY-17: a kill may come on either side of the commit."""
    witness.announce(EMPTY, FIRST)
    witness.check(EMPTY)
    witness.check(FIRST)
    assert refusal(lambda: witness.check(OTHER_FIRST)) is ROLLBACK
    assert refusal(lambda: witness.check(SECOND)) is ROLLBACK
    witness.confirm(FIRST)
    witness.check(FIRST)
    assert refusal(lambda: witness.check(EMPTY)) is ROLLBACK


def test_a_late_confirmation_does_not_undo_another_processes_entry(witness: Witness) -> None:
    """PRIVACY-17: two processes write; the slow one confirms after the other has gone on."""
    witness.announce(EMPTY, FIRST)
    witness.announce(FIRST, SECOND)  # the other process; its commit is done too
    witness.confirm(FIRST)
    witness.check(SECOND)
    assert refusal(lambda: witness.check(EMPTY)) is ROLLBACK
    witness.confirm(SECOND)
    assert refusal(lambda: witness.check(FIRST)) is ROLLBACK


def test_confirming_without_looking_would_undo_it(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Witness, "confirm", Witness.accept)
    witness.announce(EMPTY, FIRST)
    witness.announce(FIRST, SECOND)
    witness.confirm(FIRST)
    assert refusal(lambda: witness.check(SECOND)) is ROLLBACK  # a ledger that is in order


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"x" * 10_000])
def test_a_damaged_file_is_a_missing_one(witness: Witness, damage: bytes) -> None:
    witness.announce(EMPTY, FIRST)
    witness.path.write_bytes(damage)
    assert witness.read() is None
    assert refusal(lambda: witness.check(FIRST)) is MISSING


def test_a_file_of_another_site_or_key_counts_for_nothing(
    witness: Witness, key: Ed25519PrivateKey
) -> None:
    for other in (
        Witness(witness.path, "site-2", key),
        Witness(witness.path, "site-1", Ed25519PrivateKey.generate()),
    ):
        other.accept(FIRST)
        assert refusal(lambda: witness.check(FIRST)) is MISSING
    witness.accept(FIRST)
    witness.check(FIRST)


def test_a_file_that_cannot_be_written_stops_the_charge(
    site: SiteContext, approved: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-17: no witness, no charge, no computation; and the ledger is as before."""
    before = site.ledger.point()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("site_node.governance.witness.write_atomically", full)
    assert refusal(lambda: charge(site, approved, 0)) is ErrorCode.LEDGER_UNWRITABLE
    monkeypatch.undo()
    assert site.ledger.point() == before
    assert site.journal.highest(approved.digest(), "train") is None
    charge(site, approved, 0)


def test_a_look_while_others_write_sees_no_rollback(witness: Witness) -> None:
    """The ledger moved on between two looks at the file: look again."""
    points = [FIRST, SECOND]
    witness.announce(EMPTY, FIRST)

    def look() -> Point:
        if len(points) == 2:
            witness.announce(FIRST, SECOND)
            witness.confirm(SECOND)
        return points.pop(0)

    witness.check_unlocked(look)


# --- at a site ------------------------------------------------------------------------------


def test_the_file_lies_outside_the_databases_folder_and_where_it_is_told(
    site: SiteContext, approved: StudyPlan, tmp_path: Path
) -> None:
    path = site.ledger.witness.path
    assert path.exists()
    assert path.parent not in site.folders.database.parents
    elsewhere = tmp_path / "other-disk" / "witness"
    config = (site.home / "site.toml").read_text("utf-8")
    moved = config.replace('witness = ""', f'witness = "{elsewhere}"')
    assert moved != config
    (site.home / "site.toml").write_text(moved, "utf-8")
    again = open_site(site.home, site.clock)
    assert refusal(lambda: charge(again, approved, 0)) is MISSING  # it must be moved along
    elsewhere.parent.mkdir()
    path.rename(elsewhere)
    charge(again, approved, 0)
    with pytest.raises(ConfigError):
        parse_config(moved.replace(str(elsewhere), "relative/witness").encode())


def test_without_its_witness_nothing_is_charged_until_a_steward_accepts_it(
    site: SiteContext, approved: StudyPlan
) -> None:
    """PRIVACY-17: knowingly, and in the audit log."""
    charge(site, approved, 0)
    site.ledger.witness.path.unlink()
    assert refusal(lambda: charge(site, approved, 1)) is MISSING
    recording = site.ledger.accept_witness()
    assert recording.event.event == AuditWord.WITNESS_ACCEPTED
    assert recording.event.attributes["before"] == "none"
    charge(site, approved, 1)
    assert site.ledger.state().accounts[approved.digest()].charged == 2
    assert site.audit.verify().is_intact


def test_an_older_witness_of_the_same_ledger_may_be_accepted(
    site: SiteContext, approved: StudyPlan
) -> None:
    path = site.ledger.witness.path
    older = path.read_bytes()
    charge(site, approved, 0)
    charge(site, approved, 1)
    path.write_bytes(older)
    assert refusal(lambda: charge(site, approved, 2)) is ROLLBACK
    site.ledger.accept_witness()
    charge(site, approved, 2)


def test_doctor_and_service_say_it(
    site: SiteContext, approved: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge(site, approved, 0)
    assert check_ledger(site).colour is Colour.GREEN
    site.ledger.witness.path.unlink()
    found = {finding.check: finding for finding in examine(site.home, site.clock)}
    assert found["privacy ledger"].colour is Colour.RED
    assert found["privacy ledger"].code == MISSING
    assert "ledger witness --accept" in found["privacy ledger"].text
    with pytest.raises(CohortiumError) as refused:
        Service(site)._refuse_broken_records()
    assert refused.value.code is MISSING


def test_a_stop_works_without_the_witness_and_gives_nothing_back(
    site: SiteContext, approved: StudyPlan
) -> None:
    charge(site, approved, 0)
    site.ledger.witness.path.unlink()
    report = site.approvals.stop(approved.digest())
    assert report.attempts_returned == 0
    assert not site.ledger.state().accounts[approved.digest()].settled
    site.ledger.accept_witness()
    assert site.approvals.settle_stopped() == 11
    assert site.approvals.settle_stopped() == 0
    assert site.ledger.state().accounts[approved.digest()].settled


def test_a_confirmation_that_fails_stops_the_computation_but_loses_nothing(
    site: SiteContext, approved: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-17: the charge is on disk, the caller hears of a failure, and the next goes on."""
    honest = Witness.confirm

    def fail(self: Witness, here: Point) -> None:
        raise InternalError(ErrorCode.LEDGER_UNWRITABLE, "The disk is full.")

    monkeypatch.setattr(Witness, "confirm", fail)
    assert refusal(lambda: charge(site, approved, 0)) is ErrorCode.LEDGER_UNWRITABLE
    monkeypatch.setattr(Witness, "confirm", honest)
    assert site.ledger.state().accounts[approved.digest()].charged == 1  # counted, not computed
    assert site.ledger.verify().is_intact
    site.ledger.check_witness()
    assert refusal(lambda: charge(site, approved, 0)) is ErrorCode.MESSAGE_REPLAYED
    charge(site, approved, 1)


def test_an_approval_that_could_not_be_confirmed_is_not_called_denied(
    site: SiteContext, plan: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Witness, here: Point) -> None:
        raise InternalError(ErrorCode.LEDGER_UNWRITABLE, "The disk is full.")

    monkeypatch.setattr(Witness, "confirm", fail)
    assert refusal(lambda: approve(site, plan)) is ErrorCode.LEDGER_UNWRITABLE
    events = [row.event.event for row in site.audit.rows()]
    assert AuditWord.PLAN_APPROVED in events
    assert AuditWord.APPROVAL_DENIED not in events
