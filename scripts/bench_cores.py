"""Does a second core help a site to mask, and does memory stay flat for a very long vector?"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from schemas.secagg.keys import Attempt, PairMask
from schemas.secagg.masking import CohortKeys, Masker
from schemas.secagg.streams import CHUNK_WORDS

WORDS_PER_BLOCK = 4  # 16 bytes of AES
PIECE = 1 << 20


def two_processes(d: int, streams: int, *, repeats: int = 9) -> dict[str, Any]:
    """Compare masking shared words by one process with masking halves by two at once.

    CTR can start anywhere, so the second process takes the upper half of every stream. Wall time,
    since that is what a second core could save; on a busy machine it says little.
    """
    keys = [os.urandom(32) for _ in range(streams)]
    half = d // 2 // WORDS_PER_BLOCK * WORDS_PER_BLOCK
    memory = SharedMemory(create=True, size=4 * d)
    try:
        ours, theirs = multiprocessing.Pipe()
        fork = multiprocessing.get_context("fork")
        worker = fork.Process(target=_work, args=(theirs, memory.name, keys, half, d))
        worker.start()
        ours.recv()
        words = np.ndarray(d, dtype=np.uint32, buffer=memory.buf)
        alone, together = [], []
        for _ in range(repeats):
            start = time.perf_counter()
            _apply(words, keys, 0)
            alone.append(time.perf_counter() - start)
            start = time.perf_counter()
            ours.send(True)
            _apply(words[:half], keys, 0)
            ours.recv()
            together.append(time.perf_counter() - start)
        ours.send(False)
        worker.join()
        del words
    finally:
        memory.close()
        memory.unlink()
    one, two = statistics.median(alone), statistics.median(together)
    return {"d": d, "streams": streams, "wall_seconds_of_one": one, "speedup_of_two": one / two}


def _work(pipe: Connection, name: str, keys: list[bytes], start: int, stop: int) -> None:
    memory = SharedMemory(name=name)
    words = np.ndarray(stop, dtype=np.uint32, buffer=memory.buf)
    pipe.send(True)
    while pipe.recv():
        _apply(words[start:], keys, start)
        pipe.send(True)
    del words
    memory.close()


def _apply(words: np.ndarray, keys: list[bytes], start: int) -> None:
    """Add the streams from word ``start`` on; the loop is that of `MaskStreams`."""
    counter = (start // WORDS_PER_BLOCK).to_bytes(16, "big")
    ciphers = [Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor() for key in keys]
    scratch, zeros = np.empty(CHUNK_WORDS, dtype="<u4"), memoryview(bytes(4 * CHUNK_WORDS))
    for begin in range(0, len(words), CHUNK_WORDS):
        piece = words[begin : begin + CHUNK_WORDS]
        mask = scratch[: len(piece)]
        for cipher in ciphers:
            cipher.update_into(zeros[: 4 * len(piece)], mask.data.cast("B"))
            np.add(piece, mask, out=piece)


def streaming(d: int, *, streams: int) -> dict[str, Any]:
    """Run `stream_through` in a fresh process, whose peak of memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(stream_through, d, streams=streams).result()


def stream_through(d: int, *, streams: int) -> dict[str, Any]:
    """Mask ``d`` words that exist only piece by piece, and watch memory and CPU.

    The growth of the peak is what masking needs besides the vector: both ends are thrown away.
    """
    attempt = Attempt("0a" * 32, "train", 1, 1, "0b" * 32, "0c" * 32)
    masks = tuple(PairMask.of(os.urandom(48), 1 if k % 2 else -1) for k in range(streams))
    roster = tuple(f"site-{k:03d}" for k in range(streams + 1))
    keys = CohortKeys(roster[0], roster, attempt, os.urandom(32), masks)
    source = np.arange(PIECE, dtype=np.int64)
    before = _peak_mib()
    start = time.process_time()
    masker = Masker(keys, d)
    for begin in range(0, d, PIECE):
        masker.feed(source[: min(PIECE, d - begin)])
    masker.finish()
    return {
        "d": d,
        "streams": streams,
        "cpu_seconds": time.process_time() - start,
        "peak_growth_mib": _peak_mib() - before,
    }


def _peak_mib() -> float:
    """Peak resident memory; that of `getrusage` would be inherited from the parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not say how much memory a process had")
