"""Which model follows from the initial weights and the sums? What every site applied, in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from schemas.governance.study import StudyPlan
from schemas.models import (
    apply_sum,
    final_parameters,
    final_safetensors,
    from_safetensors,
    initial_state,
    model_hash,
)
from schemas.secagg.masking import MaskedSum


@dataclass(frozen=True, slots=True)
class FinalModel:
    """The model file and the hash the sites signed (of its numbers, not of the file)."""

    model_hash: str
    safetensors: bytes


def rebuild(plan: StudyPlan, weights: bytes, sums: Iterable[MaskedSum]) -> FinalModel:
    """Apply every stored sum in order, as each site did.

    Args:
        plan: the study's plan with every constant of the optimiser.
        weights: initial weights (safetensors).
        sums: the noised sum of each round, in order; words of 32 bits, two's complement. One is
            let go of before the next is taken.
    """
    state = initial_state(plan.model, from_safetensors(plan.model, weights))
    for summed in sums:
        centred = np.ascontiguousarray(summed.words).view(np.int32).astype(np.int64)
        state = apply_sum(state, centred, plan)
        del summed, centred
    flat = final_parameters(state, plan.training)
    return FinalModel(
        model_hash(flat, state.prepared), final_safetensors(plan, flat, state.prepared)
    )
