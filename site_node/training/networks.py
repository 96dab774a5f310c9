"""Which torch network computes an architecture of the closed list?"""

from __future__ import annotations

from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from schemas.governance.study import Architecture, ModelTerms
from schemas.models import layout, split_tensors
from schemas.models.resnet import has_small_stem
from site_node.training.architectures import GroupedHazards, LinearUnit, SmallCnn, TanhLayers
from site_node.training.per_sample import check_per_sample
from site_node.training.resnet import ResNet18


def build_network(model: ModelTerms, flat: NDArray[np.float64]) -> nn.Module:
    """Give the network with these parameters, float32, ready for per-sample gradients.

    Args:
        model: the plan's model terms.
        flat: (d,) float64 parameters in the order of `schemas.models.layout`.

    Raises:
        ConfigError: `flat` does not fit the architecture.
        InternalError: a layer would mix patients; see `check_per_sample`.
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
    network.train()
    check_per_sample(network)
    return network


def parameter_order(model: ModelTerms) -> tuple[str, ...]:
    """Give the parameter names in the order of the flat vector."""
    return tuple(spec.name for spec in layout(model))


def _network(model: ModelTerms) -> nn.Module:
    width = next(spec.shape[1] for spec in layout(model) if spec.name == "linear.weight")
    match model.architecture:
        case Architecture.LOGISTIC | Architecture.SCATTERING_LOGISTIC:
            return LinearUnit(width)
        case Architecture.COX:
            return GroupedHazards(width, len(model.time_edges))
        case Architecture.MLP:
            return TanhLayers(model.input_width, model.hidden)
        case Architecture.SMALL_CNN:
            return SmallCnn(width)
        case Architecture.RESNET18:
            return ResNet18(has_small_stem=has_small_stem(model.image_rows, model.image_columns))
        case _ as never:
            assert_never(never)
