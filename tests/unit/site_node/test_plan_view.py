"""What a steward reads about a plan that may lose hospitals: in plain words, with the bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.governance.study import StudyPlan
from site_node.cli import run
from site_node.cli_plan import _attempt_words
from site_node.context import open_site
from site_node.plan_view import lost_words
from site_node.report import _step_words
from tests.support.factories import make_plan, recoverable
from tests.support.prepared import prepared_plan
from tests.support.sites import TestClock, make_sites, real_plan, sealed
from tests.support.starts import FROM_FILE


@pytest.fixture
def home(tmp_path: Path) -> tuple[Path, StudyPlan]:
    """The first of four hospitals, which has received a plan that may lose one of them."""
    sites = make_sites(tmp_path, TestClock(), 4)
    dates = {"created": "2026-01-01T00:00:00Z", "expires": "2027-12-31T00:00:00Z"}
    plan = real_plan(sites, **dates, **recoverable(1))
    path = tmp_path / "heart.plan"
    path.write_bytes(sealed(plan))
    for site in sites:
        site.db.close()
    assert run(["plan", "import", str(path), "--home", str(sites[0].home)]) == 0
    return sites[0].home, plan


def shown(home: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run([*arguments, "--home", str(home)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_plan_show_names_what_unmasks_a_sum_and_who_may_be_lost(home, capsys) -> None:
    folder, plan = home
    text = shown(folder, capsys, "plan", "show", "heart")
    for part in (
        "survivor-confirmation",
        "it says who took part, nothing about patients",
        "unmasking",
        "keys that take the masks off one sum of at least 3 hospitals",
        "Never both for one hospital",
        "Up to 1 of the 4 hospitals may be lost during an attempt",
        "only after 3 of them signed the same list",
        "adds 1.5 times the noise variance",
        "The evaluation survives no loss",
    ):
        assert part in text, part
    values: dict[str, Any] = json.loads(shown(folder, capsys, "--json", "plan", "show", "heart"))
    assert values["aggregation"] == {
        "mode": "recoverable",
        "pair_root": "x25519",
        "dropouts_allowed": 1,
        "fewest_summed": 3,
        "survivor_threshold": 3,
    }
    sizes = {line["kind"]: line for line in values["leaves"]}
    for kind in ("survivor-confirmation", "unmasking"):
        assert sizes[kind]["at_most"] == plan.training.attempts
        assert 300 < sizes[kind]["bytes_each"] < 1000


def test_a_stop_says_that_no_sum_is_helped_any_more(home, capsys) -> None:
    folder, plan = home
    shown(folder, capsys, "plan", "approve", "heart", "--hash", plan.digest())
    site = open_site(folder, TestClock())
    site.charge(plan, "train", 0, 0, plan.site_ids)
    with site.db.write() as connection:  # an upload that was put on the wire
        connection.execute(
            "INSERT INTO released (id, kind, plan_digest, round, attempt, sha256, n_bytes, "
            "released_at) VALUES (1, 'masked-update', ?, 0, 0, 'ab', 20, '2026-11-22')",
            (plan.digest(),),
        )
        connection.execute("INSERT INTO manifest VALUES ('cd', 1, 'ab', 20, 'ef')")
        connection.execute(
            "INSERT INTO sent (object_id, path, n_bytes, sent_at) "
            "VALUES ('cd', '/v1/fleet/push-messages', 20, '2026-11-22')"
        )
    site.db.close()
    text = shown(folder, capsys, "stop", "heart")
    assert "signs no list of survivors and helps to unmask no sum any more" in text


def test_an_atomic_plan_says_that_a_loss_voids_the_attempt() -> None:
    plan, _ = make_plan(4)
    assert "there is no sum: the attempt stays charged" in lost_words(plan)
    assert "2 times at most" in lost_words(plan)


def test_the_origin_of_a_vendors_weights_is_shown_to_the_steward(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PRIVACY-20: what those weights were trained on lies outside epsilon; a person must judge."""
    sites = make_sites(tmp_path, TestClock(), 4)
    dates = {"created": "2026-01-01T00:00:00Z", "expires": "2027-12-31T00:00:00Z"}
    path = tmp_path / "heart.plan"
    path.write_bytes(sealed(real_plan(sites, **dates, model=FROM_FILE)))
    for site in sites:
        site.db.close()
    assert run(["plan", "import", str(path), "--home", str(sites[0].home)]) == 0
    text = shown(sites[0].home, capsys, "plan", "show", "heart")
    origin = FROM_FILE["initial_weights_origin"]
    assert f"starts from the vendor's own weights, trained on: {origin}" in text
    assert f"the patients on whose data the initial weights were trained ({origin})" in text


def test_attempts_of_the_preparation_are_reserved_beside_those_of_training() -> None:
    plan, steps = prepared_plan(), prepared_plan().training.steps
    assert plan.preparation is not None
    assert _attempt_words(plan) == (
        f"{plan.preparation.attempts} of the preparation, {plan.training.attempts} of training"
    )
    assert _step_words(plan, None) == "-"
    assert _step_words(plan, 0) == "preparation"
    assert _step_words(plan, steps) == f"{steps} of {steps}"
    assert _step_words(make_plan()[0], steps - 1) == f"{steps} of {steps}"
