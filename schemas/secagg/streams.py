"""How does a 32-byte key become a long run of unpredictable words?

AES-256 in counter mode (NIST SP 800-38A §6.5) over zeros, from a counter of zero. A key is used
for exactly one stream (SECAGG-6), so the fixed counter never repeats under a key. The stream is
produced in pieces that stay in the processor's cache: one large buffer is bound by memory and
runs at a third of the speed.

Where the processor has AES on 512-bit vectors the same bytes come out of AES-256-GCM with a nonce
of zero, whose key stream is that of counter mode from counter two (SP 800-38D §7.1); the two
blocks before it are made singly, and nobody asks for GCM's tag. OpenSSL uses the long vectors for
GCM and not for counter mode: there it is a quarter faster, elsewhere it would take twice as long.
GCM counts 2^32 blocks, 64 GiB, before it refuses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

KEY_BYTES: Final = 32
CHUNK_WORDS: Final = 1 << 15  # 128 KiB of 32-bit words: fits the second-level cache with company

_HEAD_BYTES: Final = 2 * 16  # the blocks of counters zero and one, which GCM keeps for itself
_GCM_NONCE: Final = bytes(12)
_ZEROS: Final = memoryview(bytes(4 * CHUNK_WORDS))  # a chunk takes one call of the cipher


def has_wide_aes() -> bool:
    """Whether this processor has AES on 512-bit vectors; NumPy has looked already."""
    features = getattr(sys.modules.get("numpy._core._multiarray_umath"), "__cpu_features__", {})
    return bool(features.get("AVX512_ICL"))  # Ice Lake's set, VAES among them; also Zen 4


_WIDE_AES: Final = has_wide_aes()  # how the bytes are made; which bytes, it does not change


class Keystream:
    """An AES-256-CTR stream that goes on where the last call ended.

    Args:
        key: 32 bytes, never used for another stream.
    """

    __slots__ = ("_encrypt", "_head")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a stream key has 32 bytes")
        cipher = algorithms.AES256(key)
        self._head = b""
        self._encrypt: CipherContext = Cipher(cipher, modes.CTR(bytes(16))).encryptor()
        if _WIDE_AES:
            self._head = self._encrypt.update(bytes(_HEAD_BYTES))
            self._encrypt = Cipher(cipher, modes.GCM(_GCM_NONCE)).encryptor()

    def __repr__(self) -> str:
        return "Keystream(<secret>)"

    def fill(self, buffer: NDArray[np.uint32] | NDArray[np.uint64]) -> None:
        """Overwrite ``buffer`` (contiguous, any length) with the next bytes of the stream."""
        if buffer.size:  # an empty view cannot be cast
            self.write(buffer.data.cast("B"))

    def write(self, view: memoryview) -> None:
        """Overwrite bytes, any number, with the next bytes of the stream."""
        if self._head:
            size = min(len(self._head), len(view))
            view[:size], self._head = self._head[:size], self._head[size:]
            view = view[size:]
        while len(view) > len(_ZEROS):
            self._encrypt.update_into(_ZEROS, view[: len(_ZEROS)])
            view = view[len(_ZEROS) :]
        self._encrypt.update_into(_ZEROS[: len(view)], view)

    def words64(self, count: int) -> NDArray[np.uint64]:
        """Return the next ``count`` uniform 64-bit words, shape (count,), little-endian."""
        words = np.empty(count, dtype="<u8")
        self.fill(words)
        return words


class MaskStreams:
    """Key streams that run along one vector of words, each added or subtracted modulo 2^32.

    Args:
        streams: sign (1 adds, -1 subtracts) and key of each; the keys as for `Keystream`.
    """

    __slots__ = ("_bytes", "_running", "_scratch")

    def __init__(self, streams: Iterable[tuple[int, bytes]]) -> None:
        self._running = [
            (np.add if sign > 0 else np.subtract, Keystream(key).write) for sign, key in streams
        ]
        self._scratch = np.empty(CHUNK_WORDS, dtype="<u4")
        self._bytes = self._scratch.data.cast("B")

    def __repr__(self) -> str:
        return f"MaskStreams({len(self._running)}, <secret>)"

    def apply(self, words: NDArray[np.uint32]) -> None:
        """Go on along the vector: change its next words in place, shape (k,), any k."""
        for part in chunks(len(words)):
            piece = words[part]
            mask, view = self._scratch[: len(piece)], self._bytes[: 4 * len(piece)]
            for combine, write in self._running:
                write(view)
                combine(piece, mask, out=piece)


def chunks(length: int, size: int = CHUNK_WORDS) -> Iterator[slice]:
    """Cut ``range(length)`` into slices of at most ``size``."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
