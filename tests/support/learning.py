"""How do tests get small models, training terms and features?"""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.canonical import build
from schemas.governance.study import ModelTerms, StudyPlan, TrainingTerms
from schemas.models import parameter_count
from site_node.cohort.features import Features
from tests.support.factories import make_plan

FEATURES = [
    {"column": "age", "encoding": "scale", "minimum": 20, "maximum": 90},
    {"column": "cp", "encoding": "one-hot", "levels": ["2", "3", "4"]},
]

# Architectures that read table rows, and what else their terms need.
TABLES: dict[str, dict[str, Any]] = {
    "logistic": {},
    "cox": {"time_edges": [30.0, 90.0, 180.0]},
    "mlp": {"hidden": [6, 3]},
}

# changes of a plan's training terms that make it one of dp-fedavg
LOCAL: dict[str, Any] = {
    "algorithm": "dp-fedavg", "local_steps": 3, "local_learning_rate": 0.5, "local_divisor": 20,
    "update_clip": 1, "divisor": 4, "weight_decay": 0,
}  # fmt: skip


def terms(architecture: str, **changes: Any) -> ModelTerms:
    """Model terms of one architecture; images 28 x 28 unless it is a table's (4 inputs)."""
    table = architecture in TABLES
    values: dict[str, Any] = {
        "architecture": architecture,
        "features": FEATURES if table else [],
        "image_rows": 0 if table else 28,
        "image_columns": 0 if table else 28,
        "initialisation_seed": "ab" * 32,
        "initial_weights_sha256": "00" * 32,
        "parameters": 1,
    }
    return build(ModelTerms, values | TABLES.get(architecture, {}) | changes)


def training(**changes: Any) -> TrainingTerms:
    """Training terms of a small plan: 4 steps, the last two averaged."""
    values: dict[str, Any] = {
        "steps": 4, "retry_cap": 0, "sampling": "full", "sampling_rate": 1, "clip": 0.5,
        "integer_clip": 2**18, "learning_rate": 2, "momentum": 0.9, "divisor": 100,
        "maximum_patients": 100, "average_from_step": 2, "max_images_per_patient": 1,
        "weight_decay": 0,
    }  # fmt: skip
    return build(TrainingTerms, values | changes)


def plan_for(architecture: str, side: int = 12, **training_changes: Any) -> StudyPlan:
    """A plan for one architecture; images ``side`` square unless it is a table's (4 inputs)."""
    if architecture in TABLES:
        return _table_plan(architecture, training_changes)
    image = {"image_rows": side, "image_columns": side}
    model = {"architecture": architecture, "features": [], "parameters": 1, **image}
    seed = {"initialisation_seed": "ab" * 32, "initial_weights_sha256": "00" * 32}
    count = parameter_count(build(ModelTerms, model | seed))
    if architecture == "resnet18-groupnorm":  # eleven million values lose more to truncation
        training_changes = {"integer_clip": 2**19} | training_changes
    return make_plan(
        data={"source": "dicom", **image},
        model=model | {"parameters": count},
        training=training_changes,
    )[0]


def _table_plan(architecture: str, training_changes: dict[str, Any]) -> StudyPlan:
    if architecture == "logistic":
        return make_plan(training=training_changes)[0]
    plan, _ = make_plan(training=training_changes)
    model = plan.model.model_dump(mode="json") | TABLES[architecture]
    model |= {"architecture": architecture}
    count = parameter_count(build(ModelTerms, model))
    data = plan.data.model_dump(mode="json")
    if architecture == "cox":
        data["columns"].append({"name": "days", "kind": "integer", "minimum": 0, "maximum": 9999})
        data["time_column"] = "days"
    return make_plan(model=model | {"parameters": count}, data=data, training=training_changes)[0]


def random_features(plan: StudyPlan, images_of: list[int], seed: int = 0) -> Features:
    """Random rows: `images_of[i]` rows for patient i, one label a patient."""
    generator = np.random.default_rng(seed)
    rows = sum(images_of)
    if plan.model.architecture in TABLES:
        shape: tuple[int, ...] = (rows, plan.model.input_width)
    elif plan.model.architecture in ("small-cnn", "resnet18-groupnorm"):
        shape = (rows, 1, plan.model.image_rows, plan.model.image_columns)
    else:
        shape = (rows, plan.model.parameters - 1)
    time = None
    if plan.data.time_column is not None:
        times = generator.integers(0, 250, len(images_of)).astype(np.float32)
        time = np.repeat(times, images_of)
    labels = generator.integers(0, 2, len(images_of))
    return Features(
        x=generator.random(shape).astype(np.float32),
        y=np.repeat(labels, images_of).astype(np.int64),
        patient=np.repeat(np.arange(len(images_of)), images_of).astype(np.int64),
        patients=len(images_of),
        time=time,
    )
