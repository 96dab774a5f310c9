"""Which fixed features describe a small image, without learning anything from patients?

A two-order wavelet scattering transform (Bruna & Mallat 2013; Andreux et al. 2020, "Kymatio")
in front of a linear model: with good fixed features private training needs far fewer
parameters (Tramer & Boneh 2021, "Differentially private learning needs better features").
Every image is treated by itself, so the transform touches no privacy budget.

Steps, for an image of r x c pixels:
1. subtract the image's mean, divide by its standard deviation + 1/255 of the grey range;
2. reflect-pad by 6 pixels, then up to a multiple of 8 (right and below);
3. order 0: low-pass; order 1: |x * psi_1| low-passed for 3 scales x 4 directions;
   order 2: ||x * psi_1| * psi_2| low-passed for every coarser second scale;
4. sample every 8 pixels inside the image; logarithm of orders 1 and 2;
5. subtract from every channel its own mean over the image: what is left says where, not how
   much, so that no single direction dominates the steps of a private optimiser;
6. scale the whole vector to norm 1, which bounds a patient's gradient.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SCALES = 3
DIRECTIONS = 4
_STRIDE: int = 1 << SCALES
_PAD = 6
_LOG_FLOOR = 1e-2
_CHUNK = 32  # images at once: their spectra stay in the processor's cache

Spectrum = NDArray[np.complex64]
Filter = NDArray[np.float32]


def scattering_length(rows: int, columns: int) -> int:
    """Give the number of features of an image of rows x columns pixels."""
    first = SCALES * DIRECTIONS
    second = DIRECTIONS * DIRECTIONS * SCALES * (SCALES - 1) // 2
    return (1 + first + second) * len(_kept(rows)) * len(_kept(columns))


def scatter(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transform images (n, r, c), grey values in [0, 1], into features (n, k) of norm 1.

    A constant image gives the zero vector. Values must be finite.
    """
    n, rows, columns = images.shape
    out = np.zeros((n, scattering_length(rows, columns)), dtype=np.float32)
    for start in range(0, n, _CHUNK):
        out[start : start + _CHUNK] = _scatter_chunk(images[start : start + _CHUNK])
    return out


def _kept(size: int) -> tuple[int, ...]:
    """Give the sampled positions (in strides of the padded image) that fall inside the image."""
    padded = _padded(size)
    return tuple(k for k in range(padded // _STRIDE) if _PAD <= k * _STRIDE < _PAD + size)


def _padded(size: int) -> int:
    strides = (size + 2 * _PAD + _STRIDE - 1) // _STRIDE
    return strides * _STRIDE


def _scatter_chunk(images: NDArray[np.float32]) -> NDArray[np.float32]:
    n, rows, columns = images.shape
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    flat = centred.std(axis=(1, 2), keepdims=True)
    centred = (centred / (flat + np.float32(1 / 255))).astype(np.float32)
    extra = (_padded(rows) - rows - _PAD, _padded(columns) - columns - _PAD)
    padded = np.pad(centred, ((0, 0), (_PAD, extra[0]), (_PAD, extra[1])), mode="reflect")
    waves, low = _filters(padded.shape[1], padded.shape[2])
    keep = np.ix_(_kept(rows), _kept(columns))

    def smooth(spectrum: Spectrum, step: int) -> NDArray[np.float32]:
        reduced = _fold(spectrum * _fold_filter(low, step), _STRIDE // step)
        plane = np.fft.ifft2(reduced).real.astype(np.float32)
        return plane[:, keep[0], keep[1]].reshape(n, 1, -1)

    base: Spectrum = np.fft.fft2(padded).astype(np.complex64)
    zeroth = smooth(base, 1)
    first: list[NDArray[np.float32]] = []
    second: list[NDArray[np.float32]] = []
    for scale, wave in waves:
        inner: Spectrum = np.fft.fft2(np.abs(np.fft.ifft2(base * wave))).astype(np.complex64)
        first.append(smooth(inner, 1))
        for coarser, other in waves:
            if coarser > scale:
                step = 2**coarser
                folded = _fold(inner * other, step)
                outer = np.fft.fft2(np.abs(np.fft.ifft2(folded))).astype(np.complex64)
                second.append(smooth(outer, step))
    energies = np.maximum(np.concatenate([*first, *second], axis=1), 0)
    channels = np.concatenate([zeroth, np.log(energies + _LOG_FLOOR)], axis=1).astype(np.float64)
    whole = (channels - channels.mean(axis=2, keepdims=True)).reshape(n, -1)
    norm = np.sqrt((whole**2).sum(axis=1, keepdims=True))
    unit: NDArray[np.float32] = (whole / np.maximum(norm, 1e-12)).astype(np.float32)
    return unit


def _fold(spectrum: Spectrum, step: int) -> Spectrum:
    """Subsample in space by `step`: the spectrum folds onto itself (aliasing sum, divided)."""
    n, rows, columns = spectrum.shape
    blocks = spectrum.reshape(n, step, rows // step, step, columns // step)
    folded: Spectrum = blocks.sum(axis=1).sum(axis=2) / np.float32(step * step)
    return folded


def _fold_filter(kernel: Filter, step: int) -> Filter:
    """Give the low-pass at a coarser sampling: its spectrum has no energy beyond the fold."""
    rows, columns = kernel.shape
    blocks = kernel.reshape(step, rows // step, step, columns // step)
    folded: Filter = blocks.sum(axis=(0, 2))
    return folded


@lru_cache(maxsize=8)
def _filters(rows: int, columns: int) -> tuple[tuple[tuple[int, Filter], ...], Filter]:
    waves: list[tuple[int, Filter]] = []
    for scale in range(SCALES):
        for direction in range(DIRECTIONS):
            width = 0.8 * 2**scale
            angle = (DIRECTIONS // 2 - 1 - direction) * np.pi / DIRECTIONS
            frequency = 0.75 * np.pi / 2**scale
            window, wave = _gabor(rows, columns, width, angle, frequency, 4 / DIRECTIONS)
            admissible = wave - window * (wave.sum() / window.sum())  # zero mean: Morlet
            waves.append((scale, np.fft.fft2(admissible).real.astype(np.float32)))
    window, _ = _gabor(rows, columns, 0.8 * 2 ** (SCALES - 1), 0.0, 0.0, 1.0)
    return tuple(waves), np.fft.fft2(window).real.astype(np.float32)


def _gabor(
    rows: int, columns: int, width: float, angle: float, frequency: float, slant: float
) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Give a periodised Gaussian window and the same window times a plane wave, unit mass."""
    cos, sin = np.cos(angle), np.sin(angle)
    window = np.zeros((rows, columns))
    wave = np.zeros((rows, columns), dtype=np.complex128)
    for a in range(-2, 3):
        for b in range(-2, 3):
            x = np.arange(a * rows, (a + 1) * rows, dtype=np.float64)[:, None]
            y = np.arange(b * columns, (b + 1) * columns, dtype=np.float64)[None, :]
            along, across = cos * x + sin * y, -sin * x + cos * y
            bell = np.exp(-(along**2 + (slant * across) ** 2) / (2 * width**2))
            window += bell
            wave += bell * np.exp(1j * frequency * along)
    mass = 2 * np.pi * width**2 / slant
    return window / mass, wave / mass
