"""How do a vendor's own weights become the file that a plan names?

Only safetensors is read: a file of numbers with a JSON header. A torch checkpoint is a pickle, a
program that runs when it is opened; it is never opened here.

The plan names the hash of one canonical file: the layout's tensors in float64, and nothing else.
`study plan` writes it beside the plan, `study apply` sends it, every hospital checks it by hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, deserialize

from schemas.canonical import sha256_hex
from schemas.errors import ConfigError, ErrorCode
from schemas.governance.study import ModelTerms, StudyPlan
from schemas.limits import MAX_WEIGHTS_BYTES
from schemas.models import layout, parameter_count, to_safetensors, weights_from_seed

_TYPES: Final[Mapping[str, str]] = {"F32": "<f4", "F64": "<f8"}  # little-endian, as the format
_SHOWN: Final = 8  # names in one error; a wrong architecture has sixty
_HEADER_BYTES: Final = 1024 * 1024  # beside the tensors; exports carry metadata
_PICKLES: Final = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def weights_path(plan_file: Path) -> Path:
    """Say where the weights of a plan lie: beside it, with its name."""
    return plan_file.with_name(f"{plan_file.name}.weights.safetensors")


def read_weights(path: Path) -> bytes:
    """Read a weights file whole.

    Raises:
        ConfigError: CONFIG_FILE_MISSING; WEIGHTS_TOO_LARGE, before anything is read.
    """
    if not path.is_file():
        raise ConfigError(
            ErrorCode.CONFIG_FILE_MISSING,
            "There is no weights file of this name.",
            hint=f"Looked for {path}. `study plan --weights FILE` writes its own beside the plan: "
            "keep both files together.",
        )
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise _too_large()
    return path.read_bytes()


def fit_weights(model: ModelTerms, raw: bytes) -> bytes:
    """Give the canonical file of a vendor's weights.

    Args:
        model: the draft's model terms.
        raw: safetensors, the layout's names and shapes in float32 or float64; float32 values
            become the same numbers in float64. Metadata is dropped.

    Raises:
        ConfigError: WEIGHTS_UNFIT, with every tensor that is missing, foreign or of another shape
            or type; or a value that is not finite. WEIGHTS_TOO_LARGE, the model itself is.
    """
    if 8 * parameter_count(model) + _HEADER_BYTES > MAX_WEIGHTS_BYTES:
        raise _too_large()
    tensors = _open(raw)
    specs = layout(model)
    wanted = {spec.name: spec.shape for spec in specs}
    problems = [
        *_each("missing", (name for name in wanted if name not in tensors)),
        *_each("not of this model", (name for name in tensors if name not in wanted)),
        *_each(
            "of another shape",
            (
                f"{name} {list(tensors[name]['shape'])}, not {list(shape)}"
                for name, shape in wanted.items()
                if name in tensors and tuple(tensors[name]["shape"]) != shape
            ),
        ),
        *_each(
            "neither float32 nor float64",
            (f"{name} {tensors[name]['dtype']}" for name in wanted if name in tensors
             and tensors[name]["dtype"] not in _TYPES),
        ),
    ]  # fmt: skip
    if problems:
        raise _unfit("The weights do not fit the architecture.", "; ".join(problems) + ".")
    parts = [
        np.frombuffer(tensors[spec.name]["data"], _TYPES[tensors[spec.name]["dtype"]])
        for spec in specs
    ]
    flat = np.concatenate([part.astype(np.float64) for part in parts])
    if not np.isfinite(flat).all():
        where = [
            s.name for s, part in zip(specs, parts, strict=True) if not np.isfinite(part).all()
        ]
        raise _unfit("A weight is not a finite number.", "; ".join(_each("not finite", where)))
    return to_safetensors(model, flat)


def weights_to_send(plan: StudyPlan, plan_file: Path) -> bytes:
    """Give what is sent with a plan: its weights file, or nothing where a seed gives them.

    Raises:
        ConfigError: the file beside the plan is missing, too large or another than the plan names.
        ProtocolError: WEIGHTS_MISMATCH, this version derives other weights from the seed.
    """
    if plan.model.initialisation == "seed":
        weights_from_seed(plan.model)
        return b""
    raw = read_weights(weights_path(plan_file))
    if sha256_hex(raw) != plan.model.initial_weights_sha256:
        raise ConfigError(
            ErrorCode.WEIGHTS_MISMATCH,
            "The weights beside the plan are not those it names.",
            hint="Make the plan again: cohortium study plan DRAFT --weights FILE -o NAME.plan",
        )
    return raw


def _open(raw: bytes) -> dict[str, Mapping[str, Any]]:
    if raw.startswith(_PICKLES):
        raise _unfit(
            "The weights are a torch checkpoint (a pickle), which is never opened here.",
            "Save the state dict with safetensors.torch.save_file.",
        )
    try:
        return dict(deserialize(raw))  # type: ignore[no-untyped-call]  # safetensors has none
    except (SafetensorError, ValueError) as error:
        raise _unfit(
            "The weights are not a safetensors file.", "Save them with safetensors."
        ) from error


def _each(what: str, found: Iterable[str]) -> list[str]:
    """Write a list of names as one clause; none where there are none."""
    names = ["".join(c if c.isprintable() else "?" for c in name[:80]) for name in found]
    if not names:
        return []
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{what}: {', '.join(names[:_SHOWN])}{rest}"]


def _unfit(sentence: str, hint: str) -> ConfigError:
    return ConfigError(ErrorCode.WEIGHTS_UNFIT, sentence, hint=hint)


def _too_large() -> ConfigError:
    return ConfigError(
        ErrorCode.WEIGHTS_TOO_LARGE,
        f"Weights of more than {MAX_WEIGHTS_BYTES // 2**20} MiB as float64 are not sent.",
        hint="Start a model of this size from a seed: then nothing has to be sent.",
    )
