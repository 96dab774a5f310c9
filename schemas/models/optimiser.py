"""Which model follows from a model and the verified sum of a round?

Every line is one elementwise IEEE-754 float64 operation in a fixed order, so that hospitals and a
coordinator without torch obtain the same bits, and a later auditor too.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import ModelTerms, StudyPlan, TrainingTerms
from schemas.models.layouts import parameter_count

_MAGIC = b"COHSTAT2"
_HEADER = struct.Struct("<8sQQQQQ")  # magic, step, averaged, d, second moments, prepared words

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OptimiserState:
    """Everything the next step depends on.

    Attributes:
        parameters: (d,) float64, the model whose gradient the next round computes.
        momentum: (d,) float64, velocity (sgd) or first moment (adam).
        average: (d,) float64 mean of the parameters after each step inside the averaging window.
        averaged: number of steps in that mean.
        step: number of steps applied so far; the preparation is none.
        second: (d,) float64 second moment with adam, else (0,).
        prepared: (words,) int64, the verified sum of the preparation; (0,) before it and without.
    """

    parameters: Vector
    momentum: Vector
    average: Vector
    averaged: int
    step: int
    second: Vector = field(default_factory=lambda: np.zeros(0))
    prepared: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def to_bytes(self) -> bytes:
        """Write the state: a header, little-endian float64 vectors, the prepared int64 words."""
        d, second, words = len(self.parameters), len(self.second), len(self.prepared)
        header = _HEADER.pack(_MAGIC, self.step, self.averaged, d, second, words)
        vectors = (self.parameters, self.momentum, self.average, self.second)
        body = b"".join(np.ascontiguousarray(v, dtype="<f8").tobytes() for v in vectors)
        return header + body + np.ascontiguousarray(self.prepared, dtype="<i8").tobytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> OptimiserState:
        """Read a state back.

        Raises:
            ProtocolError: the bytes are not exactly one state, or hold a value not finite.
        """
        if len(raw) < _HEADER.size:
            raise _refused(ErrorCode.STATE_MISMATCH, "the state is cut short")
        magic, step, averaged, d, second, words = _HEADER.unpack_from(raw)
        length = _HEADER.size + 8 * (3 * d + second + words)
        if magic != _MAGIC or len(raw) != length or averaged > step or second not in (0, d):
            raise _refused(ErrorCode.STATE_MISMATCH, "the bytes are not one state of this version")
        floats = np.frombuffer(raw, dtype="<f8", offset=_HEADER.size, count=3 * d + second)
        if not np.isfinite(floats).all():
            raise _refused(ErrorCode.VECTOR_NOT_FINITE, "a value is not finite")
        vectors = floats[: 3 * d].astype(np.float64).reshape(3, d)
        return cls(
            vectors[0].copy(),
            vectors[1].copy(),
            vectors[2].copy(),
            averaged,
            step,
            floats[3 * d :].astype(np.float64),
            np.frombuffer(raw, dtype="<i8", offset=length - 8 * words).astype(np.int64),
        )


def state_hash(state: OptimiserState) -> str:
    """Give the SHA-256 (hex) over everything in the state."""
    return hashlib.sha256(state.to_bytes()).hexdigest()


def initial_state(model: ModelTerms, flat: Vector) -> OptimiserState:
    """Give the state before the first sum.

    Raises:
        ProtocolError: `flat` has another length than the model, or a value not finite.
    """
    if flat.shape != (parameter_count(model),) or not np.isfinite(flat).all():
        raise _refused(ErrorCode.WEIGHTS_MALFORMED, "the weights do not fit the model")
    d = len(flat)
    return OptimiserState(flat.astype(np.float64), np.zeros(d), np.zeros(d), 0, 0)


def apply_sum(state: OptimiserState, summed: NDArray[np.int64], plan: StudyPlan) -> OptimiserState:
    """Apply the verified sum of the next round: the preparation is kept, others are a step.

    Args:
        state: the state before the round.
        summed: (words,) int64, the centred secure sum in grid units.
        plan: the approved plan.

    Raises:
        ProtocolError: as from `apply_step`.
    """
    if plan.preparation is None or len(state.prepared):
        return apply_step(state, summed, plan.training)
    if summed.dtype != np.int64 or summed.shape != (plan.sum_terms(0).words,):
        raise _refused(ErrorCode.SUM_MALFORMED, "the sum does not fit the preparation")
    return replace(state, prepared=summed.copy())


def apply_step(
    state: OptimiserState, summed: NDArray[np.int64], training: TrainingTerms
) -> OptimiserState:
    """Apply one optimiser step to a verified, noised integer sum.

    dp-fedsgd   gradient = summed * (clip / integer_clip / divisor) + weight_decay * parameters
    dp-fedavg   gradient = - summed * (update_clip / integer_clip / divisor), the mean change
                (Reddi et al. 2021, arXiv 2003.00295, "pseudo-gradient")

    sgd         momentum = training.momentum * momentum + gradient
                parameters = parameters - learning_rate * momentum
    adam        Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1, with bias correction
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
    gradient = _gradient(state, summed, training)
    if training.optimiser == "adam":
        momentum, second, change = _adam(state, gradient, training)
    else:
        momentum = state.momentum * training.momentum
        momentum = momentum + gradient
        second, change = state.second, momentum * training.learning_rate
    parameters = state.parameters - change
    if not np.isfinite(parameters).all():
        raise _refused(ErrorCode.VECTOR_NOT_FINITE, "a parameter is no longer finite")
    average, averaged = state.average, state.averaged
    if state.step >= training.average_from_step:
        averaged += 1
        difference = parameters - average
        average = average + difference / float(averaged)
    return OptimiserState(
        parameters, momentum, average, averaged, state.step + 1, second, state.prepared
    )


def final_parameters(state: OptimiserState, training: TrainingTerms) -> Vector:
    """Give the released model (d,): the average where the plan's window was reached, else the last.

    A study that ends early, before the window, releases its last model.
    """
    in_window = state.averaged > 0 and training.average_from_step < training.steps
    return state.average.copy() if in_window else state.parameters.copy()


def _gradient(state: OptimiserState, summed: NDArray[np.int64], training: TrainingTerms) -> Vector:
    if training.is_local:
        unit = training.update_clip / training.integer_clip / training.divisor
        return summed.astype(np.float64) * -unit
    unit = training.clip / training.integer_clip / training.divisor
    gradient = summed.astype(np.float64) * unit
    if training.weight_decay != 0.0:
        gradient = gradient + state.parameters * training.weight_decay
    return gradient


def _adam(
    state: OptimiserState, gradient: Vector, training: TrainingTerms
) -> tuple[Vector, Vector, Vector]:
    """Give first moment, second moment and the change to subtract."""
    beta, gamma = training.momentum, training.second_momentum
    before = state.second if len(state.second) else np.zeros_like(gradient)
    first = state.momentum * beta
    first = first + gradient * (1.0 - beta)
    second = before * gamma
    second = second + gradient * gradient * (1.0 - gamma)
    # Powers by repeated products: pow() of two machines may differ in the last bit.
    beta_power = gamma_power = 1.0
    for _ in range(state.step + 1):
        beta_power, gamma_power = beta_power * beta, gamma_power * gamma
    root = np.sqrt(second / (1.0 - gamma_power))
    change = first / (1.0 - beta_power) * training.learning_rate
    return first, second, change / (root + training.adam_epsilon)


def _refused(code: ErrorCode, reason: str) -> ProtocolError:
    return ProtocolError(
        code,
        f"The optimiser step was refused: {reason}.",
        hint="Go on from the last recorded state.",
    )
