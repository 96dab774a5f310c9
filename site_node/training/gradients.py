"""What is the gradient of every single row, by Opacus' rule for each layer?

Opacus' wrapper of a whole network, `GradSampleModule`, also lets autograd add up the weights'
gradients of the batch, which nobody needs, and copies every row's gradient into a zeroed buffer.
Here autograd stops at the layers' outputs, and Opacus' own rules (`GRAD_SAMPLERS`) make each row's
gradient of them: the same numbers, to the last bit, in two thirds of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from torch import nn

from schemas.errors import ErrorCode, InternalError


class RowGradients:
    """A network that gives its parameters' gradients row by row.

    Args:
        network: checked by `check_per_sample`: one layer, one use, no layer that mixes rows.
        order: names of its parameters as the flat vector holds them.
    """

    def __init__(self, network: nn.Module, order: Sequence[str]) -> None:
        self._network = network
        named = dict(network.named_parameters())
        self._order = [named[name] for name in order]
        self._layers = [
            module for module in network.modules() if any(True for _ in module.parameters(False))
        ]
        self._inputs: dict[nn.Module, list[torch.Tensor]] = {}
        self._outputs: dict[nn.Module, torch.Tensor] = {}
        for layer in self._layers:
            layer.register_forward_hook(self._note)

    def __call__(
        self, inputs: torch.Tensor, losses: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[NDArray[np.float32]]:
        """Give each parameter's gradients, (rows, size of the parameter), in the flat order.

        Args:
            inputs: (rows, …), what the network reads.
            losses: turns the network's outputs into a loss for every row, (rows,).
        """
        self._inputs.clear()
        self._outputs.clear()
        loss = losses(self._network(inputs)).sum()
        arriving = torch.autograd.grad(loss, [self._outputs[layer] for layer in self._layers])
        found: dict[nn.Parameter, torch.Tensor] = {}
        for layer, backprops in zip(self._layers, arriving, strict=True):
            rule = GradSampleModule.GRAD_SAMPLERS[type(layer)]
            found.update(rule(layer, self._inputs.pop(layer), backprops))
        self._outputs.clear()
        return [found[parameter].reshape(len(inputs), -1).numpy() for parameter in self._order]

    def _note(self, layer: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        if layer in self._outputs:
            raise InternalError(
                ErrorCode.TRAINING_LAYER_REFUSED,
                "The network was refused: it uses one layer twice.",
                hint="Nothing leaves; this version of the software is wrong.",
            )
        self._inputs[layer] = [each.detach() for each in given]
        self._outputs[layer] = out
