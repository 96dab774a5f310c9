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
from tests.support.clauses import carried_by, clauses_of

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
    files = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set().union(*map(carried_by, files))
    clauses = {*clauses_of("SECAGG.md"), *clauses_of("PRIVACY.md")}
    assert len(clauses) == 41
    assert clauses <= named, f"no test names {sorted(clauses - named)}"
    assert named <= clauses, f"no clause is called {sorted(named - clauses)}"


# Written in pieces: this file's own text carries no clause.
A, B, C = (f"{'SECAGG'}-{number}" for number in (41, 42, 43))


@pytest.mark.parametrize(
    ("source", "carried"),
    [
        (f'def test_a():\n    """{A}: yes."""\n', {A}),
        (f'async def test_a():\n    """{A}, and {B}."""\n', {A, B}),
        (f'def test_a():\n    """Long.\n\n    Text with {A}\n    to read."""\n', {A}),
        (f"def test_a():\n    pass  # {A}\n", {A}),
        (f"# {A}\n# and more\n@mark\ndef test_a():\n    pass\n", {A}),
        (f'class TestA:\n    def test_a(self):\n        """{A}."""\n', {A}),
        # None of these is a test that says which clause it tests:
        (f'"""{A} is carried here."""\ndef test_a():\n    pass\n', set()),
        (f'def test_a():\n    """{A} to -49."""\n', set()),
        (f'def test_a():\n    """{A} to {C}."""\n', set()),
        (f'def test_a():\n    """{A}\n    to -49."""\n', set()),
        (f'def test_a():\n    """{A}–49."""\n', set()),
        (f'def test_a():\n    """{A}, -42: the second is not named."""\n', {A}),
        (f'def test_a():\n    """{A}, {B}, {C}, {A}4: everything at once."""\n', set()),
        (f'def helper():\n    """{A}."""\ndef test_a():\n    pass\n', set()),
        (f"# --- {A}: a section ---\n\ndef test_a():\n    pass\n", set()),
        (f'def test_a():\n    assert "{A}"\n', set()),
    ],
)
def test_only_a_test_that_names_a_clause_carries_it(source: str, carried: set[str]) -> None:
    assert carried_by(source) == carried


def test_a_clause_is_missed_when_its_only_mentions_become_a_range() -> None:
    """The guard, broken on purpose with the real text of a file that carries a clause."""
    source = (ROOT / "tests" / "architecture" / "test_secagg_spec.py").read_text()
    clause = f"{'SECAGG'}-18"
    assert clause in carried_by(source)
    assert clause not in carried_by(source.replace(clause, f"{'SECAGG'}-2 to -18"))


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
        "deid/cli.py",
        "deid/dicom/clean.py",
        "site_node/cli.py",
        "site_node/config.py",
        "site_node/courier.py",
        "site_node/db.py",
        "site_node/flower/executor.py",
        "coordinator/api/problems.py",
        "coordinator/client/console.py",
        "coordinator/db.py",
    }, edges
