"""How does a plan's way of adding updates read to the vendor, and what does it cost in noise?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan

ATOMIC_UNTIL: Final = 0.2
"""Hospitals times the chance of losing one, up to which retrying costs less than the noise."""

_ROOTS: Final = {"x25519": "X25519", "x25519-ml-kem-768": "X25519 with ML-KEM-768"}


def aggregation_values(plan: StudyPlan) -> dict[str, Any]:
    """Return mode, threshold and price as one JSON object, for a cohort of every hospital."""
    everyone = len(plan.sites)
    sharers = plan.noise_sharers(everyone)
    # dp-fedavg: every hospital's own contribution carries the whole noise, whoever is lost.
    atomic = 1 if plan.training.is_local else everyone - plan.collusion_bound
    return {
        "mode": plan.aggregation.mode,
        "pair_root": plan.aggregation.pair_root,
        "fewest_summed": plan.fewest_summed,
        "dropouts_allowed": plan.dropouts_allowed(everyone),
        "survivor_threshold": plan.survivor_threshold if plan.is_recoverable else None,
        "noise_sharers": sharers,
        "noise_sharers_atomic": atomic,
        "noise_share_variance_ratio": atomic / sharers,
        "noise_ratio": math.sqrt(atomic / sharers),
        "atomic_until_loss_chance": ATOMIC_UNTIL / everyone,
    }


def aggregation_lines(plan: StudyPlan) -> list[str]:
    """Write mode, what may be lost, the price in noise and when the other mode is better."""
    values = aggregation_values(plan)
    everyone, sharers = len(plan.sites), values["noise_sharers"]
    before = (
        "" if plan.preparation is None else f", {plan.preparation.retry_cap} of the preparation"
    )
    root = f"pair keys: {_ROOTS[values['pair_root']]}"
    chance = [
        f"hospitals times the chance p of losing one in an attempt is at most {ATOMIC_UNTIL:g},",
        f"here p up to {100 * values['atomic_until_loss_chance']:.3g} % for {everyone} hospitals",
    ]
    if plan.training.is_local:
        share = f"every hospital's change carries the whole noise, no part is shared; {root}"
        price = [share]
    else:
        share = f"a hospital's noise share has variance sigma^2 C^2 / {sharers}; {root}"
        price = [
            f"price in noise: a share's variance is sigma^2 C^2 / {sharers}, in atomic mode "
            f"/ {values['noise_sharers_atomic']}: {values['noise_share_variance_ratio']:.3g} "
            "times,",
            f"that is {values['noise_ratio']:.3g} times the noise in a sum of all hospitals; and "
            "two more exchanges an attempt",
        ]
    if not plan.is_recoverable:
        return [
            "atomic: a hospital lost in an attempt voids it; it stays charged "
            f"({plan.training.retry_cap} {'retry' if plan.training.retry_cap == 1 else 'retries'}"
            f"{before})",
            share,
            f"the better mode while {chance[0]}",
            chance[1],
        ]
    return [
        f"recoverable: up to {values['dropouts_allowed']} of {everyone} hospitals may be lost in "
        f"an attempt, never fewer than {values['fewest_summed']} in a sum",
        f"tau = {values['survivor_threshold']} hospitals sign one list of survivors before its sum "
        "is unmasked",
        *price,
        f"atomic mode is better while {chance[0]}",
        chance[1],
        *([] if plan.training.is_local else [root]),
    ]
