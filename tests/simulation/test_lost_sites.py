"""What becomes of an attempt, of the charges and of the study when sites fall away?"""

from __future__ import annotations

import pytest

from coordinator.rounds import StudyEnded
from schemas.errors import ErrorCode
from schemas.wire import CohortCall, Upload, decode
from site_node import round as site_round
from tests.support.by_hand import REPLIES, Hand, unharmed
from tests.support.consortium import MemoryConsortium


class Tap:
    """Record every COHORT and upload, and lose what a test wants lost."""

    def __init__(self, lose, *, before: bool = False) -> None:
        self.lose, self.before = lose, before
        self.calls: dict[tuple[str, int, int], CohortCall] = {}
        self.uploads: dict[tuple[str, int, int], tuple[Upload, bytes]] = {}

    def __call__(self, site, request, honest):
        try:
            header = decode(request, allowed=(CohortCall,)).header
        except Exception:
            return honest(request)
        place = (site, header.round, header.attempt)
        self.calls[place] = header
        lost = header.kind == "train" and self.lose(*place)
        if lost and self.before:
            return None
        reply = honest(request)
        frame = decode(reply, allowed=REPLIES)
        if isinstance(frame.header, Upload) and header.kind == "train":
            self.uploads[place] = (frame.header, frame.blobs[0])
        return None if lost else reply


@pytest.fixture
def drawn(monkeypatch):
    """Every noised vector before masking, in order; known to this test alone."""
    seen = []
    honest = site_round.masked_upload

    def spy(keys, vector, **more):
        values = getattr(vector, "values", vector).copy()
        seen.append((keys.site_id, keys.attempt, values))
        return honest(keys, vector, **more)

    monkeypatch.setattr(site_round, "masked_upload", spy)
    return seen


def test_a_lost_upload_voids_the_attempt_which_stays_charged(consortium) -> None:
    consortium.fault = Tap(lambda *place: place == ("site-4", 1, 0))
    consortium.study_run().run()
    assert [entry[1:3] + entry[4:] for entry in consortium.book.attempts[:3]] == [
        (0, 0, ""),
        (1, 0, "transport.timeout"),
        (1, 1, ""),
    ]
    assert {site: consortium.charged(site) for site in consortium.sites} == dict.fromkeys(
        consortium.sites, 5
    )


def test_a_site_that_never_saw_the_cohort_is_not_charged_for_it(consortium) -> None:
    consortium.fault = Tap(lambda *place: place == ("site-4", 1, 0), before=True)
    consortium.study_run().run()
    charges = [consortium.charged(site) for site in consortium.sites]
    assert charges == [5, 5, 5, 4]
    assert len({s.journal.load_state(consortium.digest) for s in consortium.sites.values()}) == 1


def test_a_retry_has_fresh_keys_masks_and_noise(consortium, drawn) -> None:
    tap = Tap(lambda *place: place == ("site-4", 1, 0))
    consortium.fault = tap
    consortium.study_run().run()
    for site in consortium.sites:
        first, second = tap.uploads[site, 1, 0], tap.uploads[site, 1, 1]
        assert first[1] != second[1]
        assert first[0].tag != second[0].tag
    keys = [
        {signed.ready.site_id: signed.ready for signed in tap.calls["site-1", 1, n].readies}
        for n in (0, 1)
    ]
    for site in consortium.sites:
        assert keys[0][site].ephemeral_key != keys[1][site].ephemeral_key
        assert set(keys[0][site].group_shares.values()).isdisjoint(
            keys[1][site].group_shares.values()
        )
    noised = {
        (site, place.attempt): values
        for site, place, values in drawn
        if (place.kind, place.round) == ("train", 1)
    }
    for site in consortium.sites:  # same patients, same model: only the noise can differ
        # Not every word: one of these wide values repeats by chance about once in a million.
        assert (noised[site, 0] != noised[site, 1]).sum() > len(noised[site, 0]) / 2


def test_poisson_sampling_draws_a_fresh_sample_for_a_retry(tmp_path, monkeypatch) -> None:
    from site_node.training import sampling
    from tests.support.consortium import memory_consortium

    consortium = memory_consortium(
        tmp_path, training={"sampling": "poisson", "sampling_rate": 0.5, "divisor": 50}
    )
    samples = []
    honest = sampling.poisson_mask

    def spy(n, rate, entropy):
        chosen = honest(n, rate, entropy)
        samples.append(chosen.tobytes())
        return chosen

    monkeypatch.setattr(sampling, "poisson_mask", spy)
    consortium.fault = Tap(lambda *place: place == ("site-4", 0, 0))
    consortium.study_run().run()
    assert len(samples) == 5 * 4  # 30 training patients a site: 2^30 equally likely samples
    assert len(set(samples)) == len(samples)


def test_the_study_goes_on_with_three_of_four(consortium) -> None:
    def leave(site, round_, attempt):
        if (site, round_) == ("site-4", 1):
            consortium.offline.add("site-4")
            return True
        return False

    consortium.fault = Tap(leave, before=True)
    consortium.study_run().run()
    rosters = [roster for *_, roster, code in consortium.book.attempts if not code]
    assert [len(roster) for roster in rosters] == [4, 3, 3, 3, 3]
    assert consortium.charged("site-4") == 1
    assert set(consortium.book.release[1]) == {"site-1", "site-2", "site-3"}
    assert b"site-4" not in consortium.book.release[0]


def test_below_the_minimum_it_waits_without_charging_and_is_taken_up_from_the_book(
    consortium: MemoryConsortium,
) -> None:
    def leave(site, round_, attempt):
        if round_ == 1:
            consortium.offline |= {"site-3", "site-4"}
        return round_ == 1 and site in consortium.offline

    consortium.fault = Tap(leave, before=True)
    with pytest.raises(StudyEnded) as ended:
        consortium.study_run().run()
    assert ended.value.code is ErrorCode.STUDY_QUORUM_LOST
    assert consortium.book.waits == {"site-3": "site.unreachable", "site-4": "site.unreachable"}
    charged = {site: consortium.charged(site) for site in consortium.sites}
    with unharmed(consortium), pytest.raises(StudyEnded):
        consortium.study_run().run()
    consortium.offline.clear()
    consortium.fault = None
    consortium.study_run().run()
    assert consortium.book.release is not None
    assert len({s.journal.load_state(consortium.digest) for s in consortium.sites.values()}) == 1
    for site, before in charged.items():
        assert consortium.charged(site) == before + 3


def test_the_retry_cap_ends_the_study_and_the_ledger_agrees(consortium) -> None:
    consortium.fault = Tap(lambda site, *_: site == "site-4")
    with pytest.raises(StudyEnded) as ended:
        consortium.study_run().run()
    assert ended.value.code is ErrorCode.STUDY_RETRIES_SPENT
    assert len(consortium.book.attempts) == consortium.plan.training.attempts == 7
    assert all(entry[4] == "transport.timeout" for entry in consortium.book.attempts)
    assert {consortium.charged(site) for site in consortium.sites} == {7}
    # A coordinator that goes on all the same meets the same limit at every site.
    hand = Hand(consortium)
    readies = hand.readies(0, 7)
    with unharmed(consortium):
        for site in consortium.sites:
            call = hand.cohort(readies.values(), 0, 7)
            assert hand.refusal(site, call) == "ledger.reserve_spent"


def test_a_coordinator_shutting_down_leaves_a_study_that_can_be_taken_up(consortium) -> None:
    asked = iter([False, False, True])
    with pytest.raises(StudyEnded) as ended:
        consortium.study_run(should_stop=lambda: next(asked)).run()
    assert ended.value.code is ErrorCode.INTERNAL_PROCESS_ENDED
    done = len(consortium.book.sums)
    assert 0 < done < 4
    consortium.study_run().run()
    assert consortium.book.release is not None
    assert {consortium.charged(site) for site in consortium.sites} == {4}


def test_a_site_stopped_by_its_steward_leaves_the_study_to_the_others(consortium) -> None:
    def stop(site, round_, attempt):
        if (site, round_) == ("site-2", 2) and not consortium.book.stopped:
            consortium.sites["site-2"].approvals.stop(consortium.digest)
            consortium.book.stopped.add("site-2")
        return False

    consortium.fault = Tap(stop)
    consortium.study_run().run()
    assert consortium.book.attempts[2][4] == "plan.stopped"
    assert set(consortium.book.release[1]) == {"site-1", "site-3", "site-4"}
    assert consortium.charged("site-2") == 2
