"""What does one row cost, given what the network says of it and what happened?

A loss is a number of one row: it never looks at another row, so that a patient has a gradient.
Cox's partial likelihood is not of this kind: each event is compared with all who were then at
risk. Its grouped form is, and has the same coefficients: with the follow-up cut into the plan's
intervals, proportional hazards mean that a patient still under observation survives interval k
with probability exp(-exp(eta_k)), eta_k = x·beta + gamma_k, where gamma_k is the log of the
interval's cumulative baseline hazard (Prentice & Gloeckler 1978, Biometrics 34:57; Kalbfleisch &
Prentice 2002, section 2.4.2 and 5.8: a binary regression per interval with the complementary
log-log link).

With edges 0 = e_0 < e_1 < … < e_K, the horizon, interval k is (e_{k-1}, e_k]:

| what happened | the row's loss |
| --- | --- |
| event at t in interval k (t = 0: the first) | Σ_{j<k} exp(eta_j) − log(1 − exp(−exp(eta_k))) |
| censored at t | Σ exp(eta_j) over the intervals it survived whole, e_j <= t; maybe none |
| event or censored beyond the horizon | Σ_{j<=K} exp(eta_j): event-free to the horizon |

What a censored patient lived of the last, broken interval is not used: that would need an
assumption on when in the interval others were censored. Narrow intervals lose little by it.

| eta | outcome |
| --- | --- |
| above 15 | exp goes on as its tangent: loss and gradient stay finite (at most exp(15)) |
| below -7 | log(1 − exp(−h)) from its series, h = exp(eta): no log of a difference near 0 |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from schemas.errors import DataRejected, ErrorCode
from schemas.governance.study import Architecture, StudyPlan

T = TypeVar("T")
_LARGEST_ETA: Final = 15.0  # exp(15): three million times the hazard that half survive
_SERIES_BELOW: Final = -7.0  # h < 1e-3: the series' first term left out is h^4/2880


@dataclass(frozen=True, slots=True)
class Batch:
    """What happened to the rows of a batch.

    Attributes:
        y: (rows,) float, 1 for the positive class or the event, 0 else.
        time: (rows,) float, follow-up in the time column's unit; None unless the model is Cox.
        positive_weight: of the loss of a positive row; from the plan or the preparation.
    """

    y: torch.Tensor
    time: torch.Tensor | None
    positive_weight: float


def row_losses(plan: StudyPlan, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Give the loss of every row, (rows,), each a function of that row alone.

    Args:
        plan: the approved plan; fixes the kind of loss and the intervals.
        outputs: of the plan's network: logits (rows,), for Cox (rows, intervals).
        batch: what happened, row by row.

    Raises:
        DataRejected: FEATURES_INVALID, a Cox model without follow-up times.
    """
    if plan.model.architecture is Architecture.COX:
        time = need_times(batch.time)
        return grouped_hazard_losses(outputs, batch.y, time, plan.model.time_edges)
    losses: torch.Tensor = binary_cross_entropy_with_logits(outputs, batch.y, reduction="none")
    if batch.positive_weight != 1.0:
        # In front of the whole loss of a positive row: positive_weight 2 counts it twice.
        losses = losses * (1.0 + (batch.positive_weight - 1.0) * batch.y)
    return losses


def need_times(time: T | None) -> T:
    """Give the follow-up times of a Cox study's rows.

    Raises:
        DataRejected: FEATURES_INVALID, there are none.
    """
    if time is None:
        raise DataRejected(
            ErrorCode.FEATURES_INVALID,
            "A Cox model needs the follow-up time of every row.",
            hint="Ingest the extract again with the plan's time column.",
        )
    return time


def grouped_hazard_losses(
    eta: torch.Tensor, event: torch.Tensor, time: torch.Tensor, time_edges: tuple[float, ...]
) -> torch.Tensor:
    """Give minus the log likelihood of every row's follow-up, (rows,).

    Args:
        eta: (rows, intervals), log of each interval's cumulative hazard.
        event: (rows,), 1 where the event was seen at `time`, 0 where the row was censored then.
        time: (rows,), at least 0.
        time_edges: ends of the intervals, ascending.
    """
    ends = torch.tensor(time_edges, dtype=time.dtype)
    had_event = (event == 1) & (time <= ends[-1])
    # An event in interval k survived those ending before t; a censored row those ended by t.
    survived = torch.where(
        had_event[:, None], ends[None, :] < time[:, None], ends[None, :] <= time[:, None]
    )
    starts = torch.cat([torch.full_like(ends[:1], -torch.inf), ends[:-1]])
    in_interval = (starts[None, :] < time[:, None]) & (time[:, None] <= ends[None, :])
    ended = had_event[:, None] & in_interval
    losses = torch.where(survived, _hazard(eta), torch.zeros_like(eta))
    losses = losses - torch.where(ended, _log_event(eta), torch.zeros_like(eta))
    return losses.sum(1)


def event_logits(eta: torch.Tensor) -> torch.Tensor:
    """Give the logit of an event by the horizon, (rows,), of eta (rows, intervals).

    P = 1 − exp(−H) with H = Σ exp(eta_k), so logit P = log(exp(H) − 1) = H + log(1 − exp(−H)).
    """
    total = torch.logsumexp(eta, 1)
    return _hazard(total) + _log_event(total)


def _hazard(eta: torch.Tensor) -> torch.Tensor:
    """Give exp(eta), above `_LARGEST_ETA` its tangent."""
    return torch.exp(eta.clamp(max=_LARGEST_ETA)) * (1.0 + torch.relu(eta - _LARGEST_ETA))


def _log_event(eta: torch.Tensor) -> torch.Tensor:
    """Give log(1 − exp(−exp(eta))), stable for any eta.

    Each branch of a `where` sees only arguments inside its own range: the gradient of the branch
    not taken is multiplied by zero, and zero times infinity would not be zero.
    """
    small = eta.clamp(max=_SERIES_BELOW)
    h = torch.exp(small)
    series = small - h / 2 + h * h / 24
    large = _hazard(eta.clamp(min=_SERIES_BELOW))
    return torch.where(eta < _SERIES_BELOW, series, torch.log(-torch.expm1(-large)))
