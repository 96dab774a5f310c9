"""Does PRIVACY.md say of numbers, documents and tests what the code does?"""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np

from schemas import limits
from schemas.governance.preparation import preparation_groups
from schemas.preparation import LARGEST_WEIGHT, LEAST_SCALE
from schemas.privacy.accounting import DECIMALS, GRID
from schemas.privacy.filter import PLANS_WITH_SLACK, SLACK_SHARE
from schemas.privacy.ledger import GENESIS, SALT_BYTES
from schemas.privacy.statement import privacy_statement
from site_node.floors import Floors
from tests.support.clauses import SPEC, all_tests, clauses_of, missing_tests, references
from tests.support.factories import make_plan

PAGE = (SPEC / "PRIVACY.md").read_text("utf-8")
TEXT = " ".join(PAGE.split())


def table(text: str) -> dict[str, list[tuple[str, str]]]:
    """Tests that the page names for each clause, as file and function."""
    rows = re.findall(r"^\| (PRIVACY-\d+)[^|]* \|(.+)\|$", text, flags=re.MULTILINE)
    return {clause: references(cell) for clause, cell in rows}


def strangers(text: str) -> list[str]:
    """Tests that a row names although they do not name the row's clause."""
    tests = all_tests()
    return [
        f"{clause}: {file}::{function}"
        for clause, named in table(text).items()
        for file, function in named
        if clause not in tests.get(file, {}).get(function, frozenset())
    ]


def test_every_clause_is_there_once_and_begins_with_a_plain_sentence() -> None:
    clauses = clauses_of("PRIVACY.md")
    assert sorted(clauses, key=lambda clause: int(clause.split("-")[1])) == [
        f"PRIVACY-{number}" for number in range(1, 21)
    ]
    plain = re.findall(r"^\*\*(PRIVACY-\d+) [^*]+\*\* \*[^*]+\.\*$", joined_heads(), re.MULTILINE)
    assert plain == clauses


def joined_heads() -> str:
    """The page with each clause's heading and first sentence on one line."""
    return re.sub(
        r"^(\*\*PRIVACY-\d+ [^*]+\*\*\s+\*[^*]+\*)",
        lambda found: " ".join(found[1].split()),
        PAGE,
        flags=re.MULTILINE,
    )


def test_every_clause_has_a_row_of_tests_that_name_it() -> None:
    assert list(table(PAGE)) == [f"PRIVACY-{number}" for number in range(1, 21)]
    assert all(table(PAGE).values())
    assert missing_tests(PAGE) == []
    assert strangers(PAGE) == []


def test_a_row_with_another_clauses_test_is_found() -> None:
    """The guard, broken on purpose: rows exchanged, a test that is not there."""
    exchanged = PAGE.replace("| PRIVACY-2 ", "| PRIVACY-0 ").replace("| PRIVACY-3 ", "| PRIVACY-2 ")
    assert [each for each in strangers(exchanged) if each.startswith("PRIVACY-2: ")]
    assert missing_tests(PAGE.replace("::test_", "::test_no_"))


def test_limits_of_the_page_are_the_products() -> None:
    assert f"A share is at least {limits.MIN_NOISE_SHARE:g} grid units" in TEXT
    assert f"{limits.NOISE_HEADROOM_SIGMAS:g} deviations of noise" in TEXT
    assert limits.MAX_DELTA == 1e-5
    assert "at most min(10⁻⁵, 1/(10 N))" in TEXT
    assert Floors().maximum_delta_total == 1e-4
    assert "the site's cap, 10⁻⁴ by default" in TEXT
    assert (GRID, DECIMALS) == (1e-3, 4)
    assert "grid 10⁻³" in TEXT
    assert "rounded up to four decimals" in TEXT


def test_numbers_of_the_filter_are_the_products() -> None:
    assert SLACK_SHARE == 0.1
    assert SLACK_SHARE / PLANS_WITH_SLACK == 1 / 1000
    assert "s = δ*/1000" in TEXT
    assert "Σ s ≤ δ*/10, where δ_G(μ*, ε*) = 0.9 δ*" in TEXT


def test_the_chain_begins_and_is_salted_as_the_page_says() -> None:
    assert bytes(32).hex() == GENESIS
    assert f"a {SALT_BYTES}-byte salt" in TEXT


def test_the_table_of_the_preparation_is_the_products() -> None:
    plan, _ = make_plan()
    age = plan.model.features[0]
    training = plan.training.model_copy(update={"class_weights": "preparation"})
    features = (
        age.model_copy(update={"encoding": "standardise", "missing": "mean"}),
        age.model_copy(update={"missing": "mean"}),
        age.model_copy(update={"encoding": "quantile-bins", "bins": 4}),
    )
    groups = preparation_groups(features, training)
    assert [(group.words, group.squared_norm) for group in groups] == [
        (3, 3),
        (2, 2),
        (64, 1),
        (2, 1),
    ]
    rows = re.findall(r"^\| (.+) \| (.+) \| (\d) \|$", PAGE, flags=re.MULTILINE)
    assert [int(row[2]) for row in rows] == [group.squared_norm for group in groups]
    assert "among 64 cells" in rows[2][1]
    # One row of a patient can reach the norm, and none can pass it.
    u = np.linspace(-1, 1, 101)
    assert float((1 + u**2 + u**4).max()) == 3
    assert LEAST_SCALE == 0.01 * 2
    assert LARGEST_WEIGHT == 100
    assert "at least 1 % of the range and at most half of it" in TEXT
    assert "within 1/100 … 100" in TEXT


def test_the_table_of_readings_is_the_statements() -> None:
    rows = re.findall(r"^\| ([\d.]+) \| (\d+) of 100 \| ([\d.]+) % \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 4
    plan, _ = make_plan()
    for epsilon, right, found in rows:
        said = replace(privacy_statement(plan), epsilon=float(epsilon))
        assert int(right) == math.ceil(100 * said.attacker_success)
        assert f"at most {float(found):g} % of those who took part" in said.reading()
