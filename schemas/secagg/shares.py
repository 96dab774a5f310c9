"""What does a site seal for every possible member, and what does it find sealed for itself?

One share of each kind per pair and READY: a contribution to the group secret, and in recoverable
training a Shamir share of the self-mask. Both are under keys from the pair root, which only the two
sites of the pair can compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import PlanSite, StudyPlan
from schemas.secagg import shamir
from schemas.secagg.cohort import refused
from schemas.secagg.kem import KEM_SECRET_BYTES
from schemas.secagg.keys import GROUP_SHARE, MASK_SHARE, open_share, pair_root, seal_share
from schemas.secagg.messages import ReadyHeader, SignedReady

Cohort = Mapping[str, SignedReady]


@dataclass(frozen=True, slots=True)
class Party:
    """A site with its own private keys.

    ``kem_secrets`` are the 32-byte ML-KEM-768 secrets of a hybrid plan, by peer, with one for the
    site itself; an ordinary plan does not look at them.
    """

    site_id: str
    identity: Ed25519PrivateKey = field(repr=False)
    study: X25519PrivateKey = field(repr=False)
    kem_secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def pair_roots(
    party: Party, plan: StudyPlan, peers: Iterable[PlanSite], plan_digest: str
) -> dict[str, bytes]:
    """Return the root this site shares with each peer, itself perhaps among them (SECAGG-2, -16).

    Raises:
        ProtocolError: a study key is of low order; or the plan is hybrid and a pair's ML-KEM
            secret is not at hand.
    """
    roots = {}
    for peer in peers:
        kem_secret = _kem_secret(party, peer.site_id) if plan.is_hybrid else b""
        roots[peer.site_id] = pair_root(
            party.study, peer.study_key, plan_digest, party.site_id, peer.site_id, kem_secret
        )
    return roots


def seal_shares(
    party: Party,
    roots: Mapping[str, bytes],
    header: ReadyHeader,
    contribution: bytes,
    mask_shares: Mapping[str, bytes],
) -> tuple[dict[str, str], dict[str, str]]:
    """Seal the contribution, and the mask share where there is one, for each of ``roots``.

    Returns:
        Group shares and mask shares, in hexadecimal, by receiver; the latter may be empty.
    """
    bound = header.canonical()

    def sealed(parts: Mapping[str, bytes], kind: bytes) -> dict[str, str]:
        return {
            peer: seal_share(
                roots[peer], part, header=bound, sender=party.site_id, to=peer, purpose=kind
            )
            for peer, part in sorted(parts.items())
        }

    offered = {peer: share for peer, share in mask_shares.items() if peer in roots}
    return sealed(dict.fromkeys(roots, contribution), GROUP_SHARE), sealed(offered, MASK_SHARE)


def open_shares(
    party: Party, cohort: Cohort, roots: Mapping[str, bytes], *, self_masked: bool
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Open what every member sealed for this site, 32 bytes each (SECAGG-4).

    Returns:
        Contributions to the group secret and shares of the self-masks, by sender; the latter are
        empty unless ``self_masked``.

    Raises:
        ProtocolError: a share is missing or cannot be read.
    """
    kinds = (GROUP_SHARE, MASK_SHARE) if self_masked else (GROUP_SHARE,)
    found = {kind: _addressed(party.site_id, cohort, kind) for kind in kinds}
    opened = {
        kind: {
            site: open_share(
                roots[site],
                share,
                header=cohort[site].ready.header().canonical(),
                sender=site,
                to=party.site_id,
                purpose=kind,
            )
            for site, share in shares.items()
        }
        for kind, shares in found.items()
    }
    for site, share in opened.get(MASK_SHARE, {}).items():
        _check_element(site, share)
    return opened[GROUP_SHARE], opened.get(MASK_SHARE, {})


def _addressed(own_id: str, cohort: Cohort, kind: bytes) -> dict[str, str]:
    """Find the shares of one kind that were sealed for this site."""
    found = {}
    for site, signed in cohort.items():
        ready = signed.ready
        share = (ready.group_shares if kind == GROUP_SHARE else ready.mask_shares).get(own_id)
        if share is None:
            raise refused(
                ErrorCode.COHORT_SHARE_MISSING, "A READY holds no share for this site.", site
            )
        found[site] = share
    return found


def _check_element(site: str, share: bytes) -> None:
    """Refuse a number outside the field: passed on, it would have two spellings."""
    try:
        shamir.read_element(share)
    except ValueError:
        raise refused(
            ErrorCode.COHORT_SHARE_INVALID, "A share of a self-mask is not one.", site
        ) from None


def _kem_secret(party: Party, peer: str) -> bytes:
    """Return the pair's ML-KEM secret, or refuse: X25519 alone is no fallback (SECAGG-16)."""
    secret = party.kem_secrets.get(peer, b"")
    if len(secret) != KEM_SECRET_BYTES:
        raise ProtocolError(
            ErrorCode.KEM_SECRET_MISSING,
            "The post-quantum secret shared with another site is not at hand.",
            hint="It comes with that site's approval; ask the coordinator for all approvals.",
            detail=peer,
        )
    return secret
