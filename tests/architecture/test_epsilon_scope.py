"""PRIVACY-15: may only the listed functions write an epsilon, each with everything it depends on?

A guard over the source. What the functions write, on every screen, is read in
`test_epsilon_screens.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.epsilon_words import (
    Written,
    holding_classes,
    written_in_python,
    written_in_template,
)

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("schemas", "deid", "site_node", "coordinator")
SCRIPTS = (
    "demo.py",  # what `make demo` prints and writes
    "demo_report.py",
    "audit_membership.py",
    "audit_one_run.py",
)

ALLOWED = {
    # the statement itself
    "schemas/privacy/statement.py::PrivacyStatement._scope",
    "schemas/privacy/statement.py::PrivacyStatement.values",
    "schemas/privacy/statement.py::PrivacyStatement.breach",  # ends with the whole sentence
    "schemas/privacy/statement.py::scope_sentence",
    "schemas/privacy/statement.py::rounded_up",  # its callers are looked at
    # tables that stand below a statement
    "schemas/privacy/costs.py::cost_lines",
    "schemas/privacy/costs.py::cost_values",
    # all studies of a hospital: below scope_sentence
    "schemas/privacy/budget.py::check_reserve",
    "site_node/ledger_view.py::show_balance",
    "site_node/ledger_view.py::_rows",
    "site_node/ledger_view.py::_values",
    "site_node/plan_view.py::_show_budget",
    # a cap of the hospital's own, beside the plan's sentence
    "site_node/floors.py::floor_findings",
    # one row of a file whose last cell is the sentence
    "coordinator/client/render.py::result_csv",
    # the page's short form, with the whole scope in one paragraph
    "coordinator/web/templates/parts.html::epsilon",
    # which of three numbers of a balance is wrong, by name; no value
    "schemas/privacy/export.py::_check_balance",
    # not for reading: the plan's own fields, and figures beside the sentence in summary.json
    "coordinator/client/noise.py::with_noise",
    # a bound found by an audit, with the scope of the claim in the same sentence and document
    "scripts/audit_one_run.py::Report.scope",
    "scripts/audit_one_run.py::Report.values",
    "scripts/audit_one_run.py::main",
    "scripts/demo_report.py::study_figures",
}


def places() -> Iterator[tuple[str, Written]]:
    sources = [path for package in PRODUCT for path in (ROOT / package).rglob("*.py")]
    classes = frozenset[str]().union(
        *(holding_classes(path.read_text(encoding="utf-8")) for path in sources)
    )
    for package in PRODUCT:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix == ".py":
                found = written_in_python(path.read_text(encoding="utf-8"), classes)
            elif path.suffix in {".html", ".js"}:
                found = written_in_template(path.read_text(encoding="utf-8"))
            else:
                continue
            name = path.relative_to(ROOT).as_posix()
            yield from ((f"{name}::{each.function}", each) for each in found)
    for script in SCRIPTS:
        source = (ROOT / "scripts" / script).read_text(encoding="utf-8")
        for each in written_in_python(source, classes):
            yield f"scripts/{script}::{each.function}", each


def test_only_these_functions_write_an_epsilon() -> None:
    """PRIVACY-15: a new one is added here, and to the screens below."""
    found = dict(places())
    assert {name: each for name, each in found.items() if name not in ALLOWED} == {}
    assert set(found) >= ALLOWED  # an entry nobody needs any more is taken out


BREAKS = {
    "f-string": 'def f(plan):\n    return f"epsilon {plan.privacy.epsilon:g}"',
    "format": 'def f(epsilon):\n    return "{:g}".format(epsilon)',
    "percent": 'def f(plan):\n    return "%g" % plan.privacy.epsilon_two_hospitals',
    "str": "def f(account):\n    return str(account.epsilon_charged())",
    "print": "def f(eps_total):\n    print('costs', eps_total)",
    "csv": "def f(writer, values):\n    writer.writerow(['cost', values['epsilon']])",
    "json": "def f(plan):\n    return {'epsilon': plan.privacy.epsilon}",
    "json, another key": "def f(plan):\n    return {'cost': plan.privacy.epsilon}",
    "screen": "def f(screen, plan):\n    screen.put(epsilon=plan.privacy.epsilon)",
    "budget": 'def f(budget):\n    return f"{budget.spent:.4f} of {budget.limit:g}"',
    "another name": 'def f(plan):\n    cost = plan.privacy.epsilon\n    return f"costs {cost:g}"',
    "a chain of names": 'def f(p):\n    a = plan_epsilon(p)\n    b = round(a)\n    return f"{b}"',
    "a loop": 'def f(epsilons):\n    return [f"{each:g}" for each in epsilons]',
    "short name": 'def f(eps):\n    return f"costs {eps:g}"',
    "rounded": 'def f(plan):\n    return f"{rounded_up(plan.privacy.epsilon)}"',
    "asdict": "class R:\n    epsilon: float\n\n    def values(self):\n        return asdict(self)",
    "dump": "class R:\n    epsilon: float\n\ndef f(made: R):\n    return made.model_dump()",
    "made": "class R:\n    eps: float\n\ndef f():\n    made = R(1)\n    return asdict(made)",
    "module level": 'TEXT = f"{EPSILON:g}"',
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_guard_sees_an_epsilon_that_stands_alone(name: str) -> None:
    """PRIVACY-15: the guard above, broken on purpose."""
    assert written_in_python(BREAKS[name]) != []


@pytest.mark.parametrize(
    "template",
    [
        "<p>{{ study.privacy.epsilon|number }}</p>",
        '<p>{{ "%.1f"|format(study.privacy.epsilon_two_hospitals) }}</p>',
        "{{ row['epsilon'] }}",
    ],
)
def test_the_guard_sees_an_epsilon_in_a_page(template: str) -> None:
    """PRIVACY-15: the guard above, broken on purpose."""
    assert [each.function for each in written_in_template(template)] == [""]
    inside = f"{{% macro cost(study) -%}}{template}{{%- endmacro %}}"
    assert [each.function for each in written_in_template(inside)] == ["cost"]


@pytest.mark.parametrize(
    "source",
    [
        'def f(plan):\n    return f"{privacy_statement(plan).sentence()}"',
        'def f(plan, floors):\n    if plan.privacy.epsilon > floors.most:\n        return 0',
        'def f(values):\n    return f"outside: {values.outside_epsilon}"',
        'def f(plan):\n    return Terms(epsilon=plan.privacy.epsilon, delta=1e-5)',
        'class R:\n    limit: float\n\n    def values(self):\n        return asdict(self)',
        'def f(study):\n    return f"{study.limit:g} {study.spent:g}"',
    ],
)  # fmt: skip
def test_the_guard_leaves_the_rest_alone(source: str) -> None:
    assert written_in_python(source) == []
