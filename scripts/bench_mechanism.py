"""What do noise and one private step cost, against the same step without privacy?

CPU seconds of one core. Both steps use the plan's network, built before, and the same batch, one
row a patient. The one without privacy is forward, backward and plain SGD; the private one is a
gradient for every row, the mean over each patient's rows, the clip, the truncation and the integer
sum. The ratio is also given with the noise, which is drawn once a step whatever the number of
rows, and for the whole step of a site, in which either builds its network first.

    python -m scripts.bench mechanism [--repeats 15] [--output build/bench/mechanism.json]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from schemas.models import initial_parameters, initial_state
from scripts.bench_timing import Goal, Prepare, interleaved, keep_freed_memory, write_json
from site_node.training.dp_sgd import batch_rows, clipped_integer_sum, summed_patients
from site_node.training.gradients import RowGradients
from site_node.training.losses import Batch, row_losses
from site_node.training.networks import build_network, parameter_order
from site_node.training.noise import discrete_gaussian
from tests.support.learning import plan_for, random_features

SIGMAS = (17.0, 1_024.0, 5_000.0, 131_000.0, 2.3e6, 1e7)  # one, two and three draws a sample
NOISE_GOALS = {100_000: 0.3, 1_000_000: 3.0}  # CPU seconds for so many words
STEP_GOAL = 2.0
SIDE = 28  # pixels


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 if a goal was missed."""
    parser = argparse.ArgumentParser(prog="bench mechanism", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("build/bench/mechanism.json"))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_freed_memory()
    noise = [noise_row(sigma, words) for words in NOISE_GOALS for sigma in SIGMAS]
    steps = [
        step_row("small-cnn", given.repeats),
        step_row("mlp", given.repeats),
        step_row("resnet18-groupnorm", max(1, given.repeats // 5)),
    ]
    goals = [
        Goal(f"{words} words of noise, CPU seconds at the worst sigma", worst(noise, words), limit,
             False)
        for words, limit in NOISE_GOALS.items()
    ]  # fmt: skip
    goals.append(Goal("small-cnn: private step / step", steps[0]["ratio"], STEP_GOAL, False))
    for row in steps:
        print(step_line(row))
    for goal in goals:
        print(goal.line())
    write_json(
        given.output,
        {"noise": noise, "steps": steps, "goals": [goal.document() for goal in goals],
         "machine": {"cores": os.cpu_count(), "load": os.getloadavg(), "torch": torch.__version__}},
    )  # fmt: skip
    return 0 if all(goal.is_met for goal in goals) else 1


def step_line(row: dict[str, Any]) -> str:
    """Say one comparison on a terminal."""
    seconds = row["cpu_seconds"]
    return (
        f"{row['architecture']:<18} {row['rows']:>4} rows  step {seconds['plain']:.4f} s"
        f"  private {seconds['private']:.4f} s ({row['ratio']:.2f}x; with noise"
        f" {row['ratio_with_noise']:.2f}x; whole steps {row['ratio_of_whole_steps']:.2f}x)"
    )


def noise_row(sigma: float, words: int) -> dict[str, Any]:
    """Measure one draw of a vector, its table built before; median of three."""
    discrete_gaussian(sigma, 1, os.urandom)
    taken = []
    for _ in range(3):
        start = time.process_time()
        discrete_gaussian(sigma, words, os.urandom)
        taken.append(time.process_time() - start)
    return {"sigma": sigma, "words": words, "cpu_seconds": sorted(taken)[1]}


def worst(noise: Sequence[dict[str, Any]], words: int) -> float:
    """Give the longest time of the vectors with so many words."""
    return max(row["cpu_seconds"] for row in noise if row["words"] == words)


def step_row(architecture: str, repeats: int) -> dict[str, Any]:
    """Compare one step on one full batch, one row a patient."""
    plan = plan_for(architecture, side=SIDE)
    rows = batch_rows(plan)
    features = random_features(plan, [1] * rows)
    state = initial_state(plan.model, initial_parameters(plan.model))
    everyone = np.ones(rows, dtype=np.bool_)
    order = parameter_order(plan.model)
    network = build_network(plan.model, state.parameters)
    gradients = RowGradients(build_network(plan.model, state.parameters), order)
    x, y = torch.from_numpy(features.x), torch.from_numpy(features.y.astype(np.float32))

    def plain(network: torch.nn.Module) -> None:
        network.zero_grad(set_to_none=True)
        losses = row_losses(plan, network(x), Batch(y, None, 1.0))
        torch.autograd.backward(losses.sum())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 1e-6 * parameter.grad

    tasks: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(network),
        "private": lambda: summed_patients(plan, gradients, 1.0, features, everyone),
        "whole_plain": lambda: plain(build_network(plan.model, state.parameters)),
        "whole_private": lambda: clipped_integer_sum(plan, state, features, everyone),
        "noise": lambda: discrete_gaussian(2.3e6, plan.model.parameters, os.urandom),
    }
    prepared: dict[str, Prepare] = {name: lambda task=task: task for name, task in tasks.items()}
    taken = interleaved(prepared, repeats)
    return {
        "architecture": architecture,
        "parameters": plan.model.parameters,
        "rows": rows,
        "cpu_seconds": taken,
        "ratio": taken["private"] / taken["plain"],
        "ratio_with_noise": (taken["private"] + taken["noise"]) / taken["plain"],
        "ratio_of_whole_steps": taken["whole_private"] / taken["whole_plain"],
    }
