"""How does a test take one defence out of the product, and nothing else?

A refusal is a `raise` that names one `ErrorCode`, or calls a helper that does. `without` compiles
the function's own source with exactly those statements turned into `pass` and lends the result to
the function until the test ends, wherever the function was imported to. If the code is not there
any more the test fails: a defence that moved must be removed where it went.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from types import FunctionType

import pytest

from schemas.errors import ErrorCode


class _Remover(ast.NodeTransformer):
    """Turn every `raise` that names one of the codes or helpers into `pass`."""

    def __init__(self, names: set[str]) -> None:
        self.wanted = names
        self.found: set[str] = set()

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        named = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        named |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        if not named & self.wanted:
            return node
        self.found |= named & self.wanted
        return ast.copy_location(ast.Pass(), node)


def mutated(function: FunctionType, *codes: ErrorCode | str) -> FunctionType:
    """Give a copy of `function` that does not refuse with any of `codes` any more."""
    source = textwrap.dedent(inspect.getsource(function))
    tree = ast.parse(source)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    remover = _Remover({getattr(code, "name", str(code)) for code in codes})
    tree = ast.fix_missing_locations(remover.visit(tree))
    missing = remover.wanted - remover.found
    assert not missing, f"{function.__qualname__} raises no {missing}: the defence has moved"
    flags = __future__.annotations.compiler_flag
    compiled = compile(tree, f"<mutated {function.__qualname__}>", "exec", flags)
    scratch: dict[str, FunctionType] = {}
    exec(compiled, function.__globals__, scratch)
    return scratch[function.__name__]


def without(monkeypatch: pytest.MonkeyPatch, function: object, *codes: ErrorCode | str) -> None:
    """Remove refusals from a function or method of the product until the test ends.

    Args:
        monkeypatch: puts the function back.
        function: as found on its module or class; remove all you want of one in one call.
        codes: every `raise` in it that names one of these is dropped; text names a helper that
            makes the error.
    """
    plain = getattr(function, "__func__", function)
    assert isinstance(plain, FunctionType)
    monkeypatch.setattr(plain, "__code__", mutated(plain, *codes).__code__)
