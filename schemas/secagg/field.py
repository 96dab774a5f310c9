"""What is the inner product of a secret vector and an integer vector in the field of 2^61 - 1?

A Mersenne prime, so that reduction is a shift, and large enough that a guess is right once in
2^60 tries. Arithmetic is exact: 61-bit coefficients are cut into limbs of 21 bits, so that a limb
times a 32-bit word stays below 2^52 and 1024 such products below 2^62, inside a signed 64-bit
word. Nothing is left to floating point.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

PRIME: Final = (1 << 61) - 1

_LIMB_BITS: Final = 21
_LIMB_MASK: Final = np.int64((1 << _LIMB_BITS) - 1)
_BLOCK: Final = 1 << 10  # 2^21 * 2^31 * 2^10 = 2^62: the most a block sum can reach
_LOW32: Final = np.int64(0xFFFFFFFF)


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
    kept: NDArray[np.int64] = (words & np.uint64(PRIME)).astype(np.int64)
    return kept


def inner_product(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Return the exact sum of ``left * right`` in [0, PRIME).

    Args:
        left: coefficients in [0, 2^61), shape (d,).
        right: signed 32-bit values held as int64, shape (d,).
    """
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError("an inner product needs two vectors of one length")
    whole = len(left) - len(left) % _BLOCK
    total = 0
    for part in (slice(0, whole), slice(whole, None)):
        width = _BLOCK if part.stop == whole else max(1, len(left) - whole)
        rows = right[part].reshape(-1, width)
        for shift in (0, _LIMB_BITS, 2 * _LIMB_BITS):
            limbs = ((left[part] >> np.int64(shift)) & _LIMB_MASK).reshape(-1, width)
            sums = np.einsum("ij,ij->i", limbs, rows)
            # Block sums reach 2^62: halve them before adding, or the total would wrap.
            high, low = int((sums >> np.int64(32)).sum()), int((sums & _LOW32).sum())
            total += ((high << 32) + low) << shift
    return total % PRIME
