"""Is a final model one file and one hash, with what its inputs are prepared by inside both?"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from safetensors.numpy import load, save

from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.models import (
    final_safetensors,
    from_safetensors,
    model_hash,
    read_final,
    to_safetensors,
)
from schemas.models.final import PREPARATION
from tests.support.factories import make_plan
from tests.support.prepared import INPUTS, WORDS, prepared_plan

PLAN = prepared_plan()
BARE, _ = make_plan()
FLAT = np.linspace(-1, 1, INPUTS + 1)
SUMMED = np.arange(WORDS, dtype=np.int64) * 1_000_003 - 2**30
FILE = final_safetensors(PLAN, FLAT, SUMMED)


def refusal(plan: StudyPlan, raw: bytes) -> ErrorCode:
    with pytest.raises(CohortiumError) as refused:
        read_final(plan, raw)
    return refused.value.code


def changed(**tensors: np.ndarray | None) -> bytes:
    """The file with some tensors replaced, added or (None) left out; dots are underscores."""
    held = load(FILE) | {name.replace("_", ".", 1): value for name, value in tensors.items()}
    return bytes(save({name: value for name, value in held.items() if value is not None}))


def test_parameters_and_sum_come_back_bit_for_bit() -> None:
    flat, prepared = read_final(PLAN, FILE)
    assert flat.tobytes() == FLAT.tobytes()
    assert prepared.tobytes() == SUMMED.tobytes()
    assert final_safetensors(PLAN, flat, prepared) == FILE
    assert load(FILE)[PREPARATION].dtype == np.int64


def test_without_a_preparation_the_file_and_hash_are_those_of_the_parameters() -> None:
    flat = np.linspace(-1, 1, BARE.model.parameters)
    raw = final_safetensors(BARE, flat)
    assert raw == to_safetensors(BARE.model, flat)
    assert model_hash(flat) == hashlib.sha256(flat.astype("<f8").tobytes()).hexdigest()
    back, prepared = read_final(BARE, raw)
    assert back.tolist() == flat.tolist()
    assert prepared.shape == (0,)


def test_the_hash_covers_every_word_of_the_preparation() -> None:
    """PRIVACY-11: another mean with the same parameters is another model."""
    hashed = model_hash(FLAT, SUMMED)
    assert hashed != model_hash(FLAT)
    for place in (0, WORDS // 2, WORDS - 1):
        other = SUMMED.copy()
        other[place] += 1
        assert model_hash(FLAT, other) != hashed
    assert hashed == hashlib.sha256(FLAT.tobytes() + SUMMED.tobytes()).hexdigest()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(changed(preparation_sum=None), id="no sum"),
        pytest.param(changed(preparation_sum=SUMMED[:-1]), id="a word short"),
        pytest.param(changed(preparation_sum=SUMMED[None, :]), id="another shape"),
        pytest.param(changed(preparation_sum=SUMMED.astype(np.float64)), id="another type"),
        pytest.param(changed(preparation_mean=SUMMED), id="one tensor more"),
        pytest.param(changed(linear_bias=np.array([np.nan])), id="not a number"),
        pytest.param(FILE + b"\0", id="a trailing byte"),
        pytest.param(b"nonsense", id="no file"),
        pytest.param(bytes(save(load(FILE), metadata={"note": "x"})), id="metadata"),
        pytest.param(FILE + bytes(10**6), id="too large"),
    ],
)
def test_a_file_that_is_not_exactly_the_model_is_refused(raw: bytes) -> None:
    assert refusal(PLAN, raw) is ErrorCode.WEIGHTS_MALFORMED


def test_a_sum_has_no_place_where_the_plan_has_no_preparation() -> None:
    flat = np.zeros(BARE.model.parameters)
    raw = final_safetensors(BARE, flat, SUMMED)
    assert refusal(BARE, raw) is ErrorCode.WEIGHTS_MALFORMED


def test_initial_weights_never_hold_a_sum() -> None:
    """A vendor's file could otherwise smuggle constants past the plan."""
    with pytest.raises(CohortiumError):
        from_safetensors(PLAN.model, FILE)
