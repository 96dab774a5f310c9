"""How does a 32-byte key become a long run of unpredictable words?

AES-256 in counter mode (NIST SP 800-38A §6.5) over zeros, from a counter of zero. A key is used
for exactly one stream (SECAGG-6), so the fixed counter never repeats under a key. The stream is
produced in pieces that stay in the processor's cache: one large buffer is bound by memory and
runs at a third of the speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

KEY_BYTES: Final = 32
CHUNK_WORDS: Final = 1 << 15  # 128 KiB of 32-bit words: fits the second-level cache with company

_ZEROS: Final = bytes(1 << 16)


class Keystream:
    """An AES-256-CTR stream that goes on where the last call ended.

    Args:
        key: 32 bytes, never used for another stream.
    """

    __slots__ = ("_encrypt",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a stream key has 32 bytes")
        self._encrypt = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "Keystream(<secret>)"

    def fill(self, buffer: NDArray[np.uint32] | NDArray[np.uint64]) -> None:
        """Overwrite ``buffer`` (contiguous, any length) with the next bytes of the stream."""
        if not buffer.size:
            return  # an empty view cannot be cast
        view = buffer.data.cast("B")
        for start in range(0, len(view), len(_ZEROS)):
            piece = view[start : start + len(_ZEROS)]
            self._encrypt.update_into(memoryview(_ZEROS)[: len(piece)], piece)

    def words64(self, count: int) -> NDArray[np.uint64]:
        """Return the next ``count`` uniform 64-bit words, shape (count,), little-endian."""
        words = np.empty(count, dtype="<u8")
        self.fill(words)
        return words


def chunks(length: int, size: int = CHUNK_WORDS) -> Iterator[slice]:
    """Cut ``range(length)`` into slices of at most ``size``."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
