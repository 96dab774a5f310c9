"""Does chance that protects anyone come from the injected entropy alone? Each ban is broken here.

The lint rule sees names that are imported; a method of a tensor, or a keyword, it does not see:
for these the syntax tree of everything on a patient's path is searched.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ON_THE_PATH = ("schemas", "site_node/training", "site_node/cohort")
PRODUCT = ("schemas", "deid", "site_node", "coordinator")
OURS = {"urandom", "secrets", "token_bytes"}  # the operating system's entropy, by its names
EXCUSE = re.compile(r"#\s*(ruff:\s*)?noqa(?!:)|#\s*(ruff:\s*)?noqa:[^#\n]*TID")
SOURCES = sorted(path for folder in ON_THE_PATH for path in (ROOT / folder).rglob("*.py"))

# Methods of tensors and modules, and names of Opacus, that draw from torch's generator.
FORBIDDEN_ATTRIBUTES = {
    "bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_",
    "multinomial", "normal_", "random_", "reset_parameters", "uniform_", "trunc_normal_",
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like",
    "make_private", "make_private_with_epsilon", "noise_generator", "manual_seed", "default_rng",
    "RandomState", "getrandbits", "token_bytes", "uuid4", "urandom", "getrandom",
    "import_module", "svd_lowrank", "pca_lowrank",
}  # fmt: skip
FORBIDDEN_NAMES = {
    "PrivacyEngine", "DPOptimizer", "DPDataLoader", "UniformWithReplacementSampler", "Dropout",
    "RandomSampler", "default_rng", "__import__",
}  # fmt: skip
FORBIDDEN_MODULES = {"random", "secrets", "uuid", "numpy.random", "scipy.stats", "torch.random"}
FORBIDDEN_KEYWORDS = {"generator", "noise_generator", "secure_mode", "noise_multiplier_generator"}


def draws(source: str) -> list[str]:
    """Name everything in a module that draws, or could draw, from another generator than ours."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                found += [each.name for each in names if each.name in FORBIDDEN_MODULES]
            case ast.ImportFrom(module, names):
                found += [module] if module in FORBIDDEN_MODULES else []
                found += [each.name for each in names if each.name in FORBIDDEN_NAMES]
                found += [each.name for each in names if each.name in FORBIDDEN_ATTRIBUTES]
                found += [
                    each.name for each in names if f"{module}.{each.name}" in FORBIDDEN_MODULES
                ]
            case ast.Attribute(attr=name) if name in FORBIDDEN_ATTRIBUTES | FORBIDDEN_NAMES:
                found.append(name)
            case ast.Attribute(ast.Name() | ast.Attribute(), "random"):
                found.append("random")  # numpy.random, torch.random, scipy.sparse.random
            case ast.Name(name) if name in FORBIDDEN_NAMES:
                found.append(name)
            case ast.keyword(arg) if arg in FORBIDDEN_KEYWORDS:
                found.append(arg)
            case ast.Constant(value) if value in FORBIDDEN_ATTRIBUTES:
                found.append(str(value))  # getattr(tensor, "normal_")
    return found


def test_nothing_on_a_patients_path_draws_from_another_generator() -> None:
    """PRIVACY-3: noise and coins come from the injected entropy."""
    assert len(SOURCES) > 60
    found = {str(path.relative_to(ROOT)): draws(path.read_text()) for path in SOURCES}
    assert not {path: names for path, names in found.items() if names}


def test_nothing_of_the_product_draws_from_any_generator_but_the_operating_systems() -> None:
    """PRIVACY-3: the round that hands entropy on, too; elsewhere the system's may be named."""
    product = [p for f in PRODUCT for p in sorted((ROOT / f).rglob("*.py"))]
    assert len(product) > 200
    found = {str(p.relative_to(ROOT)): set(draws(p.read_text())) - OURS for p in product}
    assert not {path: names for path, names in found.items() if names}


def test_no_line_of_the_product_is_excused_from_the_ban() -> None:
    """PRIVACY-3: a comment that switches the rule off would be enough."""
    text = {p: p.read_text() for f in PRODUCT for p in (ROOT / f).rglob("*.py")}
    assert not [p for p, source in text.items() if EXCUSE.search(source)]
    assert EXCUSE.search("X = torch.randn(3)  # noqa: TID251")
    assert EXCUSE.search("X = torch.randn(3)  # noqa")
    assert EXCUSE.search("# ruff: noqa: TID251")


@pytest.mark.parametrize(
    "line",
    [
        "x = tensor.normal_(0, sigma)",
        "tensor.uniform_()",
        "tensor.bernoulli_(0.1)",
        "tensor.random_()",
        "x = tensor.bernoulli()",
        "tensor.exponential_()",
        "tensor.log_normal_()",
        "tensor.cauchy_()",
        "tensor.geometric_(0.5)",
        "torch.nn.init.trunc_normal_(tensor)",
        "layer.reset_parameters()",
        "getattr(tensor, 'normal_')(0, 1)",
        "draw = torch.randn",
        "from torch import randn",
        "from opacus import PrivacyEngine",
        "engine = opacus.PrivacyEngine()",
        "from opacus.optimizers import DPOptimizer",
        "engine.make_private(module=network)",
        "optimiser.noise_generator = None",
        "torch.utils.data.RandomSampler(data)",
        "x = sample(probabilities, generator=own)",
        "from torch.nn import Dropout",
        "import random",
        "x = __import__('random').gauss(0, 1)",
        "x = importlib.import_module('random').gauss(0, 1)",
        "x = torch.svd_lowrank(matrix)",
        "x = scipy.sparse.random(3, 3)",
        "import secrets",
        "from numpy import random",
        "from numpy.random import default_rng",
        "x = np.random.RandomState(1)",
        "x = os.urandom(32)",
    ],
)
def test_the_search_finds_what_is_planted(line: str) -> None:
    """PRIVACY-3: the guard, broken on purpose in every way we know."""
    assert draws(f"import torch\n\n\ndef f() -> None:\n    {line}\n")


def test_the_search_lets_what_is_meant_pass() -> None:
    source = "noise = discrete_gaussian(sigma, n, entropy)\nkey = entropy(32)\nlayer.weight.data\n"
    assert draws(source) == []


def lint(folder: str, line: str) -> str:
    """What ruff says of one line in one folder of the product."""
    outcome = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--output-format", "concise",
         "--stdin-filename", f"{folder}/planted.py", "-"],
        input=f'"""Planted?"""\n\nimport opacus\nimport numpy as np\nimport torch\n\n{line}\n',
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    return outcome.stdout


@pytest.mark.parametrize("folder", ["schemas", "site_node/training", "coordinator"])
def test_lint_refuses_every_generator_it_bans(folder: str) -> None:
    """PRIVACY-3: one snippet, one error for each banned name."""
    lint_terms = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    banned = [
        name
        for name in lint_terms["flake8-tidy-imports"]["banned-api"]
        if name.startswith(("torch.", "opacus."))
    ]
    assert len(banned) > 40
    said = lint(folder, "\n".join(f"X{n} = {name}" for n, name in enumerate(banned)))
    assert [name for name in banned if f"`{name}` is banned" not in said] == []


def test_lint_lets_the_product_pass() -> None:
    assert "TID251" not in lint("site_node/training", "X = torch.zeros(3).sum()")


def test_tests_and_scripts_alone_may_use_generators() -> None:
    lint_terms = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    free = {each for each, codes in lint_terms["per-file-ignores"].items() if "TID251" in codes}
    assert free == {"tests/**", "scripts/**"}
