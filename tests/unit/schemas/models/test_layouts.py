"""Does every architecture of the closed list have a layout, and is an unfit one refused?"""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ConfigError, ErrorCode
from schemas.governance.study import Architecture
from schemas.models import layout, parameter_count, split_tensors
from tests.support.learning import FEATURES, TABLES, terms


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("logistic", 4 + 1),
        ("cox", 4 + 3),
        ("mlp", 4 * 6 + 6 + 6 * 3 + 3 + 3 + 1),
        ("scattering-logistic", 61 * 16 + 1),
        ("small-cnn", 14_561),
        ("resnet18-groupnorm", 11_168_193),
    ],
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
    for architecture in TABLES:
        model = terms(architecture, features=[], image_rows=28, image_columns=28)
        with pytest.raises(ConfigError):
            layout(model)


def test_resnet_has_the_published_tensors() -> None:
    """Names, shapes and count as ResNet-18's, one channel in, one logit out, norms with affine."""
    specs = {spec.name: spec.shape for spec in layout(terms("resnet18-groupnorm"))}
    # 20 convolutions (17 and 3 shortcuts), 20 norms of two tensors, one linear unit of two
    assert len(specs) == 20 + 2 * 20 + 2
    assert specs["conv1.weight"] == (64, 1, 3, 3)
    assert specs["layer1.1.conv2.weight"] == (64, 64, 3, 3)
    assert specs["layer4.0.conv1.weight"] == (512, 256, 3, 3)
    assert specs["layer4.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert specs["linear.weight"] == (1, 512)
    assert "layer1.0.downsample.0.weight" not in specs
    # ResNet-18 of the literature has 11 689 512 parameters: three channels, a thousand classes.
    large = terms("resnet18-groupnorm", image_rows=224, image_columns=224)
    assert parameter_count(large) == 11_689_512 - 2 * 64 * 49 - 999 * 513


@pytest.mark.parametrize(
    ("rows", "columns", "kernel"),
    [(1, 1, 3), (28, 28, 3), (63, 224, 3), (224, 63, 3), (64, 64, 7), (1024, 64, 7)],
)
def test_stem_follows_the_shorter_side(rows: int, columns: int, kernel: int) -> None:
    model = terms("resnet18-groupnorm", image_rows=rows, image_columns=columns)
    assert layout(model)[0].shape == (64, 1, kernel, kernel)


@pytest.mark.parametrize("architecture", list(Architecture))
def test_layout_depends_on_the_shape_alone(architecture: Architecture) -> None:
    changed = terms(architecture, initialisation_seed="cd" * 32, initial_weights_sha256="11" * 32)
    assert layout(changed) == layout(terms(architecture))


@pytest.mark.parametrize("architecture", ["small-cnn", "scattering-logistic", "resnet18-groupnorm"])
def test_imaging_model_without_an_image_is_refused(architecture: str) -> None:
    with pytest.raises(ConfigError):
        terms(architecture, image_rows=0, image_columns=0, features=FEATURES)
