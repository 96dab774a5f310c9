"""How does a linear layer give a row the same bits wherever in the batch it stands?

A matrix product of a whole batch does not: its kernel rounds a row by its place modulo a few, so
that taking one patient out changes the last bits of everybody behind. With weights made for it,
large and nearly cancelling, those bits decide a gradient's direction, and one patient could move
the sum by many times the clip. Here every row is multiplied alone, in one place of memory, by the
same kernel of the same shape: its bits cannot depend on any other row (PRIVACY-2).
"""

from __future__ import annotations

from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from torch import nn


class RowLinear(nn.Linear):
    """A linear layer over rows (n, in) whose arithmetic is that of each row alone."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Give (n, out), row by row."""
        out: torch.Tensor = _RowByRow.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]  # torch ships it so
        return out


# A row's gradient of the weights is one outer product, without a sum: the usual rule.
GradSampleModule.GRAD_SAMPLERS[RowLinear] = GradSampleModule.GRAD_SAMPLERS[nn.Linear]


class _RowByRow(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.has_bias = bias is not None
        out = _products(weight, rows)
        return out if bias is None else out + bias

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        for_rows = None
        if ctx.needs_input_grad[0]:
            for_rows = _products(weight.t().contiguous(), arriving)
        for_weight = arriving.t() @ rows if ctx.needs_input_grad[1] else None
        for_bias = arriving.sum(0) if ctx.has_bias else None
        return for_rows, for_weight, for_bias


def _products(matrix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Give matrix (out, in) times each of rows (n, in): (n, out)."""
    out = torch.empty(len(rows), len(matrix), dtype=rows.dtype)
    here = torch.empty(rows.shape[1], dtype=rows.dtype)
    found = torch.empty(len(matrix), dtype=rows.dtype)
    for row, place in zip(rows.unbind(), out.unbind(), strict=True):
        here.copy_(row)
        torch.mv(matrix, here, out=found)
        place.copy_(found)
    return out
