"""Does every row of SHARP_EDGES.md name a test that exists, and numbers that are so?"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import get_args

import pytest
from dp_accounting import dp_event, pld

from schemas.evaluation import Release
from schemas.governance.study import Output
from schemas.privacy.accounting import epsilon
from schemas.privacy.calibration import calibrate_noise
from schemas.privacy.events import Mechanism
from schemas.privacy.filter import Cost, PrivacyFilter
from tests.support.clauses import SPEC, all_tests, missing_tests, references

PAGE = (SPEC / "SHARP_EDGES.md").read_text("utf-8")
DELTA = 1e-5
MARK = "▪"
HAZARDS = [f"H{number}" for number in range(1, 19)]


STATES = ("covered", "declared", "narrowed", "not covered", "not offered")


def rows_of(text: str, heading: str = "pitfall") -> list[list[str]]:
    """Cells of every row of every table under such a heading."""
    rows: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells or cells[0].startswith(heading):
            inside = bool(cells)
        elif inside and cells[0] != "---":
            rows.append(cells)
    return rows


def missing_hazards(text: str) -> list[str]:
    """Hazards of NIST SP 800-226 that no pitfall is said to be."""
    named = {hazard for row in rows_of(text) for hazard in re.findall(r"\bH\d+\b", row[0])}
    return [hazard for hazard in HAZARDS if hazard not in named]


def rows_without_test(text: str) -> list[str]:
    """Pitfalls whose row has not four cells, or no test in the last."""
    return [row[0] for row in rows_of(text) if len(row) != 4 or not references(row[-1])]


def test_every_row_names_a_test_that_exists() -> None:
    assert len(rows_of(PAGE)) >= 55
    assert rows_without_test(PAGE) == []
    assert missing_tests(PAGE) == []


def test_every_hazard_of_the_guideline_has_a_row() -> None:
    assert missing_hazards(PAGE) == []


def test_every_hazard_has_a_state_and_a_test() -> None:
    rows = rows_of(PAGE, "hazard")
    assert [row[0].split()[0] for row in rows] == HAZARDS
    assert all(row[1].startswith(STATES) and references(row[2]) for row in rows)


def test_a_row_that_names_no_test_is_found() -> None:
    """The guards, broken on purpose in the page itself."""
    file, function = references(PAGE)[0]
    assert missing_tests(PAGE.replace(function, "test_of_nothing"))
    assert missing_tests(PAGE.replace(file, "unit/test_of_nothing.py"))
    last = rows_of(PAGE)[-1]
    assert rows_without_test(PAGE.replace(last[3], "everything is tested")) == [last[0]]
    assert missing_hazards(PAGE.replace("(H13)", "")) == ["H13"]
    # A name alone is none: the function must stand in the file that is named.
    other = next(name for name, tests in all_tests().items() if function not in tests)
    assert missing_tests(f"`{other}::{function}`")


def test_every_clause_it_points_to_exists() -> None:
    page = (SPEC / "PRIVACY.md").read_text("utf-8")
    for clause in re.findall(r"PRIVACY-\d+", PAGE):
        assert f"**{clause} " in page, clause


# --- numbers ----------------------------------------------------------------------------------

STEPS, ATTEMPTS = 12, 15
SIGMA = calibrate_noise(epsilon=1.0, delta=DELTA, sampling_rate=1.0, steps=ATTEMPTS)


def full(factor: float = 1.0, attempts: int = ATTEMPTS, hospitals: int = 1) -> float:
    """Epsilon of the page's study with the noise times a factor, or other attempts or hospitals."""
    return epsilon(
        noise_multiplier=SIGMA * factor,
        sampling_rate=1.0,
        steps=attempts,
        delta=DELTA,
        hospitals_per_patient=hospitals,
    )


def of_records(each: int) -> float:
    """Epsilon of a patient with so many records, each clipped and drawn by itself."""
    rate = 0.1
    chances = [math.comb(each, k) * rate**k * (1 - rate) ** (each - k) for k in range(each)]
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    sums = [float(k) for k in range(each + 1)]
    mixture = dp_event.MixtureOfGaussiansDpEvent(1.5, sums, [*chances, 1 - sum(chances)])
    return float(accountant.compose(mixture, 100).get_epsilon(DELTA))


def sampled(sigma: float, rate: float) -> float:
    """Epsilon of 100 steps."""
    return epsilon(noise_multiplier=sigma, sampling_rate=rate, steps=100, delta=DELTA)


def admitted(cap: float) -> int:
    """How many times the page's study fits the filter of a cap."""
    rule = PrivacyFilter(cap, DELTA)
    each = rule.cost(Mechanism(SIGMA, 1.0, ATTEMPTS), hospitals_per_patient=1)
    found = math.floor(rule.precision / each.precision)
    assert rule.admits(Cost(found * each.precision))
    assert not rule.admits(Cost((found + 1) * each.precision))
    return found


# Start of a pitfall: what its row says, with the numbers computed anew.
COMPUTED: dict[str, Callable[[], str]] = {
    "add-or-remove and replace-one": lambda: f"ε 1 becomes {full(0.5):.2f} {MARK}",
    "ε of the image": lambda: (
        f"ε {sampled(1.5, 0.1):.2f} of the record is {of_records(4):.1f} for a patient with 4 "
        f"records and {of_records(10):.1f} with 10 {MARK}"
    ),
    "one patient at two hospitals": lambda: (
        f"ε 1 becomes {full(hospitals=2):.2f}, at three {full(hospitals=3):.2f} {MARK}"
    ),
    "the best of k runs": lambda: (
        f"two {full(attempts=2 * ATTEMPTS):.2f}, five {full(attempts=5 * ATTEMPTS):.2f} {MARK}"
    ),
    "a clip that is doubled": lambda: f"ε 1 becomes {full(0.5):.2f} {MARK}",
    "σ/n instead of σ/√n": lambda: (
        f"four sites: ε 1 becomes {full(1 / math.sqrt(4)):.2f}; "
        f"ten: {full(1 / math.sqrt(10)):.2f} {MARK}"
    ),
    "colluders know": lambda: (
        f"with four sites ε 1 becomes {full(math.sqrt(3 / 4)):.2f}, "
        f"with three {full(math.sqrt(2 / 3)):.2f} {MARK}"
    ),
    "shared noise in DP-FedAvg": lambda: (
        f"with four hospitals ε 1 becomes {full(1 / math.sqrt(3)):.2f} {MARK}"
    ),
    "a lost hospital": lambda: (
        f"one share of four missing: ε 1 becomes {full(math.sqrt(2 / 3)):.2f}; "
        f"of ten {full(math.sqrt(8 / 9)):.2f} {MARK}"
    ),
    "amplification claimed": lambda: (
        f"ε {sampled(3, 0.1):.2f} (σ 3, q 0.1, 100 steps) is {sampled(3, 1.0):.1f} with the full "
        f"batch {MARK}"
    ),
    "accountant reset": lambda: (
        f"one step of {ATTEMPTS} shows ε {full(attempts=1):.2f}, all of them {full():.0f} {MARK}"
    ),
    "cap checked": lambda: f"under a cap of 8 | which admits {admitted(8.0)} {MARK}",
    "failed attempts": lambda: (
        f"{STEPS} steps cost {full(attempts=STEPS):.2f}, with three retries {full():.0f} {MARK}"
    ),
}


@pytest.mark.parametrize("pitfall", list(COMPUTED))
def test_a_marked_number_is_what_the_accountant_says(pitfall: str) -> None:
    (row,) = [row for row in rows_of(PAGE) if row[0].startswith(pitfall)]
    said, place = COMPUTED[pitfall](), " | ".join(row)
    for part in said.split(" | "):
        assert part in place
    # Broken on purpose: another last digit of the last number would be noticed.
    last = max(found.start() for found in re.finditer(r"\d", said))
    wrong = said[:last] + str((int(said[last]) + 1) % 10) + said[last + 1 :]
    assert wrong.split(" | ")[-1] not in place


def test_every_marked_number_is_computed_here() -> None:
    marked = [row[0] for row in rows_of(PAGE) if MARK in " ".join(row)]
    assert len(marked) == len(COMPUTED)
    assert all(any(row.startswith(pitfall) for pitfall in COMPUTED) for row in marked)
    assert f"σ = {SIGMA:.4f}" in PAGE


# --- what is not offered ----------------------------------------------------------------------


def test_no_output_of_a_plan_is_data() -> None:
    """What may leave is a closed list; a row of synthetic data, or of real data, is not on it."""
    assert set(get_args(Output)) == {
        "masked-update",
        "masked-evaluation",
        "survivor-confirmation",
        "unmasking",
        "model-hash",
        "release",
        "refusal",
    }


def test_a_release_says_nothing_about_subgroups() -> None:
    """When it does, the row about small groups has to be written anew."""
    of_whom = {"roster", "sites", "positives_at_least", "negatives_at_least"}
    assert of_whom <= set(Release.model_fields)
    assert not [name for name in Release.model_fields if "group" in name or "by_" in name]
