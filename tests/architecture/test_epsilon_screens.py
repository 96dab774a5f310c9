"""PRIVACY-15: is an epsilon ever shown without everything it depends on?

Every screen, file and page on which one stands is made, for three kinds of plan, and read. Which
functions may write one at all: `test_epsilon_scope.py`.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.client import render
from coordinator.client.results import check_result
from coordinator.overview import Overview
from coordinator.web.app import make_page
from schemas.canonical import build
from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.privacy.costs import cost_values, plan_costs
from schemas.privacy.statement import privacy_statement
from site_node.cli import run
from site_node.config import parse_config, render_config
from site_node.context import SiteContext
from site_node.floors import Floors, check_floors
from tests.support.consortium import memory_consortium
from tests.support.desk import Desk
from tests.support.factories import seal_plan
from tests.support.sites import TestClock, approve, make_sites, real_plan, sealed


@dataclass(frozen=True)
class Case:
    """A plan, and what its scope must say of colluding hospitals and attempts."""

    plan: StudyPlan
    against: str
    attempts: str


LOCAL = {
    "algorithm": "dp-fedavg", "local_steps": 3, "local_learning_rate": 0.1, "local_divisor": 50,
    "update_clip": 1, "divisor": 4,
}  # fmt: skip
PREPARED = {"epsilon": 0.2, "noise_multiplier": 60, "retry_cap": 1, "integer_clip": 2**14}
KINDS = ("shared", "prepared", "local")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("scope")).enrol_four()


@pytest.fixture(scope="module")
def cases(desk: Desk) -> dict[str, Case]:
    shared = desk.plan("heart", "heart")
    desk.propose(shared)
    desk.approve(shared)
    desk.train(shared, shared.training.steps)
    desk.finish(shared)
    values = shared.model_dump(mode="json")
    found = {"shared": Case(shared, r"t = 1\b", r"15 attempts \(12 steps and 3 retries\)")}
    for name, training, preparation in (
        ("prepared", {"class_weights": "preparation"}, PREPARED),
        ("local", LOCAL, None),
    ):
        changed = values | {"study_id": name, "training": values["training"] | training}
        if preparation is not None:
            changed["preparation"] = preparation
        else:
            changed.pop("preparation", None)
        plan = build(StudyPlan, changed)
        desk.propose(plan)
        against = r"t = 1\b" if preparation else "any number of (other|colluding) hospitals"
        attempts = (
            r"17 attempts \(1 preparation and 1 retry; 12 steps and 3 retries\)"
            if preparation
            else r"15 attempts \(12 steps and 3 retries\)"
        )
        found[name] = Case(plan, against, attempts)
    return found


def assert_whole_scope(text: str, case: Case) -> None:
    """One text holds epsilon with delta, unit, adjacency, t, hospitals, attempts and outside."""
    text = " ".join(text.split())
    privacy = case.plan.privacy
    two = f"{privacy.epsilon_two_hospitals:g}"
    for part in (
        rf"(epsilon|ε =) {privacy.epsilon:g}\b",
        r"(delta|δ =) 1e-05",
        r"(unit|per) patient",
        "add-remove",
        case.against,
        r"(patient of 1 hospital|1 hospital per patient)",
        rf"of 2: (epsilon|ε =) {re.escape(two)}",
        case.attempts,
        "outside",
        "test-set metrics",
        "(settings|tuning)",
    ):
        assert re.search(part, text), (part, text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_lacks_one_part_is_noticed(cases: dict[str, Case], kind: str) -> None:
    """PRIVACY-15: the reading below, broken on purpose, part by part."""
    case = cases[kind]
    whole = privacy_statement(case.plan).sentence()
    assert_whole_scope(whole, case)
    outside = whole.index("; outside it:")
    parts = [whole[outside:], *re.split(r"[;,] ", whole[:outside])]
    needed = [part for part in parts if not part.startswith("accountant")]
    needed = [part for part in needed if "privacy loss" not in part]
    assert len(needed) >= 7  # epsilon and delta, unit, adjacency, t, patient, attempts, outside
    for part in needed:
        with pytest.raises(AssertionError):
            assert_whole_scope(whole.replace(part, ""), case)


@pytest.mark.parametrize("kind", KINDS)
def test_the_preview_of_a_plan_says_it(cases: dict[str, Case], kind: str) -> None:
    """PRIVACY-15: `cohortium study plan`, with the table of costs below."""
    case = cases[kind]
    costs = plan_costs(case.plan)
    lines = render.plan_lines(case.plan, (), costs)
    assert_whole_scope("\n".join(lines), case)
    place = next(n for n, line in enumerate(lines) if "in plain words" in line)
    below = next(n for n, line in enumerate(lines) if "of 2 hospitals" in line)
    assert place < below
    assert len(cost_values(costs)) == len(costs)


@pytest.fixture(scope="module")
def result(desk: Desk, cases: dict[str, Case]) -> dict[str, Any]:
    plan = cases["shared"].plan
    stored = desk.studies.release(plan.digest())
    assert stored is not None
    answer = {
        "plan": seal_plan(plan).model_dump(mode="json"),
        "release": base64.b64encode(stored.body).decode("ascii"),
        "signatures": dict(stored.signatures),
        "released_at": stored.received_at,
    }
    checked = check_result(answer, "heart")
    return render.result_values(plan, checked.release, checked.signed_by, checked.released_at)


def test_results_say_it_on_the_screen_in_json_and_in_csv(
    cases: dict[str, Case], result: dict[str, Any]
) -> None:
    """PRIVACY-15: `cohortium results`, `--json`, `--csv`."""
    case = cases["shared"]
    assert_whole_scope("\n".join(render.result_lines(case.plan, result)), case)
    assert_whole_json(result["privacy"], case)
    rows = csv.reader(io.StringIO(render.result_csv(result)))
    (row,) = (row for row in rows if row[1] == "epsilon")
    assert_whole_scope(row[-1], case)


def assert_whole_json(values: dict[str, Any], case: Case) -> None:
    privacy, training = case.plan.privacy, case.plan.training
    assert (values["epsilon"], values["delta"]) == (privacy.epsilon, privacy.delta)
    assert (values["unit"], values["adjacency"]) == ("patient", "add-remove")
    assert values["hospitals_per_patient"] == 1
    assert values["epsilon_two_hospitals"] == privacy.epsilon_two_hospitals
    assert (values["steps"], values["retry_cap"]) == (training.steps, training.retry_cap)
    assert any("test-set metrics" in what for what in values["outside_epsilon"])
    assert values["tuning_declaration"] == case.plan.tuning_declaration
    assert_whole_scope(values["sentence"], case)


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_and_the_live_table_say_it(desk: Desk, cases: dict[str, Case], kind: str) -> None:
    """PRIVACY-15: what `study watch --json` gives and what `study watch` draws."""
    from rich.console import Console

    case = cases[kind]
    study = json.loads(Overview(desk.database).study(case.plan.study_id).model_dump_json())
    assert_whole_json(study["privacy"], case)
    console = Console(file=io.StringIO(), width=90)
    console.print(render.progress_table(study))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert_whole_scope(text, case)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/", "/studies/{}"])
def test_every_epsilon_of_the_pages_says_it(
    desk: Desk, cases: dict[str, Case], kind: str, path: str
) -> None:
    """PRIVACY-15: each paragraph that names one is whole by itself."""
    case = cases[kind]

    async def get() -> str:
        transport = httpx.ASGITransport(app=make_page(desk.database, "Test"))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
            return (await client.get(path.format(case.plan.study_id))).text

    page = asyncio.run(get())
    if path == "/":
        articles = re.findall(r'<article class="card study">(.*?)</article>', page, flags=re.DOTALL)
        (page,) = (one for one in articles if f'/studies/{case.plan.study_id}"' in one)
    paragraphs = re.findall(r'<p class="epsilon">(.*?)</p>', page, flags=re.DOTALL)
    assert paragraphs
    for paragraph in paragraphs:
        assert_whole_scope(re.sub(r"<[^>]+>", " ", paragraph), case)
    rest = re.sub(r'<p class="epsilon">.*?</p>', "", page, flags=re.DOTALL)
    assert not re.search(r"ε\s*=\s*[0-9]", rest)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Case]:
    """A hospital that has approved one plan and received another."""
    folder = tmp_path_factory.mktemp("hospital")
    sites = make_sites(folder, TestClock(), 3)
    dates = {"created": "2026-01-01T00:00:00Z", "expires": "2027-12-31T00:00:00Z"}
    plan = real_plan(sites, **dates)
    site = sites[0]
    approve(site, plan)
    site.charge(plan, "train", 0, 0, plan.site_ids)
    site.inbox.receive("plan", "second", sealed(real_plan(sites, study_id="second", **dates)))
    for each in sites:
        each.db.close()
    return site.home, Case(plan, r"t = 1\b", r"12 attempts \(10 steps and 2 retries\)")


LEDGER_SCOPE = (
    r"delta 1e-05", "unit patient", "adjacency add-remove", r"\(t\)", "a patient of 1 hospital",
    r"of 2: epsilon [0-9.]+ committed, epsilon [0-9.]+ spent",
    r"for all plans together up to t = 1\b",
    "retries and void ones included",
    "outside it: the test-set metrics",
)  # fmt: skip


def said(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run([*words, "--home", str(home)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("study", ["heart", "second"])
def test_plan_show_says_it_of_the_plan_and_of_the_budget(
    hospital: tuple[Path, Case], capsys: pytest.CaptureFixture[str], study: str
) -> None:
    """PRIVACY-15: `cohortium-site plan show`, approved and pending, and `--json`."""
    home, case = hospital
    shown = " ".join(said(home, capsys, "plan", "show", study).split())
    assert_whole_scope(shown, case)
    for part in LEDGER_SCOPE:
        assert re.search(part, shown), part
    values = json.loads(said(home, capsys, "--json", "plan", "show", study))
    assert_whole_json(values["privacy"], case)
    for part in LEDGER_SCOPE:
        assert re.search(part, values["budget"]["scope"]), part


def test_ledger_show_says_it(
    hospital: tuple[Path, Case], capsys: pytest.CaptureFixture[str]
) -> None:
    """PRIVACY-15: `cohortium-site ledger show` and `--json`."""
    home, _ = hospital
    shown = " ".join(said(home, capsys, "ledger", "show").split())
    values = json.loads(said(home, capsys, "--json", "ledger", "show"))
    assert re.search(r"Spent epsilon 0\.[0-9]{4}", shown)
    for part in LEDGER_SCOPE:
        assert re.search(part, shown), part
        assert re.search(part, values["scope"]), part


def test_the_membership_report_says_it_on_the_screen_in_json_and_in_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PRIVACY-15: `cohortium-site membership`, `--json`, reports/STUDY.membership.json."""
    consortium = memory_consortium(tmp_path)
    consortium.study_run().run()
    plan, home = consortium.plan, consortium.sites["site-1"].home
    covers = re.escape(privacy_statement(plan).covers.removeprefix("all "))
    case = Case(plan, r"t = 1\b", covers)
    assert_whole_scope(said(home, capsys, "membership", "heart"), case)
    values = json.loads(said(home, capsys, "--json", "membership", "heart"))
    kept = json.loads(Path(values["path"]).read_text("utf-8"))
    for each in (values, kept):
        assert_whole_json(each["privacy"], case)
        assert not {"epsilon", "delta"} & set(each)


def test_a_refusal_that_names_an_epsilon_says_it(tmp_path: Path) -> None:
    """PRIVACY-15: errors are read too."""
    sites = make_sites(tmp_path, TestClock(), 3)
    loud = real_plan(sites, privacy={"noise_multiplier": 4})
    case = Case(loud, r"t = 1\b", r"12 attempts \(10 steps and 2 retries\)")
    with pytest.raises(CohortiumError) as broken:
        approve(sites[0], loud)
    assert broken.value.code is ErrorCode.ACCOUNTING_MISMATCH
    assert_whole_scope(broken.value.sentence, case)
    with pytest.raises(CohortiumError) as floor:
        check_floors(loud, Floors(maximum_epsilon_per_study=0.9))
    assert_whole_scope(floor.value.sentence, case)


def test_a_spent_budget_says_it(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, TestClock(), 3)
    head = render_config(sites[0].config).partition("[floors]")[0]
    text = f"{head}[floors]\nmaximum_epsilon_total = 0.5\n"
    strict = SiteContext(sites[0].home, parse_config(text.encode()), sites[0].clock)
    with pytest.raises(CohortiumError) as refused:
        approve(strict, real_plan(sites))
    assert refused.value.code is ErrorCode.LEDGER_INSUFFICIENT
    for part in LEDGER_SCOPE:
        assert re.search(part, refused.value.sentence), part


def test_the_last_lines_of_the_demo_say_it(
    cases: dict[str, Case], capsys: pytest.CaptureFixture[str]
) -> None:
    """PRIVACY-15: `make demo`."""
    from scripts.demo import show

    statement = privacy_statement(cases["shared"].plan)
    study = {
        "test_auroc": 0.9, "test_auroc_ci": [0.8, 0.95], "baseline_pooled_no_dp_auroc": 0.91,
        "baseline_central_dp_auroc": 0.9, "steps": 12, "round_seconds_median": 0.5,
        "privacy": statement.sentence(), "privacy_reading": statement.reading(),
    }  # fmt: skip
    show(
        {
            "studies": {"heart": study}, "identifiers_found_outside_raw": 0,
            "identifier_positive_control_found": True, "processes": 21, "tls": "TLSv1.3",
            "peak_rss_mib": 1.0, "seconds_total": 1.0,
        }
    )  # fmt: skip
    text = capsys.readouterr().out
    assert_whole_scope(text, cases["shared"])
    assert "right in at most 74 of 100 cases" in " ".join(text.split())
