"""Fake and duplicate sites, truncated cohorts, split views: with whom is a site summed?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import ErrorCode
from schemas.governance.study import PlanSite
from schemas.secagg import Party, add_masked, cohort
from schemas.secagg import site as secagg_site
from schemas.secagg.keys import Attempt
from schemas.secagg.messages import SignedReady
from site_node.egress import rules
from site_node.session import StudySession
from site_node.training import dp_sgd
from tests.support.attacks import VICTIM, Attack, Puppets
from tests.support.factories import make_card, make_keys
from tests.support.mutants import without

ALL = ("site-1", "site-2", "site-3", "site-4")
CLINICS = ("north-clinic", "south-clinic")


# -- fake sites ------------------------------------------------------------------------------


class Strangers:
    """Hospitals that only the coordinator speaks of, with keys that it made."""

    def __init__(self, attack: Attack) -> None:
        keys = {name: make_keys() for name in CLINICS}
        self.places = {}
        for name, mine in keys.items():
            card = make_card(name, mine)
            self.places[name] = PlanSite(
                site_id=name,
                name=card.name,
                identity_key=card.identity_key,
                approval_key=card.approval_key,
                study_key=card.study_key,
            )
        parties = {name: Party(name, k.identity, k.study) for name, k in keys.items()}
        self.puppets = Puppets(attack.consortium.plan, parties, {})

    def are_believed(self, monkeypatch) -> None:
        """Let every state machine take the coordinator's word for who is a hospital."""
        honest = secagg_site._own_place

        def lenient(party, plan):
            places = dict(self.places)
            if party.site_id not in places:
                places |= honest(party, plan)
            else:
                places |= {site.site_id: site for site in plan.sites}
            return places

        monkeypatch.setattr(secagg_site, "_own_place", lenient)

    def are_approved(self, monkeypatch) -> None:
        """Let sites take the coordinator's word for who approved."""
        honest = StudySession.accept_approvals

        def lenient(session, approvals):
            honest(session, approvals)
            session.approved |= self.places.keys()

        monkeypatch.setattr(StudySession, "accept_approvals", lenient)

    def readies(self, attack: Attack, attempt: int) -> dict[str, SignedReady]:
        """The victim's READY and those of the strangers."""
        # Only the victim's approval is shown: a READY sealed for more hospitals than the plan
        # has would be larger than the plan promised, and stay behind the gate.
        shown = (attack.consortium.book.signed[VICTIM],)
        own = attack.readies(0, attempt, sites=[VICTIM], approvals=shown)[VICTIM]
        return {VICTIM: own, **self.puppets.readies(own.ready)}


@pytest.fixture
def strangers(attack) -> Strangers:
    return Strangers(attack)


def test_a_cohort_with_fake_sites_is_refused(attack, strangers, monkeypatch) -> None:
    attempt = attack.fresh()
    with monkeypatch.context() as ours:  # the attacker's own machine may believe what it likes
        strangers.are_believed(ours)
        readies = strangers.readies(attack, attempt)
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.member_unknown"


def test_behind_the_plans_roster_stand_the_approvals(attack, strangers, monkeypatch) -> None:
    strangers.are_believed(monkeypatch)
    attempt = attack.fresh()
    readies = strangers.readies(attack, attempt)
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.member_unapproved"


def test_where_the_coordinator_says_who_is_a_hospital_it_reads_the_victim(
    attack, strangers, monkeypatch, drawn
) -> None:
    strangers.are_believed(monkeypatch)
    strangers.are_approved(monkeypatch)
    attempt = attack.fresh()
    readies = strangers.readies(attack, attempt)
    upload = attack.upload(VICTIM, attack.cohort(readies.values(), 0, attempt))
    found = strangers.puppets.open(readies.values(), attack.model_hash, {VICTIM: upload})
    assert np.array_equal(found, drawn[VICTIM])


def with_an_approval_withheld(attack: Attack) -> tuple[int, dict[str, SignedReady]]:
    """Site-4 is in the plan, and the victim has seen no approval of its steward."""
    attempt = attack.fresh()
    known = attack.consortium.book.signed
    three = tuple(known[site] for site in ALL[:3])
    readies = attack.readies(0, attempt, sites=[VICTIM], approvals=three)
    return attempt, {**readies, **attack.readies(0, attempt, sites=ALL[1:])}


def test_a_hospital_that_is_not_known_to_have_approved_is_refused(attack) -> None:
    attempt, readies = with_an_approval_withheld(attack)
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.member_unapproved"


def test_without_that_check_hospitals_count_that_never_said_yes(attack, monkeypatch) -> None:
    without(monkeypatch, cohort.checked_cohort, ErrorCode.COHORT_MEMBER_UNAPPROVED)
    attempt, readies = with_an_approval_withheld(attack)
    before = attack.charged_uploads(VICTIM)
    attack.upload(VICTIM, attack.cohort(readies.values(), 0, attempt))
    assert attack.charged_uploads(VICTIM) == (before[0] + 1, before[1] + 1)


# -- duplicates and truncation: both leave two hospitals, one of them ours -------------------


def doubled(attack: Attack, attempt: int) -> list[SignedReady]:
    """Three READYs, two hospitals: the colluding site-2 signed twice."""
    readies = attack.readies(0, attempt, sites=[VICTIM, "site-2"])
    twin = attack.readies(0, attempt, sites=["site-2"])["site-2"]
    return [*readies.values(), twin]


def truncated(attack: Attack, attempt: int) -> list[SignedReady]:
    """Two READYs, one of them of the colluding site-2."""
    return list(attack.readies(0, attempt, sites=[VICTIM, "site-2"]).values())


def accepting(monkeypatch, layers: int) -> None:
    """Take out the first `layers` of the places that count hospitals."""
    if layers > 0:
        without(
            monkeypatch,
            cohort.checked_cohort,
            ErrorCode.COHORT_TOO_SMALL,
            ErrorCode.COHORT_DUPLICATE_MEMBER,
        )
    if layers > 1:
        without(monkeypatch, dp_sgd.noised_update, ErrorCode.COHORT_TOO_SMALL)
    if layers > 2:
        without(monkeypatch, rules.enough_contributors, ErrorCode.EGRESS_TOO_FEW)


def test_a_duplicate_site_is_refused(attack) -> None:
    attempt = attack.fresh()
    call = attack.cohort(doubled(attack, attempt), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.duplicate_member"


def test_behind_that_check_hospitals_are_counted_and_not_messages(attack, monkeypatch) -> None:
    without(monkeypatch, cohort.checked_cohort, ErrorCode.COHORT_DUPLICATE_MEMBER)
    attempt = attack.fresh()
    call = attack.cohort(doubled(attack, attempt), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.too_small"


def test_a_truncated_cohort_is_refused(attack) -> None:
    attempt = attack.fresh()
    call = attack.cohort(truncated(attack, attempt), 0, attempt)
    assert attack.refused(VICTIM, call) == "cohort.too_small"


@pytest.mark.parametrize(("layers", "code"), [(1, "cohort.too_small"), (2, "egress.too_few")])
def test_behind_the_cohort_check_noise_and_gate_count_again(
    attack, monkeypatch, layers, code
) -> None:
    """By then the attempt is charged, and stays so: one upload less left than was paid for."""
    accepting(monkeypatch, layers)
    attempt = attack.fresh()
    before = attack.charged_uploads(VICTIM)
    call = attack.cohort(truncated(attack, attempt), 0, attempt)
    assert attack.refused(VICTIM, call, harmless=False) == code
    assert attack.charged_uploads(VICTIM) == (before[0] + 1, before[1])


@pytest.mark.parametrize("members", [doubled, truncated], ids=["doubled", "truncated"])
def test_without_any_of_them_one_colluder_subtracts_itself(
    attack, monkeypatch, drawn, members
) -> None:
    accepting(monkeypatch, 3)
    attempt = attack.fresh()
    call = attack.cohort(members(attack, attempt), 0, attempt)
    uploads = {site: attack.upload(site, call) for site in (VICTIM, "site-2")}
    both = add_masked(uploads, sorted(uploads)).words.view(np.int32).astype(np.int64)
    assert np.array_equal(both - drawn["site-2"], drawn[VICTIM])


# -- split views: every check passes at every site, and the views differ ---------------------

RING = {
    "site-1": ("site-4", "site-1", "site-2"),
    "site-2": ("site-1", "site-2", "site-3"),
    "site-3": ("site-2", "site-3", "site-4"),
    "site-4": ("site-3", "site-4", "site-1"),
}
"""Each site agrees to three, itself and two neighbours: every pair is seen by both or none."""


def ring(attack: Attack) -> np.ndarray:
    """Add what four sites send under four views."""
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    uploads = {}
    for site, view in RING.items():
        call = attack.cohort([readies[name] for name in view], 0, attempt)
        uploads[site] = attack.upload(site, call)
    return add_masked(uploads, ALL).words.view(np.int32).astype(np.int64)


def test_a_split_cohort_view_is_paid_for_and_gives_noise(attack, drawn) -> None:
    before = [attack.charged_uploads(site) for site in ALL]
    words = ring(attack)
    assert not np.any(words == sum(drawn[site] for site in ALL))
    assert [attack.charged_uploads(s) for s in ALL] == [(n + 1, m + 1) for n, m in before]


def test_without_the_cohort_in_the_masks_a_sum_opens_that_no_site_agreed_to(
    attack, drawn, monkeypatch
) -> None:
    honest = Attempt.info
    unbound = {"transcript_hash": "00" * 32}
    monkeypatch.setattr(Attempt, "info", lambda self: honest(replace(self, **unbound)))
    assert np.array_equal(ring(attack), sum(drawn[site] for site in ALL))
