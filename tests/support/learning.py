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


def terms(architecture: str, **changes: Any) -> ModelTerms:
    """Model terms of one architecture; images 28 x 28 unless it is a table's (4 inputs)."""
    table = architecture == "logistic"
    values: dict[str, Any] = {
        "architecture": architecture,
        "features": FEATURES if table else [],
        "image_rows": 0 if table else 28,
        "image_columns": 0 if table else 28,
        "initialisation_seed": "ab" * 32,
        "initial_weights_sha256": "00" * 32,
        "parameters": 1,
    }
    return build(ModelTerms, values | changes)


def training(**changes: Any) -> TrainingTerms:
    """Training terms of a small plan: 4 steps, the last two averaged."""
    values: dict[str, Any] = {
        "steps": 4, "retry_cap": 0, "sampling": "full", "sampling_rate": 1, "clip": 0.5,
        "integer_clip": 2**18, "learning_rate": 2, "momentum": 0.9, "divisor": 100,
        "maximum_patients": 100, "average_from_step": 2, "max_images_per_patient": 1,
        "weight_decay": 0,
    }  # fmt: skip
    return build(TrainingTerms, values | changes)


def plan_for(architecture: str, **training_changes: Any) -> StudyPlan:
    """A plan for one architecture; images 12 x 12 unless it is the table's (4 inputs)."""
    if architecture == "logistic":
        return make_plan(training=training_changes)[0]
    image = {"image_rows": 12, "image_columns": 12}
    model = {"architecture": architecture, "features": [], "parameters": 1, **image}
    seed = {"initialisation_seed": "ab" * 32, "initial_weights_sha256": "00" * 32}
    count = parameter_count(build(ModelTerms, model | seed))
    return make_plan(
        data={"source": "dicom", **image},
        model=model | {"parameters": count},
        training=training_changes,
    )[0]


def random_features(plan: StudyPlan, images_of: list[int], seed: int = 0) -> Features:
    """Random rows: `images_of[i]` rows for patient i, one label a patient."""
    generator = np.random.default_rng(seed)
    rows = sum(images_of)
    if plan.model.architecture == "logistic":
        shape: tuple[int, ...] = (rows, plan.model.input_width)
    elif plan.model.architecture == "small-cnn":
        shape = (rows, 1, 12, 12)
    else:
        shape = (rows, plan.model.parameters - 1)
    labels = generator.integers(0, 2, len(images_of))
    return Features(
        x=generator.random(shape).astype(np.float32),
        y=np.repeat(labels, images_of).astype(np.int64),
        patient=np.repeat(np.arange(len(images_of)), images_of).astype(np.int64),
        patients=len(images_of),
    )
