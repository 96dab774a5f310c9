"""Lint bans, fixed versions and hygiene rules, each broken on purpose."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import check_versions

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("schemas", "deid", "site_node", "coordinator")
    for path in (ROOT / folder).rglob("*.py")
]


@pytest.mark.parametrize(
    "line",
    [
        "import random",
        "from numpy.random import default_rng",
        "import numpy as np\n\nX = np.random.normal()",
        "from torch import manual_seed",
    ],
)
@pytest.mark.parametrize("folder", ["schemas", "deid", "site_node", "coordinator"])
def test_seeded_generators_are_banned_in_the_product(folder: str, line: str) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", f"{folder}/planted.py", "-"],
        input=f'"""Planted."""\n\n{line}\n',
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert "TID251" in outcome.stdout


def test_the_six_fixed_packages_have_their_versions() -> None:
    assert check_versions.main() == 0


def test_a_wrong_version_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        check_versions, "version", lambda name: "1.4.0" if name == "flwr" else real(name)
    )
    assert check_versions.main() == 1


def test_the_lock_holds_hashes_and_no_torch() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    names = re.findall(r"^([A-Za-z0-9_.-]+)==", lock, flags=re.MULTILINE)
    assert len(names) > 50
    assert not [n for n in names if n == "torch" or n.startswith(("nvidia", "triton"))]
    for name in names:
        block = lock.split(f"\n{name}==" if f"\n{name}==" in lock else f"{name}==", 1)[1]
        assert "--hash=sha256:" in block.split("\n\n")[0][:400], name


def test_no_source_file_passes_four_hundred_lines() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long


def test_every_module_says_which_question_it_answers() -> None:
    for path in SOURCES:
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        assert "?" in first, path


def test_every_clause_of_the_specification_is_carried_by_a_test() -> None:
    named: set[str] = set()
    for path in set((ROOT / "tests").rglob("test_*.py")) - {Path(__file__)}:
        for word, first, rest in re.findall(
            r"(SECAGG|PRIVACY)-(\d+)((?:,? (?:to )?-\d+)*)", path.read_text(encoding="utf-8")
        ):
            last = int(first)
            named.add(f"{word}-{last}")
            for to, number in re.findall(r"(to )?-(\d+)", rest):
                named |= {
                    f"{word}-{n}" for n in range(last + 1 if to else int(number), int(number) + 1)
                }
                last = int(number)
    spec = ROOT / "schemas" / "spec"
    clauses = {
        clause
        for name in ("SECAGG.md", "PRIVACY.md")
        for clause in re.findall(r"^\*\*([A-Z]+-\d+) ", (spec / name).read_text(), re.MULTILINE)
    }
    assert len(clauses) > 20
    assert clauses - named <= {"SECAGG-1", "SECAGG-11"}  # the setting and the limits


def test_the_coordinator_imports_where_patients_code_and_libraries_are_absent() -> None:
    probe = """
import importlib, pkgutil, sys
absent = {"torch", "pydicom", "opacus", "pyarrow", "deid", "site_node"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
import coordinator
found = list(pkgutil.walk_packages(coordinator.__path__, "coordinator."))
for module in found:
    importlib.import_module(module.name)
print(len(found), sorted(absent & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    count, _, loaded = done.stdout.strip().partition(" ")
    assert int(count) > 40 and loaded == "[]"


def test_everything_is_caught_only_at_process_edges() -> None:
    edges = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if re.search(r"except (Base)?Exception\b|except:", path.read_text())
    }
    assert edges == {
        "deid/dicom.py",
        "site_node/cli.py",
        "site_node/config.py",
        "site_node/courier.py",
        "site_node/db.py",
        "site_node/flower/executor.py",
        "coordinator/api/problems.py",
        "coordinator/client/console.py",
        "coordinator/db.py",
    }, edges
