"""Where does a benchmark take noise from that anybody can draw again?

The product takes it from the operating system. A benchmark names each run, and the name is the
seed: the same run has the same noise on every machine, and no two runs share any.
"""

from __future__ import annotations

import hashlib

from schemas.secagg.streams import Keystream


class SeededEntropy:
    """AES-256-CTR keyed with the hash of a name; for benchmarks only.

    Args:
        name: everything that tells this run from others, such as "heart/0.5/ours/3".
    """

    __slots__ = ("_stream",)

    def __init__(self, name: str) -> None:
        self._stream = Keystream(hashlib.sha256(name.encode()).digest())

    def __call__(self, n_bytes: int, /) -> bytes:
        """Give the next ``n_bytes`` of the stream."""
        out = bytearray(n_bytes)
        self._stream.write(memoryview(out))
        return bytes(out)


def torch_seed(name: str) -> int:
    """Give the seed of this name for torch's generator, which only the peer draws from."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
