"""Do weights start where the plan says and survive the file, and is every other file refused?"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from schemas.errors import CohortiumError, ErrorCode, ProtocolError
from schemas.governance.study import Architecture
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


@pytest.mark.parametrize("architecture", ["small-cnn", "mlp", "resnet18-groupnorm"])
def test_deep_models_start_within_their_fan_in_and_the_head_at_zero(architecture: str) -> None:
    model = terms(architecture)
    tensors = split_tensors(model, initial_parameters(model))
    seen = set()
    for spec in layout(model):
        values = tensors[spec.name]
        is_drawn = any(word in spec.name for word in ("conv", "hidden", "downsample.0"))
        if spec.name.endswith("weight") and is_drawn:
            fan_in = np.prod(spec.shape[1:])
            bound = 1 / np.sqrt(fan_in)
            assert np.abs(values).max() <= bound
            # uniform: variance a third of the squared bound, accepted within 15 %, not another law
            if values.size > 1000:
                assert abs(values.var() / (bound**2 / 3) - 1) < 0.15
            seen.add("drawn")
        elif "norm" in spec.name and spec.name.endswith("weight"):
            assert (values == 1).all()
            seen.add("norm")
        elif "downsample.1.weight" in spec.name:
            assert (values == 1).all()
        else:
            assert not values.any(), spec.name
            seen.add("zero")
    assert seen == {"drawn", "zero"} | ({"norm"} if "resnet" in architecture else set())


def test_drawn_values_are_exact_steps_of_the_stream() -> None:
    """Recomputed with integers and one correctly rounded division: no machine gives other bits."""
    model = terms("mlp")
    flat = initial_parameters(model)
    key = hashlib.sha256(b"cohortium/v1/initial-weights\x00" + bytes.fromhex("ab" * 32)).digest()
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    words = struct.unpack("<55I", encryptor.update(bytes(4 * 55)))
    root = math.sqrt(4)  # fan-in of the first hidden layer
    expected = [((2 * u + 1) - 2**32) / 2**32 / root for u in words[:24]]
    assert flat[:24].tolist() == expected
    assert not flat[24:30].any()  # its biases; the stream runs on below them
    root = math.sqrt(6)
    expected = [((2 * u + 1) - 2**32) / 2**32 / root for u in words[30:48]]
    assert flat[30:48].tolist() == expected


def test_cox_model_starts_where_half_survive_to_the_horizon() -> None:
    model = terms("cox")
    tensors = split_tensors(model, initial_parameters(model))
    assert not tensors["linear.weight"].any()
    hazards = np.exp(tensors["baseline.weight"][:, 0])
    assert hazards.sum() == pytest.approx(math.log(2), abs=1e-15)
    # constant: as long as the intervals 30, 60 and 90
    np.testing.assert_allclose(hazards / hazards.sum(), [1 / 6, 2 / 6, 3 / 6], rtol=1e-14)


def test_start_from_the_vendors_file_has_no_seed() -> None:
    model = terms(
        "mlp",
        initialisation="file",
        initialisation_seed=None,
        initial_weights_origin="A public data set.",
    )
    with pytest.raises(ProtocolError) as refusal:
        initial_parameters(model)
    assert refusal.value.code is ErrorCode.WEIGHTS_MISSING


def test_start_depends_on_the_seed_and_on_nothing_else() -> None:
    model = terms("small-cnn")
    assert model_hash(initial_parameters(model)) == model_hash(initial_parameters(model))
    other = terms("small-cnn", initialisation_seed="cd" * 32)
    assert model_hash(initial_parameters(model)) != model_hash(initial_parameters(other))


@pytest.mark.parametrize(
    ("architecture", "digest"),
    [
        ("cox", "197f1fc4fc15287a01fd1b0e048c6fb9eff19f92fbcb22f52d3e42612eff8cc4"),
        ("logistic", "2c34ce1df23b838c5abf2a7f6437cca3d3067ed509ff25f11df6b11b582b51eb"),
        ("mlp", "efba54b6085339397694f6032df2d7394494c4da608114e3d9b0f22d6b3bb1a6"),
        ("resnet18-groupnorm", "d51738e7dde79f8a1d5d6a31e276c993d20f4ca756838a901d04481200d19691"),
        ("scattering-logistic", "6031a48a7bd776b4d1da3fbc4672123a1c480c4bb70b6585b678f004c6f752a3"),
        ("small-cnn", "c0eae11f1f135c182744eb91925ddb2e16d2e4a00c33a0ecc1d8a49a2840c6b4"),
    ],
)
def test_start_is_frozen_for_auditors(architecture: str, digest: str) -> None:
    """A changed stream would silently change every plan's weights hash."""
    assert model_hash(initial_parameters(terms(architecture))) == digest


def test_every_architecture_has_a_frozen_start() -> None:
    marks = test_start_is_frozen_for_auditors.pytestmark
    frozen = {case[0] for case in marks[0].args[1]}
    assert frozen == {each.value for each in Architecture}


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


@pytest.mark.parametrize("architecture", list(Architecture))
def test_every_architecture_survives_its_file(architecture: Architecture) -> None:
    """Eleven million parameters too: the room for a header bounds what is not a tensor."""
    model = terms(architecture)
    flat = np.ones(parameter_count(model))
    assert from_safetensors(model, to_safetensors(model, flat)).tobytes() == flat.tobytes()


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickled_weights_are_refused(protocol: int) -> None:
    raw = pickle.dumps(_tensors(), protocol=protocol)
    with pytest.raises(ProtocolError) as refusal:
        from_safetensors(terms("logistic"), raw)
    assert refusal.value.code is ErrorCode.WEIGHTS_MALFORMED
