"""Is this set of READYs a cohort that a site may be summed with?

Every check is local and has its own code (SECAGG-4). What passes here is signed by pinned keys,
approved as far as this site knows, and unanimous about the attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import ErrorCode, ProtocolError, TrustError
from schemas.governance.study import PlanSite, StudyPlan
from schemas.secagg.keys import Attempt
from schemas.secagg.messages import NO_COMMITMENT, Kind, Ready, SignedReady, transcript_hash
from schemas.signing import Context, is_valid


@dataclass(frozen=True, slots=True)
class Expected:
    """What every READY of a cohort must say."""

    plan_digest: str
    kind: Kind
    round: int
    attempt: int
    model_hash: str
    last_sum_hash: str
    self_masked: bool

    @classmethod
    def by(
        cls,
        plan: StudyPlan,
        kind: Kind,
        round: int,
        attempt: int,
        model_hash: str,
        last_sum_hash: str,
    ) -> Expected:
        """Say what the READYs of one attempt under ``plan`` must say."""
        digest = plan.digest()
        masked = has_self_masks(plan, kind)
        return cls(digest, kind, round, attempt, model_hash, last_sum_hash, masked)

    def with_cohort(self, new_model_hash: str, cohort: Mapping[str, SignedReady]) -> Attempt:
        """Return what the secrets of this attempt in this cohort are bound to."""
        return Attempt(
            self.plan_digest,
            self.kind,
            self.round,
            self.attempt,
            new_model_hash,
            transcript_hash(cohort.values()),
        )

    def check(self, ready: Ready) -> None:
        """Compare one READY, field by field, each with its own code."""
        if ready.plan_digest != self.plan_digest:
            code, what = ErrorCode.COHORT_PLAN_MISMATCH, "another plan"
        elif ready.kind != self.kind:
            code, what = ErrorCode.COHORT_KIND_MISMATCH, "another kind of attempt"
        elif (ready.round, ready.attempt) != (self.round, self.attempt):
            code, what = ErrorCode.COHORT_ROUND_MISMATCH, "another round or attempt"
        elif ready.model_hash != self.model_hash:
            code, what = ErrorCode.COHORT_MODEL_MISMATCH, "another model"
        elif ready.last_sum_hash != self.last_sum_hash:
            code, what = ErrorCode.COHORT_LAST_SUM_MISMATCH, "another last sum"
        elif {ready.self_mask_commitment != NO_COMMITMENT, bool(ready.mask_shares)} != {
            self.self_masked
        }:
            code, what = ErrorCode.COHORT_MODE_MISMATCH, "another mode of aggregation"
        else:
            return
        raise refused(code, f"A READY in the cohort is for {what}.", ready.site_id)


def has_self_masks(plan: StudyPlan, kind: Kind) -> bool:
    """Say whether attempts of this kind survive a lost member.

    Never an evaluation: two sums without noise, over sets that differ by one hospital, would
    show that hospital's counts.
    """
    return plan.is_recoverable and kind == "train"


def share_points(plan: StudyPlan) -> dict[str, int]:
    """Return where each site's shares lie: 1 for the plan's first name, and so on (SECAGG-12)."""
    return {site: place for place, site in enumerate(plan.site_ids, start=1)}


def checked_cohort(
    plan: StudyPlan,
    sites: Mapping[str, PlanSite],
    readies: Sequence[SignedReady],
    expected: Expected,
    approved: frozenset[str],
) -> dict[str, SignedReady]:
    """Return the cohort by site, sorted by name, or refuse it (SECAGG-4)."""
    cohort: dict[str, SignedReady] = {}
    keys: set[str] = set()
    for signed in readies:
        site = signed.ready.site_id
        if site not in sites:
            raise refused(
                ErrorCode.COHORT_MEMBER_UNKNOWN, "The cohort holds a site not in the plan.", site
            )
        if site in cohort:
            raise refused(ErrorCode.COHORT_DUPLICATE_MEMBER, "A site is in the cohort twice.", site)
        if site not in approved:
            raise refused(
                ErrorCode.COHORT_MEMBER_UNAPPROVED,
                "The cohort holds a site that is not known to have approved the plan.",
                site,
            )
        payload = signed.ready.canonical()
        if not is_valid(sites[site].identity_key, Context.READY, payload, signed.signature):
            raise TrustError(
                ErrorCode.SIGNATURE_INVALID,
                "A READY in the cohort is not signed by that site.",
                detail=site,
            )
        expected.check(signed.ready)
        if signed.ready.ephemeral_key in keys:
            raise refused(
                ErrorCode.COHORT_KEY_INVALID, "Two sites gave the same ephemeral key.", site
            )
        keys.add(signed.ready.ephemeral_key)
        cohort[site] = signed
    fewest = plan.fewest_summed if expected.self_masked else plan.cohort_minimum
    if len(cohort) < fewest:
        raise refused(
            ErrorCode.COHORT_TOO_SMALL,
            "The cohort has fewer hospitals than a sum of this plan may have.",
        )
    return dict(sorted(cohort.items()))


def refused(code: ErrorCode, sentence: str, detail: str = "") -> ProtocolError:
    """Return a refusal that came before anything was computed; ``detail`` stays local."""
    return ProtocolError(
        code,
        sentence,
        hint="Nothing was computed. If it happens again, tell the other hospitals.",
        detail=detail,
    )
