"""Which tests are in a file, and which clauses of the specification does each of them name?"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "schemas" / "spec"
RANGE = re.compile(
    r"(?:SECAGG|PRIVACY)-\d+\s*(?:to|through|until|\.\.+|…|[-–—])\s*(?:SECAGG|PRIVACY)?-?\d+"
)
MOST_CLAUSES_OF_A_TEST = 3  # who names more tests none of them in particular


def functions_of(source: str) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]:
    """Every test function in one file, also within a class."""
    return tuple(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


def clauses_by_test(source: str) -> dict[str, set[str]]:
    """Clauses that each test in one file names, each by its whole name; a test without is absent.

    What counts stands in a test function's docstring, in a comment within it, or in the comment
    lines directly above it. Ranges, abbreviations (``-4``) and modules' docstrings do not.
    """
    if "SECAGG-" not in source and "PRIVACY-" not in source:
        return {}
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    lines = source.splitlines()
    named: dict[str, set[str]] = {}
    for test in functions_of(source):
        first = min([test.lineno, *(each.lineno for each in test.decorator_list)])
        while lines[first - 2 : first - 1] and lines[first - 2].lstrip().startswith("#"):
            first -= 1
        said = [comments.get(line, "") for line in range(first, (test.end_lineno or first) + 1)]
        text = " ".join(" ".join([ast.get_docstring(test) or "", *said]).split())
        clauses = set(re.findall(r"\b(?:SECAGG|PRIVACY)-\d+", RANGE.sub("", text)))
        if clauses and len(clauses) <= MOST_CLAUSES_OF_A_TEST:
            named.setdefault(test.name, set()).update(clauses)
    return named


def carried_by(source: str) -> set[str]:
    """Clauses that the tests in one file name."""
    return set().union(*clauses_by_test(source).values())


def clauses_of(page: str) -> list[str]:
    """Clauses of one page of the specification, in its order."""
    return re.findall(r"^\*\*([A-Z]+-\d+) ", (SPEC / page).read_text("utf-8"), re.MULTILINE)


@lru_cache(maxsize=1)
def all_tests() -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Every test of the suite, by file below ``tests/``: its name and the clauses it names."""
    found: dict[str, dict[str, frozenset[str]]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        source = path.read_text("utf-8")
        named = clauses_by_test(source)
        found[path.relative_to(ROOT / "tests").as_posix()] = {
            test.name: frozenset(named.get(test.name, set())) for test in functions_of(source)
        }
    return found


def missing_tests(text: str) -> list[str]:
    """References ``file::function`` in a text that name no test; ``file`` is below ``tests/``."""
    tests = all_tests()
    return [
        f"{file}::{function}"
        for file, function in references(text)
        if function not in tests.get(file, {})
    ]


def references(text: str) -> list[tuple[str, str]]:
    """All references to tests in a text, as file and function."""
    return re.findall(r"`([\w/]+\.py)::(\w+)`", text)
