"""What is known of one named tensor of a model: shape, and how it starts?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Start = Literal["zero", "one", "uniform", "baseline"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named tensor of a model.

    Attributes:
        name: as in the safetensors file and in the network's state.
        shape: of the tensor.
        start: zero or one everywhere; uniform on +-1/sqrt(fan_in); a Cox model's baseline.
        fan_in: inputs of one unit; only of "uniform".
    """

    name: str
    shape: tuple[int, ...]
    start: Start
    fan_in: int = 1

    @property
    def size(self) -> int:
        """Number of values in the tensor."""
        return math.prod(self.shape)


def linear_unit(width: int) -> tuple[TensorSpec, ...]:
    """Give the last layer of every binary model: one linear unit, zero at first.

    So the first output is one half for everyone, whatever the layers before it.
    """
    return (
        TensorSpec("linear.weight", (1, width), "zero"),
        TensorSpec("linear.bias", (1,), "zero"),
    )
