"""A study that prepares its inputs, and one of dp-fedavg, end to end over real processes.

In the first a hospital's executor is killed while the preparation is summed; a further attempt is
paid from what the plan set aside for the preparation, not from what is for training.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from safetensors.numpy import load_file

from coordinator.client.drafts import start_draft
from scripts.testbed import BIN
from tests.integration.conftest import Consortium
from tests.integration.test_recoverable import kill_when_an_attempt_opens

PREPARED, LOCAL = "heart-prepared", "heart-fedavg"
STEPS = 3
COLUMNS = """columns = [
  { name = "age", kind = "integer", minimum = 18, maximum = 110 },
  { name = "sex", kind = "boolean" },
  { name = "cp", kind = "category", codes = ["1", "2", "3", "4"] },
  { name = "chol", kind = "number", minimum = 0, maximum = 1000, required = false },
  { name = "thalach", kind = "number", minimum = 30, maximum = 250, required = false },
  { name = "num", kind = "category", codes = ["0", "1", "2", "3", "4"] },
]
"""
FEATURES = """features = [
  { column = "age", encoding = "quantile-bins", minimum = 30, maximum = 80, bins = 3 },
  { column = "sex", encoding = "identity" },
  { column = "cp", encoding = "one-hot", levels = ["2", "3", "4"] },
  { column = "chol", encoding = "scale", minimum = 0, maximum = 400, missing = "mean" },
  { column = "thalach", encoding = "standardise", minimum = 70, maximum = 200, missing = "mean" },
]
"""
EDIT = {
    'label = "readmitted"': 'label = "num"',
    'label_positive = ["1"]': 'label_positive = ["1", "2", "3", "4"]',
    "epsilon = 0.3 ": "epsilon = 0.4 ",
    "retry_cap = 2 ": "retry_cap = 1 ",
    "steps = 40": f"steps = {STEPS}",
    "average_from_step = 20": f"average_from_step = {STEPS - 1}",
    "retry_cap = 5": "retry_cap = 1",
    'optimiser = "sgd"': 'optimiser = "adam"\nsecond_momentum = 0.9\nadam_epsilon = 0.05',
    "learning_rate = 2.0": "learning_rate = 0.3",
    "divisor = 2000.0": "divisor = 700.0",
    "smallest_site_patients = 200": "smallest_site_patients = 30",
    "# class_weights": "class_weights",
    "epsilon = 2.0 ": "epsilon = 1.0 ",
}
GROUPS = {"age": 64, "chol": 2, "thalach": 3, "class-weights": 2}
WORDS = sum(GROUPS.values())
INPUTS = 3 + 1 + 3 + 1 + 1
LOCAL_TERMS = """[training]
algorithm = "dp-fedavg"
steps = 2
retry_cap = 0
sampling = "poisson"
sampling_rate = 0.5
clip = 0.5
integer_clip = 262144
local_steps = 3
local_learning_rate = 2.0
local_divisor = 60.0
update_clip = 3.0
optimiser = "sgd"
learning_rate = 1.0
momentum = 0.0
divisor = 4.0
maximum_patients = 1000
average_from_step = 1
max_images_per_patient = 1
weight_decay = 0.0
"""


def block(template: str, first: str, last: str) -> str:
    """Give the lines of a template from the one that begins with `first` up to before `last`."""
    lines = start_draft("any", template).splitlines(keepends=True)
    begin = next(i for i, line in enumerate(lines) if line.startswith(first))
    end = next(i for i in range(begin + 1, len(lines)) if lines[i].startswith(last))
    return "".join(lines[begin:end])


def with_gaps(consortium: Consortium, folder: Path) -> Path:
    """Copy the hospitals' extracts; rows with gaps, which belong to no split, are to train."""
    for name in consortium.bed.site_names:
        shutil.copytree(consortium.raw["heart"] / name / "heart", folder / name / "heart")
        path = folder / name / "heart" / "extract.csv"
        path.write_bytes(re.sub(rb",(?=\r?\n)", b",train", path.read_bytes()))
    return folder


def opened(consortium: Consortium, name: str, digest: str) -> dict[str, int]:
    """Count the attempts charged in one hospital's ledger for a plan, by mechanism."""
    accounts = consortium.bed.json("cohortium-site", name, "ledger", "show")["accounts"]
    account = next(each for each in accounts if each["digest"] == digest)
    return {each["name"]: each["opened"] for each in account["mechanisms"]}


def offline(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `cohortium-site` as an auditor does, on a machine that is no site."""
    return subprocess.run(
        [str(BIN / "cohortium-site"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )


@pytest.fixture(scope="module")
def prepared(consortium: Consortium, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the prepared study; site-2's executor is killed while the preparation is summed."""
    bed = consortium.bed
    edit = {
        block("tabular-prepared", "columns = [", "\n"): COLUMNS,
        block("tabular-prepared", "features = [", "\n"): FEATURES,
        **EDIT,
    }
    digest = bed.propose(PREPARED, template="tabular-prepared", edit=edit)
    bed.ingest(PREPARED, with_gaps(consortium, tmp_path_factory.mktemp("gaps")), folder="heart")
    early = bed.site("site-1", "membership", PREPARED, check=False)
    assert "model.untrained" in early
    bed.approve(PREPARED, digest)
    assert kill_when_an_attempt_opens(consortium, "site-2", digest) == 0
    return consortium.watch(PREPARED)


def test_an_attempt_lost_in_the_preparation_is_repeated_and_charged_to_it(
    consortium: Consortium, prepared: dict[str, Any]
) -> None:
    bed = consortium.bed
    assert prepared["state"] == "done", prepared["reason_code"]
    training = [each for each in prepared["rounds"] if each["kind"] == "train"]
    assert [(each["step"], each["attempt"], each["state"]) for each in training] == [
        (-1, 0, "void"),
        (-1, 1, "summed"),
        *((step, 0, "summed") for step in range(STEPS)),
    ]
    for name in bed.site_names:
        found = opened(consortium, name, prepared["digest"])
        # Each is charged before it computes; the one that died had, or had not yet, got so far.
        assert found["preparation"] in ((1, 2) if name == "site-2" else (2,))
        assert found["training"] == STEPS
        bed.site(name, "ledger", "verify")


def test_the_prepared_result_is_co_signed_and_its_constants_follow_from_the_model_file(
    consortium: Consortium, prepared: dict[str, Any], tmp_path: Path
) -> None:
    bed = consortium.bed
    result = bed.json("cohortium", "vendor", "results", PREPARED, "--plan-hash", prepared["digest"])
    assert [signer["site_id"] for signer in result["signed_by"]] == bed.site_names
    assert result["privacy"]["preparation_retry_cap"] == 1
    file = tmp_path / "model.safetensors"
    got = bed.json("cohortium", "vendor", "model", "get", PREPARED, "-o", str(file))
    tensors = load_file(file)
    assert {name: value.shape for name, value in tensors.items()} == {
        "linear.bias": (1,),
        "linear.weight": (1, INPUTS),
        "preparation.sum": (WORDS,),
    }
    constants = json.loads(Path(got["preparation"]).read_bytes())
    assert constants["plan_digest"] == prepared["digest"]
    # By hand, from nothing but the file: one patient's norm, sqrt(1 + 2 + 3 + 1), is 2^18 units.
    unit = 7**0.5 / 2**18
    count, total = (float(word) * unit for word in tensors["preparation.sum"][64:66])
    assert constants["means"]["chol"] == pytest.approx((total / count + 1) / 2 * 400)
    positives, negatives = (float(word) for word in tensors["preparation.sum"][-2:])
    assert constants["positive_weight"] == pytest.approx(negatives / positives)
    assert set(constants["standard_deviations"]) == {"thalach"}
    low, high = constants["bin_edges"]["age"]
    assert 30 <= low <= high <= 80


def test_an_exported_ledger_verifies_offline_and_a_tampered_one_names_the_entry(
    consortium: Consortium, prepared: dict[str, Any], tmp_path: Path
) -> None:
    file, changed = tmp_path / "site-1.ledger", tmp_path / "changed.ledger"
    consortium.bed.site("site-1", "ledger", "export", "--output", str(file))
    whole = offline("ledger", "verify", str(file), "--json")
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout)["intact"]
    values = json.loads(file.read_bytes())
    bodies = [json.loads(entry["body"]) for entry in values["export"]["entries"]]
    place = next(
        index
        for index, body in enumerate(bodies)
        if body.get("mechanism") == "preparation" and body["plan_digest"] == prepared["digest"]
    )
    bodies[place]["attempt"] += 1
    values["export"]["entries"][place]["body"] = rfc8785.dumps(bodies[place]).decode()
    changed.write_bytes(rfc8785.dumps(values))
    refused = offline("ledger", "verify", str(changed))
    assert refused.returncode == 3
    assert f"entry {place}" in refused.stderr
    assert "ledger.export_invalid" in refused.stderr


def test_membership_is_reported_on_the_final_model(
    consortium: Consortium, prepared: dict[str, Any]
) -> None:
    report = consortium.bed.json("cohortium-site", "site-1", "membership", PREPARED)
    assert report["is_final"]
    assert (report["plan_digest"], report["steps"]) == (prepared["digest"], STEPS)
    assert {attack["name"] for attack in report["attacks"]} == {"loss", "calibrated"}
    status = consortium.bed.site("site-1", "status")
    assert re.search(rf"{PREPARED} +finished +{STEPS} of {STEPS} ", status)


def test_dp_fedavg_runs_from_plan_to_co_signed_result(consortium: Consortium) -> None:
    bed = consortium.bed
    edit = {
        block("heart", "[training]", "# May be added"): LOCAL_TERMS,
    }
    digest = bed.propose(LOCAL, template="heart", edit=edit)
    bed.ingest(LOCAL, consortium.raw["heart"], folder="heart")
    bed.approve(LOCAL, digest)
    study = consortium.watch(LOCAL)
    assert study["state"] == "done", study["reason_code"]
    result = bed.json("cohortium", "vendor", "results", LOCAL)
    assert [signer["site_id"] for signer in result["signed_by"]] == bed.site_names
    assert result["privacy"]["t"] is None, "it holds against any number of other hospitals"
    for name in bed.site_names:
        assert opened(consortium, name, digest) == {"training": 2}
        bed.site(name, "ledger", "verify")
