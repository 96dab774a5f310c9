"""Which torch network computes an architecture of the closed list?"""

from __future__ import annotations

from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from schemas.governance.study import Architecture, ModelTerms
from schemas.models import layout, split_tensors
from schemas.models.layouts import CNN_CHANNELS, CNN_KERNEL


class LinearUnit(nn.Module):
    """One linear unit: logistic regression when read through the logistic function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give logits (n,) of features (n, width)."""
        logits: torch.Tensor = self.linear(x)
        return logits.squeeze(1)


class SmallCnn(nn.Module):
    """Three tanh convolutions of stride 2 and one linear unit.

    tanh bounds the activations, which keeps per-patient gradients near the clip
    (Papernot et al. 2021, "Tempered sigmoid activations"); no layer mixes patients.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second, third = CNN_CHANNELS
        self.conv1 = nn.Conv2d(1, first, CNN_KERNEL, stride=2, padding=1)
        self.conv2 = nn.Conv2d(first, second, CNN_KERNEL, stride=2, padding=1)
        self.conv3 = nn.Conv2d(second, third, CNN_KERNEL, stride=2, padding=1)
        self.linear = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give logits (n,) of images (n, 1, rows, columns) with grey values in [0, 1]."""
        hidden = 2.0 * x - 1.0
        for convolution in (self.conv1, self.conv2, self.conv3):
            hidden = torch.tanh(convolution(hidden))
        logits: torch.Tensor = self.linear(hidden.flatten(1))
        return logits.squeeze(1)


def build_network(model: ModelTerms, flat: NDArray[np.float64]) -> nn.Module:
    """Give the network with these parameters, float32, ready for per-sample gradients.

    Args:
        model: the plan's model terms.
        flat: (d,) float64 parameters in the order of `schemas.models.layout`.

    Raises:
        ConfigError: `flat` does not fit the architecture.
    """
    tensors = split_tensors(model, flat)
    # Built without initial values ("meta"), so that torch's generator is never drawn from.
    with torch.device("meta"):
        network = _network(model)
    network.load_state_dict(
        {name: torch.tensor(value, dtype=torch.float32) for name, value in tensors.items()},
        assign=True,
    )
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network.train()


def parameter_order(model: ModelTerms) -> tuple[str, ...]:
    """Give the parameter names in the order of the flat vector."""
    return tuple(spec.name for spec in layout(model))


def _network(model: ModelTerms) -> nn.Module:
    width = next(spec.shape[1] for spec in layout(model) if spec.name == "linear.weight")
    match model.architecture:
        case Architecture.LOGISTIC | Architecture.SCATTERING_LOGISTIC:
            return LinearUnit(width)
        case Architecture.SMALL_CNN:
            return SmallCnn(width)
        case _ as never:
            assert_never(never)
