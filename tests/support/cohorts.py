"""How does a test issue READYs, bend one of them, and see a site refuse the cohort?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schemas.errors import CohortiumError, ErrorCode, ProtocolError
from schemas.secagg.keys import pair_root, seal_share
from schemas.secagg.masking import CohortKeys
from schemas.secagg.messages import SignedReady
from schemas.secagg.site import ReadySecrets, observe_cohort
from tests.support.secure_sum import NEW_MODEL, Consortium

Issued = dict[str, tuple[SignedReady, ReadySecrets]]
OTHER = "77" * 32
"""A hash of nothing."""


def signed_of(issued: Issued) -> list[SignedReady]:
    """The READYs alone."""
    return [signed for signed, _ in issued.values()]


def refusal(call: Callable[[], object], kind: type[CohortiumError] = ProtocolError) -> ErrorCode:
    """The code with which a call is refused; it must be."""
    with pytest.raises(kind) as refused:
        call()
    return refused.value.code


def join_1(
    consortium: Consortium, issued: Issued, readies: list[SignedReady], **how: Any
) -> CohortKeys:
    """Show site-1 a cohort."""
    return consortium.join("site-1", issued["site-1"][1], readies, **how)


def resealed(consortium: Consortium, signed: SignedReady, **changes: Any) -> SignedReady:
    """Change what a READY says and seal its group shares for the new header, as its site can."""
    ready = signed.ready.model_copy(update=changes)
    sender = consortium.parties[ready.site_id]
    shares = {}
    for peer in consortium.plan.sites:
        digest = consortium.plan.digest()
        root = pair_root(sender.study, peer.study_key, digest, sender.site_id, peer.site_id)
        shares[peer.site_id] = seal_share(
            root,
            b"g" * 32,
            header=ready.header().canonical(),
            sender=sender.site_id,
            to=peer.site_id,
        )
    return consortium.resign(ready, group_shares=shares)


def observe(consortium: Consortium, site: str, issued: Issued, **how: Any) -> CohortKeys:
    """Let a site look at a sum to which it did not contribute."""
    context = consortium.context() | {"new_model_hash": NEW_MODEL} | how
    del context["model_hash"], context["last_sum_hash"]
    approved = consortium.approved
    return observe_cohort(
        consortium.parties[site], consortium.plan, signed_of(issued), approved=approved, **context
    )
