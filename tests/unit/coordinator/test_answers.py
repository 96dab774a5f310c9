"""Does the coordinator take a site's answer only as that site's, for that very attempt?"""

from __future__ import annotations

import pytest

from coordinator.answers import check_final, check_ready, read_upload
from schemas.errors import CohortiumError
from schemas.evaluation import evaluation_length
from schemas.secagg.field import PRIME
from schemas.signing import Context, seal
from schemas.wire import Final, Upload, decode, encode
from tests.support.factories import VENDOR, make_plan
from tests.support.prepared import WORDS as PREPARED_WORDS
from tests.support.prepared import prepared_plan
from tests.support.secure_sum import MODEL, Consortium

HOUSE = Consortium.of(3)
PLAN = HOUSE.plan
DIGEST = PLAN.digest()
WORDS = bytes(4 * PLAN.model.parameters)


def code_of(call, *arguments) -> str:
    with pytest.raises(CohortiumError) as refused:
        call(*arguments)
    return refused.value.code.value


def test_a_ready_of_its_site_for_its_attempt_is_kept() -> None:
    signed, _ = HOUSE.issue("site-1", round=3, attempt=1)
    assert check_ready(PLAN, "site-1", signed, "train", 3, 1) is signed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("site-2", "train", 3, 1), "message.other_site"),
        (("site-1", "evaluate", 3, 1), "cohort.round_mismatch"),
        (("site-1", "train", 2, 1), "cohort.round_mismatch"),
        (("site-1", "train", 3, 2), "cohort.round_mismatch"),
    ],
)
def test_a_ready_for_anything_else_is_not(arguments, code) -> None:
    signed, _ = HOUSE.issue("site-1", round=3, attempt=1)
    site, kind, round_, attempt = arguments
    assert code_of(check_ready, PLAN, site, signed, kind, round_, attempt) == code


def test_a_ready_for_another_plan_or_under_another_key_is_not() -> None:
    signed, _ = HOUSE.issue("site-1", round=3, attempt=1)
    other, _ = make_plan(3, title="Another plan")
    assert code_of(check_ready, other, "site-1", signed, "train", 3, 1) == "cohort.plan_mismatch"
    forged = signed.model_copy(update={"signature": "00" * 64})
    assert code_of(check_ready, PLAN, "site-1", forged, "train", 3, 1) == "signature.invalid"


def upload(blobs=(WORDS,), **changes):
    values = {"plan_digest": DIGEST, "kind": "train", "round": 3, "attempt": 1, "tag": "0" * 16}
    return decode(encode(Upload(**{**values, **changes}), *blobs), allowed=(Upload,))


def test_an_upload_of_the_plans_length_is_read() -> None:
    update = read_upload(PLAN, upload(tag=f"{PRIME - 1:016x}"), "train", 3, 1)
    assert update.words.shape == (PLAN.model.parameters,)
    assert update.tag == PRIME - 1


def test_each_round_has_the_length_of_its_own_sum() -> None:
    """The preparation is another vector than a step."""
    plan = prepared_plan()
    for round_, length in ((0, PREPARED_WORDS), (1, plan.model.parameters)):
        place = {"plan_digest": plan.digest(), "round": round_}
        right, wrong = upload((bytes(4 * length),), **place), upload((bytes(4),), **place)
        assert read_upload(plan, right, "train", round_, 1).words.shape == (length,)
        assert code_of(read_upload, plan, wrong, "train", round_, 1) == "message.length_wrong"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (upload(plan_digest="ab" * 32), "message.out_of_order"),
        (upload(kind="evaluate"), "message.out_of_order"),
        (upload(round=2), "message.out_of_order"),
        (upload(attempt=0), "message.out_of_order"),
        (upload(tag=f"{PRIME:016x}"), "sum.vector_shape"),
        (upload(blobs=()), "message.malformed"),
        (upload(blobs=(WORDS, WORDS)), "message.malformed"),
        (upload(blobs=(WORDS[:-4],)), "message.length_wrong"),
    ],
)
def test_any_other_upload_is_refused(frame, code) -> None:
    assert code_of(read_upload, PLAN, frame, "train", 3, 1) == code


def test_an_evaluations_upload_has_the_length_of_the_histograms() -> None:
    length = evaluation_length(PLAN.evaluation.bins)
    frame = upload(kind="evaluate", blobs=(bytes(4 * length),))
    assert read_upload(PLAN, frame, "evaluate", 3, 1).words.shape == (length,)
    short = upload(kind="evaluate")
    assert code_of(read_upload, PLAN, short, "evaluate", 3, 1) == "message.length_wrong"


def final(key, **changes):
    values = {
        "plan_digest": DIGEST,
        "site_id": "site-1",
        "steps": 10,
        "model_hash": MODEL,
        "last_sum_hash": "00" * 32,
    }
    return seal(key, Context.FINAL, Final(**{**values, **changes}))


def test_a_signature_on_the_same_model_counts() -> None:
    signed = final(HOUSE.parties["site-1"].identity)
    assert check_final(PLAN, "site-1", signed, MODEL) is signed


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        (final(HOUSE.parties["site-2"].identity), "signature.signer_unexpected"),
        (final(VENDOR), "signature.signer_unexpected"),
        (final(HOUSE.parties["site-1"].identity, site_id="site-2"), "round.state_mismatch"),
        (final(HOUSE.parties["site-1"].identity, model_hash="cd" * 32), "round.state_mismatch"),
        (final(HOUSE.parties["site-1"].identity, plan_digest="cd" * 32), "round.state_mismatch"),
    ],
)
def test_any_other_signature_does_not(signed, code) -> None:
    assert code_of(check_final, PLAN, "site-1", signed, MODEL) == code
