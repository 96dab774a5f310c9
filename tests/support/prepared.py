"""How do tests get a plan that prepares its inputs from a noised sum, and rows for it?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from schemas.governance.study import StudyPlan
from tests.support.consortium import toy_table
from tests.support.factories import make_plan

COLUMNS = [
    {"name": "age", "kind": "number", "minimum": 18, "maximum": 110, "required": False},
    {"name": "chol", "kind": "number", "minimum": 0, "maximum": 1000, "required": False},
    {"name": "cp", "kind": "category", "codes": ["1", "2", "3", "4"], "required": False},
    {"name": "num", "kind": "integer", "minimum": 0, "maximum": 4},
    {"name": "pressure", "kind": "number", "minimum": 0, "maximum": 300, "required": False},
]
FEATURES = [
    {
        "column": "age",
        "encoding": "standardise",
        "minimum": 20,
        "maximum": 90,
        "missing": "mean",
    },
    {
        "column": "chol",
        "encoding": "quantile-bins",
        "minimum": 100,
        "maximum": 400,
        "bins": 4,
        "missing": "value",
    },
    {
        "column": "pressure",
        "encoding": "scale",
        "minimum": 80,
        "maximum": 200,
        "missing": "mean",
    },
    {"column": "cp", "encoding": "one-hot", "levels": ["2", "4"], "missing": "value"},
]
INPUTS = 1 + 4 + 1 + 2
WORDS = 3 + 64 + 2 + 2
"""Of the preparation: age, chol, pressure, class weights, in this order."""


def preparation(**changes: Any) -> dict[str, Any]:
    """Overrides that give a plan every kind of preparation.

    Args:
        changes: to the preparation's own terms; ``training`` and ``model`` are merged into theirs.
    """
    training = {"class_weights": "preparation", **changes.pop("training", {})}
    model = {"features": FEATURES, "parameters": INPUTS + 1, **changes.pop("model", {})}
    terms = {
        "epsilon": 1,
        "noise_multiplier": 20,
        "retry_cap": 1,
        "integer_clip": 2**18,
    }
    return {
        "data": {"columns": COLUMNS},
        "model": model,
        "training": training,
        "preparation": {**terms, **changes},
    }


def prepared_plan(**changes: Any) -> StudyPlan:
    """A plan with every kind of preparation."""
    return make_plan(**preparation(**changes))[0]


def gappy_table(site: int, rows: int = 60) -> pa.Table:
    """Rows of the toy problem in which some values are missing."""
    table = toy_table(site, rows)
    index = np.arange(rows)
    pressure = 140 + 30 * np.sin(index * 0.7 + site)
    for name, every in (("age", 7), ("chol", 5), ("cp", 11)):
        cells = table[name].to_pylist()
        kept = [None if i % every == site % every else cell for i, cell in enumerate(cells)]
        table = table.set_column(table.column_names.index(name), name, pa.array(kept))
    kept = [None if i % 4 == 0 else float(value) for i, value in enumerate(pressure)]
    return table.append_column("pressure", pa.array(kept, pa.float64()))
