"""Does the picture that page and API share say the truth about every state?"""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.lifecycle import StudyState
from coordinator.overview import Overview, StudyView, reason_text
from schemas.canonical import build
from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import StudyPlan
from tests.support.desk import Desk, seed_four_states


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("overview"))
    seed_four_states(desk)
    return desk


def _study(desk: Desk, name: str) -> StudyView:
    return Overview(desk.database).study(name)


def test_studies_come_newest_first_without_replaced_ones(seeded: Desk) -> None:
    names = [study.study_id for study in Overview(seeded.database).studies()]
    assert names == ["heart-followup", "cxr", "heart-pilot", "heart"]


def test_a_proposed_study_says_whose_answer_is_missing(seeded: Desk) -> None:
    study = _study(seeded, "heart-followup")
    assert study.reason == "2 of 4 hospitals have not answered the plan yet."
    assert {site.site_id: site.status for site in study.sites} == {
        "site-1": "approved",
        "site-2": "awaited",
        "site-3": "awaited",
        "site-4": "approved",
    }


def test_a_running_study_counts_steps_and_void_attempts(seeded: Desk) -> None:
    study = _study(seeded, "cxr")
    assert (study.steps_done, study.attempts_opened, study.attempts_void) == (17, 19, 1)
    assert {site.status for site in study.sites} == {"taking-part"}
    assert not study.is_final
    assert study.rounds[-1].state == "open"


def test_a_waiting_site_shows_its_reason_and_since_when(seeded: Desk) -> None:
    digest = seeded.studies.by_name("cxr").digest
    seeded.studies.set_wait(digest, "site-3", "transport.node_offline")
    site = {item.site_id: item for item in _study(seeded, "cxr").sites}["site-3"]
    seeded.studies.set_wait(digest, "site-3", "")
    assert site.status == "waiting"
    assert site.reason == "The node is not connected."
    assert site.since.endswith("Z")


def test_an_ended_study_keeps_its_reasons(seeded: Desk) -> None:
    study = _study(seeded, "heart-pilot")
    assert study.is_final and study.state_words == "Ended early"
    assert study.reason == ErrorCode.STUDY_TOO_FEW_SITES.meaning
    stopped = [site for site in study.sites if site.status == "stopped"]
    assert [site.reason for site in stopped] == ["Its data steward stopped the study."] * 2


def test_a_done_study_has_a_signed_result(seeded: Desk) -> None:
    study = _study(seeded, "heart")
    assert study.result is not None
    assert study.result.signed_by == ("site-1", "site-2", "site-3", "site-4")
    assert study.model_hash == study.result.release.model_hash
    assert {site.status for site in study.sites} == {"signed"}


def test_what_left_a_site_adds_up(seeded: Desk) -> None:
    for site in _study(seeded, "heart").sites:
        assert site.sent_bytes == sum(item.bytes for item in site.sent)
        kinds = {item.kind: item for item in site.sent}
        assert kinds["masked-update"].messages == 12
        assert kinds["masked-update"].bytes == 12 * 4 * 14
        assert set(kinds) == {
            "approval",
            "masked-update",
            "masked-evaluation",
            "model-hash",
            "release",
        }


def test_privacy_is_shown_with_its_whole_scope(seeded: Desk) -> None:
    privacy = _study(seeded, "heart").privacy
    assert privacy.attempts_covered == privacy.steps + privacy.retry_cap
    assert (privacy.unit, privacy.adjacency, privacy.collusion_bound) == (
        "patient",
        "add-remove",
        1,
    )
    assert any("test-set metrics" in item for item in privacy.outside_epsilon)


def test_the_preparation_is_no_step(tmp_path: Path) -> None:
    """The first round of such a study is its preparation; step 1 is the round after it."""
    desk = Desk(tmp_path).enrol_four()
    values = desk.plan("heart", "heart").model_dump(mode="json")
    values["training"] |= {"class_weights": "preparation"}
    values["preparation"] = {
        "epsilon": 0.2, "noise_multiplier": 60, "retry_cap": 1, "integer_clip": 2**14
    }  # fmt: skip
    plan = build(StudyPlan, values)
    desk.propose(plan)
    desk.approve(plan)
    desk.studies.set_state(plan.digest(), StudyState.TRAINING)
    assert _study(desk, "heart").state_words == "Preparing the inputs"
    desk.train(plan, 3)
    study = _study(desk, "heart")
    assert study.state_words == "Training"
    assert (study.steps_done, study.attempts_opened) == (2, 3)
    assert [item.step for item in study.rounds] == [-1, 0, 1]
    assert study.privacy.attempts_covered == 17
    assert [item.name for item in study.privacy.mechanisms] == ["preparation", "training"]


def test_hospitals_are_shown_with_words_and_traffic(seeded: Desk) -> None:
    hospitals = Overview(seeded.database).hospitals()
    assert [len(item.words.split("-")) for item in hospitals] == [6] * 4
    assert [item.received_bytes for item in hospitals] == [410_000, 419_000, 428_000, 437_000]
    assert all(item.last_seen for item in hospitals)


def test_every_code_has_words_and_an_unknown_one_stands_for_itself() -> None:
    assert all(reason_text(code.value) for code in ErrorCode)
    assert reason_text("") == ""
    assert reason_text("else.where") == "Reason given: else.where"


def test_unknown_studies_are_refused(seeded: Desk) -> None:
    with pytest.raises(ProtocolError):
        _study(seeded, "nothing")
