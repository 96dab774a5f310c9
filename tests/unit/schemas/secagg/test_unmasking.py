"""SECAGG-14, -8: a site unmasks once, the sum of exactly the list it signed, and believes that."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from schemas.errors import ErrorCode
from schemas.governance.aggregation import survivor_threshold
from schemas.secagg import masking, shamir
from schemas.secagg.cohort import share_points
from schemas.secagg.coordinator import recover_sum
from schemas.secagg.field import PRIME
from schemas.secagg.masking import MaskedSum, check_sum
from schemas.secagg.messages import SurvivorList
from schemas.secagg.recovery import contributors_of
from schemas.signing import Context, sign
from tests.support.cohorts import refusal
from tests.support.masked_attempt import FIVE, FOUR, Attempt, attempt_of
from tests.support.secure_sum import Consortium


@pytest.fixture(scope="module")
def consortium() -> Consortium:
    return Consortium.recoverable(5)


# --- unmasking ------------------------------------------------------------------------------


def test_each_site_is_answered_for_in_one_way_only(attempt: Attempt) -> None:
    """SECAGG-14: the either-or rule, on every answer."""
    confirmations = attempt.confirmations(FOUR)
    for site in FOUR:
        revealed = attempt.reveal(site, confirmations)
        assert sorted(revealed.shares) == sorted(FOUR)
        assert list(revealed.seeds) == ["site-5"]
        assert {len(share) for share in revealed.shares.values()} == {64}
        assert {len(seed) for seed in revealed.seeds.values()} == {96}


def test_nothing_is_revealed_before_this_site_signed(attempt: Attempt) -> None:
    confirmations = {site: attempt.forged(site, FOUR) for site in FOUR}
    assert refusal(lambda: attempt.reveal("site-1", confirmations)) is (
        ErrorCode.MESSAGE_OUT_OF_ORDER
    )


@pytest.mark.parametrize("shown", range(5))
def test_it_takes_tau_signatures(attempt: Attempt, shown: int) -> None:
    """SECAGG-14: of different survivors, under its own list."""
    confirmations = attempt.confirmations(FIVE)
    few = dict(list(confirmations.items())[:shown])
    if shown < 4:
        assert refusal(lambda: attempt.reveal("site-1", few)) is ErrorCode.CONFIRMATIONS_TOO_FEW
    else:
        assert attempt.reveal("site-1", few).seeds == {}


def test_too_few_signatures_spend_nothing(attempt: Attempt) -> None:
    confirmations = attempt.confirmations(FOUR)
    few = {site: confirmations[site] for site in FOUR[:3]}
    refusal(lambda: attempt.reveal("site-1", few))
    assert len(attempt.reveal("site-1", confirmations).shares) == 4


def _not_by(attempt: Attempt, signed: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Four signatures each, of which only three count."""
    three = {site: signed[site] for site in FOUR[:3]}
    identity = attempt.consortium.parties["site-4"].identity
    own = attempt.keys["site-1"].attempt
    listed = SurvivorList(
        plan_digest=own.plan_digest,
        round=own.round,
        attempt=own.attempt,
        transcript_hash=own.transcript_hash,
        uploads=attempt.hashes(FOUR),
    ).canonical()
    return {
        "of another list": {**three, "site-4": attempt.forged("site-4", FIVE)},
        "of another round": {**three, "site-4": attempt.forged("site-4", FOUR, round=4)},
        "of another attempt": {**three, "site-4": attempt.forged("site-4", FOUR, attempt=0)},
        "of another cohort": {
            **three,
            "site-4": attempt.forged("site-4", FOUR, transcript_hash="00" * 32),
        },
        "for another purpose": {**three, "site-4": sign(identity, Context.READY, listed)},
        "by another site": {**three, "site-4": signed["site-3"]},
        "by the lost site": {**three, "site-5": attempt.forged("site-5", FOUR)},
        "by a stranger": {**three, "site-9": signed["site-4"]},
        "garbage": {**three, "site-4": "zz"},
        "empty": {**three, "site-4": ""},
        "in capitals": {**three, "site-4": signed["site-4"].upper()},
    }


@pytest.mark.parametrize(
    "what",
    [
        "of another list",
        "of another round",
        "of another attempt",
        "of another cohort",
        "for another purpose",
        "by another site",
        "by the lost site",
        "by a stranger",
        "garbage",
        "empty",
        "in capitals",
    ],
)
def test_a_signature_that_does_not_count(attempt: Attempt, what: str) -> None:
    signed = attempt.confirmations(FOUR)
    assert refusal(lambda: attempt.reveal("site-1", _not_by(attempt, signed)[what])) is (
        ErrorCode.CONFIRMATIONS_TOO_FEW
    )
    attempt.reveal("site-1", signed)


def test_a_site_answers_once(attempt: Attempt) -> None:
    """SECAGG-14: the second request gets nothing."""
    confirmations = attempt.confirmations(FOUR)
    attempt.reveal("site-1", confirmations)
    assert refusal(lambda: attempt.reveal("site-1", confirmations)) is ErrorCode.RECOVERY_DONE


def test_erased_keys_reveal_nothing(attempt: Attempt) -> None:
    confirmations = attempt.confirmations(FOUR)
    attempt.keys["site-1"].erase()
    assert refusal(lambda: attempt.reveal("site-1", confirmations)) is ErrorCode.RECOVERY_DONE


def test_the_sum_is_checked_after_the_answer(attempt: Attempt) -> None:
    revealed = attempt.consortium.unmask(attempt.keys, attempt.confirmations(FOUR))
    uploads = {site: attempt.uploads[site] for site in FOUR}
    total = recover_sum(attempt.consortium.plan, attempt.readies, uploads, revealed)
    assert np.array_equal(
        check_sum(attempt.keys["site-1"], total, contributors=FOUR), attempt.plain(FOUR)
    )


def test_a_revealed_answer_does_not_show_in_a_traceback(attempt: Attempt) -> None:
    revealed = attempt.reveal("site-1", attempt.confirmations(FOUR))
    assert revealed.shares["site-2"] not in repr(revealed)


# --- no two lists ---------------------------------------------------------------------------


@pytest.mark.parametrize("collusion_bound", [1, 2])
@pytest.mark.parametrize("n_sites", [4, 5, 6, 7])
def test_no_two_lists_ever_reach_tau(n_sites: int, collusion_bound: int) -> None:
    """However honest sites are divided between two lists, with t sites signing both."""
    tau = survivor_threshold(n_sites, collusion_bound)
    honest = n_sites - collusion_bound
    for first in range(honest + 1):
        assert not (first + collusion_bound >= tau and honest - first + collusion_bound >= tau)
    # One signature fewer, and a division exists (so the bound is not larger than needed).
    half = honest // 2
    assert honest - half + collusion_bound >= tau - 1 and half + collusion_bound >= tau - 1


def test_a_colluder_that_signs_two_lists_opens_only_one() -> None:
    """Seven sites, one colluder: three honest ones are told that site-6 was lost, three not."""
    consortium = Consortium.recoverable(7, maximum_dropouts=2)
    attempt = attempt_of(consortium)
    everybody = tuple(f"site-{i}" for i in range(1, 8))
    without = tuple(site for site in everybody if site != "site-6")
    for site in ("site-1", "site-2", "site-3"):
        attempt.confirm(site, without)
    for site in ("site-4", "site-5", "site-6"):
        attempt.confirm(site, everybody)
    for group, listed in (
        (("site-1", "site-2", "site-3"), without),
        (("site-4", "site-5", "site-6"), everybody),
    ):
        shown = {site: attempt.confirm(site, listed) for site in group}
        shown["site-7"] = attempt.forged("site-7", listed)
        for site in group:
            assert refusal(lambda site=site, shown=shown: attempt.reveal(site, shown)) is (
                ErrorCode.CONFIRMATIONS_TOO_FEW
            )


# --- boundaries of every small consortium ---------------------------------------------------

BOUNDARIES = [  # sites, t, most drop-outs the plan may allow
    (4, 1, 1),
    (5, 1, 1),
    (6, 1, 2),
    (7, 1, 2),
    (5, 2, 1),
    (6, 2, 1),
    (7, 2, 2),
]


@pytest.mark.parametrize(("n_sites", "collusion_bound", "most"), BOUNDARIES)
def test_the_fewest_that_are_summed(n_sites: int, collusion_bound: int, most: int) -> None:
    consortium = Consortium.recoverable(
        n_sites, maximum_dropouts=most, collusion_bound=collusion_bound
    )
    plan = consortium.plan
    names = plan.site_ids
    fewest = n_sites - most
    assert plan.fewest_summed == max(fewest, plan.survivor_threshold) == fewest
    attempt = attempt_of(consortium)
    assert refusal(lambda: attempt.confirm(names[0], names[: fewest - 1])) is (
        ErrorCode.SURVIVORS_TOO_FEW
    )
    attempt.confirm(names[0], names[:fewest])
    # A smaller cohort may lose fewer, down to none; one smaller still does not meet at all.
    for size in range(fewest, n_sites):
        smaller = attempt_of(consortium, names[:size])
        assert smaller.keys[names[0]].fewest == fewest
        smaller.confirm(names[0], names[:fewest])
    assert refusal(lambda: consortium.meet(names[: fewest - 1])) is ErrorCode.COHORT_TOO_SMALL


def test_an_evaluation_needs_only_the_cohort_minimum() -> None:
    consortium = Consortium.recoverable(5)
    keys = consortium.keys(FIVE[:3], kind="evaluate")
    assert len(keys) == consortium.plan.cohort_minimum == 3


def test_the_plan_may_allow_fewer_losses_than_the_threshold_would() -> None:
    consortium = Consortium.recoverable(7, maximum_dropouts=1)
    attempt = attempt_of(consortium)
    names = consortium.plan.site_ids
    assert consortium.plan.survivor_threshold == 5
    assert refusal(lambda: attempt.confirm("site-1", names[:5])) is ErrorCode.SURVIVORS_TOO_FEW
    attempt.confirm("site-1", names[:6])


# --- tampered shares ------------------------------------------------------------------------


def test_the_shares_of_one_secret_lie_on_one_polynomial(attempt: Attempt) -> None:
    """What sites reveal is what was dealt: tau shares, whichever, give one secret."""
    confirmations = attempt.confirmations(FIVE)
    points = share_points(attempt.consortium.plan)
    shares = {
        points[site]: shamir.read_element(
            bytes.fromhex(attempt.reveal(site, confirmations).shares["site-2"])
        )
        for site in FIVE
    }
    secrets = set()
    for left_out in shares:
        chosen = [x for x in shares if x != left_out]
        weights = shamir.weights_at_zero(chosen)
        secrets.add(shamir.combine(weights, [shares[x] for x in chosen]))
    assert len(secrets) == 1
    three = list(shares)[:3]
    few = shamir.combine(shamir.weights_at_zero(three), [shares[x] for x in three])
    assert few not in secrets


# --- who stands behind a sum ----------------------------------------------------------------


def test_a_signer_believes_only_its_own_list(attempt: Attempt) -> None:
    """SECAGG-10: who signed a list knows the contributors."""
    attempt.confirm("site-1", FOUR)
    member = attempt.keys["site-1"]
    assert contributors_of(member, FOUR) == contributors_of(member, FOUR[::-1]) == FOUR
    for other in (FIVE, (), FOUR[:3], ("site-1", "site-2", "site-3", "site-5")):
        assert refusal(lambda other=other: contributors_of(member, other)) is (
            ErrorCode.SURVIVORS_CHANGED
        )


def test_a_site_that_signed_nothing_is_told_and_checks_what_it_can(attempt: Attempt) -> None:
    """SECAGG-10: names of U, each once, enough of them."""
    member = attempt.keys["site-1"]
    assert contributors_of(member, ()) == contributors_of(member, FIVE) == FIVE
    assert contributors_of(member, FOUR) == FOUR
    for named in ((*FOUR, "site-9"), (*FOUR, "site-1")):
        assert refusal(lambda named=named: contributors_of(member, named)) is (
            ErrorCode.SURVIVORS_STRANGER
        )
    assert refusal(lambda: contributors_of(member, FOUR[:3])) is ErrorCode.SURVIVORS_TOO_FEW


def test_a_wrong_number_of_contributors_fails_the_tag(attempt: Attempt) -> None:
    """The coordinator tells the lost site that nobody was lost, or that another number was."""
    uploads = {site: attempt.uploads[site] for site in FOUR}
    revealed = attempt.consortium.unmask(attempt.keys, attempt.confirmations(FOUR))
    total = recover_sum(attempt.consortium.plan, attempt.readies, uploads, revealed)
    lost = attempt.keys["site-5"]
    wrong = contributors_of(lost, ())
    assert refusal(lambda: check_sum(lost, total, contributors=wrong)) is ErrorCode.SUM_ALTERED
    right = contributors_of(lost, FOUR)
    assert np.array_equal(check_sum(lost, total, contributors=right), attempt.plain(FOUR))


def test_a_scaled_sum_does_not_pass_as_one_of_more_sites(attempt: Attempt) -> None:
    """SECAGG-8: with one offset for all sites, 5/4 of a sum of four could pass as one of five.

    Only a site that signed no list is told who contributed; it must not take the coordinator's
    word for it.
    """
    consortium = attempt.consortium
    readies, keys = consortium.meet()
    fours = {site: np.full(6, 4) for site in keys}
    total = consortium.recover(readies, keys, fours, lost=["site-5"])
    lost = keys["site-5"]
    quarter = pow(4, -1, PRIME)
    scaled = MaskedSum(total.words // 4 * 5, total.tag * 5 * quarter % PRIME)
    assert refusal(lambda: check_sum(lost, scaled, contributors=FIVE)) is ErrorCode.SUM_ALTERED
    for other in (("site-1", "site-2", "site-3", "site-5"), (*FOUR[1:], "site-5")):
        assert refusal(lambda named=other: check_sum(lost, total, contributors=named)) is (
            ErrorCode.SUM_ALTERED
        )
    assert (check_sum(lost, total, contributors=FOUR) == 16).all()


def test_one_offset_for_all_sites_would_let_the_scaled_sum_pass(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = masking.tag_offset
    monkeypatch.setattr(masking, "tag_offset", lambda g, n, site: honest(g, n, "everyone"))
    readies, keys = attempt.consortium.meet()
    fours = {site: np.full(6, 4) for site in keys}
    total = attempt.consortium.recover(readies, keys, fours, lost=["site-5"])
    quarter = pow(4, -1, PRIME)
    scaled = MaskedSum(total.words // 4 * 5, total.tag * 5 * quarter % PRIME)
    assert (check_sum(keys["site-5"], scaled, contributors=FIVE) == 20).all()


def test_an_atomic_sum_has_the_whole_cohort_behind_it() -> None:
    """SECAGG-10: no names, or all of U."""
    keys = Consortium.of(4).keys()["site-1"]
    assert contributors_of(keys, ()) == contributors_of(keys, FOUR) == FOUR
    assert refusal(lambda: contributors_of(keys, FOUR[:3])) is ErrorCode.SURVIVORS_TOO_FEW


@pytest.mark.parametrize("change", ["words", "tag", "zeroed", "doubled"])
def test_an_altered_recovered_sum_is_refused(attempt: Attempt, change: str) -> None:
    revealed = attempt.consortium.unmask(attempt.keys, attempt.confirmations(FOUR))
    uploads = {site: attempt.uploads[site] for site in FOUR}
    total = recover_sum(attempt.consortium.plan, attempt.readies, uploads, revealed)
    altered = {
        "words": MaskedSum(total.words + np.uint32(1), total.tag),
        "tag": MaskedSum(total.words, total.tag ^ 1),
        "zeroed": MaskedSum(0 * total.words, 0),
        "doubled": MaskedSum(total.words * np.uint32(2), total.tag * 2 % (2**61 - 1)),
    }[change]
    for site in FIVE:
        member = attempt.keys[site]
        assert refusal(lambda m=member: check_sum(m, altered, contributors=FOUR)) is (
            ErrorCode.SUM_ALTERED
        )
