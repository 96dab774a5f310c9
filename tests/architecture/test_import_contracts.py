"""The import contracts hold, and each one fails when it is broken on purpose."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "deid", "site_node", "coordinator")
RUN = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c"
DOCSTRING = '"""Planted."""\n'
LINTER = [sys.executable, "-c", f"{RUN}; c()", "--no-cache"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        LINTER, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def copy_of_the_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("house")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__", "static")
        )
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def test_contracts_hold(copy_of_the_house: Path) -> None:
    outcome = lint(copy_of_the_house)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("site_node/planted.py", "import coordinator.config"),
        ("coordinator/planted.py", "import site_node.config"),
        ("coordinator/planted.py", "import deid"),
        ("coordinator/planted.py", "import torch"),
        ("coordinator/planted.py", "import pydicom"),
        ("deid/planted.py", "import socket"),
        ("deid/planted.py", "import torch"),
        ("deid/text/planted.py", "import pydicom"),
        ("deid/pixels/planted.py", "import deid.dicom"),
        ("deid/dicom/planted.py", "import deid.batch"),
        ("deid/needles.py", "import deid.dicom"),
        ("schemas/planted.py", "import random"),
        ("schemas/planted.py", "import sqlite3"),
        ("schemas/planted.py", "import flwr"),
        ("schemas/planted.py", "import deid"),
        ("site_node/training/planted.py", "import site_node.store"),
        ("site_node/governance/planted.py", "import flwr"),
        ("coordinator/client/planted.py", "import coordinator.db"),
        ("coordinator/web/planted.py", "import flwr"),
    ],
)
def test_a_planted_violation_is_found(copy_of_the_house: Path, module: str, line: str) -> None:
    planted = copy_of_the_house / module
    before = planted.read_text(encoding="utf-8") if planted.exists() else None
    planted.write_text(f"{before or DOCSTRING}\n{line}\n", encoding="utf-8")
    try:
        outcome = lint(copy_of_the_house)
    finally:
        planted.unlink()
        if before is not None:
            planted.write_text(before, encoding="utf-8")
    assert outcome.returncode != 0, outcome.stdout
    assert "BROKEN" in outcome.stdout
