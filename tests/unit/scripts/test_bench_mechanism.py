"""Does the benchmark of the mechanism compare the same rows, and notice what is too slow?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import bench_mechanism
from scripts.bench_mechanism import noise_row, step_row, worst


def test_both_steps_are_measured_on_one_batch() -> None:
    row = step_row("mlp", 1)
    assert row["rows"] == 128
    assert set(row["cpu_seconds"]) == {"plain", "private", "whole_plain", "whole_private", "noise"}
    assert row["ratio"] == row["cpu_seconds"]["private"] / row["cpu_seconds"]["plain"]
    assert row["ratio_with_noise"] > row["ratio"]


def test_the_slowest_sigma_counts() -> None:
    rows = [noise_row(17.0, 1000), noise_row(2.3e6, 1000)]
    assert worst(rows, 1000) == max(row["cpu_seconds"] for row in rows)


@pytest.mark.parametrize(("ratio", "status"), [(1.9, 0), (2.1, 1)])
def test_a_goal_that_is_missed_fails_the_run(
    ratio: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(architecture: str, repeats: int) -> dict[str, Any]:
        seconds = {"plain": 1.0, "private": ratio}
        return {"architecture": architecture, "rows": 1, "cpu_seconds": seconds, "ratio": ratio,
                "ratio_with_noise": ratio, "ratio_of_whole_steps": ratio}  # fmt: skip

    monkeypatch.setattr(bench_mechanism, "step_row", measured)
    monkeypatch.setattr(
        bench_mechanism, "noise_row", lambda s, n: {"words": n, "cpu_seconds": 0.01}
    )
    out = tmp_path / "mechanism.json"
    assert bench_mechanism.main(["--output", str(out)]) == status
    goals = json.loads(out.read_text())["goals"]
    assert [goal["met"] for goal in goals] == [True, True, not status]
