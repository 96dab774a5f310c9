"""Can a site written from SECAGG.md alone be a member among product sites?

SECAGG-2 to -10, -12 to -16 at once: fresh keys, one reference site, the others the product, and
each of them reads the same sum. What the specification left open would show here.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from schemas.canonical import parse
from schemas.secagg import (
    CohortKeys,
    MaskedSum,
    MaskedUpdate,
    Revealed,
    SignedReady,
    add_masked,
    check_sum,
    confirm_survivors,
    contributors_of,
    mask,
    recover_sum,
    reveal,
    upload_hash,
)
from tests.support.factories import HYBRID
from tests.support.reference_bytes import SHAMIR_PRIME
from tests.support.reference_site import Attempt, Fresh, ReferenceSite
from tests.support.secure_sum import HEAD, NEW_MODEL, Consortium, vectors_of

OWN = "site-2"
HYBRID_ROOT = {"aggregation": {"pair_root": HYBRID}}


def second(consortium: Consortium) -> ReferenceSite:
    """The reference site in the place of one product site, with that site's keys."""
    party = consortium.parties[OWN]
    return ReferenceSite(
        consortium.plan.canonical(),
        OWN,
        party.identity.private_bytes_raw(),
        party.study.private_bytes_raw(),
        party.kem_secrets,
    )


def fresh(consortium: Consortium, kind: str) -> Fresh:
    """Entropy of one READY from the operating system."""
    shared = consortium.plan.is_recoverable and kind == "train"
    drawn = range(consortium.plan.survivor_threshold if shared else 0)
    coefficients = tuple(int.from_bytes(os.urandom(64), "little") % SHAMIR_PRIME for _ in drawn)
    return Fresh(os.urandom(32), os.urandom(32), coefficients)


@pytest.mark.parametrize(
    ("consortium", "kind", "lost"),
    [
        (Consortium.of(4), "train", None),
        (Consortium.of(4), "evaluate", None),
        (Consortium.of(3, **HYBRID_ROOT), "train", None),
        (Consortium.recoverable(5), "train", None),
        (Consortium.recoverable(5), "evaluate", None),
        (Consortium.recoverable(5), "train", "site-4"),
        (Consortium.recoverable(5), "train", OWN),
        (Consortium.recoverable(5, **HYBRID_ROOT), "train", "site-1"),
    ],
    ids=[
        "atomic",
        "blind",
        "hybrid",
        "recoverable",
        "blind-in-a-recoverable-plan",
        "a-product-site-lost",
        "the-reference-lost",
        "recoverable-and-hybrid",
    ],
)
def test_the_reference_and_the_product_find_one_sum(
    consortium: Consortium, kind: str, lost: str | None
) -> None:
    others = [site for site in consortium.parties if site != OWN]
    told = consortium.context(kind=kind)
    reference = second(consortium)
    document = reference.ready(Attempt(**told), (HEAD, 0), fresh(consortium, kind))
    issued = consortium.issue_all(others, kind=kind)
    own = parse(SignedReady, document, max_bytes=2_000)
    readies = [own, *(signed for signed, _ in issued.values())]
    documents = [signed.canonical() for signed in readies]

    vectors = vectors_of(consortium.parties, 1100)  # more than one row of the tag
    reference.join(documents, NEW_MODEL, list(consortium.parties))
    keys = {s: consortium.join(s, issued[s][1], readies, kind=kind) for s in others}
    words, tag = reference.upload(vectors[OWN].tolist())
    uploads = {s: mask(keys[s], vectors[s], blind=kind == "evaluate") for s in others}
    uploads[OWN] = MaskedUpdate(np.array(words, dtype=np.uint32), tag)

    survivors: list[str] = []
    if consortium.plan.is_recoverable and kind == "train":
        survivors = sorted(set(uploads) - {lost})
        total = recovered(consortium, reference, keys, readies, uploads, survivors)
    else:
        total = add_masked(uploads, tuple(uploads))

    expected = sum(vectors[s] for s in survivors or vectors).tolist()
    for site, held in keys.items():
        opened = check_sum(held, total, contributors=contributors_of(held, survivors))
        assert opened.tolist() == expected, site
    assert reference.open(total.words.tolist(), total.tag, survivors) == expected


def recovered(
    consortium: Consortium,
    reference: ReferenceSite,
    keys: dict[str, CohortKeys],
    readies: list[SignedReady],
    uploads: dict[str, MaskedUpdate],
    survivors: list[str],
) -> MaskedSum:
    """SURVIVORS and UNMASK with the reference site among those who answer, unless it is lost."""
    listed = {site: upload_hash(uploads[site]) for site in survivors}
    signatures = {
        site: reference.confirm(listed)
        if site == OWN
        else confirm_survivors(keys[site], consortium.parties[site], consortium.plan, listed)
        for site in survivors
    }
    answers = {
        site: Revealed(*reference.unmask(signatures))
        if site == OWN
        else reveal(keys[site], consortium.plan, signatures)
        for site in survivors
    }
    kept = {site: uploads[site] for site in survivors}
    return recover_sum(consortium.plan, readies, kept, answers)
