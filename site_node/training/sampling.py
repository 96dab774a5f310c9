"""Which patients take part in this step?

A coin for each patient, by one public rate and independent of everything else: Poisson sampling
(Mironov et al. 2019, arXiv 1908.10530). Shuffled or fixed-size batches are not this and must not be
accounted as if they were (Chua et al. 2024, arXiv 2403.17673). An empty batch is a batch.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from schemas.entropy import Entropy
from schemas.secagg.streams import KEY_BYTES, Keystream


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
