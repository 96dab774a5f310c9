"""How do tests get the shipped studies' plans and rows without enrolling anybody?"""

from __future__ import annotations

import csv
import io
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.canonical import build, sha256_hex
from schemas.governance.study import ModelTerms, StudyPlan
from schemas.models import initial_parameters, parameter_count, to_safetensors
from schemas.privacy import calibrate_noise, epsilon
from tests.support.factories import make_keys, plan_values

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "scripts" / "data"
HEART_SITES = {
    "site-1": "cleveland",
    "site-2": "hungarian",
    "site-3": "switzerland",
    "site-4": "va",
}
HEART_COLUMNS = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak",
    "slope", "ca", "thal", "num",
)  # fmt: skip


def shipped_plan(name: str) -> StudyPlan:
    """Resolve a shipped draft into a plan for four test sites, its noise calibrated."""
    folder = ROOT / "coordinator" / "client" / "templates"
    draft = tomllib.loads((folder / f"{name}.toml").read_text("utf-8"))
    draft.pop("valid_days", None)
    values: dict[str, Any] = plan_values({f"site-{n}": make_keys() for n in range(1, 5)})
    values |= draft | {"study_id": name}
    training, privacy = values["training"], values["privacy"]
    model = values["model"] | {"initial_weights_sha256": "00" * 32, "parameters": 1}
    terms = build(ModelTerms, model)
    weights = to_safetensors(terms, initial_parameters(terms))
    values["model"] = model | {
        "initial_weights_sha256": sha256_hex(weights),
        "parameters": parameter_count(terms),
    }
    attempts = training["steps"] + training["retry_cap"]
    spent = {"sampling_rate": training["sampling_rate"], "steps": attempts}
    sigma = calibrate_noise(epsilon=privacy["epsilon"], delta=privacy["delta"], **spent)
    values["privacy"] = privacy | {
        "noise_multiplier": sigma,
        "epsilon": epsilon(noise_multiplier=sigma, delta=privacy["delta"], **spent),
        "epsilon_two_hospitals": epsilon(
            noise_multiplier=sigma, delta=privacy["delta"], hospitals_per_patient=2, **spent
        ),
    }
    return build(StudyPlan, values)


def shipped_table(name: str, site: str) -> pa.Table:
    """Give one site's rows as the store would hold them, with row numbers for pseudonyms."""
    return _heart_table(site) if name == "heart" else _cxr_table(site)


def _heart_table(site: str) -> pa.Table:
    file = f"processed.{HEART_SITES[site]}.data"
    folder = DATA / "uci_heart"
    split = json.loads((folder / "flamby_split.json").read_text("ascii"))[file]
    lines = list(csv.reader(io.StringIO((folder / file).read_text("ascii"))))
    rows = [
        {
            "patient": f"{number:04d}",
            "split": word,
            **dict(zip(HEART_COLUMNS, lines[number], strict=True)),
        }
        for word in ("train", "test")
        for number in split[word]
    ]
    number = {"age": int, "trestbps": float, "chol": float, "thalach": float, "oldpeak": float}
    columns: dict[str, Any] = {k: [r[k] for r in rows] for k in ("patient", "split")}
    columns["label"] = pa.array([int(float(r["num"]) > 0) for r in rows], pa.int8())
    for key in ("age", "trestbps", "chol", "thalach", "oldpeak"):
        columns[key] = [number[key](float(r[key])) for r in rows]
    for key in ("sex", "fbs", "exang"):
        columns[key] = [bool(float(r[key])) for r in rows]
    for key in ("cp", "restecg"):
        columns[key] = [str(int(float(r[key]))) for r in rows]
    return pa.table(columns)


def _cxr_table(site: str) -> pa.Table:
    folder = DATA / "pneumoniamnist"
    groups = json.loads((folder / "patients.json").read_text("ascii"))[site]
    archive = np.load(folder / "pneumoniamnist.npz")
    rows: dict[str, list[Any]] = {"patient": [], "split": [], "label": [], "pixels": []}
    for split in ("train", "test"):
        images = archive[f"{split}_images"]
        for number, (label, group) in enumerate(groups[split]):
            for index in group:
                rows["patient"].append(f"{split}{number:05d}")
                rows["split"].append(split)
                rows["label"].append(int(label))
                rows["pixels"].append(images[index].tobytes())
    return pa.table({**rows, "label": pa.array(rows["label"], pa.int8())})
