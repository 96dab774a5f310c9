"""How do hospitals add vectors so that nobody sees one of them?

The rules are numbered in `schemas/spec/SECAGG.md`. A site calls `make_ready`, `join_cohort`,
`mask`, `check_sum`, in this order; the coordinator calls `add_masked`.
"""

from __future__ import annotations

from schemas.secagg.coordinator import add_masked, sum_hash, words_from_bytes, words_to_bytes
from schemas.secagg.keys import pair_root
from schemas.secagg.masking import CohortKeys, MaskedSum, MaskedUpdate, check_sum, mask
from schemas.secagg.messages import (
    NO_SUM,
    Kind,
    Ready,
    SignedReady,
    roster_hash,
    transcript_hash,
)
from schemas.secagg.quantise import (
    ClippedUpdate,
    NoisedUpdate,
    QuantisedUpdate,
    clip_patients,
    integer_gradient_sum,
    quantise,
)
from schemas.secagg.site import Party, ReadySecrets, join_cohort, make_ready, observe_cohort

__all__ = [
    "NO_SUM",
    "ClippedUpdate",
    "CohortKeys",
    "Kind",
    "MaskedSum",
    "MaskedUpdate",
    "NoisedUpdate",
    "Party",
    "QuantisedUpdate",
    "Ready",
    "ReadySecrets",
    "SignedReady",
    "add_masked",
    "check_sum",
    "clip_patients",
    "integer_gradient_sum",
    "join_cohort",
    "make_ready",
    "mask",
    "observe_cohort",
    "pair_root",
    "quantise",
    "roster_hash",
    "sum_hash",
    "transcript_hash",
    "words_from_bytes",
    "words_to_bytes",
]
