"""Which layers, in which order, make up the networks other than the ResNet?"""

from __future__ import annotations

import torch
from torch import nn

from schemas.models.layouts import CNN_CHANNELS, CNN_KERNEL
from site_node.training.row_linear import RowLinear


class LinearUnit(nn.Module):
    """One linear unit: logistic regression when read through the logistic function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = RowLinear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give logits (n,) of features (n, width)."""
        logits: torch.Tensor = self.linear(x)
        return logits.squeeze(1)


class GroupedHazards(nn.Module):
    """Proportional hazards in intervals of time (Prentice & Gloeckler 1978, Biometrics 34:57).

    The baseline is a linear layer on the constant one, so that its gradient per patient is
    computed by the same rule as every other layer's.
    """

    def __init__(self, width: int, intervals: int) -> None:
        super().__init__()
        self.linear = RowLinear(width, 1, bias=False)
        self.baseline = RowLinear(1, intervals, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the log cumulative hazard of each interval, (n, intervals), of x (n, width)."""
        risk: torch.Tensor = self.linear(x)
        baseline: torch.Tensor = self.baseline(torch.ones_like(risk))
        return risk + baseline


class TanhLayers(nn.Module):
    """Hidden tanh layers and one linear unit; tanh for the reason given at `SmallCnn`."""

    def __init__(self, width: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = (width, *hidden)
        self.hidden = nn.ModuleList(
            RowLinear(before, after) for before, after in zip(widths, hidden, strict=False)
        )
        self.linear = RowLinear(widths[-1], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give logits (n,) of features (n, width)."""
        for layer in self.hidden:
            x = torch.tanh(layer(x))
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
        self.linear = RowLinear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give logits (n,) of images (n, 1, rows, columns) with grey values in [0, 1]."""
        hidden = 2.0 * x - 1.0
        for convolution in (self.conv1, self.conv2, self.conv3):
            hidden = torch.tanh(convolution(hidden))
        logits: torch.Tensor = self.linear(hidden.flatten(1))
        return logits.squeeze(1)
