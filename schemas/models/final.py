"""Which file holds the final model, and which hash of it does every hospital sign?

A model whose inputs were prepared is of no use without the constants of that preparation. So the
verified sum they follow from lies in the file and under the hash, beside the parameters; what
follows from it, `schemas.preparation` derives. Initial weights never hold one.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import StudyPlan
from schemas.models.layouts import split_tensors
from schemas.models.weights import from_safetensors

PREPARATION: Final = "preparation.sum"
"""Name of the tensor with the sum of the preparation: int64, in grid units."""

_NOTHING: Final = np.zeros(0, dtype=np.int64)
_MOST_HEADER_BYTES: Final = 32 * 1024  # of JSON; the layout with the most tensors needs 6 KiB


def model_hash(flat: NDArray[np.float64], prepared: NDArray[np.int64] = _NOTHING) -> str:
    """Give the SHA-256 (hex) of a final model.

    Args:
        flat: (d,) the parameters, taken as little-endian float64.
        prepared: (words,) the sum of the preparation, taken as little-endian int64 after them;
            (0,) without one. The plan fixes both lengths, so no two models have the same bytes.
    """
    digest = hashlib.sha256(np.ascontiguousarray(flat, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(prepared, dtype="<i8").tobytes())
    return digest.hexdigest()


def final_safetensors(
    plan: StudyPlan, flat: NDArray[np.float64], prepared: NDArray[np.int64] = _NOTHING
) -> bytes:
    """Write a final model as a safetensors file; same bytes every time.

    Args:
        plan: the study's plan.
        flat: (d,) float64 parameters.
        prepared: (words,) int64 sum of the preparation; (0,) without one.
    """
    tensors: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {
        name: np.ascontiguousarray(tensor)
        for name, tensor in split_tensors(plan.model, flat).items()
    }
    if prepared.size:
        tensors[PREPARATION] = np.ascontiguousarray(prepared)
    return bytes(save(tensors))


def read_final(plan: StudyPlan, raw: bytes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read parameters (d,) and the sum of the preparation (words,) back from a final model.

    Raises:
        ProtocolError: WEIGHTS_MALFORMED, as from `from_safetensors`; or the sum is missing, is
            there without need, or has another shape or type than the plan says.
    """
    if plan.preparation is None:
        return from_safetensors(plan.model, raw), _NOTHING
    words = plan.sum_terms(0).words
    if len(raw) > 8 * (plan.model.parameters + words) + _MOST_HEADER_BYTES:
        raise _refused("the file is larger than the model")
    try:
        tensors = load(raw)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _refused("the file is not safetensors") from error
    prepared = tensors.pop(PREPARATION, None)
    if prepared is None or prepared.dtype != np.int64 or prepared.shape != (words,):
        raise _refused("it does not hold the sum of the study's preparation")
    flat = from_safetensors(plan.model, bytes(save(tensors)))
    if final_safetensors(plan, flat, prepared) != raw:
        raise _refused("the file is not in the one accepted form")
    return flat, prepared


def _refused(reason: str) -> ProtocolError:
    return ProtocolError(
        ErrorCode.WEIGHTS_MALFORMED,
        f"The model was refused: {reason}.",
        hint="Get the model again from the coordinator.",
    )
