"""Invented hospitals in the plan, stale and future plans: what can a plan itself do to a site?"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import CohortiumError, ErrorCode
from schemas.governance import study
from schemas.identity import fingerprint, seal_card
from schemas.secagg import cohort, shares
from schemas.secagg import site as secagg_site
from schemas.signing import public_hex
from site_node.governance import checks
from site_node.governance.approvals import Approvals
from site_node.governance.checks import PlanChecks, PlanState
from site_node.governance.ledger import Ledger
from site_node.governance.peers import Peers
from tests.support.attacks import VICTIM, last_event
from tests.support.consortium import site_keys
from tests.support.factories import make_card, make_keys
from tests.support.framed import Frame
from tests.support.mutants import without
from tests.support.secure_sum import Consortium, vectors_of

OTHERS = ("site-2", "site-3", "site-4")


def denied(frame: Frame) -> str:
    """Ask the steward to approve; give the code of the refusal that the audit log holds."""
    with pytest.raises(CohortiumError) as error:
        frame.approve()
    event = last_event(frame.victim)
    assert (event.event, event.attributes["code"]) == ("plan.approval_denied", error.value.code)
    assert frame.plan.digest() not in frame.victim.ledger.state().accounts
    return str(error.value.code)


def forgive(monkeypatch, problem: ErrorCode) -> None:
    """Take out one of the comparisons of a plan's hospitals with the confirmed cards."""
    honest = Peers._check

    def lenient(self, site):
        found = honest(self, site)
        if found.problem is not problem:
            return found
        return replace(found, problem=None, fingerprint=found.fingerprint or "00" * 32)

    monkeypatch.setattr(Peers, "_check", lenient)


# -- key swap and invention, in the plan ----------------------------------------------------


@pytest.fixture(scope="module")
def swapped(attack) -> Frame:
    """The right names, and keys of the coordinator's own for all but the victim."""
    return Frame(attack, {site: make_keys() for site in OTHERS}, title="Swapped keys")


def test_a_plan_with_swapped_keys_is_not_approved(swapped) -> None:
    assert denied(swapped) == "identity.peer_key_substituted"


def test_without_the_confirmed_cards_swapped_keys_open_the_victims_vector(
    swapped, monkeypatch, drawn
) -> None:
    forgive(monkeypatch, ErrorCode.PEER_KEY_SUBSTITUTED)
    swapped.approve()
    assert np.array_equal(swapped.rob(), drawn[VICTIM])


@pytest.fixture(scope="module")
def invented(attack) -> Frame:
    """Hospitals that nobody here ever heard of."""
    names = ("north-clinic", "south-clinic", "west-clinic")
    return Frame(attack, {name: make_keys() for name in names}, title="Invented hospitals")


def test_a_plan_with_invented_hospitals_is_not_approved(invented) -> None:
    assert denied(invented) == "identity.peer_unknown"


def test_without_the_list_of_peers_invented_hospitals_open_the_victims_vector(
    invented, monkeypatch, drawn
) -> None:
    forgive(monkeypatch, ErrorCode.PEER_UNKNOWN)
    invented.approve()
    assert np.array_equal(invented.rob(), drawn[VICTIM])


@pytest.fixture(scope="module")
def unconfirmed(attack) -> Frame:
    """Invented hospitals whose cards came by mail; nobody telephoned."""
    frame = Frame(
        attack, {name: make_keys() for name in ("east-clinic", "lake-clinic")}, title="By mail"
    )
    for name in frame.others:
        card = make_card(name, frame.keys[name])
        frame.victim.peers.import_card(seal_card(frame.keys[name].identity, card).canonical())
    return frame


def test_a_plan_with_hospitals_nobody_has_confirmed_is_not_approved(unconfirmed) -> None:
    assert denied(unconfirmed) == "identity.peer_unconfirmed"


def test_without_confirmation_cards_that_came_by_mail_open_the_victims_vector(
    unconfirmed, monkeypatch, drawn
) -> None:
    forgive(monkeypatch, ErrorCode.PEER_UNCONFIRMED)
    unconfirmed.approve()
    assert np.array_equal(unconfirmed.rob(), drawn[VICTIM])


# -- one hospital under two names -----------------------------------------------------------


class Twice(Frame):
    """Three names in the plan, two hospitals behind them: site-2 colludes and counts double."""

    def __init__(self, attack) -> None:
        colluder = site_keys(attack.consortium.sites["site-2"])
        others = {"site-2": colluder, "second-wing": make_keys()}
        super().__init__(attack, others, title="One hospital twice")
        wing = self.keys["second-wing"]  # its steward signs with a key of its own, and that is all
        wing = replace(colluder, approval=wing.approval)
        self.keys["second-wing"] = wing
        one = self.plan.site("site-2")
        approval = public_hex(wing.approval)
        twin = one.model_copy(update={"site_id": "second-wing", "approval_key": approval})
        sites = (self.plan.site(VICTIM), one, twin)
        self.plan = self.plan.model_copy(update={"sites": sites})
        card = make_card("second-wing", wing)
        raw = seal_card(colluder.identity, card).canonical()
        self.victim.peers.import_card(raw, replace=True)
        self.victim.peers.confirm("second-wing", fingerprint(card))


def test_a_plan_with_one_hospital_under_two_names_is_not_approved(attack) -> None:
    assert denied(Twice(attack)) == "document.field_invalid"


def test_without_distinct_keys_one_colluder_fills_the_cohort_and_subtracts(
    attack, monkeypatch, drawn
) -> None:
    monkeypatch.setattr(study, "_distinct", lambda *_: None)
    frame = Twice(attack)
    frame.approve()
    assert np.array_equal(frame.rob(), drawn[VICTIM])


# -- a plan that asks for less than the hospital does ---------------------------------------


def stricter(frame: Frame, monkeypatch) -> None:
    """Let the victim's own floor be four hospitals."""
    approvals = frame.victim.approvals
    floors = frame.victim.config.floors.model_copy(update={"minimum_cohort": 4})
    config = frame.victim.config.model_copy(update={"floors": floors})
    monkeypatch.setattr(approvals, "_checks", replace(approvals._checks, config=config))


def real_peers(attack, title: str, **overrides) -> Frame:
    """A plan with the confirmed keys of the real peers, which the attacker happens to hold."""
    peers = {site: site_keys(attack.consortium.sites[site]) for site in OTHERS}
    return Frame(attack, peers, title=title, **overrides)


def test_a_plan_below_the_hospitals_own_floor_is_not_approved(attack, monkeypatch) -> None:
    frame = real_peers(attack, "Three are enough")
    stricter(frame, monkeypatch)
    assert denied(frame) == "floor.cohort_minimum"


def test_without_floors_the_plan_decides_how_few_are_enough(attack, monkeypatch, drawn) -> None:
    frame = real_peers(attack, "Three are enough")
    stricter(frame, monkeypatch)
    monkeypatch.setattr(checks, "check_floors", lambda *_: None)
    frame.approve()
    assert np.array_equal(frame.rob(), drawn[VICTIM])


def test_a_plan_whose_minimum_does_not_outnumber_the_colluders_is_not_approved(attack) -> None:
    frame = real_peers(attack, "Two are enough")
    frame.plan = frame.plan.model_copy(update={"cohort_minimum": 2})
    assert denied(frame) == "document.field_invalid"


def test_under_such_a_minimum_one_colluder_subtracts_itself() -> None:
    """A plan that no parser gives: the cohort check is as good as the plan's minimum."""
    three = Consortium.of(3)
    three.plan = three.plan.model_copy(update={"cohort_minimum": 2})
    keys = three.keys([VICTIM, "site-2"])
    vectors = vectors_of(keys, 20)
    words = secagg_site.mask(keys[VICTIM], vectors[VICTIM]).words
    words = words + secagg_site.mask(keys["site-2"], vectors["site-2"]).words
    left = words.view(np.int32).astype(np.int64) - vectors["site-2"]
    assert np.array_equal(left, vectors[VICTIM])


# -- stale and future plans -----------------------------------------------------------------


def standing_as(monkeypatch, seen: PlanState) -> None:
    """Take one state of a plan for an approved one."""
    honest = Approvals.state

    def lenient(self, digest, expires=None):
        state = honest(self, digest, expires)
        return PlanState.APPROVED if state is seen else state

    monkeypatch.setattr(Approvals, "state", lenient)


@pytest.fixture
def next_year(attack):
    """A day after the plan's expiry."""
    calendar = attack.consortium.calendar
    before, calendar.now = calendar.now, dt.datetime(2027, 11, 21, tzinfo=dt.UTC)
    yield
    calendar.now = before


def test_an_expired_plan_is_refused_at_every_message(attack, next_year) -> None:
    attempt = attack.fresh()
    assert attack.refused(VICTIM, attack.open(0, attempt)) == "plan.expired"
    assert attack.refused(VICTIM, attack.cohort((), 0, attempt)) == "plan.expired"


def test_a_plan_that_expires_between_ready_and_cohort_is_refused(attack, request) -> None:
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    request.getfixturevalue("next_year")
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "plan.expired"


def test_without_the_date_an_expired_plan_goes_on_for_ever(attack, monkeypatch, next_year) -> None:
    standing_as(monkeypatch, PlanState.EXPIRED)
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    before = attack.charged_uploads(VICTIM)
    attack.upload(VICTIM, attack.cohort(readies.values(), 0, attempt))
    assert attack.charged_uploads(VICTIM) == (before[0] + 1, before[1] + 1)


def test_an_expired_plan_cannot_be_approved_any_more(attack, next_year) -> None:
    assert denied(real_peers(attack, "Yesterday")) == "plan.expired"


FUTURE = {"created": "2026-11-23T00:00:00Z"}


def test_a_plan_from_the_future_is_not_approved(attack) -> None:
    assert denied(real_peers(attack, "Tomorrow", **FUTURE)) == "plan.not_yet_valid"


def test_without_the_date_a_plan_from_the_future_is_in_force_today(
    attack, monkeypatch, drawn
) -> None:
    without(monkeypatch, PlanChecks.check_dates, ErrorCode.PLAN_NOT_YET_VALID)
    frame = real_peers(attack, "Tomorrow", **FUTURE)
    frame.approve()
    assert np.array_equal(frame.rob(), drawn[VICTIM])


@pytest.fixture(scope="module")
def pending(attack) -> Frame:
    """A newer plan of the same study with the same hospitals, which no steward has read."""
    return real_peers(attack, "A newer version")


def test_a_plan_nobody_approved_is_refused(pending) -> None:
    hand, _ = pending.attack()
    assert hand.refused(VICTIM, hand.open(0, 0)) == "plan.unapproved"


def test_a_plan_nobody_sent_is_refused(attack) -> None:
    frame = real_peers(attack, "Never sent")
    request = attack.open(0, 0, plan_digest=frame.plan.digest())
    assert attack.refused(VICTIM, request) == "plan.unknown"


def played(pending: Frame) -> str:
    """Run the pending plan all the same; give the code of the refusal of its first cohort."""
    hand, puppets = pending.attack()
    attempt = hand.fresh()
    own = hand.readies(0, attempt)[VICTIM]
    readies = (own, *puppets.readies(own.ready).values())
    return hand.refused(VICTIM, hand.cohort(readies, 0, attempt))


def test_behind_the_approval_stand_the_cohort_check_and_the_ledger(pending, monkeypatch) -> None:
    standing_as(monkeypatch, PlanState.PENDING)
    assert played(pending) == "cohort.member_unapproved"  # it means the site itself
    without(monkeypatch, cohort.checked_cohort, ErrorCode.COHORT_MEMBER_UNAPPROVED)
    assert played(pending) == "ledger.not_reserved"


def test_without_all_three_the_coordinator_writes_the_plan(pending, monkeypatch, drawn) -> None:
    standing_as(monkeypatch, PlanState.PENDING)
    without(monkeypatch, cohort.checked_cohort, ErrorCode.COHORT_MEMBER_UNAPPROVED)
    self_reserving(monkeypatch, pending)
    assert np.array_equal(pending.rob(), drawn[VICTIM])


def self_reserving(monkeypatch, frame: Frame) -> None:
    """Let the ledger set aside what it is asked to charge, without any approval."""
    honest = Ledger.charge_within

    def lenient(self, recording, digest, *attempt):
        if digest not in self.state().accounts:
            self._append(recording, self._reserve(frame.plan, digest))
        return honest(self, recording, digest, *attempt)

    monkeypatch.setattr(Ledger, "charge_within", lenient)


# -- a READY of another plan ----------------------------------------------------------------


def ready_of_another_plan(attack, frame: Frame, attempt: int):
    """An honest site-4 signed it for the other plan, in which it took part as often."""
    readies = attack.readies(0, attempt)
    _, puppets = frame.attack()
    puppets.counted = attack.consortium.digest
    other = puppets.readies(readies["site-4"].ready)["site-4"]
    return {**readies, "site-4": other}


def test_a_ready_for_another_plan_is_refused(attack, pending) -> None:
    attempt = attack.fresh()
    readies = ready_of_another_plan(attack, pending, attempt)
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.plan_mismatch"


def ignoring_the_plan(monkeypatch) -> None:
    """Compare everything a READY says but its plan."""
    honest = cohort.Expected.check
    monkeypatch.setattr(
        cohort.Expected,
        "check",
        lambda self, ready: honest(
            self, ready.model_copy(update={"plan_digest": self.plan_digest})
        ),
    )


def test_without_that_comparison_the_shares_are_sealed_for_another_plan(
    attack, pending, monkeypatch
) -> None:
    ignoring_the_plan(monkeypatch)
    attempt = attack.fresh()
    readies = ready_of_another_plan(attack, pending, attempt)
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.share_invalid"


def test_without_the_plan_in_keys_a_site_counts_where_it_never_said_yes(
    attack, pending, monkeypatch
) -> None:
    ignoring_the_plan(monkeypatch)
    honest = shares.pair_root
    monkeypatch.setattr(
        shares,
        "pair_root",
        lambda study_key, peer, _digest, *names, **more: honest(
            study_key, peer, "00" * 32, *names, **more
        ),
    )
    attempt = attack.fresh()
    readies = ready_of_another_plan(attack, pending, attempt)
    update = attack.upload(VICTIM, attack.cohort(readies.values(), 0, attempt))
    assert update.words.any()
