"""What is the inner product of a secret vector and an integer vector in the field of 2^61 - 1?

A Mersenne prime, so that coefficients are 61 bits of a word, and large enough that a guess is
right once in 2^60 tries. Arithmetic is exact, although it is done in float64, where processors
multiply fastest: 61-bit coefficients are cut into limbs of 11 bits, so that a limb times a signed
32-bit word stays below 2^42 and 1024 such products below 2^52. Whole numbers below 2^53 are exact
in float64, and so are their sums, in any order and fused or not. Nothing is ever rounded.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PRIME: Final = (1 << 61) - 1

BLOCK: Final = 1 << 10  # 2^31 * 2^11 * 2^10 = 2^52: what a sum of so many products can reach
LIMB_BITS: Final = 11
LIMBS: Final = 6  # 66 bits hold 61

_LIMB_MASK: Final = np.int64((1 << LIMB_BITS) - 1)
_SHIFTS: Final = np.arange(LIMBS, dtype=np.int64) * LIMB_BITS


def residue(raw: bytes) -> int:
    """Map uniform bytes to a field element.

    Args:
        raw: at least 16 uniform bytes; the distance from uniform is then below 2^-66.
    """
    if len(raw) < 16:
        raise ValueError("fewer than 16 bytes leave a bias")
    return int.from_bytes(raw, "little") % PRIME


def coefficients(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Turn uniform 64-bit words into field coefficients, shape kept.

    The low 61 bits are taken. The value 2^61 - 1 then stands for zero, a bias of 2^-61.
    """
    return (words & np.uint64(PRIME)).view(np.int64)


def limbs(left: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cut coefficients in [0, 2^61), shape (d,), into limbs, lowest first; shape (d, LIMBS)."""
    return ((left[:, None] >> _SHIFTS) & _LIMB_MASK).astype(np.float64)


def inner_products(left: NDArray[np.int64], right: NDArray[Any]) -> list[int]:
    """Return the exact sums of ``left`` times each column of ``right``, each in [0, PRIME).

    Args:
        left: coefficients in [0, 2^61), shape (d,).
        right: signed 32-bit values in any type that holds them, shape (d, columns).
    """
    totals = [0] * right.shape[1]
    for start in range(0, len(left), BLOCK):
        part = slice(start, start + BLOCK)
        sums = limbs(left[part]).T @ right[part].astype(np.float64)
        for column, parts in enumerate(sums.T.tolist()):
            totals[column] += sum(int(part) << LIMB_BITS * k for k, part in enumerate(parts))
    return [total % PRIME for total in totals]


def inner_product(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Return the exact sum of ``left * right`` in [0, PRIME).

    Args:
        left: coefficients in [0, 2^61), shape (d,).
        right: signed 32-bit values held as int64, shape (d,).
    """
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError("an inner product needs two vectors of one length")
    return inner_products(left, right[:, None])[0]
