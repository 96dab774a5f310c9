"""Where does the noise come from that protects a patient?

A discrete Gaussian over the integers, from the injected operating-system entropy stretched by
AES-256-CTR. No floating point touches a sample: the table of the distribution is built from exact
integers to 127 bits, and a draw compares that many random bits with it.

Wide noise is put together by convolution (Pöppelmann, Ducas, Güneysu 2014, ePrint 2014/254;
Micciancio, Walter 2017, ePrint 2017/259): with independent x_k of parameter s,

    x = x_0 + c·x_1 + c²·x_2          has   sigma² = s²·(1 + c² + c⁴)

The number of draws (1, 2 or 3) and the scale c follow from sigma alone, so the work is the same
for every outcome: no rejection, whose duration would tell something (Haney et al. 2022,
arXiv 2207.13793).

    distance of one sample from the true distribution              bound
    table: 13 900 entries rounded to 2^-127, tail cut at 2^-132     2^-112
    convolution: 2·exp(-2 pi² s²/(1 + c²)), s²/(1 + c²) >= 60       10^-500
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.entropy import Entropy
from schemas.errors import ErrorCode, InternalError
from schemas.limits import MAX_NOISE_SHARE
from schemas.secagg.streams import KEY_BYTES, Keystream, chunks

_LEAST_SIGMA: Final = 0.25
_WIDEST_TABLE: Final = 1024  # parameter s of a table; its 13 900 entries stay in the cache
_LARGEST_SCALE: Final = 128  # keeps s²/(1 + c²) above 60
_WORK_BITS: Final = 320  # fixed point while a table is built
_KEPT_BITS: Final = 127  # of it that are compared with; the 128th random bit is the sign
_TAIL_BITS: Final = 132  # entries below this share of the peak are dropped
_WORD: Final = (1 << 64) - 1


def discrete_gaussian(sigma: float, n: int, entropy: Entropy) -> NDArray[np.int64]:
    """Draw ``n`` independent integers with probability proportional to exp(-x²/(2 sigma²)).

    Args:
        sigma: parameter in grid units, 0.25 to 1e7; above 1 it is the standard deviation to 1e-6.
        n: how many, at least 0.
        entropy: operating-system randomness; each call takes 32 bytes.

    Returns:
        Shape (n,).

    Raises:
        InternalError: sigma is outside the sampler's range.
    """
    table = _table(sigma)
    stream = Keystream(entropy(KEY_BYTES))
    noise = np.zeros(n, dtype=np.int64)
    for part in chunks(n):
        for _ in range(table.draws):
            noise[part] *= table.scale
            noise[part] += table.draw(part.stop - part.start, stream)
    return noise


@dataclass(frozen=True, slots=True)
class _Table:
    """How to draw one parameter: thresholds of |x| in 128-bit integers, high and low words."""

    draws: int
    scale: int
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]

    def draw(self, count: int, stream: Keystream) -> NDArray[np.int64]:
        """Draw from the table itself, shape (count,)."""
        high, low = stream.words64(count), stream.words64(count)
        # |x| is the number of thresholds not above the 128 random bits.
        magnitude = np.searchsorted(self.high, high, side="left")
        tied = self._is_tied(magnitude, high, low)
        while tied.any():  # the high words decide all but one draw in 2^50
            magnitude += tied
            tied = self._is_tied(magnitude, high, low)
        sign = 1 - 2 * (low & np.uint64(1)).astype(np.int64)  # thresholds are even: a free bit
        signed: NDArray[np.int64] = magnitude.astype(np.int64) * sign
        return signed

    def _is_tied(
        self, index: NDArray[np.int64], high: NDArray[np.uint64], low: NDArray[np.uint64]
    ) -> NDArray[np.bool_]:
        same = self.high.take(index, mode="clip") == high
        below = self.low.take(index, mode="clip") <= low
        tied: NDArray[np.bool_] = same & below & (index < len(self.high))
        return tied


@lru_cache(maxsize=16)  # sigma is public; a table is 220 KiB
def _table(sigma: float) -> _Table:
    if not (math.isfinite(sigma) and _LEAST_SIGMA <= sigma <= MAX_NOISE_SHARE):
        raise InternalError(
            ErrorCode.NOISE_OUT_OF_RANGE, "The noise level is outside the sampler's range."
        )
    draws, scale = _convolution(sigma)
    variance = Fraction(sigma) ** 2 / _spread(scale, draws)
    thresholds = _thresholds(variance)
    return _Table(
        draws,
        scale,
        np.array([t >> 64 for t in thresholds], dtype=np.uint64),
        np.array([t & _WORD for t in thresholds], dtype=np.uint64),
    )


def _convolution(sigma: float) -> tuple[int, int]:
    """Return how many draws make up one sample, and their scale c: the fewest, the smallest."""
    wanted = (sigma / _WIDEST_TABLE) ** 2
    for draws in (1, 2, 3):
        for scale in range(1, _LARGEST_SCALE + 1):
            if _spread(scale, draws) >= wanted:
                return draws, scale
    raise AssertionError("three draws reach beyond every admitted sigma")


def _spread(scale: int, draws: int) -> int:
    return sum(scale ** (2 * k) for k in range(draws))


def _thresholds(variance: Fraction) -> list[int]:
    """Return P(|x| <= k) for k = 0, 1, … as even 128-bit integers, without the final 1.

    The weights exp(-k²/2v) come by recurrence from one exponential: w_{k+1} = w_k·r_k and
    r_{k+1} = r_k·q², with q = exp(-1/2v), in fixed point of 320 bits, truncated.
    """
    with localcontext() as context:
        context.prec = 110  # digits: more than 320 bits
        half = Decimal(variance.denominator) / Decimal(2 * variance.numerator)
        step = int((-half).exp() * (1 << _WORK_BITS))
    weight, ratio, square = 1 << _WORK_BITS, step, step * step >> _WORK_BITS
    cumulative: list[int] = []
    total = 0
    while weight >> (_WORK_BITS - _TAIL_BITS):
        total += weight if not cumulative else 2 * weight  # both signs
        cumulative.append(total)
        weight = weight * ratio >> _WORK_BITS
        ratio = ratio * square >> _WORK_BITS
    return [(c << _KEPT_BITS) // total << 1 for c in cumulative[:-1]]
