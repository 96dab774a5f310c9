"""How does the ResNet-18 with group normalisation compute its logit?

The tensors, and why they are so, stand in `schemas.models.resnet`; here is the order of layers.
Nothing is done in place, which the per-sample hooks would read after it was overwritten.
"""

from __future__ import annotations

import torch
from torch import nn

from schemas.models.resnet import RESNET_BLOCKS, RESNET_CHANNELS, RESNET_GROUPS
from site_node.training.row_linear import RowLinear


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, figure 5 left)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(RESNET_GROUPS, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(RESNET_GROUPS, outputs)
        self.downsample: nn.Module | None = None
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                nn.GroupNorm(RESNET_GROUPS, outputs),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give (n, outputs, rows/stride, columns/stride) of (n, inputs, rows, columns)."""
        hidden = torch.relu(self.norm1(self.conv1(x)))
        hidden = self.norm2(self.conv2(hidden))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(hidden + shortcut)


class ResNet18(nn.Module):
    """A stem, four stages of basic blocks, the mean over the image, one linear unit."""

    def __init__(self, *, has_small_stem: bool) -> None:
        super().__init__()
        first = RESNET_CHANNELS[0]
        if has_small_stem:
            self.conv1 = nn.Conv2d(1, first, 3, padding=1, bias=False)
            self.pool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(1, first, 7, stride=2, padding=3, bias=False)
            self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm1 = nn.GroupNorm(RESNET_GROUPS, first)
        inputs = first
        for stage, channels in enumerate(RESNET_CHANNELS, start=1):
            stride = 1 if stage == 1 else 2
            blocks = [BasicBlock(inputs, channels, stride)]
            blocks += [BasicBlock(channels, channels, 1) for _ in range(RESNET_BLOCKS - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            inputs = channels
        self.linear = RowLinear(inputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give logits (n,) of images (n, 1, rows, columns) with grey values in [0, 1]."""
        hidden: torch.Tensor = self.pool(torch.relu(self.norm1(self.conv1(2.0 * x - 1.0))))
        for stage in range(1, len(RESNET_CHANNELS) + 1):
            hidden = self.get_submodule(f"layer{stage}")(hidden)
        logits: torch.Tensor = self.linear(hidden.mean(dim=(2, 3)))
        return logits.squeeze(1)
