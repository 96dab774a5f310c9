"""Does the comparison of utility train what it says, keep what is done, and judge honestly?"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.models import apply_sum, initial_parameters, initial_state
from schemas.secagg.quantise import QuantisedUpdate
from scripts import bench_utility, bench_utility_methods, bench_utility_studies
from scripts.bench_utility import Runs, train_all
from scripts.bench_utility_chart import Line, utility_chart
from scripts.bench_utility_entropy import SeededEntropy, torch_seed
from scripts.bench_utility_methods import (
    LocalTrainer,
    modular_sum,
    one_draw,
    our_plan,
    peer_noise,
    secure_sum_agrees,
    train_averaged,
)
from scripts.bench_utility_report import Scores, entry, gap_to_central, goals
from scripts.bench_utility_studies import CONSTANTS, DATA_SETS, EPSILONS, Study, load_study
from scripts.bench_utility_tuning import (
    GRIDS,
    Setting,
    choose,
    search,
    simulate,
    training_rows,
)
from site_node.cohort.features import Features
from site_node.training.dp_sgd import clipped_integer_sum, noised_update


@pytest.fixture(scope="module")
def heart() -> Study:
    return load_study("heart")


# --- a whole run ----------------------------------------------------------------------------


def test_a_small_run_writes_the_table_the_details_and_the_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--data", "heart", "--seeds", "2", "--epsilons", "1", "--out", str(tmp_path)]
    assert bench_utility.main(call) == 1  # two seeds are too few for a verdict
    assert "MISSED heart, epsilon 1: noise seeds: 2" in capsys.readouterr().out
    table = json.loads((tmp_path / "utility.json").read_text())
    assert list(table) == ["heart"] and list(table["heart"]) == ["1"]
    row = table["heart"]["1"]
    assert set(row) == {"pooled", "central", "ours", "fedavg", "sd"}
    assert all(0.8 < row[method] < 0.95 for method in ("pooled", "central", "ours", "fedavg"))
    assert 0 < row["sd"] < 0.05
    kept = json.loads((tmp_path / "utility-details.json").read_text())
    one = kept["data"]["heart"]["epsilons"]["1"]
    assert [len(one["auroc"][m]) for m in ("pooled", "central", "ours", "fedavg")] == [1, 2, 2, 2]
    assert one["plan_epsilon"] <= 1 and one["charged_attempts"] == 5
    assert one["gap_to_central"]["seeds"] == 2
    assert kept["data"]["heart"]["secure_sum_is_identical"] is True
    assert kept["data"]["heart"]["test_patients"] == 254
    assert ET.parse(tmp_path / "utility.svg").getroot().tag.endswith("svg")
    # Again: nothing is trained, so no line is added, and the numbers stay.
    lines = (tmp_path / "utility-runs.jsonl").read_text()
    assert bench_utility.main(call) == 1
    assert (tmp_path / "utility-runs.jsonl").read_text() == lines
    assert json.loads((tmp_path / "utility.json").read_text()) == table


# --- resuming -------------------------------------------------------------------------------


class Counting:
    """Stands in for a training and notes what was asked of it; stops after ``limit`` runs."""

    def __init__(self, limit: int = 1000) -> None:
        self.asked: list[tuple[str, float, int]] = []
        self.limit = limit

    def __call__(self, study: Study, method: str, epsilon: float, seed: int) -> float:
        if len(self.asked) == self.limit:
            raise KeyboardInterrupt
        self.asked.append((method, epsilon, seed))
        return 0.5 + len(self.asked) / 1000


def test_a_stopped_benchmark_goes_on_where_it_was(heart: Study, tmp_path: Path) -> None:
    runs, first, second = Runs(tmp_path / "runs.jsonl", "code"), Counting(limit=5), Counting()
    with pytest.raises(KeyboardInterrupt):
        train_all(heart, [1.0, 2.0], 2, runs, first)
    with runs.path.open("a") as file:
        file.write('{"run": "heart/ours/1/1", "inp')  # killed while it wrote
    train_all(heart, [1.0, 2.0], 2, runs, second)
    assert len(first.asked) == 5 and not set(first.asked) & set(second.asked)
    # "pooled" has no noise: one model for all epsilons.
    assert len(first.asked) + len(second.asked) == 1 + 2 * 3 * 2
    third = Counting()
    scores = train_all(heart, [1.0, 2.0], 2, runs, third)
    assert third.asked == [] and scores[1.0]["pooled"] == scores[2.0]["pooled"]
    assert {len(scores[e][m]) for e in scores for m in ("central", "ours", "fedavg")} == {2}


def test_other_rows_other_code_or_other_constants_are_trained_again(
    heart: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(tmp_path / "runs.jsonl", "code")
    train_all(heart, [1.0], 1, runs, Counting())
    site = next(iter(heart.train))
    flipped = replace(heart.train[site], y=1 - heart.train[site].y)
    other = Counting()
    train_all(replace(heart, train={**heart.train, site: flipped}), [1.0], 1, runs, other)
    assert len(other.asked) == 4
    again = Counting()
    changed = replace(CONSTANTS["heart"]["fedavg"], clip=0.7)
    with monkeypatch.context() as patch:
        constants = {**CONSTANTS["heart"], "fedavg": changed}
        patch.setitem(CONSTANTS, "heart", constants)  # type: ignore[misc]
        train_all(heart, [1.0], 1, runs, again)
    assert [method for method, _, _ in again.asked] == ["fedavg"]
    code = Counting()
    train_all(heart, [1.0], 1, replace(runs, code="other"), code)
    assert len(code.asked) == 4


def test_the_mechanism_is_part_of_the_code_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in bench_utility._CODE:
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((bench_utility._ROOT / name).read_bytes())
    before = bench_utility.code_sha256()
    monkeypatch.setattr(bench_utility, "_ROOT", tmp_path)
    assert bench_utility.code_sha256() == before
    (tmp_path / "site_node/training/noise.py").write_text("# half the noise")
    assert bench_utility.code_sha256() != before


# --- judging --------------------------------------------------------------------------------


def scores_of(**changes: float) -> Scores:
    """Ten seeds of everything at the values that just reach every goal of heart at 0.5."""
    values = {"pooled": 0.88, "central": 0.8629, "ours": 0.86, "fedavg": 0.8599} | changes
    by_method = {m: [v] * (1 if m == "pooled" else 10) for m, v in values.items()}
    return {"heart": {0.5: by_method}}


def missed(scores: Scores, exact: bool = True) -> set[str]:
    """Names of the goals that were missed."""
    return {goal.name for goal in goals(scores, {"heart": exact}) if not goal.is_met}


def test_goals_that_are_just_reached_are_met() -> None:
    assert missed(scores_of()) == set()
    assert missed(scores_of(central=0.8)) == set()  # better than central is no failure


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"central": 0.8631}, "heart, epsilon 0.5: ours - central"),
        ({"fedavg": 0.86}, "heart, epsilon 0.5: ours - fedavg"),
        ({"ours": 0.85995, "fedavg": 0.8}, "heart, epsilon 0.5: AUC of ours"),
    ],
)
def test_a_goal_that_is_not_reached_is_missed(changes: dict[str, float], name: str) -> None:
    assert missed(scores_of(**changes)) == {name}


def test_too_few_seeds_or_another_sum_are_no_verdict() -> None:
    few = scores_of()
    few["heart"][0.5]["ours"] = few["heart"][0.5]["ours"][:9]
    assert missed(few) == {"heart, epsilon 0.5: noise seeds"}
    assert missed(scores_of(), exact=False) == {"heart: secure sum identical"}


def test_the_table_holds_means_and_the_spread_of_ours() -> None:
    by_method = {"pooled": [0.9], "central": [0.8, 0.9], "ours": [0.7, 0.8], "fedavg": [0.6, 0.6]}
    row = entry({0.5: by_method})["0.5"]
    assert row == {"pooled": 0.9, "central": 0.85, "ours": 0.75, "fedavg": 0.6, "sd": 0.070711}
    gap = gap_to_central({"ours": [0.8, 0.7], "central": [0.81, 0.73]})
    half = 1.96 * math.sqrt(0.0002) / math.sqrt(2)
    assert gap["mean"] == -0.02
    assert gap["interval_95"] == [round(-0.02 - half, 6), round(-0.02 + half, 6)]


# --- the methods ----------------------------------------------------------------------------


def test_the_sum_without_masks_is_the_secure_sum(
    heart: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secure_sum_agrees(heart, 8.0)
    wrong = lambda updates: sum(updates.values()) + 1  # noqa: E731
    monkeypatch.setattr(bench_utility_methods, "modular_sum", wrong)
    assert not secure_sum_agrees(heart, 8.0)


def test_one_party_has_the_noise_of_the_shares_but_shorter(heart: Study) -> None:
    plan, sites = our_plan("heart", 1.0), list(heart.train)
    terms = plan.sum_terms(0)
    sigma = terms.noise_multiplier * terms.integer_clip
    central = one_draw(plan, sites, SeededEntropy("paired"))
    entropy = SeededEntropy("paired")
    nothing = QuantisedUpdate(np.zeros(20_000, dtype=np.int64))
    for _ in range(2):  # step after step, the two read one stream in step
        found = central(sigma, 20_000)
        shares = [noised_update(plan, terms, nothing, 4, entropy).values for _ in sites]
        summed_ = np.sum(shares, axis=0)
        assert found.std() == pytest.approx(sigma, rel=0.02)  # 4 standard errors
        assert found.std() != pytest.approx(summed_.std(), rel=0.02)
        assert found.tolist() == np.rint(summed_ * math.sqrt(3 / 4)).tolist()


def test_sums_wrap_as_words_do() -> None:
    parts = {"a": np.array([-5, 2**31 - 1, -(2**31)]), "b": np.array([3, 1, -1])}
    assert modular_sum(parts).tolist() == [-2, -(2**31), 2**31 - 1]


def test_no_two_runs_share_noise() -> None:
    names = [
        f"{d}/{e:g}/{m}/{s}" for d in DATA_SETS for e in EPSILONS for m in "co" for s in (0, 1)
    ]
    assert len({SeededEntropy(name)(32) for name in names}) == len(names)
    assert SeededEntropy("a")(48) == SeededEntropy("a")(48)
    stream = SeededEntropy("a")
    assert stream(16) + stream(32) == SeededEntropy("a")(48)
    assert len({torch_seed(name) for name in names}) == len(names)


def rows_of(x: np.ndarray, y: list[int], patient: list[int] | None = None) -> Features:
    """Rows with a patient each, or with these patients."""
    owners = np.arange(len(y)) if patient is None else np.array(patient)
    return Features(x.astype(np.float32), np.array(y), owners, int(owners[-1]) + 1)


def test_the_peer_adds_its_whole_noise_at_every_site() -> None:
    plan = our_plan("heart", 1.0)
    zeros = rows_of(np.zeros((50, 13)), [0, 1] * 25)
    generator = torch.Generator().manual_seed(torch_seed("peer"))
    trainer = LocalTrainer(plan, zeros, noise=3.0, clip=2.0, generator=generator)
    start = np.zeros(14)
    drawn = np.concatenate([trainer.train(start, 5.0, 1)[:13] for _ in range(300)])
    expected = 5.0 * 3.0 * 2.0 / 50  # rate * sigma * clip / rows
    assert drawn.std() == pytest.approx(expected, rel=0.05)  # 4.4 standard errors
    assert drawn.std() != pytest.approx(expected / math.sqrt(2), rel=0.05)


def test_the_peer_protects_rows_so_a_patient_may_have_one_only() -> None:
    twice = rows_of(np.zeros((2, 13)), [0, 0], [0, 0])
    with pytest.raises(ValueError, match="rows"):
        LocalTrainer(our_plan("heart", 1.0), twice, 1.0, 1.0, torch.Generator())


def test_averages_by_size_are_a_step_on_all_rows(
    heart: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_utility_methods, "peer_noise", lambda constants, epsilon: 0.0)
    plan = our_plan("heart", 1.0)
    one = replace(CONSTANTS["heart"]["fedavg"], steps=2, local_steps=1, average_from_step=2)
    one = replace(one, learning_rates={1.0: 0.5}, momentum=0.5)
    found = train_averaged(plan, heart.train, one, 1.0, seed=0)
    setting = Setting(2, 0, 1, one.clip, 0.5)
    rows, drawn = training_rows("heart"), np.random.default_rng(0)
    everywhere = simulate(rows, setting, 0.5, np.zeros(1, np.float32), drawn, is_peer=False)
    np.testing.assert_allclose(found, everywhere[2][:, 0], atol=2e-6)


# --- tuning ---------------------------------------------------------------------------------


def test_what_is_tuned_is_what_the_product_trains(heart: Study) -> None:
    constants = replace(CONSTANTS["heart"]["ours"], steps=3, average_from_step=3)
    plan = bench_utility_studies.plan_for("heart", constants, 1.0)
    pooled, state = heart.pooled, initial_state(plan.model, initial_parameters(plan.model))
    for _ in range(3):
        everyone = np.ones(pooled.patients, dtype=np.bool_)
        state = apply_sum(state, clipped_integer_sum(plan, state, pooled, everyone).values, plan)
    rate = plan.training.learning_rate * pooled.patients / plan.training.divisor
    setting, drawn = Setting(3, 0, 1, constants.clip, 0.0), np.random.default_rng(0)
    zero = np.zeros(1, np.float32)
    found = simulate(training_rows("heart"), setting, rate, zero, drawn, is_peer=False)[3]
    # Truncation to the grid loses at most one unit of clip / 2^18 for each patient.
    np.testing.assert_allclose(found[:, 0], state.parameters, atol=1e-5)


def test_the_noise_that_is_tuned_with_is_the_noise_of_the_plan() -> None:
    for name in DATA_SETS:
        ours, peer = CONSTANTS[name]["ours"], CONSTANTS[name]["fedavg"]
        hospitals = len(bench_utility_studies.site_keys(name))
        mine = Setting(ours.steps, ours.retry_cap, 1, ours.clip, ours.momentum)
        other = Setting(peer.steps, 0, peer.local_steps, peer.clip, peer.momentum)
        for place, epsilon in enumerate(EPSILONS):
            sigma = our_plan(name, epsilon).privacy.noise_multiplier
            inflated = sigma * math.sqrt(hospitals / (hospitals - 1))
            assert mine.noise(hospitals, False)[place] == pytest.approx(inflated, rel=1e-3)
            theirs = peer_noise(peer, epsilon)
            assert other.noise(hospitals, True)[place] == pytest.approx(theirs, rel=1e-3)


def test_the_rule_takes_the_best_mean_then_the_best_rate_at_each_epsilon() -> None:
    good, steep = Setting(4, 1, 1, 1.0, 0.0), Setting(4, 1, 1, 2.0, 0.0)
    scores = {
        (good, 4): {0.1: np.array([9, 8, 8, 8, 8.0]), 0.2: np.array([8, 9, 9, 9, 9.0])},
        (steep, 4): {0.1: np.array([1, 2, 3, 10, 10.0])},
    }
    chosen = choose(scores)
    assert (chosen.clip, chosen.average_from_step) == (1.0, 4)
    assert chosen.learning_rates == {0.5: 0.1, 1.0: 0.2, 2.0: 0.2, 4.0: 0.2, 8.0: 0.2}
    assert [chosen.learning_rate(e) for e in (0.1, 0.5, 0.9, 3, 20)] == [0.1, 0.1, 0.1, 0.2, 0.2]


def test_the_peer_may_also_take_local_steps_and_pays_for_no_retry(heart: Study) -> None:
    grid = replace(GRIDS["heart"], steps=(4,), clips=(1.0,), rates=(0.5,), folds=2, repeats=1)
    grid = replace(grid, seeds=1)
    rows = training_rows("heart")
    assert {(s.steps, s.local_steps, s.retry_cap) for s, _ in search(rows, grid, is_peer=True)} == {
        (4, 1, 0),
        (1, 4, 0),
    }
    assert {(s.steps, s.retry_cap) for s, _ in search(rows, grid, is_peer=False)} == {(4, 1)}


# --- rows and plot --------------------------------------------------------------------------


def test_every_training_image_is_a_patient_of_one_of_five_hospitals() -> None:
    sites = tuple(bench_utility_studies.site_keys("cxr"))
    tables = bench_utility_studies._cxr_tables(sites)
    train = [
        pixels
        for table in tables.values()
        for split, pixels in zip(
            table["split"].to_pylist(), table["pixels"].to_pylist(), strict=True
        )
        if split == "train"
    ]
    assert len(train) == len(set(train)) == 4690
    assert sum(len(table) for table in tables.values()) == 4690 + 624
    sizes = [table["split"].to_pylist().count("train") for table in tables.values()]
    assert sizes == [331, 544, 2375, 1042, 398]


def test_the_plot_has_a_line_for_each_method_and_a_panel_for_each_data_set() -> None:
    noisy = Line("ours", [0.8, 0.9], [0.01, 0.005])
    lines = [Line("pooled", [0.91, 0.91], [0, 0]), noisy, replace(noisy, method="central")]
    root = ET.fromstring(utility_chart([0.5, 1.0], {"heart": lines, "cxr": lines[:1]}))
    space = "{http://www.w3.org/2000/svg}"
    drawn = [each.get("class") for each in root.iter(f"{space}polyline")]
    assert drawn == ["pooled", "ours", "central", "pooled"]
    assert len(list(root.iter(f"{space}polygon"))) == 2  # bands, where something is random
    places = [
        [float(number) for number in point.split(",")]
        for each in root.iter(f"{space}polyline")
        for point in str(each.get("points")).split()
    ]
    _, _, width, height = (float(v) for v in str(root.get("viewBox")).split())
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
