"""Are the fixed image features what the transform promises: bounded, local, stable?"""

from __future__ import annotations

import numpy as np
import pytest

from schemas.models.scattering import DIRECTIONS, SCALES, _filters, scatter, scattering_length

GENERATOR = np.random.default_rng(7)
IMAGES = GENERATOR.random((6, 28, 28)).astype(np.float32)


def test_features_have_the_announced_length_and_norm_one() -> None:
    features = scatter(IMAGES)
    assert features.shape == (6, scattering_length(28, 28)) == (6, 61 * 16)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (31, 29), (64, 64)])
def test_other_image_sizes_work(size: tuple[int, int]) -> None:
    features = scatter(GENERATOR.random((2, *size)).astype(np.float32))
    assert features.shape == (2, scattering_length(*size))
    assert np.isfinite(features).all()


def test_every_image_is_treated_by_itself() -> None:
    """Features that depended on other patients' images would spend privacy unseen."""
    alone = np.concatenate([scatter(image[None]) for image in IMAGES])
    np.testing.assert_allclose(scatter(IMAGES), alone, atol=1e-6)
    many = np.repeat(IMAGES, 50, axis=0)  # more than one chunk
    np.testing.assert_allclose(scatter(many)[::50], alone, atol=1e-6)


def test_brightness_and_contrast_do_not_matter() -> None:
    np.testing.assert_allclose(scatter(IMAGES * 0.5 + 0.3), scatter(IMAGES), atol=0.02)


def test_constant_image_and_no_image_give_zeros_and_nothing() -> None:
    flat = scatter(np.full((1, 28, 28), 0.4, dtype=np.float32))
    assert np.isfinite(flat).all()
    assert np.linalg.norm(flat) <= 1 + 1e-6
    assert scatter(np.zeros((0, 28, 28), dtype=np.float32)).shape == (0, 976)


def test_wavelets_ignore_a_constant_and_the_low_pass_keeps_it() -> None:
    waves, low = _filters(40, 40)
    assert len(waves) == SCALES * DIRECTIONS
    assert all(abs(wave[0, 0]) < 1e-5 for _, wave in waves)
    assert low[0, 0] == pytest.approx(1, abs=1e-3)


def test_first_order_agrees_with_convolution_in_space() -> None:
    """Oracle: low-pass of |x * psi| by explicit circular sums, sampled without any folding."""
    from schemas.models import scattering

    image = IMAGES[:1] - IMAGES[:1].mean()
    image = (image / (image.std() + 1 / 255)).astype(np.float32)
    padded = np.pad(image[0], 6, mode="reflect").astype(np.float64)
    waves, low = _filters(40, 40)
    kernel, smooth = np.fft.ifft2(waves[0][1]), np.fft.ifft2(low).real

    def circular(signal: np.ndarray, taps: np.ndarray, row: int, column: int) -> complex:
        rows = (row - np.arange(40)) % 40
        columns = (column - np.arange(40)) % 40
        return complex((signal[np.ix_(rows, columns)] * taps).sum())

    amplitude = np.array(
        [[abs(circular(padded, kernel, r, c)) for c in range(40)] for r in range(40)]
    )
    expected = [
        [np.log(circular(amplitude, smooth, r, c).real + 1e-2) for c in (8, 16, 24, 32)]
        for r in (8, 16, 24, 32)
    ]
    expected_channel = np.array(expected).reshape(-1)
    expected_channel -= expected_channel.mean()
    got = scattering.scatter(IMAGES[:1]).reshape(61, 16)[1].astype(np.float64)
    scale = np.linalg.norm(expected_channel) / np.linalg.norm(got)
    np.testing.assert_allclose(got * scale, expected_channel, atol=5e-3 * scale)
