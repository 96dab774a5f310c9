"""Which tensors make up the ResNet-18 with group normalisation?

He et al. 2016 (arXiv 1512.03385), table 1, for one grey channel and one output: four stages of two
basic blocks, projection shortcuts where the shape changes. Every batch normalisation is a group
normalisation with affine parameters (Wu & He 2018, arXiv 1803.08494, G = 32), which normalises
inside one image; batch normalisation mixes patients, so no patient would have a gradient. Group
normalisation is what makes residual networks train well under DP-SGD (De et al. 2022,
arXiv 2204.13650, section 3). Their weight standardisation is not part of it: per-sample gradients
of the standardised kernels are outside what Opacus computes.

| side of the image | stem |
| --- | --- |
| below 64 pixels (the shorter one) | 3x3, stride 1, no pooling, as He et al. for CIFAR |
| 64 pixels and more | 7x7, stride 2, then 3x3 max-pooling of stride 2 |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from schemas.models.tensors import TensorSpec, linear_unit

RESNET_CHANNELS: Final = (64, 128, 256, 512)  # of the four stages
RESNET_BLOCKS: Final = 2  # basic blocks of a stage
RESNET_GROUPS: Final = 32  # of every group normalisation: 2 to 16 channels a group
_SMALL_SIDE: Final = 64  # pixels; a 7x7 stem with pooling would leave under 16 x 16 of less


def has_small_stem(rows: int, columns: int) -> bool:
    """Say whether images of this size, in pixels, enter through the 3x3 stem."""
    return min(rows, columns) < _SMALL_SIDE


def resnet18(rows: int, columns: int) -> tuple[TensorSpec, ...]:
    """List the tensors; only the stem depends on the image's size, in pixels."""
    kernel = 3 if has_small_stem(rows, columns) else 7
    specs = [_kernels("conv1", RESNET_CHANNELS[0], 1, kernel), *_norm("norm1", RESNET_CHANNELS[0])]
    inputs = RESNET_CHANNELS[0]
    for stage, channels in enumerate(RESNET_CHANNELS, start=1):
        for block in range(RESNET_BLOCKS):
            specs.extend(_block(f"layer{stage}.{block}", inputs, channels))
            inputs = channels
    return (*specs, *linear_unit(inputs))


def _block(name: str, inputs: int, outputs: int) -> Iterator[TensorSpec]:
    yield _kernels(f"{name}.conv1", outputs, inputs, 3)
    yield from _norm(f"{name}.norm1", outputs)
    yield _kernels(f"{name}.conv2", outputs, outputs, 3)
    yield from _norm(f"{name}.norm2", outputs)
    if inputs != outputs:
        yield _kernels(f"{name}.downsample.0", outputs, inputs, 1)
        yield from _norm(f"{name}.downsample.1", outputs)


def _kernels(name: str, outputs: int, inputs: int, side: int) -> TensorSpec:
    """Give the kernels of a convolution without bias: the normalisation after it has one."""
    shape = (outputs, inputs, side, side)
    return TensorSpec(f"{name}.weight", shape, "uniform", inputs * side**2)


def _norm(name: str, channels: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (channels,), "one")
    yield TensorSpec(f"{name}.bias", (channels,), "zero")
