"""Where does a model start, how is it written to a file, and what is its hash?"""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import Architecture, ModelTerms
from schemas.models.layouts import layout, parameter_count, split_tensors

# Room for the JSON header of a safetensors file; our largest layout needs under 1 KiB.
_MAX_HEADER_BYTES = 8192


def initial_parameters(model: ModelTerms) -> NDArray[np.float64]:
    """Give the starting parameters (d,) that the plan's seed determines.

    Linear architectures start at zero. Convolutions start uniform on +-1/sqrt(fan_in), read from
    an AES-256-CTR stream under SHA-256 of the seed: 32-bit little-endian words u, mapped to
    (2u + 1)/2^32 - 1, which float64 holds exactly; biases start at zero. The head of a
    convolutional network starts at zero, so its first output is one half for everyone.
    """
    parts: list[NDArray[np.float64]] = []
    stream = _words(model.initialisation_seed, parameter_count(model))
    start = 0
    for spec in layout(model):
        words = stream[start : start + spec.size]
        start += spec.size
        if model.architecture is Architecture.SMALL_CNN and spec.name.startswith("conv"):
            if spec.name.endswith(".bias"):
                parts.append(np.zeros(spec.size))
                continue
            unit = (2.0 * words.astype(np.float64) + 1.0) / 2.0**32 - 1.0
            parts.append(unit / np.sqrt(np.float64(spec.fan_in)))
        else:
            parts.append(np.zeros(spec.size))
    return np.concatenate(parts)


def to_safetensors(model: ModelTerms, flat: NDArray[np.float64]) -> bytes:
    """Write the flat vector as a safetensors file of float64 tensors; same bytes every time."""
    tensors = {k: np.ascontiguousarray(v) for k, v in split_tensors(model, flat).items()}
    return bytes(save(tensors))


def from_safetensors(model: ModelTerms, raw: bytes) -> NDArray[np.float64]:
    """Read a flat vector (d,) back from a safetensors file.

    Raises:
        ProtocolError: wrong size, other tensors, shapes or types than the layout, a value that is
            not finite, or other bytes than `to_safetensors` would write.
    """
    if len(raw) > 8 * parameter_count(model) + _MAX_HEADER_BYTES:
        raise _refused("the file is larger than the model")
    try:
        tensors = load(raw)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _refused("the file is not safetensors") from error
    specs = layout(model)
    if set(tensors) != {spec.name for spec in specs}:
        raise _refused("the file holds other tensors")
    for spec in specs:
        tensor = tensors[spec.name]
        if tensor.shape != spec.shape or tensor.dtype != np.float64:
            raise _refused("a tensor has another shape or type")
        if not np.isfinite(tensor).all():
            raise _refused("a value is not finite")
    flat = np.concatenate([tensors[spec.name].reshape(-1) for spec in specs])
    if to_safetensors(model, flat) != raw:
        raise _refused("the file is not in the one accepted form")
    return flat


def model_hash(flat: NDArray[np.float64]) -> str:
    """Give the SHA-256 (hex) of the parameters as little-endian float64."""
    return hashlib.sha256(np.ascontiguousarray(flat, dtype="<f8").tobytes()).hexdigest()


def _words(seed_hex: str, count: int) -> NDArray[np.uint32]:
    key = hashlib.sha256(b"cohortium/v1/initial-weights\x00" + bytes.fromhex(seed_hex)).digest()
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(encryptor.update(bytes(4 * count)), dtype="<u4").astype(np.uint32)


def _refused(reason: str) -> ProtocolError:
    return ProtocolError(
        ErrorCode.WEIGHTS_MALFORMED,
        f"The weights were refused: {reason}.",
        hint="Ask for the weights again; their hash is in the plan.",
    )
