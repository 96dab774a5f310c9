"""When does a site help to unmask a sum although members were lost, and what does it hand out?

Two steps, so that no two sums of one attempt can ever be opened. First each survivor signs one
list: exactly whose uploads are to be summed. Then, shown tau signatures under that very list, it
hands out for every site on it a share of the self-mask, for every lost site the pair seed, never
both for one site. tau is more than (n + t)/2: two lists with tau signatures each would need more
than t sites that signed twice, and an honest site signs once.

Without the first step this falls: tell some sites that k was lost, the others that all are alive,
and k that the others were lost; then seeds from the first and shares from the second open k's
upload, although every site kept to one kind of answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import StudyPlan
from schemas.secagg.cohort import refused
from schemas.secagg.cohort_keys import CohortKeys
from schemas.secagg.messages import SurvivorList
from schemas.secagg.site import Party
from schemas.signing import Context, is_valid, sign


@dataclass(frozen=True, slots=True, repr=False)
class Revealed:
    """One survivor's answer to UNMASK; hexadecimal, as it travels.

    Attributes:
        shares: its share of the self-mask secret of each survivor, 32 bytes.
        seeds: the seed of its pair mask with each lost site, 48 bytes.
    """

    shares: Mapping[str, str]
    seeds: Mapping[str, str]


def confirm_survivors(
    keys: CohortKeys, party: Party, plan: StudyPlan, uploads: Mapping[str, str]
) -> str:
    """Sign the list of survivors, once per attempt (SECAGG-13).

    From here on this site believes only a sum of exactly these, and has forgotten what could
    unmask any other.

    Args:
        keys: secrets of the attempt; this site has masked its vector with them.
        party: the site and its keys.
        plan: the approved plan.
        uploads: each survivor's upload hash, as the coordinator says.

    Returns:
        The signature, 128 hex digits; for the same list again the same one.

    Raises:
        ProtocolError: a check of SECAGG-13 fails; the code says which. Nothing was signed.
    """
    recovery = keys.recovery()
    _check_plan(keys, plan)
    if party.site_id != keys.site_id:
        raise ValueError("a site signs for itself")
    own_hash = recovery.upload_hash
    if not own_hash:
        raise refused(
            ErrorCode.MESSAGE_OUT_OF_ORDER, "This site has sent nothing in this attempt yet."
        )
    wanted = SurvivorList(
        plan_digest=keys.attempt.plan_digest,
        round=keys.attempt.round,
        attempt=keys.attempt.attempt,
        transcript_hash=keys.transcript_hash,
        uploads=dict(uploads),
    )
    if recovery.signed is not None:
        held, signature = recovery.signed
        if held != wanted:
            raise refused(
                ErrorCode.SURVIVORS_CHANGED, "This site has signed another list of survivors."
            )
        return signature
    for site in sorted(uploads):
        if site not in keys.roster:
            raise refused(
                ErrorCode.SURVIVORS_STRANGER, "A survivor is not a member of the cohort.", site
            )
    if uploads.get(party.site_id) != own_hash:
        raise refused(
            ErrorCode.SURVIVORS_OWN_UPLOAD,
            "This site is not among the survivors, or with an upload that it did not send.",
        )
    if len(uploads) < keys.fewest:
        raise _too_few()
    if recovery.is_spent:
        raise refused(ErrorCode.SECRETS_SPENT, "The secrets of this attempt were erased.")
    signature = sign(party.identity, Context.SURVIVORS, wanted.canonical())
    recovery.settle(wanted, signature)
    return signature


def reveal(keys: CohortKeys, plan: StudyPlan, confirmations: Mapping[str, str]) -> Revealed:
    """Hand out what unmasks the sum of the list this site signed, once (SECAGG-14).

    Args:
        keys: secrets of the attempt.
        plan: the approved plan.
        confirmations: survivors' signatures, by site. What is not a survivor's valid signature
            under this site's own list does not count, and does no harm.

    Raises:
        ProtocolError: this site signed no list, fewer than tau signatures count, or it has
            answered before.
    """
    recovery = keys.recovery()
    _check_plan(keys, plan)
    if recovery.signed is None:
        raise refused(
            ErrorCode.MESSAGE_OUT_OF_ORDER, "This site has signed no list of survivors yet."
        )
    survivors, _ = recovery.signed
    statement = survivors.canonical()
    pinned = {site.site_id: site.identity_key for site in plan.sites}
    signers = [
        site
        for site in sorted(survivors.uploads)
        if is_valid(pinned[site], Context.SURVIVORS, statement, confirmations.get(site, ""))
    ]
    if len(signers) < plan.survivor_threshold:
        raise refused(
            ErrorCode.CONFIRMATIONS_TOO_FEW,
            "Too few sites confirmed the list of survivors that this site signed.",
        )
    shares, seeds = recovery.spend()
    return Revealed(
        {site: share.hex() for site, share in shares.items()},
        {site: seed.hex() for site, seed in seeds.items()},
    )


def contributors_of(keys: CohortKeys, survivors: Sequence[str]) -> tuple[str, ...]:
    """Return whose vectors a sum holds, for `check_sum` (SECAGG-10).

    A site that signed a list believes that list. Any other is told, and the tag verifies it:
    each contributor's offset is part of it, and the coordinator knows none of them.

    Args:
        keys: secrets of the attempt.
        survivors: the contributors as named beside the sum; none means the whole cohort.

    Raises:
        ProtocolError: SURVIVORS_CHANGED, _STRANGER or _TOO_FEW (in atomic mode and evaluation
            for every list but the whole cohort).
    """
    named = tuple(survivors) or keys.roster
    signed = keys.signed_survivors
    if signed and tuple(sorted(named)) != signed:
        raise refused(
            ErrorCode.SURVIVORS_CHANGED, "The sum is of other survivors than this site signed."
        )
    if not set(named) <= set(keys.roster) or len(set(named)) != len(named):
        raise refused(
            ErrorCode.SURVIVORS_STRANGER, "A contributor is not a member, or is named twice."
        )
    if len(named) < keys.fewest:
        raise _too_few()
    return tuple(sorted(named))


def _check_plan(keys: CohortKeys, plan: StudyPlan) -> None:
    """Catch a caller that mixes up two studies before anything is signed or handed out."""
    if plan.digest() != keys.attempt.plan_digest:
        raise refused(ErrorCode.COHORT_PLAN_MISMATCH, "These secrets are of another plan.")


def _too_few() -> ProtocolError:
    return refused(
        ErrorCode.SURVIVORS_TOO_FEW, "More hospitals are lost than the plan allows in one sum."
    )
