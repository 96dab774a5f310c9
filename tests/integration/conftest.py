"""One consortium of separate processes, started once per test run and shared by these tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.testbed import Testbed

CXR_PATIENTS = 40


@dataclass
class Consortium:
    """A running test bed on which the study `heart` has been run to its result."""

    bed: Testbed
    raw: dict[str, Path]

    def begin(
        self,
        study: str,
        template: str = "heart",
        steps: int = 12,
        pair_root: str = "x25519",
        **options: Any,
    ) -> str:
        """Propose, ingest and approve a further study; returns the plan's digest."""
        average = {"heart": ("steps = 12", "= 6 "), "cxr": ("steps = 40", "= 20")}[template]
        edit = {average[0]: f"steps = {steps}"}
        edit[f"average_from_step {average[1]}".rstrip()] = f"average_from_step = {steps // 2}"
        edit['pair_root = "x25519"'] = f'pair_root = "{pair_root}"'
        digest = self.bed.propose(study, template=template, edit=edit)
        self.bed.ingest(study, self.raw[template], folder=template)
        self.bed.approve(study, digest, **options)
        return digest

    def watch(self, study: str) -> dict[str, Any]:
        """Wait for the end of a study; returns the coordinator's picture of it."""
        output = self.bed.run("cohortium", "vendor", "study", "watch", study, "--json", check=False)
        return dict(json.loads(output[output.index("{") :]))

    def look(self, study: str) -> dict[str, Any]:
        """Give the coordinator's picture of a study now."""
        listed = self.bed.json("cohortium", "vendor", "study", "list")["studies"]
        return next(entry for entry in listed if entry["study_id"] == study)

    def approved(self, study: str) -> list[str]:
        """Name the hospitals whose approval has reached the coordinator."""
        sites = self.look(study)["sites"]
        return sorted(site["site_id"] for site in sites if site["status"] != "awaited")

    def until_step(self, study: str, step: int) -> None:
        """Wait until a study has finished some steps."""
        self.bed.wait_for(
            lambda: self.look(study)["steps_done"] >= step, f"step {step} of {study}", 120
        )

    def charges(self, name: str, digest: str) -> int:
        """Count the training attempts charged in one hospital's ledger for a plan."""
        accounts = self.bed.json("cohortium-site", name, "ledger", "show")["accounts"]
        found = [account["charged"] for account in accounts if account["digest"] == digest]
        return found[0] if found else 0

    def pid(self, name: str, process: str) -> int:
        """Give the process id of one of a hospital's processes."""
        path = self.bed.home(name) / "state" / "pids.json"
        return int(json.loads(path.read_text())[process])


@pytest.fixture(scope="session")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Coordinator and four hospitals, enrolled, confirmed, with the heart study done."""
    folder = tmp_path_factory.mktemp("consortium")
    raw = {"heart": folder / "raw-heart", "cxr": folder / "raw-cxr"}
    for study, target in raw.items():
        limit = ["--limit", str(CXR_PATIENTS)] if study == "cxr" else []
        command = [sys.executable, "-m", "scripts.make_data", "--out", str(target)]
        subprocess.run([*command, "--study", study, *limit], check=True, capture_output=True)
    bed = Testbed(folder / "bed", tap=True)
    with bed.ended_at_exit():
        bed.start_coordinator()
        bed.enrol_sites()
        bed.confirm_peers()
        bed.start_sites()
        made = Consortium(bed, raw)
        made.begin("heart")
        assert made.watch("heart")["state"] == "done"
        yield made
