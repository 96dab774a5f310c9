"""Does a site refuse every cohort that is not the one all its members see?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas.secagg.coordinator import add_masked
from schemas.secagg.keys import Attempt
from schemas.secagg.messages import SignedReady
from site_node import round as site_round
from tests.support.by_hand import Hand, unharmed
from tests.support.consortium import memory_consortium
from tests.support.factories import make_keys

ALL = ("site-1", "site-2", "site-3", "site-4")


def refused(hand: Hand, readies, attempt: int, site: str = "site-1") -> str:
    with unharmed(hand.consortium):
        return hand.refusal(site, hand.cohort(readies, 0, attempt))


def swapped(readies: dict[str, SignedReady], site: str, bent: SignedReady) -> list[SignedReady]:
    return [bent if name == site else signed for name, signed in readies.items()]


def test_a_substituted_key_is_refused(shared) -> None:
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    ours = make_keys().study.public_key().public_bytes_raw().hex()
    ready = readies["site-2"].ready.model_copy(update={"ephemeral_key": ours})
    unsigned = SignedReady(ready=ready, signature=readies["site-2"].signature)
    assert refused(shared, swapped(readies, "site-2", unsigned), attempt) == "signature.invalid"


def test_a_key_substituted_in_ones_own_ready_is_refused(shared) -> None:
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    ours = make_keys().study.public_key().public_bytes_raw().hex()
    bent = shared.resign(readies["site-1"].ready, ephemeral_key=ours)
    assert refused(shared, swapped(readies, "site-1", bent), attempt) == "cohort.own_ready_altered"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"plan_digest": "ab" * 32}, "cohort.plan_mismatch"),
        ({"kind": "evaluate"}, "cohort.kind_mismatch"),
        ({"round": 1}, "cohort.round_mismatch"),
        ({"attempt": 999}, "cohort.round_mismatch"),
        ({"model_hash": "ab" * 32}, "cohort.model_mismatch"),
        ({"last_sum_hash": "ab" * 32}, "cohort.last_sum_mismatch"),
        ({"ephemeral_key": "00" * 32}, "cohort.key_invalid"),
        ({"ephemeral_key": "01" + "00" * 31}, "cohort.key_invalid"),
        ({"ledger_head": "ab" * 32}, "cohort.share_invalid"),
        ({"group_shares": {}}, "cohort.share_missing"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_a_colluders_ready_for_anything_else_is_refused(shared, change, code) -> None:
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    bent = shared.resign(readies["site-2"].ready, **change)
    assert refused(shared, swapped(readies, "site-2", bent), attempt) == code


def test_two_members_with_one_key_are_refused(shared) -> None:
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    key = readies["site-3"].ready.ephemeral_key
    bent = shared.resign(readies["site-2"].ready, ephemeral_key=key)
    assert refused(shared, swapped(readies, "site-2", bent), attempt) == "cohort.key_invalid"


def test_an_invented_site_is_refused(shared) -> None:
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    invented = readies["site-2"].ready.model_copy(update={"site_id": "site-9"})
    members = [*readies.values(), SignedReady(ready=invented, signature="00" * 64)]
    assert refused(shared, members, attempt) == "cohort.member_unknown"


def test_a_duplicate_member_is_refused(shared) -> None:
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    twice = [*readies.values(), readies["site-2"]]
    assert refused(shared, twice, attempt) == "cohort.duplicate_member"


def test_a_member_padded_out_by_its_second_ready_is_refused(shared) -> None:
    attempt = shared.fresh()
    old = shared.readies(0, attempt, sites=["site-2"])
    new = shared.readies(0, attempt, sites=["site-1", "site-2"])
    padded = [*new.values(), *old.values()]
    assert refused(shared, padded, attempt) == "cohort.duplicate_member"


@pytest.mark.parametrize("members", [(), ("site-1",), ("site-1", "site-2")])
def test_a_cohort_below_the_minimum_is_refused(shared, members) -> None:
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    few = [readies[site] for site in members]
    assert refused(shared, few, attempt) == "cohort.too_small"


def test_a_site_left_out_of_the_cohort_refuses_it(shared) -> None:
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    others = [readies[site] for site in ALL if site != "site-1"]
    assert refused(shared, others, attempt) == "cohort.own_ready_missing"


def test_a_ready_of_an_earlier_attempt_is_refused(shared) -> None:
    first, second = shared.fresh(), shared.fresh()
    old = shared.readies(0, first, sites=["site-2"])
    new = shared.readies(0, second)
    assert refused(shared, {**new, **old}.values(), second) == "cohort.round_mismatch"


def test_ones_own_earlier_ready_of_the_same_attempt_is_refused(shared) -> None:
    attempt = shared.fresh()
    old = shared.readies(0, attempt)
    shared.readies(0, attempt, sites=["site-1"])
    assert refused(shared, old.values(), attempt) == "cohort.own_ready_altered"


def test_a_refused_cohort_uses_the_ready_up(shared) -> None:
    """A dishonest coordinator gets one cohort per READY, right or wrong."""
    attempt = shared.fresh()
    readies = shared.readies(0, attempt)
    assert refused(shared, [readies["site-1"]], attempt) == "cohort.too_small"
    assert refused(shared, readies.values(), attempt) == "cohort.ready_stale"


# -- split views: what the masks do when checks cannot ----------------------------------------

RING = {
    "site-1": ("site-4", "site-1", "site-2"),
    "site-2": ("site-1", "site-2", "site-3"),
    "site-3": ("site-2", "site-3", "site-4"),
    "site-4": ("site-3", "site-4", "site-1"),
}
"""Each site sees three members, itself and two neighbours: every pair is seen by both or none."""


@pytest.fixture
def drawn(monkeypatch):
    """Each site's last noised vector."""
    seen = {}
    honest = site_round.masked_upload

    def spy(keys, vector, **more):
        seen[keys.site_id] = vector.values.copy()
        return honest(keys, vector, **more)

    monkeypatch.setattr(site_round, "masked_upload", spy)
    return seen


def ring_attack(hand: Hand) -> np.ndarray:
    attempt = hand.fresh()
    readies = hand.readies(0, attempt)
    uploads = {}
    for site, view in RING.items():
        call = hand.cohort([readies[name] for name in view], 0, attempt)
        uploads[site] = hand.upload(site, call)
    return add_masked(uploads, ALL).words


def test_uploads_under_split_views_add_up_to_noise(shared, drawn) -> None:
    words = ring_attack(shared)
    truth = sum(drawn[site] for site in ALL)
    assert not np.any(words == truth.astype(np.uint32))


def test_without_the_cohort_in_the_masks_split_views_would_cancel(
    shared, drawn, monkeypatch
) -> None:
    """The binding is needed: with a constant for it, the same attack opens the sum."""
    honest = Attempt.info
    unbound = {"transcript_hash": "00" * 32}
    monkeypatch.setattr(Attempt, "info", lambda self: honest(replace(self, **unbound)))
    words = ring_attack(shared)
    truth = sum(drawn[site] for site in ALL)
    assert np.array_equal(words, truth.astype(np.uint32))


def test_a_replayed_older_ready_of_a_peer_opens_nothing(shared, drawn) -> None:
    """Valid signature, same attempt, older key: the views differ, so the masks do not cancel."""
    attempt = shared.fresh()
    old = shared.readies(0, attempt, sites=["site-4"])
    readies = shared.readies(0, attempt)
    stale = shared.cohort({**readies, **old}.values(), 0, attempt)
    true = shared.cohort(readies.values(), 0, attempt)
    uploads = {site: shared.upload(site, stale if site == "site-1" else true) for site in ALL}
    truth = sum(drawn[site] for site in ALL)
    assert not np.any(add_masked(uploads, ALL).words == truth.astype(np.uint32))


def test_a_smaller_plan_cannot_be_drawn_up_around_one_site(tmp_path) -> None:
    hand = Hand(memory_consortium(tmp_path, n_sites=3))
    readies = hand.readies(0, 0)
    del readies["site-3"]
    assert refused(hand, readies.values(), 0) == "cohort.too_small"
