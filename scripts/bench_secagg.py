"""How fast is secure aggregation? ``python -m scripts.bench secagg``

Writes `build/bench/secagg.json`, a list with one entry per vector length and number of masks, and
`build/bench/secagg_details.json`: goals, whole updates and all else that was measured, two
processes, streaming, and a simulation of 200 sites. Every ratio comes from one process,
interleaved, medians of CPU time. In an entry of the list

    streams           masks on a vector, as many as sites in recoverable mode (atomic: one fewer)
    mask_vs_aes_ctr   rate of masking words / rate of bare AES-256-CTR, for the same bytes of
                      keystream and with whichever buffer suits the cipher best
    mask_vs_flwr      CPU time of flwr's masks / ours, both from quantised integers in a new array
                      to masked words in a new array
    upload_bytes      the encoded upload message; a READY that rides along is a message of its own
    quantisation_rms  error of the sites' average, one clipped vector each, in units of the clip

Masks are what the goals are about. A whole update has a range check and an integrity tag too, and
in recoverable mode a SHA-256, none of which grow with the masks; the details and the screen say
what these cost, against the same AES and flwr.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from schemas.secagg import MaskedUpdate, add_masked, check_sum, mask, recover_sum
from schemas.secagg.cohort_keys import RecoverySecrets
from schemas.secagg.coordinator import words_to_bytes
from schemas.secagg.keys import tag_secret
from schemas.secagg.masking import CohortKeys
from schemas.secagg.quantise import MAX_INTEGER_CLIP, clip_patients, quantise
from schemas.secagg.streams import MaskStreams, chunks
from schemas.secagg.tag import AffineTag
from schemas.wire import Upload, encode
from scripts.bench_cores import streaming, two_processes
from scripts.bench_peer import flwr_masking
from scripts.bench_protocol import Handshake, simulate
from scripts.bench_report import FIELDS, goals, machine, row_line, update_line, whole_update
from scripts.bench_timing import Prepare, interleaved, keep_freed_memory, write_json
from site_node.outgoing import NO_TAG, masked_upload

DEFAULT_OUTPUT = Path("build/bench/secagg.json")
FULL = [(d, streams) for d in (1_000_000, 10_000_000) for streams in (5, 10, 50)]
QUICK = [(1_000_000, 5), (1_000_000, 10)]
FULL_CORES = (1_000_000, 10_000_000)
QUICK_CORES = (1_000_000,)
AES_BUFFERS = (64 << 10, 128 << 10, 256 << 10)
DISTINCT_WORDS = 100_000_000  # beyond it every site sends the same words, to spare memory


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; 0 when every goal is met, 1 when one is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench secagg",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="only d = 1e6 with 5 and 10 streams")
    parser.add_argument("--json", action="store_true", help="print the list, not the table")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUTPUT, help="where the list goes")
    parser.add_argument(
        "--stream-words", type=int, default=0, metavar="D", help="also stream D words (1e8: ~10 s)"
    )
    options = parser.parse_args(arguments)
    say: Callable[[str], None] = (lambda _line: None) if options.json else print
    keep_freed_memory()
    rows = []
    for d, streams in QUICK if options.quick else FULL:
        rows.append(measure(d, streams))
        say(row_line(rows[-1]))
    listed = [{name: row[name] for name in FIELDS} for row in rows]
    simulation = simulate(
        20 if options.quick else 200, 10_000, maximum_dropouts=1 if options.quick else 10
    )
    both = [two_processes(d, 10) for d in (QUICK_CORES if options.quick else FULL_CORES)]
    if options.stream_words:
        both.append(two_processes(options.stream_words, 10, repeats=3))
    found = goals(rows, simulation, both)
    details = {
        "machine": machine(),
        "goals": [goal.document() for goal in found],
        "whole_update": [whole_update(row) for row in rows],
        "measured": rows,
        "two_processes": both,
        "simulation": simulation,
        "quantisation_rms_by_vectors": {
            str(n): quantisation_rms(n, 100_000) for n in (3, 4, 5, 10, 16, 50, 256)
        },
    }
    if options.stream_words:
        details["streaming"] = streaming(options.stream_words, streams=10)
    write_json(options.out, listed)
    write_json(options.out.with_name(options.out.stem + "_details.json"), details)
    if options.json:
        print(json.dumps(listed, indent=2))
    else:
        for key in ("two_processes", "simulation", "streaming"):
            if key in details:
                print(f"{key}: {json.dumps(details[key])}")
        for row in rows:
            print(update_line(row))
        for goal in found:
            print(goal.line())
    return 0 if all(goal.is_met for goal in found) else 1


def measure(d: int, streams: int) -> dict[str, Any]:
    """Give one entry of the list."""
    repeats = max(3, min(21, 200_000_000 // (d * streams)))
    work = Work.of(d, streams)
    cost = interleaved(work.site_tasks(), repeats)
    aes = min(cost[f"aes {size}"] for size in AES_BUFFERS)
    server = interleaved(work.server_tasks(), max(3, repeats // 2))
    return {
        "d": d,
        "streams": streams,
        "mask_vs_aes_ctr": aes / cost["masks"],
        "update_vs_aes_ctr": aes / cost["update"],
        "hashed_update_vs_aes_ctr": aes / cost["update and hash"],
        "mask_vs_flwr": cost["flwr"] / cost["words"],
        "update_vs_flwr": cost["flwr"] / cost["update"],
        "upload_bytes": upload_bytes(work.upload),
        "quantisation_rms": quantisation_rms(streams, min(d, 1_000_000)),
        "recover_cpu_seconds": server["recover"],
        "server_sum_vs_numpy_add": server["sum"] / server["numpy"],
        "sum_is_exact": work.is_exact(),
        "aes_gigabytes_per_second": 4e-9 * d * streams / aes,
        "mask_cpu_seconds": cost["masks"],
        "tag_cpu_seconds": cost["tag"],
        "update_cpu_seconds": cost["update"],
        "hashed_update_cpu_seconds": cost["update and hash"],
        "message_cpu_seconds": cost["message"],
        "check_cpu_seconds": server["check"] if work.is_real else None,
    }


@dataclass(frozen=True, slots=True)
class Work:
    """One vector length and number of sites: everything that is timed, ready to run."""

    vector: NDArray[np.int64]
    handshake: Handshake
    uploads: dict[str, MaskedUpdate]
    is_real: bool  # every site masked a vector of its own

    @classmethod
    def of(cls, d: int, n_sites: int) -> Work:
        """Let ``n_sites`` meet and mask ``vector + place``."""
        handshake = handshake_of(n_sites)
        vector = np.random.default_rng(d).integers(-(1 << 24), 1 << 24, d)
        is_real = d * n_sites <= DISTINCT_WORDS
        if is_real:
            uploads = {
                site: handshake.upload(site, vector + place)
                for place, site in enumerate(handshake.roster)
            }
        else:
            uploads = dict.fromkeys(handshake.roster, handshake.upload(handshake.roster[0], vector))
        return cls(vector, handshake, uploads, is_real)

    @property
    def upload(self) -> MaskedUpdate:
        """One of the uploads."""
        return next(iter(self.uploads.values()))

    @property
    def kept(self) -> dict[str, MaskedUpdate]:
        """The survivors' uploads."""
        return {site: self.uploads[site] for site in self.handshake.survivors}

    def site_tasks(self) -> dict[str, Prepare]:
        """What one site does with one vector, and what it is compared with."""
        d, streams = len(self.vector), len(self.uploads)
        site = self.handshake.roster[0]
        keys = [(each.sign, each.stream_key) for each in self.handshake.masks[site]]
        tag = AffineTag(tag_secret(self.handshake.group, d))
        words = np.zeros(d, dtype=np.uint32)
        return {
            **{
                f"aes {size}": functools.partial(aes_ctr, 4 * d, streams, size)
                for size in AES_BUFFERS
            },
            "masks": lambda: functools.partial(MaskStreams(keys).apply, words),
            "words": lambda: functools.partial(masked_words, self.vector, MaskStreams(keys)),
            "update": lambda: functools.partial(mask, self.handshake.keys(site), self.vector),
            "update and hash": lambda: functools.partial(mask, self.hashing_keys(), self.vector),
            "message": lambda: functools.partial(
                masked_upload, self.handshake.keys(site), self.vector, header=longest_header()
            ),
            "tag": lambda: functools.partial(tag.evaluate, self.vector, offset=1),
            "flwr": lambda: flwr_masking(self.vector, streams),
        }

    def server_tasks(self) -> dict[str, Prepare]:
        """What the coordinator does with all uploads, NumPy's addition, and a site's check."""
        uploads, kept, handshake = self.uploads, self.kept, self.handshake
        plan, readies = handshake.consortium.plan, handshake.readies
        stack = [upload.words for upload in uploads.values()]
        summed = add_masked(uploads, handshake.roster)
        recover = functools.partial(recover_sum, plan, readies, kept, handshake.revealed)
        keys = handshake.keys(handshake.roster[0])
        check = functools.partial(check_sum, keys, self.recovered(), contributors=tuple(kept))
        return {
            "sum": lambda: functools.partial(add_masked, uploads, handshake.roster),
            "numpy": lambda: functools.partial(numpy_add, stack),
            "recover": lambda: recover,
            "check": lambda: check if self.is_real else functools.partial(bool, summed),
        }

    def recovered(self) -> Any:
        """The sum over the survivors."""
        handshake = self.handshake
        return recover_sum(
            handshake.consortium.plan, handshake.readies, self.kept, handshake.revealed
        )

    def hashing_keys(self) -> CohortKeys:
        """Keys whose upload is noted by its hash."""
        plain = self.handshake.keys(self.handshake.roster[0])
        return CohortKeys(
            plain.site_id,
            plain.roster,
            plain.attempt,
            plain.group(),
            plain.spend_masks(),
            recovery=RecoverySecrets({}, {}),
        )

    def is_exact(self) -> bool | None:
        """Whether the recovered sum is the survivors' to the bit; None where uploads are copies."""
        if not self.is_real:
            return None
        handshake = self.handshake
        places = [p for p, site in enumerate(handshake.roster) if site != handshake.lost]
        total = self.recovered()
        keys = handshake.keys(handshake.roster[0])
        opened = check_sum(keys, total, contributors=handshake.survivors)
        return bool(np.array_equal(opened, self.vector * len(places) + sum(places)))


@functools.cache
def handshake_of(n_sites: int) -> Handshake:
    """One handshake per number of sites."""
    return Handshake.of(n_sites)


def aes_ctr(n_bytes: int, streams: int, buffer_bytes: int) -> Callable[[], None]:
    """Prepare ``streams`` bare AES-256-CTR key streams of ``n_bytes``, made in a small buffer."""
    ciphers = [
        Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
        for _ in range(streams)
    ]
    zeros, buffer = memoryview(bytes(buffer_bytes)), memoryview(bytearray(buffer_bytes))

    def run() -> None:
        for start in range(0, n_bytes, buffer_bytes):
            size = min(buffer_bytes, n_bytes - start)
            source, target = zeros[:size], buffer[:size]
            for cipher in ciphers:
                cipher.update_into(source, target)

    return run


def masked_words(vector: NDArray[np.int64], masks: MaskStreams) -> NDArray[np.uint32]:
    """Mask integers into new words, as `Masker.feed` does, without looking at them."""
    words = np.empty(len(vector), dtype=np.uint32)
    for part in chunks(len(vector)):
        np.copyto(words[part], vector[part], casting="unsafe")
        masks.apply(words[part])
    return words


def numpy_add(stack: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Add vectors as NumPy does it."""
    total = stack[0].copy()
    for words in stack[1:]:
        np.add(total, words, out=total)
    return total


def upload_bytes(update: MaskedUpdate) -> int:
    """Give the bytes of the upload message with the longest header it can have."""
    header = longest_header().model_copy(update={"tag": f"{update.tag:016x}"})
    return len(encode(header, words_to_bytes(update.words)))


def longest_header() -> Upload:
    """Give the longest header an upload can have."""
    return Upload(
        plan_digest="ff" * 32, kind="evaluate", round=1_000_000, attempt=1_000_000, tag=NO_TAG
    )


def quantisation_rms(n_vectors: int, d: int) -> float:
    """Give the rms error of an average of clipped vectors through the integer grid, per clip.

    The grid is the finest on which ``n_vectors`` of the largest norm cannot wrap.
    """
    integer_clip = min(MAX_INTEGER_CLIP, ((1 << 31) - 1) // n_vectors)
    random = np.random.default_rng(n_vectors)
    exact = np.zeros(d)
    total = np.zeros(d, dtype=np.int64)
    for _ in range(n_vectors):
        clipped = clip_patients(random.normal(0, 0.02, (1, d)), 1.0)
        exact += clipped.rows[0]
        total += quantise(clipped, integer_clip).values
    error = (total / integer_clip - exact) / n_vectors
    return float(np.sqrt(np.mean(error**2)))
