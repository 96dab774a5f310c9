"""Do weights start where the plan says and survive the file, and is every other file refused?"""

from __future__ import annotations

import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from schemas.errors import CohortiumError, ErrorCode, ProtocolError
from schemas.models import (
    from_safetensors,
    initial_parameters,
    layout,
    model_hash,
    parameter_count,
    split_tensors,
    to_safetensors,
)
from tests.support.learning import terms


@pytest.mark.parametrize("architecture", ["logistic", "scattering-logistic"])
def test_linear_models_start_at_zero(architecture: str) -> None:
    assert not initial_parameters(terms(architecture)).any()


def test_convolutions_start_within_their_fan_in_and_the_head_at_zero() -> None:
    model = terms("small-cnn")
    tensors = split_tensors(model, initial_parameters(model))
    for spec in layout(model):
        values = tensors[spec.name]
        if "conv" in spec.name and spec.name.endswith("weight"):
            bound = 1 / np.sqrt(spec.fan_in)
            assert np.abs(values).max() <= bound
            # uniform: variance a third of the squared bound, accepted within 15 %, not another law
            if values.size > 1000:
                assert abs(values.var() / (bound**2 / 3) - 1) < 0.15
        else:
            assert not values.any()


def test_start_depends_on_the_seed_and_on_nothing_else() -> None:
    model = terms("small-cnn")
    assert model_hash(initial_parameters(model)) == model_hash(initial_parameters(model))
    other = terms("small-cnn", initialisation_seed="cd" * 32)
    assert model_hash(initial_parameters(model)) != model_hash(initial_parameters(other))


def test_start_is_frozen_for_auditors() -> None:
    """A changed stream would silently change every plan's weights hash."""
    digest = model_hash(initial_parameters(terms("small-cnn")))
    assert digest == "c0eae11f1f135c182744eb91925ddb2e16d2e4a00c33a0ecc1d8a49a2840c6b4"


def test_model_hash_is_sha256_of_little_endian_float64() -> None:
    values = np.array([1.0, -2.5, 0.0])
    assert model_hash(values) == hashlib.sha256(struct.pack("<3d", *values)).hexdigest()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=5))
def test_file_round_trip_keeps_every_bit(values: list[float]) -> None:
    model = terms("logistic")
    flat = np.array(values)
    raw = to_safetensors(model, flat)
    assert raw == to_safetensors(model, flat)
    assert from_safetensors(model, raw).tobytes() == flat.tobytes()


def _tensors() -> dict[str, np.ndarray]:
    return {"linear.weight": np.zeros((1, 4)), "linear.bias": np.zeros(1)}


def _with(**changes: np.ndarray) -> bytes:
    return bytes(save(_tensors() | changes))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * 64, id="noise"),
        pytest.param(struct.pack("<Q", 2**60) + b"{}", id="header length beyond the file"),
        pytest.param(bytes(20_000), id="larger than the model"),
        pytest.param(_with(extra=np.zeros(1)), id="extra tensor"),
        pytest.param(bytes(save({"linear.bias": np.zeros(1)})), id="missing tensor"),
        pytest.param(_with(**{"linear.weight": np.zeros((4, 1))}), id="other shape"),
        pytest.param(_with(**{"linear.bias": np.zeros(1, np.float32)}), id="other type"),
        pytest.param(_with(**{"linear.bias": np.array([np.nan])}), id="not a number"),
        pytest.param(_with(**{"linear.bias": np.array([np.inf])}), id="infinite"),
        pytest.param(bytes(save(_tensors(), metadata={"note": "x"})), id="metadata"),
        pytest.param(_with() + b"\x00", id="trailing byte"),
    ],
)
def test_file_that_is_not_exactly_the_model_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as refusal:
        from_safetensors(terms("logistic"), raw)
    assert refusal.value.code is ErrorCode.WEIGHTS_MALFORMED


def test_reordered_header_is_refused() -> None:
    raw = to_safetensors(terms("logistic"), np.zeros(5))
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    turned = json.dumps(dict(reversed(header.items())), separators=(",", ":")).encode()
    turned += b" " * (length - len(turned))
    with pytest.raises(ProtocolError):
        from_safetensors(terms("logistic"), raw[:8] + turned + raw[8 + length :])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_fuzzed_file_is_refused_with_a_code(raw: bytes) -> None:
    with pytest.raises(CohortiumError):
        from_safetensors(terms("logistic"), raw)


def test_parameters_of_the_shipped_size_fit_their_limit() -> None:
    model = terms("small-cnn")
    raw = to_safetensors(model, np.ones(parameter_count(model)))
    assert from_safetensors(model, raw).shape == (parameter_count(model),)
