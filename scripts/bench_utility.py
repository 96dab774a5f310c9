"""How good is a model at equal privacy, against one trusted party and against averaging?

    python -m scripts.bench utility [--data heart,cxr] [--seeds 10] [--epsilons 0.5,1,2,4,8]

Test AUC over epsilon (patient level, delta 1e-5) of pooled training without privacy, of one trusted
party with DP-SGD, of our distributed noise, and of DP-SGD at every site averaged, by Opacus. Writes
build/bench/utility.json {data set: {epsilon: {pooled, central, ours, fedavg, sd}}}, everything
behind it in utility-details.json, and a plot, utility.svg. Finished runs are kept in
utility-runs.jsonl and used again while rows, plan, code and libraries are the same. Which run has
which noise is fixed by its name: seeds are counted from 0, none is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from scripts.bench_timing import write_json
from scripts.bench_utility_chart import Line, utility_chart
from scripts.bench_utility_methods import NOISY, our_plan, peer_noise, run_auroc, secure_sum_agrees
from scripts.bench_utility_report import Scores, entry, gap_to_central, goals, mean, sd
from scripts.bench_utility_studies import (
    CONSTANTS,
    DATA_SETS,
    DECLARATION,
    DELTA,
    EPSILONS,
    Study,
    load_study,
)

OUT: Final = Path("build/bench")
SEEDS: Final = {"heart": 400, "cxr": 20}  # by default: their differences are small
_ROOT: Final = Path(__file__).resolve().parents[1]
_CODE: Final = (
    *("schemas/models/optimiser.py", "schemas/secagg/quantise.py", "schemas/secagg/streams.py"),
    *("scripts/baselines.py", "scripts/bench_utility_entropy.py"),
    "scripts/bench_utility_methods.py",
    *(
        f"site_node/training/{name}.py"
        for name in ("dp_sgd", "gradients", "losses", "networks", "noise", "patients")
    ),
)
_LIBRARIES: Final = ("numpy", "torch", "opacus", "dp-accounting")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not trained yet, write the files, and judge; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench utility", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=",".join(DATA_SETS), help="heart, cxr or both")
    parser.add_argument("--seeds", type=int, help=f"noise seeds; by default {SEEDS}")
    parser.add_argument("--epsilons", default=",".join(f"{each:g}" for each in EPSILONS))
    parser.add_argument("--out", type=Path, default=OUT, help="folder of what is written")
    options = parser.parse_args(arguments)
    names = options.data.split(",")
    epsilons = sorted({float(each) for each in options.epsilons.split(",")})
    if not set(names) <= set(DATA_SETS) or (options.seeds or 1) < 1:
        parser.error(f"data sets are {', '.join(DATA_SETS)}, seeds at least 1")
    seeds = {name: options.seeds or SEEDS[name] for name in names}
    # Before anything is trained: what changes on disk later is not what runs here.
    runs = Runs(options.out / "utility-runs.jsonl", code_sha256())
    scores: Scores = {}
    exact = {}
    for name in names:
        study = load_study(name)
        exact[name] = secure_sum_agrees(study, epsilons[0])
        scores[name] = train_all(study, epsilons, seeds[name], runs)
    found = goals(scores, exact)
    table = {name: entry(by_epsilon) for name, by_epsilon in scores.items()}
    write_json(options.out / "utility.json", table)
    write_json(
        options.out / "utility-details.json",
        details(scores, exact, runs.code) | {"goals": [goal.document() for goal in found]},
    )
    chart = utility_chart(epsilons, {name: _lines(by) for name, by in scores.items()})
    (options.out / "utility.svg").write_text(chart, encoding="utf-8")
    show(table)
    for goal in found:
        print(goal.line())
    return 0 if all(goal.is_met for goal in found) else 1


@dataclass(frozen=True, slots=True)
class Runs:
    """Finished runs, one JSON line each; a line cut short by a stop is not one.

    Attributes:
        path: the file; it is only appended to.
        code: hash of what computes.
    """

    path: Path
    code: str

    def read(self) -> dict[tuple[str, str], float]:
        """Give the AUROC by name of the run and hash of its inputs."""
        known = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    run = json.loads(line)
                    known[run["run"], run["inputs"]] = float(run["auroc"])
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue
        return known

    def add(self, run: str, inputs: str, auroc: float) -> None:
        """Keep one run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            # A line that a stop cut short stays a line of its own.
            file.write("\n" if _is_cut_short(self.path) else "")
            file.write(json.dumps({"run": run, "inputs": inputs, "auroc": auroc}) + "\n")


Train = Callable[[Study, str, float, int], float]


def train_all(
    study: Study,
    epsilons: Iterable[float],
    seeds: int,
    runs: Runs,
    train: Train = run_auroc,
) -> dict[float, dict[str, list[float]]]:
    """Give the AUROC of every run, {epsilon: {method: one per seed}}; "pooled" has one.

    Args:
        study: the rows.
        epsilons: what a training may cost.
        seeds: noise seeds of each noisy method, counted from 0.
        runs: finished runs, used again where their inputs are the same.
        train: what trains and judges one model.
    """
    known = runs.read()
    rows = study.sha256()
    wanted = [
        (epsilon, method, seed)
        for epsilon in epsilons
        for method in ("pooled", *NOISY)
        for seed in range(1 if method == "pooled" else seeds)
    ]
    scores: dict[float, dict[str, list[float]]] = {}
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(study.name, total=len(wanted))
        for epsilon, method, seed in wanted:
            # Without noise there is one model, whatever epsilon is.
            run = f"{study.name}/{method}" + ("" if method == "pooled" else f"/{epsilon:g}/{seed}")
            inputs = _inputs(study.name, method, epsilon, rows, runs.code)
            if (run, inputs) not in known:
                known[run, inputs] = train(study, method, epsilon, seed)
                runs.add(run, inputs, known[run, inputs])
            scores.setdefault(epsilon, {}).setdefault(method, []).append(known[run, inputs])
            progress.advance(task)
    return scores


def code_sha256() -> str:
    """Hash what computes: the mechanism, the baselines, the methods, and the libraries' versions.

    Other code only decides which of them run.
    """
    digest = hashlib.sha256()
    for name in _CODE:
        digest.update((_ROOT / name).read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library} {version(library)}".encode())
    return digest.hexdigest()


def _inputs(name: str, method: str, epsilon: float, rows: str, code: str) -> str:
    """Hash everything a run depends on besides its name."""
    plan, peer = our_plan(name, epsilon), CONSTANTS[name]["fedavg"]
    parts: list[Any] = [rows, code, plan.model.model_dump(mode="json")]
    if method == "fedavg":
        parts += [asdict(peer), peer_noise(peer, epsilon)]
    elif method != "pooled":
        parts += [plan.training.model_dump(mode="json"), plan.privacy.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _is_cut_short(path: Path) -> bool:
    content = path.read_bytes()
    return bool(content) and not content.endswith(b"\n")


def details(scores: Scores, exact: Mapping[str, bool], code: str) -> dict[str, Any]:
    """Say how the numbers of utility.json came about."""
    found: dict[str, Any] = {
        "declaration": DECLARATION,
        "privacy": {"unit": "patient", "adjacency": "add-remove", "delta": DELTA, "t": 1},
        "pairing": "central and ours of one seed have the same noise up to its length",
        "outside_epsilon": "choice of constants, and the AUROC of the test patients",
        "code_sha256": code,
        "versions": {library: version(library) for library in _LIBRARIES},
        "data": {},
    }
    for name, by_epsilon in scores.items():
        study = load_study(name)
        found["data"][name] = {
            "rows_sha256": study.sha256(),
            "training_patients": {site: rows.patients for site, rows in study.train.items()},
            "test_patients": study.test.patients,
            "constants": {method: asdict(each) for method, each in CONSTANTS[name].items()},
            "secure_sum_is_identical": exact[name],
            "epsilons": {
                f"{epsilon:g}": _one(name, epsilon, by_method)
                for epsilon, by_method in by_epsilon.items()
            },
        }
    return found


def _one(name: str, epsilon: float, by_method: Mapping[str, list[float]]) -> dict[str, Any]:
    plan, peer = our_plan(name, epsilon), CONSTANTS[name]["fedavg"]
    return {
        "plan_epsilon": plan.privacy.epsilon,
        "epsilon_two_hospitals": plan.privacy.epsilon_two_hospitals,
        "noise_multiplier": plan.privacy.noise_multiplier,
        "charged_attempts": plan.training.attempts,
        "learning_rate": plan.training.learning_rate,
        "fedavg_noise_multiplier": peer_noise(peer, epsilon),
        "fedavg_charged_steps": peer.steps * peer.local_steps,
        "fedavg_learning_rate": peer.learning_rate(epsilon),
        "gap_to_central": gap_to_central(by_method),
        "auroc": {method: [round(v, 6) for v in values] for method, values in by_method.items()},
    }


def _lines(by_epsilon: Mapping[float, Mapping[str, list[float]]]) -> list[Line]:
    return [
        Line(
            method,
            [mean(by[method]) for by in by_epsilon.values()],
            [sd(by[method]) for by in by_epsilon.values()],
        )
        for method in ("pooled", *NOISY)
    ]


def show(table: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print the table."""
    for name, by_epsilon in table.items():
        print(f"\n{name:<6} epsilon   pooled  central     ours       sd   fedavg")
        for epsilon, row in by_epsilon.items():
            numbers = "  ".join(
                f"{row[key]:7.4f}" for key in ("pooled", "central", "ours", "sd", "fedavg")
            )
            print(f"       {epsilon:>7}  {numbers}")
    print()
