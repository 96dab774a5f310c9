"""Which patients take part in this step, and how much work is done whatever the coins say?

A coin for each patient, by one public rate and independent of everything else: Poisson sampling
(Mironov et al. 2019, arXiv 1908.10530). Shuffled or fixed-size batches are not this and must not be
accounted as if they were (Chua et al. 2024, arXiv 2403.17673). An empty batch is a batch.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.entropy import Entropy
from schemas.secagg.streams import KEY_BYTES, Keystream

# Chance that a step needs more room than `sampled_room` gives: its logarithm, 2^-40.
_LOG_CHANCE: Final = 40 * math.log(2)


def poisson_mask(n: int, rate: float, entropy: Entropy) -> NDArray[np.bool_]:
    """Choose each of ``n`` patients with probability ``rate``.

    Args:
        n: patients at this site, at least 0.
        rate: in (0, 1]; 1 takes everyone. It is cut to 64 bits, downwards.
        entropy: operating-system randomness; each call takes 32 bytes.

    Returns:
        Shape (n,), true where the patient takes part.

    Raises:
        ValueError: the rate is not in (0, 1]; a plan cannot hold such a rate.
    """
    if not 0.0 < rate <= 1.0:
        raise ValueError("a sampling rate lies in (0, 1]")
    coins = Keystream(entropy(KEY_BYTES)).words64(n)
    threshold = int(Fraction(rate) * (1 << 64))
    chosen: NDArray[np.bool_] = (
        np.ones(n, dtype=np.bool_) if threshold >> 64 else coins < np.uint64(threshold)
    )
    return chosen


def sampled_room(sizes: NDArray[np.int64], rate: float) -> int:
    """Give room for the sampled patients' sizes, which a step exceeds with chance 2^-40 at most.

    The work of a step is done for so much, whether the coins asked for it or not (PRIVACY-16).
    Bernstein's inequality (Boucheron, Lugosi, Massart 2013, theorem 2.10): with V the sum's
    variance, b the largest size times 1 - rate and L = 40 log 2,

        P(sum >= mean + b L/3 + sqrt((b L/3)^2 + 2 V L)) <= exp(-L) = 2^-40

    Args:
        sizes: (patients,), what each patient asks for, such as rows; none negative.
        rate: of the coins; 1 takes everyone, and the room is exact.
    """
    total = int(sizes.sum())
    if rate >= 1.0 or not total:
        return total
    squares = float((sizes.astype(np.float64) ** 2).sum())
    step = float(sizes.max()) * (1.0 - rate) * _LOG_CHANCE / 3.0
    spread = math.sqrt(step**2 + 2.0 * rate * (1.0 - rate) * squares * _LOG_CHANCE)
    return min(total, math.ceil(rate * total + step + spread))
