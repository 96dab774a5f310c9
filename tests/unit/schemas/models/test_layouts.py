"""Does every architecture of the closed list have a layout, and is an unfit one refused?"""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ConfigError, ErrorCode
from schemas.governance.study import Architecture
from schemas.models import layout, parameter_count, split_tensors
from tests.support.learning import FEATURES, terms


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [("logistic", 4 + 1), ("scattering-logistic", 61 * 16 + 1), ("small-cnn", 14_561)],
)
def test_parameter_count_is_that_of_the_architecture(architecture: str, expected: int) -> None:
    assert parameter_count(terms(architecture)) == expected


@pytest.mark.parametrize("architecture", list(Architecture))
def test_tensors_tile_the_flat_vector_in_order(architecture: Architecture) -> None:
    model = terms(architecture)
    flat = np.arange(parameter_count(model), dtype=np.float64)
    tensors = split_tensors(model, flat)
    assert list(tensors) == [spec.name for spec in layout(model)]
    assert np.concatenate([t.reshape(-1) for t in tensors.values()]).tolist() == flat.tolist()


def test_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        split_tensors(terms("logistic"), np.zeros(4))
    assert refusal.value.code is ErrorCode.PLAN_INVALID


def test_logistic_model_without_features_is_refused() -> None:
    model = terms("logistic", features=[], image_rows=28, image_columns=28)
    with pytest.raises(ConfigError):
        layout(model)


@pytest.mark.parametrize("architecture", ["small-cnn", "scattering-logistic"])
def test_imaging_model_without_an_image_is_refused(architecture: str) -> None:
    with pytest.raises(ConfigError):
        terms(architecture, image_rows=0, image_columns=0, features=FEATURES)
