"""Do a vendor's own weights become the one file a plan names, and is everything else refused?"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from coordinator.client import weights
from coordinator.client.weights import fit_weights, read_weights, weights_path, weights_to_send
from schemas.canonical import sha256_hex
from schemas.errors import ConfigError, ErrorCode, ProtocolError
from schemas.limits import MAX_WEIGHTS_BYTES
from schemas.models import from_safetensors, parameter_count, to_safetensors
from tests.support.factories import make_plan
from tests.support.learning import terms
from tests.support.starts import FROM_FILE, start_weights

MODEL = terms("mlp", **FROM_FILE)  # hidden 6 and 3 on four inputs


def tensors(dtype: type = np.float64) -> dict[str, np.ndarray]:
    """Some weights of `MODEL`, by name."""
    shapes = {
        "hidden.0.weight": (6, 4), "hidden.0.bias": (6,), "hidden.1.weight": (3, 6),
        "hidden.1.bias": (3,), "linear.weight": (1, 3), "linear.bias": (1,),
    }  # fmt: skip
    generator = np.random.default_rng(1)
    return {name: generator.normal(0, 1, shape).astype(dtype) for name, shape in shapes.items()}


def refused(raw: bytes) -> ConfigError:
    with pytest.raises(ConfigError) as refusal:
        fit_weights(MODEL, raw)
    assert refusal.value.code is ErrorCode.WEIGHTS_UNFIT
    return refusal.value


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_types_become_the_same_numbers_in_the_one_form(dtype: type) -> None:
    given_ = tensors(dtype)
    file = fit_weights(MODEL, bytes(save(given_, metadata={"format": "pt"})))
    flat = from_safetensors(MODEL, file)  # strict: nothing but the canonical form passes
    order = ["hidden.0.weight", "hidden.0.bias", "hidden.1.weight", "hidden.1.bias",
             "linear.weight", "linear.bias"]  # fmt: skip
    expected = np.concatenate([given_[name].astype(np.float64).ravel() for name in order])
    assert flat.tolist() == expected.tolist()


def test_every_tensor_that_does_not_fit_is_named() -> None:
    found = tensors()
    del found["linear.bias"]
    found["fc.bias"] = np.zeros(1)
    found["hidden.0.weight"] = np.zeros((4, 6))
    found["hidden.1.bias"] = np.zeros(3, np.float16)
    hint = refused(bytes(save(found))).hint
    assert hint == (
        "missing: linear.bias; not of this model: fc.bias; "
        "of another shape: hidden.0.weight [4, 6], not [6, 4]; "
        "neither float32 nor float64: hidden.1.bias F16."
    )


def test_a_wrong_architecture_is_a_short_sentence() -> None:
    raw = bytes(save({f"layer{i}.weight": np.zeros(1) for i in range(62)}))
    hint = refused(raw).hint
    assert "and 54 more" in hint and len(hint) < 500


def test_names_that_would_steer_a_terminal_are_not_printed() -> None:
    hint = refused(bytes(save(tensors() | {"\x1b[2J" + "x" * 500: np.zeros(1)}))).hint
    assert "\x1b" not in hint and len(hint) < 200


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_named(value: float) -> None:
    found = tensors()
    found["hidden.1.weight"][1, 2] = value
    assert "hidden.1.weight" in refused(bytes(save(found))).hint


def checkpoint() -> bytes:
    """What torch.save writes: a zip with a pickle inside."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"linear.bias": [0.0]}))
    return out.getvalue()


class _Runs:
    """A pickle that does something when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("the pickle was opened",))


@pytest.mark.parametrize(
    "raw", [checkpoint(), *(pickle.dumps(_Runs(), protocol=p) for p in (2, 3, 4, 5))]
)
def test_a_torch_checkpoint_is_refused_unopened(raw: bytes) -> None:
    """PRIVACY-20"""
    assert "never opened" in refused(raw).sentence


@pytest.mark.parametrize("raw", [b"", b"\x00" * 8, b"\xff" * 64, bytes(100)])
def test_noise_is_refused(raw: bytes) -> None:
    assert "not a safetensors file" in refused(raw).sentence


def test_half_precision_of_brains_is_refused_by_name() -> None:
    header = b'{"linear.bias":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    raw = struct.pack("<Q", len(header)) + header + bytes(2)
    assert "linear.bias BF16" in refused(raw).hint


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_fuzzed_files_are_refused_with_a_code(raw: bytes) -> None:
    refused(raw)


def test_a_resnet_fits_the_limit_and_a_larger_model_does_not() -> None:
    large = terms("resnet18-groupnorm", image_rows=224, image_columns=224, **FROM_FILE)
    assert len(start_weights(large)) < MAX_WEIGHTS_BYTES
    wide = terms("mlp", hidden=[4096, 4096], **FROM_FILE)
    assert 8 * parameter_count(wide) > MAX_WEIGHTS_BYTES
    with pytest.raises(ConfigError) as refusal:
        fit_weights(wide, b"")
    assert refusal.value.code is ErrorCode.WEIGHTS_TOO_LARGE
    assert "96 MiB" in refusal.value.sentence


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(bytes(101))
    monkeypatch.setattr(weights, "MAX_WEIGHTS_BYTES", 100)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    with pytest.raises(ConfigError) as refusal:
        read_weights(path)
    assert refusal.value.code is ErrorCode.WEIGHTS_TOO_LARGE


def test_a_plan_with_a_seed_sends_nothing(tmp_path: Path) -> None:
    plan, _ = make_plan()
    named = {"initial_weights_sha256": sha256_hex(start_weights(plan.model))}
    plan, _ = make_plan(model=named)
    assert weights_to_send(plan, tmp_path / "heart.plan") == b""


def test_a_seed_that_gives_other_weights_is_refused_before_sending(tmp_path: Path) -> None:
    plan, _ = make_plan()  # names a made-up hash
    with pytest.raises(ProtocolError) as refusal:
        weights_to_send(plan, tmp_path / "heart.plan")
    assert refusal.value.code is ErrorCode.WEIGHTS_MISMATCH


def test_the_file_beside_the_plan_is_sent_if_it_is_the_one_named(tmp_path: Path) -> None:
    draft, _ = make_plan(model=FROM_FILE)
    file = start_weights(draft.model)
    plan, _ = make_plan(model=FROM_FILE | {"initial_weights_sha256": sha256_hex(file)})
    path = tmp_path / "heart.plan"
    assert weights_path(path).name == "heart.plan.weights.safetensors"
    with pytest.raises(ConfigError) as absent:
        weights_to_send(plan, path)
    assert absent.value.code is ErrorCode.CONFIG_FILE_MISSING
    weights_path(path).write_bytes(file)
    assert weights_to_send(plan, path) == file
    weights_path(path).write_bytes(to_safetensors(plan.model, np.zeros(plan.model.parameters)))
    with pytest.raises(ConfigError) as changed:
        weights_to_send(plan, path)
    assert changed.value.code is ErrorCode.WEIGHTS_MISMATCH
