"""Do restarts and absences cost a site nothing but the attempt they fall into?"""

from __future__ import annotations

from schemas.errors import ErrorCode
from schemas.wire import Close, CohortCall, Open, Result, decode, encode
from tests.support.by_hand import Hand, unharmed

REQUESTS = (Open, CohortCall, Close, Result)


def states(consortium) -> set:
    return {site.journal.load_state(consortium.digest) for site in consortium.sites.values()}


def test_restart_between_ready_and_cohort_voids_the_attempt_only(consortium) -> None:
    restarted = []

    def fault(site, request, honest):
        header = decode(request, allowed=REQUESTS).header
        if isinstance(header, CohortCall) and header.round == 2 and not restarted:
            consortium.restart("site-1")
            restarted.append(site)
        return honest(request)

    consortium.fault = fault
    consortium.study_run().run()
    assert [entry[1:3] + entry[4:] for entry in consortium.book.attempts[2:4]] == [
        (2, 0, ErrorCode.SUM_UNVERIFIABLE.value),
        (2, 1, ""),
    ]
    assert len(states(consortium)) == 1
    assert [consortium.charged(site) for site in consortium.sites] == [4, 5, 5, 5]


def test_a_stale_ready_is_refused_and_nothing_is_charged(consortium) -> None:
    hand = Hand(consortium)
    readies = hand.readies(0, 0)
    consortium.restart("site-2")
    call = hand.cohort(readies.values(), 0, 0)
    with unharmed(consortium, "site-2"):
        assert hand.refusal("site-2", call) == "cohort.ready_stale"


def test_a_sum_without_evidence_is_not_taken_on_trust_after_a_restart(consortium) -> None:
    hand = Hand(consortium)
    first = hand.play(0, 0)
    consortium.restart("site-3")
    readies = hand.readies(1, 0)
    call = CohortCall(
        plan_digest=consortium.digest,
        kind="train",
        round=1,
        attempt=0,
        readies=tuple(readies.values()),
        previous=first.tag(evidence=False),
    )
    with unharmed(consortium, "site-3"):
        assert hand.refusal("site-3", encode(call, first.blob())) == "sum.unverifiable"
    # With the signed cohort it derives the tag secret again and goes on.
    hand.play(1, 1, previous=first)
    assert len(states(consortium)) == 1


def test_two_sites_restarted_before_the_close_still_sign_the_final_model(consortium) -> None:
    restarted = []

    def fault(site, request, honest):
        header = decode(request, allowed=REQUESTS).header
        if isinstance(header, Close) and not restarted:
            for each in ("site-1", "site-2"):
                consortium.restart(each)
                restarted.append(each)
        return honest(request)

    consortium.fault = fault
    consortium.study_run().run()
    assert set(consortium.book.signed_finals) == set(consortium.sites)
    assert set(consortium.book.release[1]) == set(consortium.sites)
    assert {consortium.charged(site) for site in consortium.sites} == {4}


def test_restart_before_the_result_repeats_the_evaluation_with_the_same_sites(consortium) -> None:
    restarted = []

    def fault(site, request, honest):
        if isinstance(decode(request, allowed=REQUESTS).header, Result) and not restarted:
            consortium.restart("site-4")
            restarted.append(site)
        return honest(request)

    consortium.fault = fault
    consortium.study_run().run()
    everyone = tuple(consortium.sites)
    assert [entry[:4] for entry in consortium.book.attempts if entry[0] == "evaluate"] == [
        ("evaluate", 0, 0, everyone),
        ("evaluate", 0, 1, everyone),
    ]
    assert consortium.sites["site-4"].journal.evaluation_roster(consortium.digest) == everyone
    assert consortium.book.release is not None
    assert consortium.charged("site-4") == 4  # an evaluation spends no epsilon


def test_a_site_away_for_two_rounds_catches_up_and_rejoins_with_the_same_bits(consortium) -> None:
    def fault(site, request, honest):
        header = decode(request, allowed=REQUESTS).header
        if isinstance(header, CohortCall) and header.kind == "train":
            if header.round == 3:
                consortium.offline.discard("site-4")
            if header.round == 1 and site == "site-4":
                consortium.offline.add("site-4")
                return None
        return honest(request)

    consortium.fault = fault
    consortium.study_run().run()
    # Online again when round 3 was under way; it lacks the sums of rounds 1 to 3.
    rosters = [len(roster) for *_, roster, code in consortium.book.attempts if not code]
    assert rosters == [4, 3, 3, 3, 4]
    assert len(states(consortium)) == 1
    assert consortium.charged("site-4") == 1
    assert set(consortium.book.release[1]) == set(consortium.sites)


def test_a_site_back_in_mid_study_trains_again(consortium) -> None:
    hand = Hand(consortium)
    sums = [hand.play(0, 0)]
    present = ("site-1", "site-2", "site-3")
    for round_ in (1, 2):
        sums.append(hand.play(round_, 0, sites=present, previous=sums[-1]))
    with unharmed(consortium, "site-4"):
        assert hand.refusal("site-4", hand.open(3, 0)) == "site.behind"
    sums.append(hand.play(3, 0, previous=sums[-1], missing=sums[:2]))
    assert consortium.charged("site-4") == 2
    finals = hand.finals(sums[-1])
    assert len(finals) == 4
    assert len(states(consortium)) == 1


def test_a_restarted_coordinator_goes_on_from_its_book(consortium) -> None:
    calls = []

    def fault(site, request, honest):
        header = decode(request, allowed=REQUESTS).header
        if isinstance(header, CohortCall) and header.round == 2:
            calls.append(site)
            if len(calls) == 2:  # one site has the cohort and is charged; then the power goes
                raise KeyboardInterrupt
        return honest(request)

    consortium.fault = fault
    try:
        consortium.study_run().run()
    except KeyboardInterrupt:
        consortium.fault = None
    consortium.study_run().run()
    assert [entry[1:3] + entry[4:] for entry in consortium.book.attempts[2:4]] == [
        (2, 0, None),
        (2, 1, ""),
    ]
    assert [consortium.charged(site) for site in consortium.sites] == [5, 4, 4, 4]
    assert len(states(consortium)) == 1
