"""Does a second core help a site to mask, and does memory stay flat for a very long vector?"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from schemas.secagg.keys import Attempt, PairMask
from schemas.secagg.masking import CohortKeys, Masker
from schemas.secagg.streams import CHUNK_WORDS, MaskStreams, chunks

WORDS_PER_BLOCK = 4  # 16 bytes of AES
PIECE = 1 << 20


def two_processes(d: int, streams: int, *, repeats: int = 9) -> dict[str, Any]:
    """Compare masking shared words by one process with masking halves by two at once.

    One process masks as the product does. Of two, the second takes the upper half of every stream:
    CTR can start anywhere. It waits with everything loaded, and gets the keys over a pipe. Wall
    time, since that is what a second core could save; on a busy machine it says little.

    Returns:
        Median wall seconds of one process and how many times faster two were; what starting a
        process costs before it can mask; whether both ways gave the same words.
    """
    half = d // 2 // WORDS_PER_BLOCK * WORDS_PER_BLOCK
    memory = SharedMemory(create=True, size=4 * d)
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(
        target=_work, args=(theirs, memory.name, half, d)
    )
    worker.start()
    theirs.close()
    try:
        ours.recv()
        one, two, is_same = _in_turn(memory, ours, d, half, streams, repeats)
    finally:
        worker.kill()
        worker.join()
        memory.close()
        memory.unlink()
    return {
        "d": d,
        "streams": streams,
        "wall_seconds_of_one": one,
        "speedup_of_two": one / two,
        "wall_seconds_of_starting": _wall_seconds(_start_one),
        "words_are_the_same": is_same,
    }


def _in_turn(
    memory: SharedMemory, worker: Connection, d: int, half: int, streams: int, repeats: int
) -> tuple[float, float, bool]:
    """Mask by one process and by two, in turns: median seconds of each, and if both agree."""
    keys = [(1 if k % 2 else -1, os.urandom(32)) for k in range(streams)]
    words = np.ndarray(d, dtype=np.uint32, buffer=memory.buf)

    def by_one() -> None:
        MaskStreams(keys).apply(words)

    def by_two() -> None:
        worker.send(keys)
        _apply(words[:half], keys, 0)
        worker.recv()

    results = []
    for call in (by_one, by_two):
        np.copyto(words, np.arange(d, dtype=np.uint32))
        call()
        results.append(words.copy())
    is_same = np.array_equal(results[0], results[1])
    alone, together = [], []
    for _ in range(repeats):
        alone.append(_wall_seconds(by_one))
        together.append(_wall_seconds(by_two))
    return statistics.median(alone), statistics.median(together), is_same


def _work(pipe: Connection, name: str, start: int, stop: int) -> NoReturn:
    """Be the second process: mask words ``start`` to ``stop`` whenever keys come."""
    memory = SharedMemory(name=name)
    words = np.ndarray(stop, dtype=np.uint32, buffer=memory.buf)
    pipe.send(True)
    while True:
        _apply(words[start:], pipe.recv(), start)
        pipe.send(True)


def _apply(words: NDArray[np.uint32], keys: Sequence[tuple[int, bytes]], start: int) -> None:
    """Apply the streams from word ``start`` on; the loop is that of `MaskStreams`."""
    counter = (start // WORDS_PER_BLOCK).to_bytes(16, "big")
    streams = [
        (
            np.add if sign > 0 else np.subtract,
            Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor(),
        )
        for sign, key in keys
    ]
    scratch, zeros = np.empty(CHUNK_WORDS, dtype="<u4"), memoryview(bytes(4 * CHUNK_WORDS))
    for part in chunks(len(words)):
        piece = words[part]
        mask = scratch[: len(piece)]
        for combine, cipher in streams:
            cipher.update_into(zeros[: 4 * len(piece)], mask.data.cast("B"))
            combine(piece, mask, out=piece)


def _start_one() -> None:
    """Start a process that could mask, and end it."""
    subprocess.run([sys.executable, "-c", "import schemas.secagg.streams"], check=True)


def _wall_seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


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
