"""Does a sum survive the loss of a hospital at each step, bit for bit, with its charges?

SECAGG-13 to -15 at work between real sites and the real coordinator, in memory.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coordinator.rounds import RoundSum, StudyEnded
from schemas.errors import ErrorCode
from schemas.wire import ReadyReply
from site_node import round as site_round
from tests.simulation.conftest import LONG
from tests.support.by_hand import Hand, unharmed
from tests.support.consortium import MemoryConsortium, losing, memory_consortium
from tests.support.factories import recoverable

FOUR = ("site-1", "site-2", "site-3", "site-4")
THREE = FOUR[:3]
SHORT = {"training": {"steps": 2, "average_from_step": 1}}


@pytest.fixture
def consortium(tmp_path) -> MemoryConsortium:
    """Four sites, two steps; one site may be lost in an attempt."""
    return memory_consortium(tmp_path, **SHORT, **recoverable(1))


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Hand:
    """Four sites at round 0: refused messages must leave them there."""
    return Hand(memory_consortium(tmp_path_factory.mktemp("shared"), **LONG, **recoverable(1)))


@pytest.fixture
def drawn(monkeypatch):
    """Each site's noised vector of a training attempt, known to this test alone."""
    seen = {}
    honest = site_round.masked_upload

    def spy(keys, vector, **more):
        if keys.attempt.kind == "train":
            place = (keys.attempt.round, keys.attempt.attempt, keys.site_id)
            seen[place] = vector.values.copy()
        return honest(keys, vector, **more)

    monkeypatch.setattr(site_round, "masked_upload", spy)
    return seen


def training(consortium) -> list[tuple[int, int, str | None]]:
    return [(e[1], e[2], e[4]) for e in consortium.book.attempts if e[0] == "train"]


def charges(consortium) -> list[int]:
    return [consortium.charged(site) for site in consortium.sites]


def states(consortium) -> set:
    return {site.journal.load_state(consortium.digest) for site in consortium.sites.values()}


def both(first, second):
    """Let two faults look at every message."""
    return lambda site, raw, honest: first(site, raw, lambda body: second(site, body, honest))


# -- whole studies ----------------------------------------------------------------------------


def test_an_undisturbed_study_in_recoverable_mode(consortium) -> None:
    consortium.study_run().run()
    assert training(consortium) == [(0, 0, ""), (1, 0, "")]
    assert [entry.survivors for entry in consortium.book.sums] == [(), ()]
    assert charges(consortium) == [2, 2, 2, 2]
    assert len(states(consortium)) == 1
    assert set(consortium.book.release[1]) == set(FOUR)
    for site in consortium.sites.values():
        rows = site.db.rows("SELECT kind, count(*) AS n FROM released GROUP BY kind ORDER BY kind")
        assert {row["kind"]: row["n"] for row in rows} == {
            "masked-evaluation": 1,
            "masked-update": 2,
            "model-hash": 3,
            "release": 1,
            "survivor-confirmation": 2,
            "unmasking": 2,
        }
        assert site.audit.verify().is_intact
    kinds = [(kind, site) for kind, site, size in consortium.book.received if size > 0]
    assert kinds.count(("unmasking", "site-4")) == 2


@pytest.mark.parametrize(
    ("stage", "charged"), [("cohort", 1), ("upload", 2)], ids=["before", "after"]
)
def test_a_lost_site_is_left_out_of_the_sum_and_comes_back(
    consortium, drawn, stage, charged
) -> None:
    consortium.fault = losing("site-4", stage=stage, round_=0)
    consortium.study_run().run()
    assert training(consortium) == [(0, 0, ""), (1, 0, "")]  # no attempt is void
    assert [entry.survivors for entry in consortium.book.sums] == [THREE, ()]
    assert [roster for *_, roster, _ in consortium.book.attempts] == [FOUR, FOUR, FOUR]
    # Charged is who took part, whether or not it is in the sum.
    assert charges(consortium) == [2, 2, 2, charged]
    expected = sum(drawn[0, 0, site] for site in THREE)
    assert np.array_equal(consortium.book.sums[0].summed.words, expected.astype(np.uint32))
    assert len(states(consortium)) == 1
    assert set(consortium.book.release[1]) == set(FOUR)


@pytest.mark.parametrize("stage", ["survivors", "unmasking"])
def test_a_site_lost_after_its_upload_is_in_the_sum_all_the_same(consortium, drawn, stage) -> None:
    """tau of the four suffice, since nobody's pair masks are left over."""
    consortium.fault = losing("site-4", stage=stage, round_=1)
    consortium.study_run().run()
    assert training(consortium) == [(0, 0, ""), (1, 0, "")]
    assert [entry.survivors for entry in consortium.book.sums] == [(), ()]
    expected = sum(drawn[1, 0, site] for site in FOUR)
    assert np.array_equal(consortium.book.sums[1].summed.words, expected.astype(np.uint32))
    assert len(states(consortium)) == 1


@pytest.mark.parametrize("stage", ["confirmation", "unmask"])
def test_a_survivor_lost_in_the_recovery_voids_the_attempt(consortium, stage) -> None:
    """A lost site's pair masks come off only with the help of every survivor."""
    consortium.fault = both(
        losing("site-4", stage="upload", round_=0, attempt=0),
        losing("site-3", stage=stage, round_=0, attempt=0),
    )
    consortium.study_run().run()
    assert training(consortium) == [(0, 0, "transport.timeout"), (0, 1, ""), (1, 0, "")]
    assert charges(consortium) == [3, 3, 3, 3]  # what is void stays charged
    assert len(states(consortium)) == 1


def test_more_lost_than_the_plan_allows_voids_the_attempt(consortium) -> None:
    consortium.fault = losing("site-3", "site-4", stage="upload", round_=1, attempt=0)
    consortium.study_run().run()
    assert training(consortium) == [(0, 0, ""), (1, 0, "transport.timeout"), (1, 1, "")]
    assert charges(consortium) == [3, 3, 3, 3]
    query = (
        "SELECT * FROM released WHERE kind = 'survivor-confirmation' AND (round, attempt) = (1, 0)"
    )
    signed = [site.db.rows(query) for site in consortium.sites.values()]
    assert signed == [[], [], [], []]  # nobody was asked to sign away two


def test_a_cohort_of_the_fewest_can_lose_nobody(consortium) -> None:
    consortium.offline.add("site-4")
    consortium.fault = losing("site-3", stage="upload", round_=0, attempt=0)
    consortium.study_run().run()
    assert training(consortium) == [(0, 0, "transport.timeout"), (0, 1, ""), (1, 0, "")]


def test_two_of_six_may_be_lost_in_every_round(tmp_path, drawn) -> None:
    consortium = memory_consortium(tmp_path, n_sites=6, **SHORT, **recoverable(2))
    assert consortium.plan.survivor_threshold == 4
    lost = losing("site-2", "site-5", stage="upload", round_=0)
    also = losing("site-1", "site-6", stage="cohort", round_=1)
    consortium.fault = both(lost, also)
    consortium.study_run().run()
    assert training(consortium) == [(0, 0, ""), (1, 0, "")]
    stayed = [("site-1", "site-3", "site-4", "site-6"), ("site-2", "site-3", "site-4", "site-5")]
    assert [entry.survivors for entry in consortium.book.sums] == stayed
    for round_, sites in enumerate(stayed):
        expected = sum(drawn[round_, 0, site] for site in sites).astype(np.uint32)
        assert np.array_equal(consortium.book.sums[round_].summed.words, expected)
    assert len(states(consortium)) == 1


def test_a_lost_site_that_restarted_learns_the_sum_of_the_others(consortium) -> None:
    def restart(site, raw, honest):
        reply = lose(site, raw, honest)
        if reply is None:
            consortium.restart("site-2")
        return reply

    lose = losing("site-2", stage="upload", round_=0)
    consortium.fault = restart
    consortium.study_run().run()
    assert training(consortium) == [(0, 0, ""), (1, 0, "")]
    assert len(states(consortium)) == 1


def test_a_restarted_coordinator_knows_who_is_in_its_sums(consortium) -> None:
    consortium.fault = losing("site-4", stage="upload", round_=0)
    stops = iter([False, True])
    with pytest.raises(StudyEnded):
        consortium.study_run(should_stop=lambda: next(stops)).run()
    assert [entry.survivors for entry in consortium.book.sums] == [THREE]
    consortium.restart("site-1")  # it has to be told as well
    consortium.study_run().run()
    assert len(states(consortium)) == 1


def test_with_too_few_left_for_a_recoverable_sum_training_waits_at_once(tmp_path) -> None:
    """Six sites need four; three willing ones could hold an atomic study, not this one."""
    consortium = memory_consortium(tmp_path, n_sites=6, **SHORT, **recoverable(1))
    consortium.book.stopped |= {"site-1", "site-2", "site-3"}
    with pytest.raises(StudyEnded) as ended:
        consortium.study_run().run()
    assert ended.value.code is ErrorCode.STUDY_QUORUM_LOST
    assert consortium.clock == 0.0
    assert consortium.book.attempts == []


def test_the_evaluation_stays_atomic(consortium) -> None:
    consortium.study_run().run()
    for site in consortium.sites.values():
        kinds = site.db.rows("SELECT DISTINCT kind FROM released WHERE round = 0 AND attempt = 0")
        assert "masked-evaluation" in {row["kind"] for row in kinds}
    hand = Hand(consortium)
    refusals = {
        hand.refusal(site, hand.survivors(0, 0, dict.fromkeys(FOUR, "ab" * 32)))
        for site in consortium.sites
    }
    assert refusals == {"attempt.unknown"}  # the last training attempt is another


# -- what one site refuses --------------------------------------------------------------------


def uploaded(hand: Hand) -> tuple[int, dict, dict[str, str]]:
    """Play an attempt up to its uploads; give its number, READYs and upload hashes."""
    attempt = hand.fresh()
    readies = hand.readies(0, attempt)
    call = hand.cohort(readies.values(), 0, attempt)
    for site in readies:
        hand.upload(site, call)
    return attempt, readies, hand.hashes(0, attempt)


def test_a_repeated_list_gets_the_same_signature_through_the_gate(shared) -> None:
    """What else a site says to lists and signatures is in `tests/adversary/test_recovery.py`."""
    attempt, _, hashes = uploaded(shared)
    first = shared.confirmations(0, attempt, hashes)
    assert shared.confirmations(0, attempt, hashes) == first


def test_nothing_is_signed_before_the_upload_or_for_another_attempt(shared) -> None:
    attempt, _, hashes = uploaded(shared)
    later = shared.fresh()
    readies = shared.readies(0, later)
    with unharmed(shared.consortium):
        for number in (attempt + 100, later):
            request = shared.survivors(0, number, hashes)
            assert shared.refusal("site-1", request) == "attempt.unknown"
    shared.upload("site-1", shared.cohort(readies.values(), 0, later))
    with unharmed(shared.consortium):  # the older attempt's secrets are gone by now
        request = shared.survivors(0, attempt, hashes)
        assert shared.refusal("site-1", request) == "attempt.unknown"


def test_a_site_that_signed_nothing_reveals_nothing(shared) -> None:
    attempt, _, hashes = uploaded(shared)
    signatures = shared.confirmations(0, attempt, hashes, sites=THREE)
    with unharmed(shared.consortium):
        request = shared.unmask(0, attempt, signatures)
        assert shared.refusal("site-4", request) == "message.out_of_order"


def test_a_restarted_site_has_nothing_to_reveal(tmp_path) -> None:
    hand = Hand(memory_consortium(tmp_path, **SHORT, **recoverable(1)))
    attempt, _, hashes = uploaded(hand)
    signatures = hand.confirmations(0, attempt, hashes)
    hand.consortium.restart("site-1")
    hand.consortium.sites["site-2"].approvals.stop(hand.consortium.digest)
    with unharmed(hand.consortium, "site-1"):
        assert hand.refusal("site-1", hand.survivors(0, attempt, hashes)) == "attempt.unknown"
        assert hand.refusal("site-1", hand.unmask(0, attempt, signatures)) == "attempt.unknown"
    # A stop between confirmation and unmasking holds the rest back, for good.
    assert hand.refusal("site-2", hand.survivors(0, attempt, hashes)) == "plan.stopped"
    assert hand.refusal("site-2", hand.unmask(0, attempt, signatures)) == "plan.stopped"


def test_an_atomic_plan_has_no_recovery(tmp_path) -> None:
    hand = Hand(memory_consortium(tmp_path, n_sites=3, **SHORT))
    readies = hand.readies(0, 0)
    hand.upload("site-1", hand.cohort(readies.values(), 0, 0))
    hashes = hand.hashes(0, 0)
    with unharmed(hand.consortium):
        assert hand.refusal("site-1", hand.survivors(0, 0, hashes)) == "recovery.not_offered"
        request = hand.unmask(0, 0, {"site-1": "00" * 64})
        assert hand.refusal("site-1", request) == "recovery.not_offered"


# -- sums and who is in them ------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> tuple[Hand, RoundSum]:
    """A round whose sum lacks site-4, shown to nobody yet: site-1 signed the list, site-4 none."""
    hand = Hand(memory_consortium(tmp_path_factory.mktemp("three"), **LONG, **recoverable(1)))
    attempt, readies, _ = uploaded(hand)
    return hand, hand.recover(0, attempt, readies, lost=["site-4"])


def open_with(hand: Hand, entry: RoundSum, named: tuple[str, ...]) -> bytes:
    """An OPEN of the next round with this sum, said to be of `named`."""
    return hand.open(1, hand.fresh(), missing=[replace(entry, survivors=named)])


@pytest.mark.parametrize(
    ("named", "code"),
    [
        (FOUR, "sum.altered"),
        ((), "sum.altered"),
        (("site-1", "site-2", "site-4"), "sum.altered"),
        (("site-1", "site-2"), "recovery.too_few"),
        (("site-1", "site-2", "site-9"), "recovery.stranger"),
        (("site-1", "site-2", "site-2"), "recovery.stranger"),
    ],
    ids=["all", "none named", "another three", "two", "a stranger", "one twice"],
)
def test_a_sum_said_to_be_of_others_is_refused(three, named, code) -> None:
    hand, entry = three
    with unharmed(hand.consortium):
        assert hand.refusal("site-4", open_with(hand, entry, named)) == code
        # Who signed a list believes a sum of exactly that list.
        signed = hand.refusal("site-1", open_with(hand, entry, named))
        assert signed == "recovery.survivors_changed"


def test_the_sum_of_a_signed_list_is_believed_of_that_list_only(three) -> None:
    hand, entry = three
    with unharmed(hand.consortium):
        others = open_with(hand, entry, ("site-1", "site-2", "site-4"))
        assert hand.refusal("site-1", others) == "recovery.survivors_changed"
    for site in FOUR:
        assert isinstance(hand.ask(site, open_with(hand, entry, THREE)).header, ReadyReply)
    assert len(states(hand.consortium)) == 1


def test_every_message_of_the_recovery_passes_the_gate_and_the_audit_log(shared) -> None:
    attempt, readies, _ = uploaded(shared)
    shared.recover(0, attempt, readies, lost=["site-4"])
    site = shared.consortium.sites["site-1"]
    events = [row.event for row in site.audit.rows(last=3)]
    released = [e for e in events if e.event == "egress.released"]
    assert [e.attributes["kind"] for e in released][-2:] == ["survivor-confirmation", "unmasking"]
    assert (released[-1].attributes["sites"], released[-1].attributes["lost"]) == (3, 1)
    assert released[-1].attributes["attempt"] == attempt
