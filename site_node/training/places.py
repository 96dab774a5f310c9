"""Does this machine compute a row's gradient alike at every place of a batch?

The kernels of convolutions come from a library that promises nothing of the kind. So before the
first step of a model, one row is put at the first, a middle and the last place of a batch of
others, twice over; where a single bit of its gradient differs, nothing is trained (PRIVACY-2).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.errors import ErrorCode, InternalError
from schemas.governance.study import ModelTerms
from schemas.models import parameter_count
from site_node.training.gradients import RowGradients
from site_node.training.networks import build_network, parameter_order

_ODD = 1.6180339887  # angles a multiple of this apart never repeat


def check_places(model: ModelTerms, shape: tuple[int, ...], size: int) -> None:
    """Refuse a machine on which a row's gradient depends on its place; once in a process.

    Args:
        model: of the plan.
        shape: of one row of its inputs.
        size: rows of every batch.

    Raises:
        InternalError: TRAINING_LAYER_REFUSED.
    """
    if not _places_agree(model, shape, size):
        raise InternalError(
            ErrorCode.TRAINING_LAYER_REFUSED,
            "This machine computes a patient's gradient differently at different places of a "
            "batch, so one patient's weight in the sum could not be bounded.",
            hint="Nothing was computed and nothing leaves; run the site node on another processor.",
        )


@lru_cache(maxsize=16)
def _places_agree(model: ModelTerms, shape: tuple[int, ...], size: int) -> bool:
    flat = 0.3 * np.cos(_ODD * np.arange(parameter_count(model), dtype=np.float64))
    gradients = RowGradients(build_network(model, flat), parameter_order(model))
    return places_agree(gradients, shape, size)


def places_agree(gradients: RowGradients, shape: tuple[int, ...], size: int) -> bool:
    """Say whether one row has the same gradient, to the last bit, at every place tried."""
    row = _pattern(0.0, (1, *shape))[0]
    seen: set[bytes] = set()
    for number, place in enumerate((0, 1 % size, size // 2, size // 2 + size // 4, size - 1)):
        batch = _pattern(1.0 + number, (size, *shape))
        batch[place] = row
        parts = gradients(batch, _squares)
        seen.add(b"".join(np.ascontiguousarray(part[place]).tobytes() for part in parts))
    return len(seen) == 1


def _pattern(start: float, shape: tuple[int, ...]) -> torch.Tensor:
    values: NDArray[np.float64] = np.cos(start + _ODD * np.arange(int(np.prod(shape))))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def _squares(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.reshape(len(outputs), -1).square().sum(1)
