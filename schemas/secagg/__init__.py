"""How do hospitals add vectors so that nobody sees one of them?

The rules are numbered in `schemas/spec/SECAGG.md`. A site calls `make_ready`, `join_cohort`,
`mask`, `check_sum`, in this order; the coordinator calls `add_masked`. In recoverable training a
site also calls `confirm_survivors` and `reveal` before the sum exists, and the coordinator
`recover_sum` instead.
"""

from __future__ import annotations

from schemas.secagg.cohort_keys import CohortKeys
from schemas.secagg.coordinator import (
    RunningSum,
    add_masked,
    check_confirmation,
    recover_sum,
    sum_hash,
    unmask_sum,
    upload_hash,
    words_from_bytes,
    words_to_bytes,
)
from schemas.secagg.keys import pair_root
from schemas.secagg.masking import MaskedSum, MaskedUpdate, check_sum, mask
from schemas.secagg.messages import (
    NO_COMMITMENT,
    NO_SUM,
    Kind,
    Ready,
    SignedReady,
    SurvivorList,
    UploadHash,
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
from schemas.secagg.recovery import Revealed, confirm_survivors, contributors_of, reveal
from schemas.secagg.site import Party, ReadySecrets, join_cohort, make_ready, observe_cohort

__all__ = [
    "NO_COMMITMENT",
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
    "Revealed",
    "RunningSum",
    "SignedReady",
    "SurvivorList",
    "UploadHash",
    "add_masked",
    "check_confirmation",
    "check_sum",
    "clip_patients",
    "confirm_survivors",
    "contributors_of",
    "integer_gradient_sum",
    "join_cohort",
    "make_ready",
    "mask",
    "observe_cohort",
    "pair_root",
    "quantise",
    "recover_sum",
    "reveal",
    "roster_hash",
    "sum_hash",
    "transcript_hash",
    "unmask_sum",
    "upload_hash",
    "words_from_bytes",
    "words_to_bytes",
]
