"""May these initial weights begin a study? Checked before any hospital is asked."""

from __future__ import annotations

from schemas.canonical import sha256_hex
from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import StudyPlan
from schemas.models import from_safetensors, weights_from_seed


def check_initial(plan: StudyPlan, weights: bytes) -> None:
    """Refuse initial weights that a hospital would refuse later.

    Args:
        plan: the proposed plan.
        weights: safetensors of a model that starts from the vendor's file; empty where it starts
            from a seed, from which everybody derives them.

    Raises:
        ProtocolError: WEIGHTS_MISMATCH, they are not those the plan names, or are sent beside a
            seed; WEIGHTS_MALFORMED, they are no model of the plan's architecture.
    """
    if plan.model.initialisation == "seed":
        if weights:
            raise ProtocolError(
                ErrorCode.WEIGHTS_MISMATCH,
                "The plan's model starts from a seed; no weights are sent with it.",
                hint="Send exactly the plan: cohortium study apply NAME.plan",
            )
        weights_from_seed(plan.model)
        return
    if sha256_hex(weights) != plan.model.initial_weights_sha256:
        raise ProtocolError(
            ErrorCode.WEIGHTS_MISMATCH, "The initial weights are not those the plan names."
        )
    from_safetensors(plan.model, weights)
