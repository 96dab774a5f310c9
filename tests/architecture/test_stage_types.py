"""The order of stages is carried by types: a skipped step does not type-check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAD = '''"""Planted."""

import os

from schemas.governance.study import StudyPlan, SumTerms
from schemas.secagg import ClippedUpdate, CohortKeys, MaskedUpdate, QuantisedUpdate, mask, quantise
from site_node.egress.released import Released
from site_node.flower.client_app import _reply
from site_node.training.dp_sgd import noised_update


def planted(
    keys: CohortKeys,
    plan: StudyPlan,
    terms: SumTerms,
    clipped: ClippedUpdate,
    quantised: QuantisedUpdate,
    masked: MaskedUpdate,
    released: Released,
) -> object:
'''
RIGHT = "    return mask(keys, noised_update(plan, terms, quantise(clipped, 8), 4, os.urandom))"
SKIPPED = {
    "noise": "    return mask(keys, quantised)",
    "quantising": "    return noised_update(plan, terms, clipped, 4, os.urandom)",
    "the gate": "    return _reply(masked)",
}


def check(tmp_path: Path, line: str) -> subprocess.CompletedProcess[str]:
    planted = tmp_path / "planted.py"
    planted.write_text(HEAD + line + "\n")
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(planted)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_the_whole_order_type_checks(tmp_path: Path) -> None:
    outcome = check(tmp_path, RIGHT)
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize("step", SKIPPED)
def test_a_skipped_step_does_not_type_check(tmp_path: Path, step: str) -> None:
    outcome = check(tmp_path, SKIPPED[step])
    assert outcome.returncode == 1
    assert "[arg-type]" in outcome.stdout, outcome.stdout
