"""Is the preparation announced, and held to its own length and number, like any other update?"""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.wire import Upload, encode
from site_node.context import SiteContext
from site_node.egress.preview import largest, what_leaves
from tests.support.factories import make_plan
from tests.support.prepared import INPUTS, WORDS, preparation, prepared_plan
from tests.support.sites import TestClock, approve, make_sites, real_plan


@pytest.fixture
def site(tmp_path: Path) -> tuple[SiteContext, StudyPlan]:
    sites = make_sites(tmp_path, TestClock())
    plan = real_plan(sites, **preparation())
    approve(sites[0], plan)
    return sites[0], plan


def upload(plan: StudyPlan, round_: int, words: int) -> bytes:
    header = Upload(plan_digest=plan.digest(), kind="train", round=round_, attempt=0, tag="0" * 16)
    return encode(header, b"\x07" * (4 * words))


def test_the_preparation_has_a_line_of_its_own() -> None:
    """PRIVACY-11: what leaves before training is said before approval, with number and size."""
    plan = prepared_plan(retry_cap=2)
    first, second = (line for line in what_leaves(plan) if line.kind == "masked-update")
    assert (first.mechanism, first.at_most) == ("preparation", 3)
    assert (second.mechanism, second.at_most) == ("training", plan.training.attempts)
    assert "before training" in first.what and "with noise" in first.what
    assert first.bytes_each - second.bytes_each == 4 * (WORDS - INPUTS - 1)
    assert largest(plan, "masked-update", "preparation") == first.bytes_each
    assert largest(plan, "masked-update", "training") == second.bytes_each
    assert largest(plan, "unmasking") == 0
    lines = {line.kind: line for line in what_leaves(plan)}
    assert lines["refusal"].at_most == plan.attempts + plan.training.retry_cap


def test_without_one_there_is_one_kind_of_update() -> None:
    (line,) = (line for line in what_leaves(make_plan()[0]) if line.kind == "masked-update")
    assert line.mechanism == "training"


def test_federated_averaging_says_that_a_change_leaves() -> None:
    local = {
        "algorithm": "dp-fedavg", "local_steps": 2, "local_learning_rate": 0.5,
        "local_divisor": 50, "update_clip": 1, "divisor": 4,
    }  # fmt: skip
    (line,) = (
        line for line in what_leaves(make_plan(training=local)[0]) if line.kind == "masked-update"
    )
    assert line.what.startswith("change of the model by steps on clipped gradients")


def test_each_round_has_exactly_its_own_length(site) -> None:
    """A vector of the other mechanism's length could carry more than was announced."""
    here, plan = site
    for round_, right, wrong in ((0, WORDS, INPUTS + 1), (1, INPUTS + 1, WORDS)):
        charge = here.charge(plan, "train", round_, 0, plan.site_ids)
        with pytest.raises(CohortiumError) as kept:
            here.gate.release(
                "masked-update",
                upload(plan, round_, wrong),
                plan=plan,
                contributors=3,
                charge=charge,
            )
        assert kept.value.code is ErrorCode.EGRESS_SIZE_WRONG
        body = upload(plan, round_, right)
        released = here.gate.release(
            "masked-update", body, plan=plan, contributors=3, charge=charge
        )
        assert released.body == body
