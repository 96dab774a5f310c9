"""Do the commands of vendors and researchers carry a study from draft to result?

The commands run as people run them, in processes of their own, against a real API over TLS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from schemas.canonical import parse
from schemas.documents import PullRequest
from schemas.governance.study import open_plan
from schemas.identity import seal_card
from schemas.models import read_final
from schemas.preparation import PreparedDocument, prepare
from schemas.signing import SignedDocument
from tests.api_web.conftest import Served
from tests.support.desk import named_card
from tests.support.prepared import preparation

_RUN = """
import sys
from coordinator.client.cli import main
sys.argv[0] = 'cohortium'
main()
"""


class Shell:
    """Runs ``cohortium`` for one person."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder

    def run(self, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one command and check its exit code."""
        done = subprocess.run(
            [sys.executable, "-c", _RUN, *words],
            cwd=self.folder,
            env={
                **os.environ,
                "COHORTIUM_HOME": str(self.home),
                "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str, expect: int = 0) -> dict[str, Any]:
        """Run one command with ``--json`` and read its answer."""
        found: dict[str, Any] = json.loads(self.run(*words, "--json", expect=expect).stdout)
        return found


@pytest.fixture
def shell(served: Served, tmp_path: Path) -> Shell:
    """A vendor's shell, set up from an access file."""
    access = served.access()
    values = {
        "version": 1,
        "coordinator": access.coordinator,
        "api_url": access.api_url,
        "ca_pem": access.ca_pem,
        "token": access.token,
        "holder": access.holder,
        "role": access.role,
    }
    (tmp_path / "vendor.access").write_text(json.dumps(values), encoding="utf-8")
    made = Shell(tmp_path / "vendor", tmp_path)
    made.run("init", "--access", "vendor.access")
    cards = tmp_path / "cards"
    cards.mkdir()
    for site_id, keys in served.desk.keys.items():
        card = seal_card(keys.identity, named_card(site_id, keys))
        (cards / f"{site_id}.card").write_bytes(card.canonical())
    return made


def test_a_study_goes_from_draft_to_result(served: Served, shell: Shell) -> None:
    desk = served.desk
    assert (shell.home / "vendor.key").stat().st_mode & 0o077 == 0
    shell.run("study", "init", "heart", "--template", "heart", "-o", "draft.toml")
    planned = shell.run("study", "plan", "draft.toml", "--cards", "cards", "-o", "heart.plan")
    raw = (shell.folder / "heart.plan").read_bytes()
    plan = open_plan(parse(SignedDocument, raw, max_bytes=10**6))
    assert plan.privacy.noise_multiplier == 14.4487
    for part in (plan.digest(), "epsilon 1 at delta 1e-05", "15 attempts", "outside epsilon",
                 "of 2 hospitals", "together", "in plain words"):  # fmt: skip
        assert part in planned.stdout
    sent = shell.json("study", "apply", "heart.plan")
    assert sent == {"study_id": "heart", "plan_digest": plan.digest(), "state": "proposed"}
    assert desk.studies.by_name("heart").signed_plan.canonical() == raw
    assert "have not answered" in shell.run("study", "list").stdout
    assert shell.json("results", "heart", expect=7)["error"]["code"] == "study.no_result"
    desk.approve(plan)
    desk.train(plan, plan.training.steps)
    desk.finish(plan)
    watched = shell.run("study", "watch", "heart").stdout
    assert "step 12/12" in watched and "Done." in watched
    text = shell.run("results", "heart").stdout
    for part in ("AUROC", "DeLong", "Wilson", "co-signed by site-1, site-2, site-3, site-4"):
        assert part in text
    values = shell.json("results", "heart")
    assert values["plan_digest"] == plan.digest()
    assert shell.run("results", "heart", "--csv").stdout.startswith("study,quantity,value,low")
    got = shell.json("model", "get", "heart")
    assert got["model_hash"] == values["model_hash"]
    assert (shell.folder / "heart.safetensors").stat().st_size > 100


def test_a_model_with_a_preparation_has_its_constants_beside_it(
    served: Served, shell: Shell
) -> None:
    """PRIVACY-11: the file holds the signed sum, and the commands write down what follows."""
    desk = served.desk
    plan = desk.plan("prepared", "heart", **preparation())
    desk.propose(plan)
    desk.approve(plan)
    desk.train(plan, plan.rounds)
    desk.finish(plan)
    got = shell.json("model", "get", "prepared", "-o", "model.safetensors")
    assert got["preparation"] == "model.preparation.json"
    raw = (shell.folder / "model.preparation.json").read_bytes()
    document = parse(PreparedDocument, raw, max_bytes=10**6)
    _, summed = read_final(plan, (shell.folder / "model.safetensors").read_bytes())
    assert document == prepare(plan, summed).document(plan)
    assert "Wrote prepared.preparation.json" in shell.run("model", "get", "prepared").stdout


def test_own_weights_go_from_the_vendors_file_to_a_hospital(served: Served, shell: Shell) -> None:
    """A million parameters: a model of the size that is worth starting from another one."""
    shell.run("study", "init", "heart", "--template", "heart", "-o", "draft.toml")
    draft = (shell.folder / "draft.toml").read_text(encoding="utf-8")
    lines = [line for line in draft.splitlines() if not line.startswith("initialisation_seed")]
    at = lines.index("[model]") + 1
    lines[at : at + 1] = [
        'architecture = "mlp"',
        "hidden = [1000, 985]",
        'initialisation = "file"',
        'initial_weights_origin = "A public registry; nobody of these hospitals."',
    ]
    text = re.sub(r"integer_clip = .*", "integer_clip = 524288", "\n".join(lines))
    (shell.folder / "draft.toml").write_text(text, encoding="utf-8")
    shapes = {
        "hidden.0.weight": (1000, 13), "hidden.0.bias": (1000,), "hidden.1.weight": (985, 1000),
        "hidden.1.bias": (985,), "linear.weight": (1, 985), "linear.bias": (1,),
    }  # fmt: skip
    generator = np.random.default_rng(2)
    own = {name: generator.normal(0, 0.1, shape).astype("f4") for name, shape in shapes.items()}
    assert sum(each.size for each in own.values()) > 1_000_000
    (shell.folder / "own.safetensors").write_bytes(save(own))
    plan_words = ("study", "plan", "draft.toml", "--cards", "cards", "-o", "heart.plan")
    assert shell.json(*plan_words, expect=2)["error"]["code"] == "config.usage"
    planned = shell.json(*plan_words, "--weights", "own.safetensors")
    assert planned["weights_file"] == "heart.plan.weights.safetensors"
    file = (shell.folder / "heart.plan.weights.safetensors").read_bytes()
    named = planned["plan"]["model"]["initial_weights_sha256"]
    assert hashlib.sha256(file).hexdigest() == named
    shell.run("study", "apply", "heart.plan")
    have: tuple[str, ...] = ()
    for kind in ("plan", "weights"):  # too long to come together
        request = PullRequest(have=have).canonical()
        [pulled] = json.loads(served.desk.documents.pull("site-1", request))["documents"]
        assert pulled["kind"] == kind
        have = (*have, pulled["sha256"])
    assert base64.b64decode(pulled["body"]) == file


def test_weights_changed_after_the_plan_are_not_sent(served: Served, shell: Shell) -> None:
    shell.run("study", "init", "heart", "--template", "heart", "-o", "draft.toml")
    draft = (shell.folder / "draft.toml").read_text(encoding="utf-8")
    lines = [line for line in draft.splitlines() if not line.startswith("initialisation_seed")]
    at = lines.index("[model]") + 1
    lines[at:at] = ['initialisation = "file"', 'initial_weights_origin = "A public registry."']
    (shell.folder / "draft.toml").write_text("\n".join(lines), encoding="utf-8")
    own = {"linear.weight": np.ones((1, 13)), "linear.bias": np.zeros(1)}
    (shell.folder / "own.safetensors").write_bytes(save(own))
    shell.run(
        "study", "plan", "draft.toml", "--cards", "cards", "-o", "heart.plan",
        "--weights", "own.safetensors",
    )  # fmt: skip
    beside = shell.folder / "heart.plan.weights.safetensors"
    beside.write_bytes(beside.read_bytes()[:-1] + b"\x01")
    assert shell.json("study", "apply", "heart.plan", expect=2)["error"]["code"] == (
        "weights.mismatch"
    )
    assert served.desk.studies.all() == []


def test_cards_may_come_from_the_coordinator(shell: Shell) -> None:
    shell.run("study", "init", "heart")
    planned = shell.json(
        "study", "plan", "draft.toml", "--from-coordinator", "--sites", "site-1,site-2,site-4",
        "-o", "heart.plan",
    )  # fmt: skip
    assert [site["site_id"] for site in planned["plan"]["sites"]] == ["site-1", "site-2", "site-4"]


def test_a_study_that_ends_without_a_result_ends_the_watch_with_a_code(
    served: Served, shell: Shell
) -> None:
    desk = served.desk
    plan = desk.plan()
    desk.propose(plan)
    desk.stop(plan, "site-1")
    desk.stop(plan, "site-2")
    done = shell.run("study", "watch", "heart", expect=4)
    assert "study.ended_early" in done.stderr
    assert "Refused by the hospitals" in done.stdout


def test_an_edited_plan_file_is_refused(shell: Shell) -> None:
    shell.run("study", "init", "heart")
    shell.run("study", "plan", "draft.toml", "--cards", "cards", "-o", "heart.plan")
    path = shell.folder / "heart.plan"
    signed = parse(SignedDocument, path.read_bytes(), max_bytes=10**6)
    forged = signed.model_copy(update={"signature": "0" * 128})
    path.write_bytes(forged.canonical())
    refused = shell.json("study", "apply", "heart.plan", expect=3)
    assert refused["error"]["code"] == "signature.invalid"


@pytest.mark.parametrize(
    ("words", "expect", "code"),
    [
        (["study", "plan", "none.toml", "--cards", "cards", "-o", "x"], 2, "config.file_missing"),
        (["study", "plan", "none.toml", "-o", "x"], 2, "config.usage"),
        (["study", "apply", "none.plan"], 2, "config.file_missing"),
        (["study", "init", "x", "--template", "lungs"], 2, "config.usage"),
        (["results", "nothing"], 7, "study.unknown"),
        (["results", "../x"], 2, "config.usage"),
        (["results", "x", "--csv"], 2, "config.usage"),
        (["model", "get", "nothing"], 7, "study.unknown"),
        (["init", "--access", "none"], 2, "config.file_missing"),
        (["results"], 2, "config.usage"),
        (["study", "watch", "heart", "--fast"], 2, "config.usage"),
        (["no-such-command"], 2, "config.usage"),
    ],
)
def test_refusals_have_a_code_and_their_class_of_exit(
    shell: Shell, words: list[str], expect: int, code: str
) -> None:
    assert shell.json(*words, expect=expect)["error"]["code"] == code


def test_a_group_alone_prints_its_help(shell: Shell) -> None:
    done = shell.run("study", expect=2)
    assert "watch" in done.stdout and not done.stderr


def test_an_absent_coordinator_is_a_transport_error(served: Served, shell: Shell) -> None:
    path = shell.home / "access.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["api_url"] = "https://127.0.0.1:1"
    path.write_text(json.dumps(values), encoding="utf-8")
    refused = shell.json("study", "list", expect=8)
    assert refused["error"]["code"] == "transport.unreachable"


def test_help_does_not_load_heavy_libraries(tmp_path: Path) -> None:
    probe = (
        "import sys; import coordinator.client.cli, coordinator.cli; "
        "heavy = {'numpy', 'httpx', 'flwr', 'fastapi', 'dp_accounting', 'cryptography', 'torch'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
