"""Which named tensors, in which order, make up the flat parameter vector of an architecture?"""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigError, ErrorCode
from schemas.governance.study import Architecture, ModelTerms
from schemas.models.resnet import resnet18
from schemas.models.scattering import scattering_length
from schemas.models.tensors import TensorSpec, linear_unit

# Channels and kernels of "small-cnn": three tanh convolutions of stride 2, then one linear unit.
CNN_CHANNELS = (16, 32, 32)
CNN_KERNEL = 3


def layout(model: ModelTerms) -> tuple[TensorSpec, ...]:
    """List the tensors of a model in the order in which the flat vector holds them.

    Raises:
        ConfigError: the architecture lacks what it needs (features, or an image size).
    """
    match model.architecture:
        case Architecture.LOGISTIC:
            return linear_unit(_need_features(model))
        case Architecture.COX:
            return _cox(_need_features(model), len(model.time_edges))
        case Architecture.MLP:
            return _mlp(_need_features(model), model.hidden)
        case Architecture.SCATTERING_LOGISTIC:
            _need_image(model)
            return linear_unit(scattering_length(model.image_rows, model.image_columns))
        case Architecture.SMALL_CNN:
            _need_image(model)
            return _small_cnn(model.image_rows, model.image_columns)
        case Architecture.RESNET18:
            _need_image(model)
            return resnet18(model.image_rows, model.image_columns)
        case _ as never:
            assert_never(never)


def parameter_count(model: ModelTerms) -> int:
    """Give the length d of the flat parameter vector."""
    return sum(spec.size for spec in layout(model))


def split_tensors(model: ModelTerms, flat: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Cut the flat vector (d,) into its named tensors.

    Raises:
        ConfigError: the vector has another length than the layout.
    """
    specs = layout(model)
    if flat.shape != (sum(s.size for s in specs),):
        raise _incomplete("the parameter vector does not fit the architecture")
    out: dict[str, NDArray[np.float64]] = {}
    start = 0
    for spec in specs:
        out[spec.name] = flat[start : start + spec.size].reshape(spec.shape)
        start += spec.size
    return out


def _cox(width: int, intervals: int) -> tuple[TensorSpec, ...]:
    """Grouped proportional hazards: log hazard ratios, and a baseline for every interval.

    The linear predictor has no intercept: the baseline is one.
    """
    if intervals < 1:
        raise _incomplete("a cox model needs time_edges")
    return (
        TensorSpec("linear.weight", (1, width), "zero"),
        TensorSpec("baseline.weight", (intervals, 1), "baseline"),
    )


def _mlp(width: int, hidden: tuple[int, ...]) -> tuple[TensorSpec, ...]:
    if not hidden:
        raise _incomplete("an mlp needs hidden layers")
    specs: list[TensorSpec] = []
    for number, units in enumerate(hidden):
        specs.append(TensorSpec(f"hidden.{number}.weight", (units, width), "uniform", width))
        specs.append(TensorSpec(f"hidden.{number}.bias", (units,), "zero"))
        width = units
    return (*specs, *linear_unit(width))


def _small_cnn(rows: int, columns: int) -> tuple[TensorSpec, ...]:
    specs: list[TensorSpec] = []
    inputs = 1
    for number, outputs in enumerate(CNN_CHANNELS, start=1):
        fan_in = inputs * CNN_KERNEL**2
        kernels = (outputs, inputs, CNN_KERNEL, CNN_KERNEL)
        specs.append(TensorSpec(f"conv{number}.weight", kernels, "uniform", fan_in))
        specs.append(TensorSpec(f"conv{number}.bias", (outputs,), "zero"))
        rows, columns, inputs = (rows + 1) // 2, (columns + 1) // 2, outputs
    width = inputs * rows * columns
    return (*specs, *linear_unit(width))


def _need_features(model: ModelTerms) -> int:
    if model.input_width < 1:
        raise _incomplete("a model of table rows needs at least one feature")
    return model.input_width


def _need_image(model: ModelTerms) -> None:
    if model.image_rows < 1 or model.image_columns < 1:
        raise _incomplete("an imaging architecture needs image_rows and image_columns")


def _incomplete(sentence: str) -> ConfigError:
    return ConfigError(
        ErrorCode.PLAN_INVALID,
        f"The model terms do not describe a model: {sentence}.",
        hint="Correct the model section of the study draft.",
    )
