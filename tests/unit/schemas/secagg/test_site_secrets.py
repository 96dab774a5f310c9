"""SECAGG-4, -10: shares, views and secrets of a READY, and what those who only look may see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.errors import ErrorCode, TrustError
from schemas.governance.study import StudyPlan
from schemas.secagg.masking import check_sum, mask
from schemas.secagg.site import Party, join_cohort, make_ready
from tests.support.cohorts import OTHER, Issued, join_1, observe, refusal, signed_of
from tests.support.factories import make_keys, plan_with
from tests.support.secure_sum import (
    HEAD,
    NEW_MODEL,
    Consortium,
    FixedEntropy,
    summed,
    vectors_of,
)

# --- shares ---------------------------------------------------------------------------------


def test_a_share_that_does_not_open_is_refused(consortium: Consortium, issued: Issued) -> None:
    readies = signed_of(issued)
    ready = readies[2].ready
    shares = ready.group_shares | {"site-1": ready.group_shares["site-2"]}
    readies[2] = consortium.resign(ready, group_shares=shares)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_SHARE_INVALID


def test_a_missing_share_is_refused(consortium: Consortium, issued: Issued) -> None:
    readies = signed_of(issued)
    shares = {k: v for k, v in readies[2].ready.group_shares.items() if k != "site-1"}
    readies[2] = consortium.resign(readies[2].ready, group_shares=shares)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_SHARE_MISSING


def test_shares_taken_from_an_earlier_ready_are_refused(
    consortium: Consortium, issued: Issued
) -> None:
    readies = signed_of(issued)
    earlier = consortium.issue("site-3", attempt=0)[0].ready
    readies[2] = consortium.resign(readies[2].ready, group_shares=earlier.group_shares)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_SHARE_INVALID


# --- different views ------------------------------------------------------------------------


def _garbage(consortium: Consortium, keys: dict[str, Any]) -> None:
    """Uploads under unrelated views add up to noise, and every site notices."""
    vectors = vectors_of(keys, 500)
    total = summed(keys, vectors)
    plain = sum(vectors.values()).astype(np.uint32)
    assert (total.words == plain).sum() <= 1
    for member in keys.values():
        assert refusal(lambda m=member: check_sum(m, total)) is ErrorCode.SUM_ALTERED


def test_a_split_cohort_adds_up_to_noise(consortium: Consortium) -> None:
    """SECAGG-5: two sites are told of three members, the others of five."""
    issued = consortium.issue_all()
    readies = signed_of(issued)
    keys = {
        site: consortium.join(
            site, secrets, readies[:3] if site in ("site-1", "site-2") else readies
        )
        for site, (_, secrets) in issued.items()
    }
    _garbage(consortium, keys)


def test_one_different_ready_splits_the_cohort(consortium: Consortium) -> None:
    """A member equivocates: two READYs of the same attempt, one for each half."""
    issued = consortium.issue_all()
    second = consortium.issue("site-5")[0]
    readies = signed_of(issued)
    keys = {
        site: consortium.join(
            site, secrets, [*readies[:4], second] if site in ("site-1", "site-2") else readies
        )
        for site, (_, secrets) in issued.items()
    }
    _garbage(consortium, keys)


def test_different_new_models_split_the_cohort(consortium: Consortium) -> None:
    """SECAGG-5: so do sites that hold different models."""
    issued = consortium.issue_all()
    readies = signed_of(issued)
    keys = {
        site: consortium.join(
            site, secrets, readies, new_model_hash=OTHER if site == "site-3" else NEW_MODEL
        )
        for site, (_, secrets) in issued.items()
    }
    _garbage(consortium, keys)


# --- the life of a READY --------------------------------------------------------------------


def test_one_ready_opens_one_cohort(consortium: Consortium, issued: Issued) -> None:
    """SECAGG-4: the next cohort is refused."""
    join_1(consortium, issued, signed_of(issued))
    assert refusal(lambda: join_1(consortium, issued, signed_of(issued)[:4])) is (
        ErrorCode.COHORT_READY_STALE
    )


def test_a_refused_cohort_leaves_the_ready_usable(consortium: Consortium, issued: Issued) -> None:
    refusal(lambda: join_1(consortium, issued, signed_of(issued)[:2]))
    keys = join_1(consortium, issued, signed_of(issued))
    assert len(keys.roster) == len(issued)


def test_an_erased_ready_opens_nothing(consortium: Consortium, issued: Issued) -> None:
    issued["site-1"][1].erase()
    assert refusal(lambda: join_1(consortium, issued, signed_of(issued))) is (
        ErrorCode.COHORT_READY_STALE
    )


def test_secrets_do_not_show_in_a_traceback(consortium: Consortium, issued: Issued) -> None:
    secrets = issued["site-1"][1]
    assert repr(secrets) == "ReadySecrets(<secret>)"
    assert "X25519" not in repr(consortium.parties["site-1"])


# --- a site's own keys ----------------------------------------------------------------------


@pytest.mark.parametrize("which", ["identity", "study"])
def test_a_plan_with_other_keys_of_this_site_is_refused(
    consortium: Consortium, issued: Issued, which: str
) -> None:
    mine, other = consortium.parties["site-1"], make_keys()
    party = Party(
        "site-1",
        other.identity if which == "identity" else mine.identity,
        other.study if which == "study" else mine.study,
    )
    context = consortium.context()

    def ready() -> object:
        entropy = FixedEntropy("x")
        return make_ready(
            party, consortium.plan, ledger_head=HEAD, ledger_charges=0, entropy=entropy, **context
        )

    def join() -> object:
        return join_cohort(
            party,
            consortium.plan,
            issued["site-1"][1],
            signed_of(issued),
            new_model_hash=NEW_MODEL,
            approved=consortium.approved,
            **context,
        )

    assert refusal(ready, TrustError) is ErrorCode.OWN_KEY_WRONG
    assert refusal(join, TrustError) is ErrorCode.OWN_KEY_WRONG


def test_a_site_outside_the_plan_issues_nothing(consortium: Consortium) -> None:
    keys = make_keys()
    party = Party("site-9", keys.identity, keys.study)

    def ready() -> object:
        return make_ready(
            party,
            consortium.plan,
            ledger_head=HEAD,
            ledger_charges=0,
            entropy=FixedEntropy("x"),
            **consortium.context(),
        )

    assert refusal(ready, TrustError) is ErrorCode.OWN_KEY_WRONG


def test_a_changed_plan_is_another_consortium() -> None:
    """One word of the plan differs at one site: no READY of the others is for its plan."""
    keys = {f"site-{i}": make_keys() for i in (1, 2, 3)}
    parties = {site: Party(site, k.identity, k.study) for site, k in keys.items()}

    def plan(title: str) -> StudyPlan:
        return plan_with(keys, title=title)

    here, there = Consortium(plan("One"), parties), Consortium(plan("Two"), parties)
    issued = there.issue_all() | {"site-1": here.issue("site-1")}
    assert refusal(lambda: join_1(here, issued, signed_of(issued))) is (
        ErrorCode.COHORT_PLAN_MISMATCH
    )


# --- those who only look --------------------------------------------------------------------


@pytest.mark.parametrize("site", ["site-5", "site-2"], ids=["absent", "restarted"])
def test_a_site_without_keys_can_check_a_sum(consortium: Consortium, site: str) -> None:
    """SECAGG-10: from the signed READYs, as one that was absent."""
    members = ["site-1", "site-2", "site-3"]
    issued = consortium.issue_all(members)
    keys = {s: consortium.join(s, secret, signed_of(issued)) for s, (_, secret) in issued.items()}
    vectors = vectors_of(keys, 30)
    total = summed(keys, vectors)
    watcher = observe(consortium, site, issued)
    assert np.array_equal(check_sum(watcher, total), sum(vectors.values()))
    altered = type(total)(total.words + np.uint32(1), total.tag)
    assert refusal(lambda: check_sum(watcher, altered)) is ErrorCode.SUM_ALTERED
    assert refusal(lambda: mask(watcher, vectors["site-1"])) is ErrorCode.SECRETS_SPENT
    stranger = observe(consortium, site, issued, new_model_hash=OTHER)
    assert refusal(lambda: check_sum(stranger, total)) is ErrorCode.SUM_ALTERED


def test_nobody_observes_an_evaluation(consortium: Consortium) -> None:
    issued = consortium.issue_all(["site-1", "site-2", "site-3"], kind="evaluate")
    assert refusal(lambda: observe(consortium, "site-5", issued, kind="evaluate")) is (
        ErrorCode.COHORT_KIND_MISMATCH
    )


def test_an_observer_makes_the_same_checks(consortium: Consortium, issued: Issued) -> None:
    assert refusal(lambda: observe(consortium, "site-5", {})) is ErrorCode.COHORT_TOO_SMALL
    few = {site: issued[site] for site in ("site-1", "site-2")}
    assert refusal(lambda: observe(consortium, "site-5", few)) is ErrorCode.COHORT_TOO_SMALL
    assert refusal(lambda: observe(consortium, "site-5", issued, round=9)) is (
        ErrorCode.COHORT_ROUND_MISMATCH
    )


def test_only_recipients_can_read_a_contribution(consortium: Consortium) -> None:
    members = ["site-1", "site-2", "site-3"]
    issued = consortium.issue_all(members, recipients=frozenset(members))
    keys = consortium.join("site-2", issued["site-2"][1], signed_of(issued))
    assert keys.roster == tuple(members)
    assert refusal(lambda: observe(consortium, "site-5", issued)) is (
        ErrorCode.COHORT_SHARE_MISSING
    )
