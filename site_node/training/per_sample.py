"""Does every patient have a gradient of the patient's own in this network?

Differential privacy clips what one patient adds. A layer that computes with more than one row of
the batch (batch normalisation), that keeps a memory of rows (running statistics) or that draws
from torch's generator (dropout) takes that meaning away without any error. So a network is built
from a closed list of layers, and anything else is refused before the first gradient (PRIVACY-20).

| refused | because |
| --- | --- |
| batch, synchronised batch, instance normalisation | rows mix, or statistics of rows are kept |
| torch's own linear layer | the product of a batch rounds a row by its place (`row_linear`) |
| dropout and other layers with a generator | not the injected entropy; gradients not repeatable |
| any buffer | a memory of earlier rows would leave with the weights |
| one parameter in two places | its gradient would be counted once for two uses |
| a parameter outside a layer Opacus has a rule for | no gradient per row, or one nobody checked |
| hooks, parametrisations, subclasses of layers | the layer is not what its type says |
| what is frozen | the flat vector holds every parameter |
"""

from __future__ import annotations

from typing import Final

from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.utils import parametrize

from schemas.errors import ErrorCode, InternalError
from site_node.training.architectures import GroupedHazards, LinearUnit, SmallCnn, TanhLayers
from site_node.training.resnet import BasicBlock, ResNet18
from site_node.training.row_linear import RowLinear

# Exact types, never their subclasses. What computes inside one row only.
LAYERS: Final[frozenset[type[nn.Module]]] = frozenset(
    {RowLinear, nn.Conv2d, nn.GroupNorm, nn.MaxPool2d, nn.Identity}
)
# What only calls layers; the tests hold that none of these mixes rows in between.
CONTAINERS: Final[frozenset[type[nn.Module]]] = frozenset(
    {
        nn.ModuleList,
        nn.Sequential,
        LinearUnit,
        GroupedHazards,
        TanhLayers,
        SmallCnn,
        BasicBlock,
        ResNet18,
    }
)
_HOOKS: Final = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def check_per_sample(network: nn.Module) -> None:
    """Refuse a network in which a row's gradient could depend on another row.

    Args:
        network: in training mode, before it is wrapped for per-sample gradients.

    Raises:
        InternalError: TRAINING_LAYER_REFUSED, with the reason of the first layer refused.
    """
    for name, module in network.named_modules(remove_duplicate=False):
        _check_module(name or "the network", module)
    parameters = list(network.named_parameters(remove_duplicate=False))
    if len({id(parameter) for _, parameter in parameters}) != len(parameters):
        raise _refused("two layers share a parameter")
    if not all(parameter.requires_grad for _, parameter in parameters):
        raise _refused("a parameter is frozen")
    problems = ModuleValidator.validate(network, strict=False)
    if problems:
        raise _refused("Opacus refuses a layer", str(problems[0]))


def _check_module(name: str, module: nn.Module) -> None:
    kind = type(module)
    owned = list(module.parameters(recurse=False))
    if kind in CONTAINERS:
        if owned:
            raise _refused(f"{name} has a parameter outside a layer")
    elif kind not in LAYERS:
        raise _refused(f"{name} is a layer that is not on the list", kind.__name__)
    elif owned and kind not in GradSampleModule.GRAD_SAMPLERS:
        raise _refused(f"{name} has no rule for gradients per row")
    if any(True for _ in module.buffers(recurse=False)):
        raise _refused(f"{name} keeps a buffer")
    if parametrize.is_parametrized(module) or any(getattr(module, each) for each in _HOOKS):
        raise _refused(f"{name} is changed by a hook or a parametrisation")
    # A forward of its own on an instance would run in place of the class's.
    if "forward" in vars(module):
        raise _refused(f"{name} has another forward than its type")


def _refused(reason: str, detail: str = "") -> InternalError:
    return InternalError(
        ErrorCode.TRAINING_LAYER_REFUSED,
        f"The network was refused before any gradient: {reason}.",
        hint="Nothing was computed and nothing leaves; this version of the software is wrong.",
        detail=detail,
    )
