"""How does a plan say that hospitals' vectors are added, and how many may be lost on the way?

Two modes of one protocol (SECAGG-1). Atomic: a lost hospital voids the attempt. Recoverable: up to
``maximum_dropouts`` hospitals may vanish after they were announced, and the others, once more than
(n + t)/2 of them have signed the same list of survivors, give the coordinator what it takes to
unmask the sum of exactly those. Atomic is the better choice while the number of hospitals times
the chance of losing one between READY and upload stays below 0.2.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas import limits
from schemas.canonical import Document


class AggregationTerms(Document):
    """The mode of the secure sum and the key agreement under it."""

    mode: Literal["atomic", "recoverable"] = "atomic"
    maximum_dropouts: Annotated[int, Field(ge=0, le=limits.MAX_SITES)] = 0  # after the cohort
    pair_root: Literal["x25519", "x25519-ml-kem-768"] = "x25519"

    @model_validator(mode="after")
    def _consistent(self) -> AggregationTerms:
        if (self.mode == "recoverable") != (self.maximum_dropouts > 0):
            raise ValueError("maximum_dropouts is positive exactly in recoverable mode")
        return self


def survivor_threshold(n_sites: int, collusion_bound: int) -> int:
    """Return tau, the fewest signatures under one list of survivors: more than (n + t)/2.

    Two different lists with tau signatures each would need 2 tau - n > t sites that signed both,
    and an honest site signs one (Bonawitz et al. 2017, arXiv 1611.04482, section 6.2).
    """
    return (n_sites + collusion_bound) // 2 + 1
