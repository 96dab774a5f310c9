"""Which cohort does a site agree to be summed with, and what does it make of it?

Sans-I/O, one attempt at a time. A site issues a READY, sees everybody's READYs, refuses or derives
its `CohortKeys`, masks one vector, and later opens the sum. Every check is the site's own: the
coordinator that relays these messages is not believed in anything (SECAGG-4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.entropy import Entropy
from schemas.errors import ErrorCode, TrustError
from schemas.governance.study import PlanSite, StudyPlan
from schemas.secagg import shamir
from schemas.secagg.cohort import (
    Expected,
    checked_cohort,
    has_self_masks,
    refused,
    share_points,
)
from schemas.secagg.cohort_keys import CohortKeys, RecoverySecrets
from schemas.secagg.keys import (
    CONTRIBUTION_BYTES,
    PairMask,
    group_secret,
    pair_seed,
    pair_sign,
    self_mask_commitment,
    self_mask_seed,
)
from schemas.secagg.masking import MaskedSum, MaskedUpdate, check_sum, mask
from schemas.secagg.messages import NO_COMMITMENT, Kind, Ready, ReadyHeader, SignedReady
from schemas.secagg.shares import Party, open_shares, pair_roots, seal_shares
from schemas.signing import Context, public_hex, sign

__all__ = [
    "CohortKeys",
    "MaskedSum",
    "MaskedUpdate",
    "Party",
    "ReadySecrets",
    "check_sum",
    "join_cohort",
    "make_ready",
    "mask",
    "observe_cohort",
]

_SCALAR_BYTES: Final = 32


class ReadySecrets:
    """What a site must remember between its READY and the cohort; it lives in memory only.

    Attributes:
        issued: the READY exactly as it was sent.
    """

    __slots__ = ("_ephemeral", "_self_mask", "issued")

    def __init__(
        self, issued: SignedReady, ephemeral: X25519PrivateKey, self_mask: PairMask | None = None
    ) -> None:
        self.issued = issued
        self._ephemeral: X25519PrivateKey | None = ephemeral
        self._self_mask = self_mask

    def __repr__(self) -> str:
        return "ReadySecrets(<secret>)"

    def ephemeral(self) -> X25519PrivateKey:
        """Return the ephemeral key.

        Raises:
            ProtocolError: it was used for a cohort, or erased.
        """
        if self._ephemeral is None:
            raise refused(ErrorCode.COHORT_READY_STALE, "This site's READY was used or withdrawn.")
        return self._ephemeral

    def self_mask(self) -> tuple[PairMask, ...]:
        """Return the self-mask of an attempt that has one, else nothing."""
        return () if self._self_mask is None else (self._self_mask,)

    def erase(self) -> None:
        """Forget the ephemeral key and the self-mask: the READY can open no cohort any more."""
        self._ephemeral = self._self_mask = None


def make_ready(
    party: Party,
    plan: StudyPlan,
    *,
    kind: Kind,
    round: int,
    attempt: int,
    model_hash: str,
    last_sum_hash: str,
    ledger_head: str,
    ledger_charges: int,
    entropy: Entropy,
    recipients: frozenset[str] | None = None,
) -> tuple[SignedReady, ReadySecrets]:
    """Say that this site is ready for one attempt (SECAGG-3, -12).

    Args:
        party: the site and its keys, the very ones pinned in the plan.
        plan: the approved plan.
        kind: training or evaluation.
        round: optimiser step; with ``attempt`` never used before (the caller's journal sees to it).
        attempt: try of this step.
        model_hash: the model this site holds now.
        last_sum_hash: the last sum it applied; `NO_SUM` before the first.
        ledger_head: head of its privacy ledger, so that peers notice a restored old copy.
        ledger_charges: training attempts it has charged under this plan, likewise.
        entropy: operating-system randomness.
        recipients: sites that may be members, by default all of the plan. Nobody else can ever
            read this site's part of the group secret, or a share of its self-mask.

    Returns:
        What to send, and what to keep in memory for `join_cohort`.

    Raises:
        TrustError: the plan pins other keys for this site.
        ProtocolError: the plan holds a study key of low order; or it is hybrid and the ML-KEM
            secret shared with a recipient is not at hand.
    """
    sites = _own_place(party, plan)
    members = frozenset(sites) if recipients is None else recipients & sites.keys()
    ephemeral = X25519PrivateKey.from_private_bytes(entropy(_SCALAR_BYTES))
    ephemeral_key = ephemeral.public_key().public_bytes_raw().hex()
    digest = plan.digest()
    self_masked = has_self_masks(plan, kind)
    commitment, secret, mask_shares = NO_COMMITMENT, b"", dict[str, bytes]()
    if self_masked:
        randomness = entropy(shamir.COEFFICIENT_BYTES * plan.survivor_threshold)
        secret, mask_shares = shamir.split(randomness, share_points(plan))
        commitment = self_mask_commitment(secret, digest, party.site_id, ephemeral_key)
    header = ReadyHeader(
        version=2,
        plan_digest=digest,
        kind=kind,
        round=round,
        attempt=attempt,
        site_id=party.site_id,
        model_hash=model_hash,
        last_sum_hash=last_sum_hash,
        ledger_head=ledger_head,
        ledger_charges=ledger_charges,
        ephemeral_key=ephemeral_key,
        self_mask_commitment=commitment,
    )
    contribution = entropy(CONTRIBUTION_BYTES)
    roots = pair_roots(party, plan, [sites[peer] for peer in members | {party.site_id}], digest)
    group_shares, sealed = seal_shares(party, roots, header, contribution, mask_shares)
    ready = Ready(**header.model_dump(), group_shares=group_shares, mask_shares=sealed)
    signature = sign(party.identity, Context.READY, ready.canonical())
    signed = SignedReady(ready=ready, signature=signature)
    seed = self_mask_seed(secret, header.canonical()) if self_masked else None
    return signed, ReadySecrets(signed, ephemeral, PairMask.of(seed, 1) if seed else None)


def join_cohort(
    party: Party,
    plan: StudyPlan,
    secrets: ReadySecrets,
    readies: Sequence[SignedReady],
    *,
    kind: Kind,
    round: int,
    attempt: int,
    model_hash: str,
    last_sum_hash: str,
    new_model_hash: str,
    approved: frozenset[str],
) -> CohortKeys:
    """Check a cohort and derive this site's secrets in it (SECAGG-4, -5, -7, -12).

    On success the ephemeral key and the self-mask are gone from ``secrets``: one READY opens one
    cohort. On refusal they stay, since an honest coordinator may have relayed one bad READY, and
    may try again without it.

    Args:
        party: the site and its keys.
        plan: the approved plan.
        secrets: what `make_ready` gave.
        readies: every member's signed READY, this site's own among them, in any order.
        kind: as in the READY issued; likewise ``round``, ``attempt``, ``model_hash`` and
            ``last_sum_hash``.
        new_model_hash: the model after the sum that came with the cohort. The masks bind it, so
            sites that computed different models share no masks.
        approved: sites whose approval of this plan this site has verified.

    Raises:
        ProtocolError: a check of SECAGG-4 fails; the code says which.
        TrustError: a signature is not by the key pinned in the plan.
    """
    ephemeral = secrets.ephemeral()
    sites = _own_place(party, plan)
    expected = Expected.by(plan, kind, round, attempt, model_hash, last_sum_hash)
    cohort = checked_cohort(plan, sites, readies, expected, approved)
    own = cohort.get(party.site_id)
    if own is None:
        raise refused(ErrorCode.COHORT_OWN_READY_MISSING, "This site is not in the cohort.")
    if own.canonical() != secrets.issued.canonical():
        raise refused(
            ErrorCode.COHORT_OWN_READY_ALTERED, "This site's READY is not the one it issued."
        )
    roots = pair_roots(party, plan, [sites[peer] for peer in cohort], expected.plan_digest)
    bound = expected.with_cohort(new_model_hash, cohort)
    seeds = {
        peer: pair_seed(
            ephemeral, cohort[peer].ready.ephemeral_key, roots[peer], bound, party.site_id, peer
        )
        for peer in cohort
        if peer != party.site_id
    }
    self_masked = expected.self_masked
    contributions, shares = open_shares(party, cohort, roots, self_masked=self_masked)
    masks = [PairMask.of(seed, pair_sign(party.site_id, peer)) for peer, seed in seeds.items()]
    masks.extend(secrets.self_mask())
    secrets.erase()
    return CohortKeys(
        party.site_id,
        tuple(cohort),
        bound,
        group_secret(contributions, bound),
        tuple(masks),
        fewest=plan.fewest_contributors(kind, len(cohort)),
        recovery=RecoverySecrets(shares, seeds) if self_masked else None,
    )


def observe_cohort(
    party: Party,
    plan: StudyPlan,
    readies: Sequence[SignedReady],
    *,
    kind: Kind,
    round: int,
    attempt: int,
    new_model_hash: str,
    approved: frozenset[str],
) -> CohortKeys:
    """Derive what it takes to check a sum of training that this site has no keys of (any more).

    For a site that was absent from the attempt or has restarted since. The same checks as in
    `join_cohort`, except that the site need not be a member and that the READYs' model and last
    sum need only agree with one another: a sum that passes was made by a cohort that held the
    same ``new_model_hash``. The result can check a sum and cannot mask. Sums that are blind to the
    coordinator stay blind to bystanders.

    Raises:
        ProtocolError: a check of SECAGG-4 fails, or the sum is not of training.
        TrustError: a signature is not by the key pinned in the plan.
    """
    if kind != "train":
        raise refused(ErrorCode.COHORT_KIND_MISMATCH, "Only members open an evaluation's sum.")
    sites = _own_place(party, plan)
    if not readies:
        raise refused(ErrorCode.COHORT_TOO_SMALL, "The cohort is empty.")
    said = readies[0].ready
    expected = Expected.by(plan, kind, round, attempt, said.model_hash, said.last_sum_hash)
    cohort = checked_cohort(plan, sites, readies, expected, approved)
    roots = pair_roots(party, plan, [sites[peer] for peer in cohort], expected.plan_digest)
    bound = expected.with_cohort(new_model_hash, cohort)
    contributions, _ = open_shares(party, cohort, roots, self_masked=False)
    group = group_secret(contributions, bound)
    fewest = plan.fewest_contributors(kind, len(cohort))
    return CohortKeys(party.site_id, tuple(cohort), bound, group, None, fewest=fewest)


def _own_place(party: Party, plan: StudyPlan) -> dict[str, PlanSite]:
    """Return the plan's sites by name, after making sure that this site is one of them."""
    sites = {site.site_id: site for site in plan.sites}
    own = sites.get(party.site_id)
    study_key = party.study.public_key().public_bytes_raw().hex()
    if own is None or (own.identity_key, own.study_key) != (public_hex(party.identity), study_key):
        raise TrustError(
            ErrorCode.OWN_KEY_WRONG,
            "The plan does not hold this site's own keys.",
            hint="Refuse the plan and ask the vendor for one made from the present identity card.",
        )
    return sites
