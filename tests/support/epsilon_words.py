"""Where in the source is an epsilon written for somebody to read, and by which function?

Looked for are values, by the names they carry: in f-strings, ``format``, ``%``, ``str``, printing
and CSV calls, in JSON (dict displays and ``screen.put``), in ``asdict`` and ``model_dump`` of a
class with such a field, and in the pages' templates. A name that is assigned from such a value
carries it on.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAME = re.compile(r"(^|_)eps(ilons?)?(_|$)", re.IGNORECASE)
_NO_VALUE = frozenset({"outside_epsilon", "adam_epsilon"})
_BUDGET = frozenset({"spent", "committed", "after", "limit"})  # epsilons of a hospital's budget
_WRITERS = frozenset(
    {"str", "repr", "format", "print", "echo", "say", "line", "exact", "writerow", "writerows",
     "write", "join", "dumps", "add_row"}
)  # fmt: skip
_KEEPERS = frozenset(
    {"round", "float", "min", "max", "sum", "ceil", "floor", "abs", "rounded_up"}
)  # what they give is still the value
_DUMPS = frozenset({"asdict", "astuple", "model_dump", "model_dump_json"})
_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}|\{%(.*?)%\}", re.DOTALL)
_TEMPLATE_VALUE = re.compile(r"[.\[]['\"]?epsilon(?!\()")
_MACRO = re.compile(r"\{%-?\s*macro\s+(\w+)\b.*?\{%-?\s*endmacro\s*-?%\}", re.DOTALL)


@dataclass(frozen=True, order=True)
class Written:
    """One place: the function (or macro) that writes, the line, and how."""

    function: str
    line: int
    how: str


def written_in_python(source: str, classes: frozenset[str] = frozenset()) -> list[Written]:
    """List every place of one module that writes an epsilon's value.

    Args:
        source: of the module.
        classes: names of classes of other modules that hold one; see `holding_classes`.
    """
    found: list[Written] = []
    tree = ast.parse(source)
    _visit(tree, "", frozenset(), found)
    _visit_dumps(tree, "", frozenset(), classes | holding_classes(source), found)
    return sorted(set(found))


def holding_classes(source: str) -> frozenset[str]:
    """Name the classes of one module that have an epsilon among their own fields."""
    classes = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef))
    return frozenset(each.name for each in classes if _has_field(each))


def _has_field(node: ast.ClassDef) -> bool:
    fields = (each.target for each in node.body if isinstance(each, ast.AnnAssign))
    return any(isinstance(field, ast.Name) and _is_value(field.id) for field in fields)


def _visit_dumps(
    node: ast.AST, function: str, held: frozenset[str], classes: frozenset[str],
    found: list[Written],
) -> None:  # fmt: skip
    """Find where a whole object with an epsilon is written: itself, an argument, a local name."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}" if function else node.name
    if isinstance(node, ast.ClassDef):
        held = held | {"self"} if _has_field(node) else held - {"self"}
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        held |= _holders(node, classes)
    if isinstance(node, ast.Call) and (name := _called(node)) in _DUMPS:
        what = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in {"asdict", "astuple"}:
            what = node.args[0] if node.args else None
        is_made = isinstance(what, ast.Call) and _called(what) in classes
        if is_made or (isinstance(what, ast.Name) and what.id in held):
            found.append(Written(function, node.lineno, name))
    for child in ast.iter_child_nodes(node):
        _visit_dumps(child, function, held, classes, found)


def _holders(function: ast.FunctionDef | ast.AsyncFunctionDef, classes: frozenset[str]) -> set[str]:
    """Names that are of such a class: by their annotation, or made on the spot."""
    names: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and node.annotation is not None:
            words = re.findall(r"\w+", ast.unparse(node.annotation))
            names |= {node.arg} if classes & set(words) else set()
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if _called(node.value) in classes:
            names |= {each.id for each in node.targets if isinstance(each, ast.Name)}
    return names


def written_in_template(source: str) -> list[Written]:
    """List every place of one template that writes an epsilon's value."""
    macros = [(m.start(), m.end(), m.group(1)) for m in _MACRO.finditer(source)]
    found = []
    for match in _PLACEHOLDER.finditer(source):
        inside = (match.group(1) or "").replace("outside_epsilon", "")
        if match.group(1) is None or not _TEMPLATE_VALUE.search(inside):
            continue
        place = match.start()
        name = next((name for start, end, name in macros if start <= place < end), "")
        found.append(Written(name, source.count("\n", 0, place) + 1, "template"))
    return found


def _visit(node: ast.AST, function: str, carried: frozenset[str], found: list[Written]) -> None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}" if function else node.name
        carried |= _carriers(node)
    for how in _ways(node, carried):
        found.append(Written(function, getattr(node, "lineno", 0), how))
    for child in ast.iter_child_nodes(node):
        _visit(child, function, carried, found)


def _ways(node: ast.AST, carried: frozenset[str]) -> Iterator[str]:
    if isinstance(node, ast.FormattedValue) and _holds(node.value, carried):
        yield "f-string"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        is_text = isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)
        if is_text and _holds(node.right, carried):
            yield "%"
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            named = isinstance(key, ast.Constant) and _is_value(str(key.value))
            if key is not None and (named or _holds(value, carried)):
                yield "json"
    if isinstance(node, ast.Call):
        name = _called(node)
        arguments = [*node.args, *(each.value for each in node.keywords)]
        if name in _WRITERS and any(_holds(each, carried) for each in arguments):
            yield name
        if name == "put" and any(
            _is_value(each.arg or "") or _holds(each.value, carried) for each in node.keywords
        ):
            yield "json"


def _carriers(function: ast.AST) -> frozenset[str]:
    """Names that are assigned from an epsilon anywhere in a function."""
    names: set[str] = set()
    for _ in range(3):  # through a chain of names
        for node in ast.walk(function):
            targets: list[ast.expr] = []
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
                targets, value = [node.target], node.value
            elif isinstance(node, ast.For | ast.comprehension):
                targets, value = [node.target], node.iter
            else:
                continue
            if _holds(value, frozenset(names)):
                names |= {
                    each.id
                    for target in targets
                    for each in ast.walk(target)
                    if isinstance(each, ast.Name)
                }
    return frozenset(names)


def _holds(node: ast.AST, carried: frozenset[str]) -> bool:
    """Whether an expression holds an epsilon's value; a comparison of one does not."""
    if isinstance(node, ast.Compare | ast.Lambda | ast.JoinedStr | ast.Dict):
        return False  # their own parts are looked at where they stand
    if isinstance(node, ast.Name):
        return node.id in carried or _is_value(node.id)
    if isinstance(node, ast.Attribute):
        budget = node.attr in _BUDGET and isinstance(node.value, ast.Name | ast.Attribute)
        is_budget = budget and _last(node.value) == "budget"
        return is_budget or _is_value(node.attr) or _holds(node.value, carried - {"self"})
    if isinstance(node, ast.Subscript):
        place = node.slice
        named = isinstance(place, ast.Constant) and _is_value(str(place.value))
        return named or _holds(node.value, carried)
    if isinstance(node, ast.Call):
        if _is_value(_called(node)):
            return True
        named = [each for each in node.args if isinstance(each, ast.Constant)]
        if _called(node) == "get" and any(_is_value(str(each.value)) for each in named):
            return True
        if _called(node) in _KEEPERS:
            return any(_holds(each, carried) for each in node.args)
        return False  # what another function makes of it is looked at there
    return any(_holds(child, carried) for child in ast.iter_child_nodes(node))


def _called(node: ast.Call) -> str:
    return _last(node.func)


def _last(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_value(name: str) -> bool:
    return bool(_NAME.search(name)) and name not in _NO_VALUE
