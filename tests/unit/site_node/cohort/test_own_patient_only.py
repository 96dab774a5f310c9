"""Does anything but a patient's own rows, the plan and the noised preparation reach the update?

PRIVACY-19: "no other data-dependent constant". From the stored table to the integers that the
noise is added to, for every encoding, rule for missing values, class weight and algorithm: with a
patient minus without is that patient alone, to the last integer. A constant taken from a site's
own rows shows, because it moves what the others add.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from schemas.governance.study import StudyPlan
from schemas.models import initial_state
from schemas.preparation import prepare
from site_node.cohort.features import load_features
from site_node.cohort.preparation import preparation_sum
from site_node.training.dp_sgd import clipped_integer_sum
from tests.support.factories import make_plan
from tests.support.learning import plan_for
from tests.support.prepared import COLUMNS, gappy_table, prepared_plan

RANGE = {"minimum": 20, "maximum": 90}
NUMBERS: dict[str, dict[str, Any]] = {
    "scale": {"encoding": "scale", **RANGE},
    "standardise": {"encoding": "standardise", **RANGE},
    "identity": {"encoding": "identity"},
}
CLASSES: dict[str, dict[str, Any]] = {
    "bins": {"encoding": "bins", "edges": [40, 55, 70]},
    "quantile-bins": {"encoding": "quantile-bins", "bins": 5, **RANGE},
    "one-hot": {"encoding": "one-hot", "levels": ["2", "4"]},
}
CASES = [
    (encoding, missing, weights, algorithm)
    for encoding in (*NUMBERS, *CLASSES)
    for missing in ("refuse", "value", "mean")
    if missing != "mean" or encoding in NUMBERS
    for weights in ("plan", "preparation")
    for algorithm in ("dp-fedsgd", "dp-fedavg")
]
LOCAL = {
    "algorithm": "dp-fedavg",
    "local_steps": 3,
    "local_learning_rate": 0.5,
    "local_divisor": 50,
    "update_clip": 1,
    "divisor": 4,
}


def plan_of(encoding: str, missing: str, weights: str, algorithm: str) -> StudyPlan:
    """A plan with this one feature."""
    column = "cp" if encoding == "one-hot" else "age"
    feature = {"column": column, **(NUMBERS | CLASSES)[encoding], "missing": missing}
    if missing == "value" and encoding in NUMBERS:
        feature["missing_value"] = 50
    if missing == "mean" and encoding == "identity":
        feature |= RANGE
    inputs = {"bins": 4, "quantile-bins": 5, "one-hot": 2}.get(encoding, 1)
    needs = (
        weights == "preparation"
        or missing == "mean"
        or encoding in ("standardise", "quantile-bins")
    )
    training = {
        "class_weights": weights,
        "positive_weight": 2.5 if weights == "plan" else 1,
        "max_images_per_patient": 2,
        **(LOCAL if algorithm == "dp-fedavg" else {}),
    }
    terms = {"epsilon": 1, "noise_multiplier": 20, "retry_cap": 1, "integer_clip": 2**18}
    plan, _ = make_plan(
        data={"columns": COLUMNS},
        model={"features": [feature], "parameters": inputs + 1},
        training=training,
        **({"preparation": terms} if needs else {}),
    )
    return plan


def rows_of(missing: str) -> pa.Table:
    """Rows of 40 patients, some with two or three; without gaps where the plan refuses them."""
    table = gappy_table(2, 80)
    patient = [f"{min(i // 2, 35 + i % 5):02d}" for i in range(80)]
    label = [int(name) % 3 == 0 for name in patient]
    table = table.set_column(0, "patient", pa.array(patient))
    table = table.set_column(1, "split", pa.array(["train"] * 80))
    table = table.set_column(2, "label", pa.array(np.array(label, dtype=np.int64)))
    if missing == "refuse":
        for name in ("age", "cp"):
            index = table.column_names.index(name)
            full = pc.fill_null(table[name], "3" if name == "cp" else 61.5)
            table = table.set_column(index, name, full)
    return table


def shared_sum(plan: StudyPlan) -> NDArray[np.int64]:
    """The preparation as every site has it: of other patients, with some noise."""
    if plan.preparation is None:
        return np.zeros(0, dtype=np.int64)
    summed = sum(preparation_sum(rows_of("refuse"), plan).values for _ in range(3))
    noise = np.random.default_rng(5).integers(-(2**18), 2**18, len(summed))
    return summed + noise


Update = Callable[[pa.Table, StudyPlan, NDArray[np.int64]], NDArray[np.int64]]


def update(
    table: pa.Table,
    plan: StudyPlan,
    summed: NDArray[np.int64],
    own: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The site's integers before noise, with everybody in the sample."""
    prepared = prepare(plan, summed if own is None else own)
    features = load_features(table, plan, "train", prepared)
    flat = np.random.default_rng(zlib.crc32(b"model")).normal(0, 0.4, plan.model.parameters)
    state = replace(initial_state(plan.model, flat), prepared=summed)
    chosen = np.ones(features.patients, dtype=np.bool_)
    return clipped_integer_sum(plan, state, features, chosen).values


def is_additive(of: Update, table: pa.Table, plan: StudyPlan, summed: NDArray[np.int64]) -> bool:
    """Take patients out one by one: is what is missing then exactly what they add alone?"""
    everyone = of(table, plan, summed)
    for patient in ("00", "07", "36", "39"):
        is_it = pc.equal(table["patient"], patient)
        alone = of(table.filter(is_it), plan, summed)
        others = of(table.filter(pc.invert(is_it)), plan, summed)
        if (everyone - others).tolist() != alone.tolist():
            return False
        assert alone.any()
    return True


@pytest.mark.parametrize(("encoding", "missing", "weights", "algorithm"), CASES)
def test_a_patient_adds_the_same_integers_whoever_else_is_there(
    encoding: str, missing: str, weights: str, algorithm: str
) -> None:
    """PRIVACY-19: for every plan a site can be given, training's sum is patient by patient."""
    plan = plan_of(encoding, missing, weights, algorithm)
    assert is_additive(update, rows_of(missing), plan, shared_sum(plan))


def films() -> pa.Table:
    """Two images for each of 40 patients; one patient's are far brighter than all others."""
    generator = np.random.default_rng(6)
    patient = [f"{i // 2:02d}" for i in range(80)]
    grey = generator.integers(0, 120, (80, 144))
    grey[[name == "07" for name in patient]] *= 2
    return pa.table(
        {
            "patient": patient,
            "split": ["train"] * 80,
            "label": [int(name) % 3 == 0 for name in patient],
            "pixels": [image.astype(np.uint8).tobytes() for image in grey],
        }
    )


def followed() -> pa.Table:
    """The rows above with a time of follow-up; one patient was followed longest by far."""
    table = rows_of("refuse")
    place = table.column_names.index("chol")
    table = table.set_column(place, "chol", pc.fill_null(table["chol"], 240.0))
    days = [900 if name == "07" else 37 * int(name) % 250 for name in table["patient"].to_pylist()]
    return table.append_column("days", pa.array(days))


@pytest.mark.parametrize(
    ("architecture", "table"),
    [("small-cnn", films), ("scattering-logistic", films), ("cox", followed), ("mlp", followed)],
)
def test_so_it_is_with_images_and_times(architecture: str, table: Callable[[], pa.Table]) -> None:
    """PRIVACY-19: no brightest pixel and no longest time of the site's own rows."""
    plan = plan_for(architecture, max_images_per_patient=2)
    assert is_additive(update, table(), plan, shared_sum(plan))


def test_so_it_is_with_the_preparation_itself() -> None:
    """PRIVACY-19: no constant of the rows goes into the sum that gives the constants."""
    plan = prepared_plan(training={"max_images_per_patient": 2})
    table = rows_of("value")

    def first(table: pa.Table, plan: StudyPlan, _: NDArray[np.int64]) -> NDArray[np.int64]:
        return preparation_sum(table, plan).values

    assert is_additive(first, table, plan, shared_sum(plan))


# --- mutants: each takes one constant from the site's own rows -----------------------------------


def standardised_at_home(
    table: pa.Table, plan: StudyPlan, summed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Mean and standard deviation of this site's patients, noiseless and unpaid for."""
    return update(table, plan, summed, preparation_sum(table, plan).values)


def binned_at_home(
    table: pa.Table, plan: StudyPlan, summed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Quantiles of this site's patients."""
    return update(table, plan, summed, preparation_sum(table, plan).values)


def imputed_at_home(
    table: pa.Table, plan: StudyPlan, summed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The median of this site's rows for a missing value."""
    known = [value for value in table["age"].to_pylist() if value is not None]
    filled = pc.fill_null(table["age"], median(known) if known else 50.0)
    table = table.set_column(table.column_names.index("age"), "age", filled)
    return update(table, plan, summed)


def weighted_at_home(
    table: pa.Table, plan: StudyPlan, summed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Class weights from this site's counts."""
    return update(table, plan, preparation_sum(table, plan).values)


MUTANTS: dict[Update, StudyPlan] = {
    standardised_at_home: plan_of("standardise", "value", "plan", "dp-fedsgd"),
    binned_at_home: plan_of("quantile-bins", "value", "plan", "dp-fedsgd"),
    imputed_at_home: plan_of("scale", "mean", "plan", "dp-fedsgd"),
    weighted_at_home: plan_of("scale", "value", "preparation", "dp-fedsgd"),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_constant_of_the_sites_own_rows_is_found(mutant: Update) -> None:
    """PRIVACY-19: the test fails for a site that scales, bins, imputes or weights by itself."""
    plan, table = MUTANTS[mutant], rows_of("value")
    assert is_additive(update, table, plan, shared_sum(plan))
    assert not is_additive(mutant, table, plan, shared_sum(plan))
