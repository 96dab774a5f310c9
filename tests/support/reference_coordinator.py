"""What does a coordinator do with uploads, by SECAGG.md alone? It adds and takes masks off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.reference_bytes import (
    SHAMIR_PRIME,
    TAG_PRIME,
    Refused,
    added,
    commitment,
    residue,
    self_mask_seed,
    stream,
)
from tests.support.reference_site import Plan

Upload = tuple[list[int], int]
Answer = tuple[Mapping[str, str], Mapping[str, str]]


def total(uploads: Mapping[str, Upload]) -> Upload:
    """Add uploads: words modulo 2^32, tags modulo 2^61 - 1 (SECAGG-10)."""
    words, tag = [0] * len(next(iter(uploads.values()))[0]), 0
    for more, mask in uploads.values():
        words, tag = added(words, 1, more), tag + mask
    return words, tag % TAG_PRIME


def recovered(
    plan: Plan,
    readies: Mapping[str, Mapping[str, Any]],
    uploads: Mapping[str, Upload],
    answers: Mapping[str, Answer],
) -> Upload:
    """Take self-masks and the lost sites' pair masks off the sum of the survivors (SECAGG-15).

    Args:
        plan: the plan.
        readies: every member's READY.
        uploads: of the survivors.
        answers: shares and seeds by answering site.
    """
    words, tag = total(uploads)
    lost = set(readies) - set(uploads)
    if lost and set(answers) != set(uploads):
        raise Refused("recovery.failed")
    for site in uploads:
        secret = secret_of(plan, readies[site], {j: shares for j, (shares, _) in answers.items()})
        words, tag = _without(words, tag, 1, self_mask_seed(secret, readies[site]))
    for site, (_, seeds) in answers.items():
        for gone in lost:
            sign = 1 if site < gone else -1
            words, tag = _without(words, tag, sign, bytes.fromhex(seeds[gone]))
    return words, tag % TAG_PRIME


def secret_of(
    plan: Plan, ready: Mapping[str, Any], answers: Mapping[str, Mapping[str, str]]
) -> int:
    """Combine shares of one site's secret; if they do not fit, leave out one answer at a time."""
    site, key = ready["site_id"], bytes.fromhex(ready["ephemeral_key"])
    points = {
        plan.place(j): int.from_bytes(bytes.fromhex(shares[site]), "little")
        for j, shares in sorted(answers.items())
    }
    points = {x: y for x, y in points.items() if y < SHAMIR_PRIME}
    for left_out in (None, *points):
        chosen = {x: y for x, y in points.items() if x != left_out}
        if len(chosen) < plan.tau:
            continue
        chosen = dict(list(chosen.items())[: plan.tau])
        secret = at_zero(chosen)
        if commitment(plan.digest, site, key, secret) == ready["self_mask_commitment"]:
            return secret
    raise Refused("recovery.failed")


def at_zero(points: Mapping[int, int]) -> int:
    """Lagrange's f(0) through the given points (Shamir 1979)."""
    result = 0
    for x, y in points.items():
        above = below = 1
        for other in points:
            if other != x:
                above, below = above * other, below * (other - x)
        result += y * above * pow(below, -1, SHAMIR_PRIME)
    return result % SHAMIR_PRIME


def _without(words: list[int], tag: int, sign: int, seed: bytes) -> Upload:
    return added(words, -sign, stream(seed[:32], 4, len(words))), tag - sign * residue(seed[32:])


def contributors(uploads: Mapping[str, Upload]) -> Sequence[str]:
    """Name the survivors as a sum is handed out with them."""
    return sorted(uploads)
