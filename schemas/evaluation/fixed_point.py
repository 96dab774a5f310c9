"""How does a sum of real numbers travel in 32-bit words without losing a bit?

A site adds its patients' values, each truncated to 2^-24, as one exact integer, and writes it in
base 2^20: three limbs. 200 sites add limb by limb and stay below 2^28; carries are resolved when
the sum is read. 10^7 patients with values up to 1 stay below 2^48, inside the 2^60 there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LIMBS: Final = 3
SCALE: Final = 1 << 24
_LIMB_BITS: Final = 20


def to_limbs(values: NDArray[np.float64]) -> tuple[int, ...]:
    """Add values in [0, 1], each truncated to 2^-24; return the sum's limbs, lowest first."""
    if values.size and not (values.min() >= 0.0 and values.max() <= 1.0):
        raise ValueError("a fixed-point section holds values between 0 and 1")
    total = int((values * SCALE).astype(np.int64).sum())
    mask = (1 << _LIMB_BITS) - 1
    return tuple((total >> (_LIMB_BITS * place)) & mask for place in range(LIMBS))


def from_limbs(limbs: Sequence[int]) -> int:
    """Return the exact sum in units of 2^-24; limbs may have grown beyond 20 bits by adding."""
    return sum(limb << (_LIMB_BITS * place) for place, limb in enumerate(limbs))
