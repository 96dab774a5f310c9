"""Where does a model start, how is it written to a file, and what is its hash?"""

from __future__ import annotations

import hashlib
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Final, assert_never

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import ModelTerms
from schemas.models.layouts import layout, parameter_count, split_tensors

# Room for the JSON header of a safetensors file; the 62 tensors of a ResNet-18 need 6 KiB.
_MAX_HEADER_BYTES: Final = 16 * 1024


def initial_parameters(model: ModelTerms) -> NDArray[np.float64]:
    """Give the starting parameters (d,) that the plan's seed determines.

    | tensor | starts at |
    | --- | --- |
    | kernels and hidden layers | uniform on +-1/sqrt(fan_in), from the seed |
    | weights of a group normalisation | one |
    | biases, and the last layer of every model | zero |
    | baseline of a Cox model | a constant hazard that half the patients survive to the horizon |

    Uniform values are read from an AES-256-CTR stream under SHA-256 of the seed: 32-bit
    little-endian words u, mapped to (2u + 1)/2^32 - 1, which float64 holds exactly, and divided
    by a correctly rounded square root. So every machine obtains the same bits.

    Raises:
        ProtocolError: the model starts from the vendor's own weights, not from a seed.
    """
    if model.initialisation_seed is None:
        raise ProtocolError(
            ErrorCode.WEIGHTS_MISSING,
            "The model starts from the vendor's own weights, which no seed gives.",
            hint="They travel as a file beside the plan.",
        )
    specs = layout(model)
    flat = np.zeros(sum(spec.size for spec in specs))
    stream = _words(model.initialisation_seed, len(flat))
    start = 0
    for spec in specs:
        place = slice(start, start + spec.size)
        start += spec.size
        match spec.start:
            case "zero":
                continue
            case "one":
                flat[place] = 1.0
            case "uniform":
                unit = (2.0 * stream[place].astype(np.float64) + 1.0) / 2.0**32 - 1.0
                flat[place] = unit / np.sqrt(np.float64(spec.fan_in))
            case "baseline":
                flat[place] = constant_baseline(model.time_edges)
            case _ as never:
                assert_never(never)
    return flat


def constant_baseline(time_edges: tuple[float, ...]) -> NDArray[np.float64]:
    """Give the log of each interval's cumulative hazard, (intervals,), where half survive it all.

    log(log 2 * length of the interval / horizon): a constant hazard, known from the plan alone.
    In decimal arithmetic, which rounds alike everywhere; a logarithm of floats need not.
    """
    with localcontext() as context:
        context.prec = 40  # digits, of which float64 keeps 17
        log2 = Decimal(2).ln()
        edges = [Decimal(0), *map(Decimal, time_edges)]
        shares = [(b - a) / edges[-1] for a, b in pairwise(edges)]
        return np.array([float((log2 * share).ln()) for share in shares])


def weights_from_seed(model: ModelTerms) -> bytes:
    """Give the initial weights (safetensors) of a model that starts from the plan's seed.

    So they need not travel: vendor, coordinator and every hospital derive the same bytes.

    Raises:
        ProtocolError: WEIGHTS_MISMATCH, they are not those the plan names; WEIGHTS_MISSING, the
            model starts from a file.
    """
    weights = to_safetensors(model, initial_parameters(model))
    if hashlib.sha256(weights).hexdigest() != model.initial_weights_sha256:
        raise ProtocolError(
            ErrorCode.WEIGHTS_MISMATCH,
            "The plan names other initial weights than its seed gives.",
            hint="Make the plan again with this version: cohortium study plan",
        )
    return weights


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
