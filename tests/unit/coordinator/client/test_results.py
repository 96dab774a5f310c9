"""Does the client believe a result only when the hospitals' signatures say so?"""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from coordinator.client import render
from coordinator.client.results import check_model, check_result
from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TransportError, TrustError
from schemas.governance.preparation import preparation_norm
from schemas.governance.study import StudyPlan
from schemas.models import final_safetensors, read_final
from schemas.preparation import prepare
from schemas.privacy.statement import privacy_statement
from schemas.signing import Context, sign
from tests.support.desk import Desk
from tests.support.factories import make_keys, seal_plan
from tests.support.prepared import preparation, prepared_plan


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, StudyPlan]:
    desk = Desk(tmp_path_factory.mktemp("results")).enrol_four()
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan)
    desk.train(plan, plan.training.steps)
    desk.finish(plan)
    return desk, plan


@pytest.fixture
def answer(finished: tuple[Desk, StudyPlan]) -> dict[str, Any]:
    desk, plan = finished
    stored = desk.studies.release(plan.digest())
    assert stored is not None
    return {
        "plan": seal_plan(plan).model_dump(mode="json"),
        "release": base64.b64encode(stored.body).decode("ascii"),
        "signatures": dict(stored.signatures),
        "released_at": stored.received_at,
    }


def _values(answer: dict[str, Any]) -> dict[str, Any]:
    checked = check_result(answer, "heart")
    return render.result_values(
        checked.plan, checked.release, checked.signed_by, checked.released_at
    )


def test_a_signed_result_is_believed(answer: dict[str, Any]) -> None:
    checked = check_result(answer, "heart")
    assert checked.signed_by == ("site-1", "site-2", "site-3", "site-4")


def _refused(answer: dict[str, Any], study: str = "heart") -> ErrorCode:
    with pytest.raises(CohortiumError) as caught:
        check_result(answer, study)
    assert isinstance(caught.value, TrustError | TransportError | ProtocolError)
    return caught.value.code


def test_a_missing_or_foreign_signature_is_noticed(answer: dict[str, Any]) -> None:
    dropped = {**answer, "signatures": {**answer["signatures"]}}
    del dropped["signatures"]["site-1"]
    assert _refused(dropped) is ErrorCode.RELEASE_UNSIGNED
    wrong = sign(make_keys().identity, Context.RELEASE, base64.b64decode(answer["release"]))
    forged = {**answer, "signatures": {**answer["signatures"], "site-1": wrong}}
    assert _refused(forged) is ErrorCode.SIGNATURE_INVALID


def test_altered_numbers_are_noticed(answer: dict[str, Any]) -> None:
    body = json.loads(base64.b64decode(answer["release"]))
    body["auroc"] = 0.999
    altered = base64.b64encode(rfc8785.dumps(body)).decode("ascii")
    assert _refused({**answer, "release": altered}) is ErrorCode.SIGNATURE_INVALID


def test_a_plan_sealed_by_another_vendor_is_noticed(answer: dict[str, Any]) -> None:
    assert _refused({**answer, "plan": {**answer["plan"], "signer": "ab" * 32}})


def test_the_result_of_another_study_is_noticed(answer: dict[str, Any]) -> None:
    assert _refused(answer, "other") is ErrorCode.RELEASE_MISMATCH


def test_an_invented_consortium_has_another_plan_hash(
    answer: dict[str, Any], finished: tuple[Desk, StudyPlan]
) -> None:
    """Plan, keys and signatures can all be the coordinator's own; the hash cannot."""
    digest = finished[1].digest()
    assert check_result(answer, "heart", f" {digest.upper()} ").plan.digest() == digest
    with pytest.raises(TrustError) as caught:
        check_result(answer, "heart", "ab" * 32)
    assert caught.value.code is ErrorCode.RELEASE_MISMATCH


@pytest.mark.parametrize("broken", [{}, {"plan": 1}, {"release": "!"}, {"signatures": []}])
def test_an_answer_that_is_no_result_is_refused(
    answer: dict[str, Any], broken: dict[str, Any]
) -> None:
    assert _refused({**answer, **broken} if broken else {}) is ErrorCode.TRANSPORT_RESPONSE_INVALID


def test_the_model_must_have_the_signed_hash(finished: tuple[Desk, StudyPlan]) -> None:
    desk, plan = finished
    stored = desk.studies.model(plan.digest())
    assert stored is not None
    check_model(stored[1], plan, stored[0])
    with pytest.raises(TrustError) as caught:
        check_model(desk.weights(plan), plan, stored[0])
    assert caught.value.code is ErrorCode.FINAL_MISMATCH
    with pytest.raises(ProtocolError):
        check_model(stored[1] + b"x", plan, stored[0])


def test_a_model_with_a_preparation_comes_with_the_constants_that_follow(tmp_path: Path) -> None:
    """PRIVACY-11: whoever applies the model derives what the hospitals trained with."""
    desk = Desk(tmp_path).enrol_four()
    plan = desk.plan(**preparation())
    desk.propose(plan)
    desk.approve(plan)
    desk.train(plan, plan.rounds)
    desk.finish(plan)
    stored = desk.studies.model(plan.digest())
    assert stored is not None
    flat, summed = read_final(plan, stored[1])
    document = check_model(stored[1], plan, stored[0])
    assert document == prepare(plan, summed).document(plan)
    other = final_safetensors(plan, flat, summed + 1)
    with pytest.raises(TrustError) as caught:
        check_model(other, plan, stored[0])
    assert caught.value.code is ErrorCode.FINAL_MISMATCH


def test_lines_show_interval_method_bound_threshold_and_signers(
    finished: tuple[Desk, StudyPlan], answer: dict[str, Any]
) -> None:
    values = _values(answer)
    text = "\n".join(render.result_lines(finished[1], values))
    for part in ("DeLong on binned scores", "certified", "Wilson", "co-signed by site-1, site-2"):
        assert part in text, part
    assert values["model_hash"] in text and values["plan_digest"] in text


def test_json_holds_method_scope_and_signers(
    finished: tuple[Desk, StudyPlan], answer: dict[str, Any]
) -> None:
    values = _values(answer)
    assert json.loads(json.dumps(values)) == values
    assert values["auroc"]["method"].startswith("DeLong")
    assert values["sensitivity"]["threshold"] == 0.5
    assert values["privacy"] == privacy_statement(finished[1]).values()
    assert [item["site_id"] for item in values["signed_by"]] == [f"site-{n}" for n in range(1, 5)]


def test_csv_has_one_row_a_number(answer: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(render.result_csv(_values(answer)))))
    by_name = {row["quantity"]: row for row in rows}
    assert float(by_name["auroc"]["low"]) < float(by_name["auroc"]["value"])
    for name in ("brier", "calibration_in_the_large"):
        row = by_name[name]
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
    assert by_name["epsilon"]["method"] == _values(answer)["privacy"]["sentence"]
    assert int(by_name["positives_at_least"]["value"]) >= 10
    roc = [row for row in rows if row["quantity"] == "roc"]
    assert len(roc) > 3
    assert all(not row["low"] and "at false positive rate" in row["method"] for row in roc)


def test_plans_are_previewed_with_what_leaves_and_their_digest(
    finished: tuple[Desk, StudyPlan],
) -> None:
    _, plan = finished
    text = "\n".join(render.plan_lines(plan))
    assert plan.digest() in text
    assert (
        "masked-update" in text
        and f"{4 * plan.longest_vector} bytes of masked words and a signed header" in text
    )
    assert str(Path("site-1")) in text


def test_a_preview_names_every_constant_of_a_step_and_the_noise_of_the_preparation() -> None:
    plan = prepared_plan(noise_multiplier=10.0)
    norm = preparation_norm(plan.preparation_groups)
    text = " ".join("\n".join(render.plan_lines(plan)).split())
    assert f"noise in each number: {10 * norm:.0f} patients" in text
    assert "sgd, learning rate" in text
    local = plan.training.model_copy(
        update={"algorithm": "dp-fedavg", "local_steps": 3, "local_learning_rate": 2.0,
                "local_divisor": 60.0, "update_clip": 3.0, "momentum": 0.5}
    )  # fmt: skip
    words = render.training_words(local)
    assert "3 local steps each at rate 2 over 60 patients, change at most 3" in words
    assert "sgd with momentum 0.5" in words
    assert words.endswith("hospitals")
