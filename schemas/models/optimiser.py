"""Which model follows from a model and the verified sum of a round?

Every line is one elementwise IEEE-754 float64 operation in a fixed order, so that hospitals and a
coordinator without torch obtain the same bits, and a later auditor too.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import ModelTerms, TrainingTerms
from schemas.models.layouts import parameter_count

_MAGIC = b"COHSTAT1"
_HEADER = struct.Struct("<8sQQQ")  # magic, step, averaged, d


@dataclass(frozen=True, slots=True)
class OptimiserState:
    """Everything the next step depends on.

    Attributes:
        parameters: (d,) float64, the model whose gradient the next round computes.
        momentum: (d,) float64 velocity.
        average: (d,) float64 mean of the parameters after each step inside the averaging window.
        averaged: number of steps in that mean.
        step: number of steps applied so far.
    """

    parameters: NDArray[np.float64]
    momentum: NDArray[np.float64]
    average: NDArray[np.float64]
    averaged: int
    step: int

    def to_bytes(self) -> bytes:
        """Write the state: a 32-byte header and three little-endian float64 vectors."""
        header = _HEADER.pack(_MAGIC, self.step, self.averaged, len(self.parameters))
        vectors = (self.parameters, self.momentum, self.average)
        return header + b"".join(np.ascontiguousarray(v, dtype="<f8").tobytes() for v in vectors)

    @classmethod
    def from_bytes(cls, raw: bytes) -> OptimiserState:
        """Read a state back.

        Raises:
            ProtocolError: the bytes are not exactly one state, or hold a value not finite.
        """
        if len(raw) < _HEADER.size:
            raise _refused(ErrorCode.STATE_MISMATCH, "the state is cut short")
        magic, step, averaged, d = _HEADER.unpack_from(raw)
        if magic != _MAGIC or len(raw) != _HEADER.size + 24 * d or averaged > step:
            raise _refused(ErrorCode.STATE_MISMATCH, "the bytes are not one state of this version")
        body = np.frombuffer(raw, dtype="<f8", offset=_HEADER.size).astype(np.float64)
        if not np.isfinite(body).all():
            raise _refused(ErrorCode.VECTOR_NOT_FINITE, "a value is not finite")
        vectors = body.reshape(3, d)
        return cls(vectors[0].copy(), vectors[1].copy(), vectors[2].copy(), averaged, step)


def state_hash(state: OptimiserState) -> str:
    """Give the SHA-256 (hex) over parameters, momentum, average and counters."""
    return hashlib.sha256(state.to_bytes()).hexdigest()


def initial_state(model: ModelTerms, flat: NDArray[np.float64]) -> OptimiserState:
    """Give the state before the first step.

    Raises:
        ProtocolError: `flat` has another length than the model, or a value not finite.
    """
    if flat.shape != (parameter_count(model),) or not np.isfinite(flat).all():
        raise _refused(ErrorCode.WEIGHTS_MALFORMED, "the weights do not fit the model")
    d = len(flat)
    return OptimiserState(flat.astype(np.float64), np.zeros(d), np.zeros(d), 0, 0)


def apply_step(
    state: OptimiserState, summed: NDArray[np.int64], training: TrainingTerms
) -> OptimiserState:
    """Apply one optimiser step to a verified, noised integer sum.

    gradient = summed * (clip / integer_clip / divisor) + weight_decay * parameters
    momentum = training.momentum * momentum + gradient
    parameters = parameters - learning_rate * momentum
    average = average + (parameters - average) / averaged, from `average_from_step` on

    Args:
        state: the state before the step.
        summed: (d,) int64, the centred secure sum in grid units.
        training: the plan's constants.

    Raises:
        ProtocolError: wrong length or type, a step beyond the plan, or a result not finite.
    """
    if summed.dtype != np.int64 or summed.shape != state.parameters.shape:
        raise _refused(ErrorCode.SUM_MALFORMED, "the sum does not fit the model")
    if state.step >= training.steps:
        raise _refused(ErrorCode.ROUND_UNKNOWN, "the plan has no further step")
    unit = training.clip / training.integer_clip / training.divisor
    gradient = summed.astype(np.float64) * unit
    if training.weight_decay != 0.0:
        gradient = gradient + state.parameters * training.weight_decay
    momentum = state.momentum * training.momentum
    momentum = momentum + gradient
    change = momentum * training.learning_rate
    parameters = state.parameters - change
    if not np.isfinite(parameters).all():
        raise _refused(ErrorCode.VECTOR_NOT_FINITE, "a parameter is no longer finite")
    average, averaged = state.average, state.averaged
    if state.step >= training.average_from_step:
        averaged += 1
        difference = parameters - average
        average = average + difference / float(averaged)
    return OptimiserState(parameters, momentum, average, averaged, state.step + 1)


def final_parameters(state: OptimiserState, training: TrainingTerms) -> NDArray[np.float64]:
    """Give the released model (d,): the average where the plan's window was reached, else the last.

    A study that ends early, before the window, releases its last model.
    """
    in_window = state.averaged > 0 and training.average_from_step < training.steps
    return state.average.copy() if in_window else state.parameters.copy()


def _refused(code: ErrorCode, reason: str) -> ProtocolError:
    return ProtocolError(
        code,
        f"The optimiser step was refused: {reason}.",
        hint="Go on from the last recorded state.",
    )
