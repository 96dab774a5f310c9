"""Fake drop-outs: does an upload said to be lost, or a list cut short, open what it should not?

Four hospitals, tau = 3, and six where more are lost than was paid for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg import cohort, coordinator, mask, recovery, shares
from schemas.secagg import site as secagg_site
from schemas.secagg.coordinator import recover_sum
from schemas.secagg.keys import pair_sign
from schemas.secagg.recovery import Revealed
from schemas.secagg.site import ReadySecrets
from schemas.secagg.streams import MaskStreams
from site_node.training import dp_sgd
from tests.support.attacks import VICTIM, Attack
from tests.support.mutants import without
from tests.support.secure_sum import Consortium, vectors_of
from tests.support.sent import ALL, Sent

# -- fake drop-out ---------------------------------------------------------------------------


def seeds_with(victim: str, revealed: Mapping[str, Revealed]) -> dict[str, str]:
    return {site: answer.seeds[victim] for site, answer in revealed.items()}


def test_an_upload_said_to_be_lost_stays_under_its_self_mask(sent, drawn) -> None:
    _, revealed = sent.honest_list(lost=VICTIM)
    found = sent.opened(VICTIM, seeds_with(VICTIM, revealed), None)
    assert not np.any(found == drawn[VICTIM])


def test_without_self_masks_a_fake_drop_out_opens_the_upload(
    recovering, monkeypatch, drawn
) -> None:
    monkeypatch.setattr(ReadySecrets, "self_mask", lambda _: ())
    attempt = recovering.fresh()
    readies = recovering.readies(0, attempt)
    call = recovering.cohort(readies.values(), 0, attempt)
    for site in ALL:
        recovering.upload(site, call)
    sent = Sent(recovering, attempt, readies)
    _, revealed = sent.honest_list(lost=VICTIM)
    found = sent.opened(VICTIM, seeds_with(VICTIM, revealed), None)
    assert np.array_equal(found, drawn[VICTIM])


def summed(entry) -> np.ndarray:
    return entry.summed.words.view(np.int32).astype(np.int64)


def fake_then_retry(hand: Attack) -> tuple[np.ndarray, np.ndarray]:
    """A sum without the victim, who is said to be lost, and then one of a new attempt with it."""
    first = hand.fresh()
    readies = hand.readies(0, first)
    call = hand.cohort(readies.values(), 0, first)
    for site in ALL:
        hand.upload(site, call)
    rest = hand.recover(0, first, readies, lost=[VICTIM])
    return summed(rest), summed(hand.play(0, hand.fresh()))


def test_a_fake_drop_out_and_a_retry_are_paid_for_by_all_and_show_noise(recovering, drawn) -> None:
    before = {site: recovering.charged_uploads(site) for site in ALL}
    rest, whole = fake_then_retry(recovering)
    for site, (charges, uploads) in before.items():
        assert recovering.charged_uploads(site) == (charges + 2, uploads + 2)
    assert not np.any(whole - rest == drawn[VICTIM])


def test_if_the_retry_repeated_its_noise_the_difference_would_be_the_vector(
    recovering, monkeypatch, drawn
) -> None:
    kept = {}
    honest = dp_sgd.noised_update

    def frugal(plan, terms, quantised, *more):
        vector = quantised.values.tobytes()
        if vector not in kept:
            kept[vector] = honest(plan, terms, quantised, *more)
        return kept[vector]

    monkeypatch.setattr(dp_sgd, "noised_update", frugal)
    rest, whole = fake_then_retry(recovering)
    assert np.array_equal(whole - rest, drawn[VICTIM])


# -- more lost than was paid for -------------------------------------------------------------


@pytest.fixture(scope="module")
def six() -> Consortium:
    """n = 6, t = 1: tau = 4, and the noise is scaled for one drop-out."""
    return Consortium.recoverable(6)


def four_of_six(six: Consortium) -> tuple:
    """Everybody sent; the coordinator names four."""
    readies, keys = six.meet()
    vectors = vectors_of(keys, 20)
    uploads = {site: mask(keys[site], vectors[site]) for site in keys}
    four = {site: uploads[site] for site in sorted(keys)[:4]}
    return readies, keys, vectors, four


def test_a_list_shorter_than_the_noise_allows_is_refused(six) -> None:
    _, keys, _, four = four_of_six(six)
    with pytest.raises(ProtocolError) as error:
        six.confirm(keys, four)
    assert error.value.code is ErrorCode.SURVIVORS_TOO_FEW


def test_without_that_check_a_sum_opens_with_less_noise_than_was_charged(six, monkeypatch) -> None:
    """Enough confirm, so nothing but the count stands in the way."""
    without(monkeypatch, recovery.confirm_survivors, "_too_few")
    without(monkeypatch, coordinator._check_survivors, ErrorCode.SURVIVORS_TOO_FEW)
    readies, keys, vectors, four = four_of_six(six)
    revealed = six.unmask(keys, six.confirm(keys, four))
    total = recover_sum(six.plan, tuple(readies), four, revealed).words.view(np.int32)
    assert np.array_equal(total, sum(vectors[site] for site in four))
    plan = six.plan  # shares of the noise in the sum, less the colluder's: fewer than counted on
    assert len(four) - plan.collusion_bound < plan.noise_sharers(6)


# -- a member without a self-mask: a version from before there were any ----------------------


@pytest.fixture(scope="module")
def four() -> Consortium:
    return Consortium.recoverable(4)


def with_an_old_version(four: Consortium, victim: str = VICTIM) -> dict:
    """READYs of one attempt; the victim runs a version that knows atomic mode only."""
    issued = four.issue_all([site for site in ALL if site != victim])
    with pytest.MonkeyPatch.context() as old:
        old.setattr(secagg_site, "has_self_masks", lambda *_: False)
        issued[victim] = four.issue(victim)
    return issued


def join_all(four: Consortium, issued: Mapping, sites: Iterable[str]) -> dict:
    readies = [signed for signed, _ in issued.values()]
    return {site: four.join(site, issued[site][1], readies) for site in sites}


def test_a_member_without_a_self_mask_is_refused(four) -> None:
    issued = with_an_old_version(four)
    with pytest.raises(ProtocolError) as error:
        join_all(four, issued, ["site-2"])
    assert error.value.code is ErrorCode.COHORT_MODE_MISMATCH


def ignoring_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare everything a READY says but whether there is a self-mask."""
    honest = cohort.Expected.check

    def lenient(self, ready):
        as_if = {"self_mask_commitment": "11" * 32, "mask_shares": {"site-1": "00" * 48}}
        honest(self, ready.model_copy(update=as_if))

    monkeypatch.setattr(cohort.Expected, "check", lenient)


def test_behind_the_mode_stands_the_missing_share(four, monkeypatch) -> None:
    ignoring_modes(monkeypatch)
    issued = with_an_old_version(four)
    with pytest.raises(ProtocolError) as error:
        join_all(four, issued, ["site-2"])
    assert error.value.code is ErrorCode.COHORT_SHARE_MISSING


def test_without_both_a_fake_drop_out_opens_what_the_old_version_sent(four, monkeypatch) -> None:
    ignoring_modes(monkeypatch)
    honest = shares._addressed

    def lenient(own_id, members, kind):
        sealed = {
            site: signed
            for site, signed in members.items()
            if kind == shares.GROUP_SHARE or signed.ready.mask_shares
        }
        return honest(own_id, sealed, kind)

    monkeypatch.setattr(shares, "_addressed", lenient)
    issued = with_an_old_version(four)
    keys = join_all(four, issued, ALL)
    vectors = vectors_of(keys, 20)
    uploads = {site: mask(keys[site], vectors[site]) for site in ALL}
    kept = {site: uploads[site] for site in ALL if site != VICTIM}
    revealed = four.unmask(keys, four.confirm(keys, kept))
    words = uploads[VICTIM].words.copy()
    MaskStreams(
        (-pair_sign(VICTIM, site), bytes.fromhex(answer.seeds[VICTIM])[:32])
        for site, answer in revealed.items()
    ).apply(words)
    assert np.array_equal(words.view(np.int32), vectors[VICTIM])
