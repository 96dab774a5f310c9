"""Are rounds written down once, and is a result taken only with every roster site's signature?"""

from __future__ import annotations

import json

import numpy as np
import pytest

from coordinator.studies import Studies
from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TrustError
from schemas.governance.study import StudyPlan
from schemas.secagg.masking import MaskedSum
from schemas.signing import Context, seal, sign
from schemas.wire import Final
from tests.support.desk import Desk
from tests.support.factories import make_keys

ALL = ["site-1", "site-2", "site-3", "site-4"]


@pytest.fixture
def plan(desk: Desk) -> StudyPlan:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan)
    return plan


@pytest.fixture
def evaluated(desk: Desk, plan: StudyPlan) -> tuple[StudyPlan, bytes, dict[str, str]]:
    """A study whose release is signed by all and not yet handed in."""
    desk.train(plan, plan.training.steps)
    body, signatures = desk.evaluate(plan)
    return plan, body, signatures


def _open(desk: Desk, plan: StudyPlan, round: int = 0, attempt: int = 0) -> None:
    desk.studies.record_attempt_opened(
        plan.digest(), kind="train", round=round, attempt=attempt, roster=ALL
    )


def _close(desk: Desk, plan: StudyPlan, **changes: object) -> None:
    values: dict[str, object] = {"kind": "train", "round": 0, "attempt": 0, "state": "summed"}
    desk.studies.record_attempt_closed(plan.digest(), **{**values, **changes})  # type: ignore[arg-type]


def test_attempts_are_opened_once_and_closed_once(desk: Desk, plan: StudyPlan) -> None:
    _open(desk, plan)
    with pytest.raises(ProtocolError) as caught:
        _open(desk, plan)
    assert caught.value.code is ErrorCode.ATTEMPT_SPENT
    _close(desk, plan, n_bytes={"site-1": 56})
    with pytest.raises(ProtocolError) as caught:
        _close(desk, plan)
    assert caught.value.code is ErrorCode.ATTEMPT_UNKNOWN


def test_a_void_attempt_keeps_its_reason_and_its_bytes(desk: Desk, plan: StudyPlan) -> None:
    _open(desk, plan)
    _close(desk, plan, state="void", reason_code="attempt.site_left", n_bytes={"site-1": 56})
    [attempt] = desk.studies.attempts(plan.digest())
    assert (attempt.state, attempt.reason_code) == ("void", "attempt.site_left")
    assert attempt.seconds is not None and attempt.seconds >= 0
    [item] = [r for r in desk.database.received() if r.kind == "masked-update"]
    assert (item.site_id, item.study_id, item.n_bytes) == ("site-1", "heart", 56)


def test_what_a_stopped_runner_left_open_becomes_void(desk: Desk, plan: StudyPlan) -> None:
    _open(desk, plan)
    again = Studies(desk.database)
    assert again.void_open_attempts(plan.digest(), "internal.process_ended") == 1
    [attempt] = again.attempts(plan.digest())
    assert (attempt.state, attempt.seconds) == ("void", None)


def test_sums_survive_a_restart_bit_for_bit(desk: Desk, plan: StudyPlan) -> None:
    words = np.array([0, 1, 2**31, 2**32 - 1], dtype=np.uint32)
    desk.studies.store_sum(plan.digest(), 0, MaskedSum(words, 2**61 - 2), attempt=1)
    stored = Studies(desk.database).sum_of(plan.digest(), 0)
    assert stored.summed.words.tolist() == words.tolist()
    assert (stored.summed.tag, stored.round, stored.attempt) == (2**61 - 2, 0, 1)
    assert desk.studies.summed_rounds(plan.digest()) == [0]


def test_a_round_has_one_sum(desk: Desk, plan: StudyPlan) -> None:
    summed = MaskedSum(np.zeros(3, dtype=np.uint32), 0)
    desk.studies.store_sum(plan.digest(), 0, summed, attempt=0)
    with pytest.raises(ProtocolError) as caught:
        desk.studies.store_sum(plan.digest(), 0, summed, attempt=1)
    assert caught.value.code is ErrorCode.ATTEMPT_SPENT


def _final(desk: Desk, plan: StudyPlan, site_id: str = "site-1", **changes: object) -> Final:
    values = {
        "plan_digest": plan.digest(),
        "site_id": site_id,
        "steps": plan.training.steps,
        "model_hash": "55" * 32,
        "last_sum_hash": "44" * 32,
    }
    return Final.model_validate({**values, **changes})


def test_finals_count_only_from_sites_of_the_plan(desk: Desk, plan: StudyPlan) -> None:
    final = _final(desk, plan)
    with pytest.raises(TrustError) as caught:
        desk.studies.record_final(plan, seal(make_keys().identity, Context.FINAL, final))
    assert caught.value.code is ErrorCode.SIGNER_UNEXPECTED
    signed = seal(desk.keys["site-1"].identity, Context.FINAL, final)
    assert desk.studies.record_final(plan, signed) == "site-1"
    assert desk.studies.finals(plan.digest())["site-1"] == ("55" * 32, signed)


@pytest.mark.parametrize(
    "change", [{"plan_digest": "66" * 32}, {"site_id": "site-2"}, {"model_hash": "77" * 32}]
)
def test_a_final_that_does_not_fit_is_refused(
    desk: Desk, plan: StudyPlan, change: dict[str, str]
) -> None:
    key = desk.keys["site-1"].identity
    desk.studies.record_final(plan, seal(key, Context.FINAL, _final(desk, plan)))
    with pytest.raises(ProtocolError) as caught:
        desk.studies.record_final(plan, seal(key, Context.FINAL, _final(desk, plan, **change)))
    assert caught.value.code is ErrorCode.FINAL_MISMATCH


def test_a_ready_signature_is_no_final(desk: Desk, plan: StudyPlan) -> None:
    signed = seal(desk.keys["site-1"].identity, Context.READY, _final(desk, plan))
    with pytest.raises(TrustError):
        desk.studies.record_final(plan, signed)


def test_the_model_must_be_the_one_every_site_signed(desk: Desk, plan: StudyPlan) -> None:
    desk.train(plan, plan.training.steps)
    hashed, safetensors = desk.final_model(plan)
    with pytest.raises(ProtocolError):
        desk.studies.store_model(plan.digest(), hashed, safetensors)  # nobody has signed
    desk.sign_finals(plan)
    assert desk.studies.model(plan.digest()) == (hashed, safetensors)
    for bad_hash, bad_file in ((hashed, desk.weights(plan)), ("88" * 32, safetensors)):
        with pytest.raises(ProtocolError) as caught:
            desk.studies.store_model(plan.digest(), bad_hash, bad_file)
        assert caught.value.code is ErrorCode.FINAL_MISMATCH


Evaluated = tuple[StudyPlan, bytes, dict[str, str]]


def _refused(desk: Desk, plan: StudyPlan, body: bytes, signatures: dict[str, str]) -> ErrorCode:
    with pytest.raises(CohortiumError) as caught:
        desk.studies.store_release(plan, body, signatures)
    assert desk.studies.release(plan.digest()) is None
    return caught.value.code


def test_a_release_signed_by_all_is_stored_as_it_came(desk: Desk, evaluated: Evaluated) -> None:
    plan, body, signatures = evaluated
    desk.studies.store_release(plan, body, signatures)
    stored = desk.studies.release(plan.digest())
    assert stored is not None
    assert stored.body == body
    assert stored.signatures == signatures
    desk.studies.store_release(plan, body, signatures)  # again: nothing changes


def test_a_release_lacking_a_signature_is_refused(desk: Desk, evaluated: Evaluated) -> None:
    plan, body, signatures = evaluated
    del signatures["site-3"]
    assert _refused(desk, plan, body, signatures) is ErrorCode.RELEASE_UNSIGNED


def test_a_release_with_a_strangers_signature_is_refused(desk: Desk, evaluated: Evaluated) -> None:
    plan, body, signatures = evaluated
    signatures["site-9"] = sign(make_keys().identity, Context.RELEASE, body)
    assert _refused(desk, plan, body, signatures) is ErrorCode.RELEASE_UNSIGNED


def test_a_release_with_a_wrong_signature_is_refused(desk: Desk, evaluated: Evaluated) -> None:
    plan, body, signatures = evaluated
    for wrong in (
        sign(make_keys().identity, Context.RELEASE, body),
        sign(desk.keys["site-2"].identity, Context.FINAL, body),
        sign(desk.keys["site-2"].identity, Context.RELEASE, body + b" "),
        signatures["site-1"],
    ):
        code = _refused(desk, plan, body, {**signatures, "site-2": wrong})
        assert code is ErrorCode.SIGNATURE_INVALID


def test_altered_release_bytes_are_refused(desk: Desk, evaluated: Evaluated) -> None:
    plan, body, signatures = evaluated
    better = json.loads(body)
    better["auroc"] = 0.999
    import rfc8785

    assert _refused(desk, plan, rfc8785.dumps(better), signatures) is ErrorCode.SIGNATURE_INVALID
    assert _refused(desk, plan, b" " + body, signatures) is ErrorCode.DOCUMENT_NOT_CANONICAL


@pytest.mark.parametrize(
    "change",
    [
        {"plan_digest": "66" * 32},
        {"study_id": "other"},
        {"model_hash": "66" * 32},
        {"roster": ["site-1", "site-2", "site-3"]},
    ],
)
def test_a_release_of_something_else_is_refused_even_if_signed(
    desk: Desk, evaluated: Evaluated, change: dict[str, object]
) -> None:
    import rfc8785

    plan, body, _ = evaluated
    other = rfc8785.dumps({**json.loads(body), **change})
    roster = change.get("roster", ALL)
    assert isinstance(roster, list)
    signatures = {site: sign(desk.keys[site].identity, Context.RELEASE, other) for site in roster}
    assert _refused(desk, plan, other, signatures) is ErrorCode.RELEASE_MISMATCH


def test_a_release_without_an_evaluation_is_refused(desk: Desk, evaluated: Evaluated) -> None:
    plan, body, signatures = evaluated
    desk.database.connection().execute("DELETE FROM attempts WHERE kind = 'evaluate'")
    assert _refused(desk, plan, body, signatures) is ErrorCode.RELEASE_MISMATCH


def test_a_second_result_is_refused(desk: Desk, evaluated: Evaluated) -> None:
    plan, body, signatures = evaluated
    desk.studies.store_release(plan, body, signatures)
    other, again = _resigned(desk, plan)
    with pytest.raises(ProtocolError) as caught:
        desk.studies.store_release(plan, other, again)
    assert caught.value.code is ErrorCode.RELEASE_MISMATCH
    stored = desk.studies.release(plan.digest())
    assert stored is not None and stored.body == body


def _resigned(desk: Desk, plan: StudyPlan) -> tuple[bytes, dict[str, str]]:
    import rfc8785

    stored = desk.studies.release(plan.digest())
    assert stored is not None
    other = rfc8785.dumps({**json.loads(stored.body), "auroc": 0.5})
    return other, {
        site: sign(keys.identity, Context.RELEASE, other) for site, keys in desk.keys.items()
    }


def test_nothing_of_a_histogram_is_stored(desk: Desk, evaluated: Evaluated) -> None:
    plan, body, signatures = evaluated
    desk.studies.store_release(plan, body, signatures)
    names = {
        row[0]
        for row in desk.database.connection().execute("SELECT name FROM sqlite_master").fetchall()
    }
    assert not any("histogram" in name for name in names)
    assert max(desk.studies.summed_rounds(plan.digest())) < plan.training.steps
