"""Does any of very many schedules let a coordinator open too small a sum?

    python -m scripts.search_secagg --schedules 100000 --processes 2

Each schedule is one study: a coordinator, alone or with up to t colluding hospitals, drives the
product's own hospitals with messages of its choice, and linear algebra decides what it could read
(`tests/search/oracle.py` lists the rules). A schedule is its number: the same number gives the same
schedule on the same code. An interrupted run says where to go on (`--first`); a violation prints
the messages that led to it and ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.search.adversary import Adversary, play
from tests.search.hospital import hospitals
from tests.search.oracle import Violation
from tests.search.scenes import SCENES
from tests.search.world import World

BLOCK = 250
REPORT = Path("build/search/secagg.json")


@dataclass(frozen=True, slots=True)
class Block:
    """What came of one block of schedules; ``fault`` is empty, or tells of the violation."""

    first: int
    counts: Counter[str]
    seconds: float  # of CPU
    fault: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Search; 0 when no rule was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first schedule")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args(arguments)
    end = chosen.first + chosen.schedules
    blocks = [(first, min(first + BLOCK, end)) for first in range(chosen.first, end, BLOCK)]
    total: Counter[str] = Counter()
    started, cpu, done = time.monotonic(), 0.0, chosen.first
    try:
        for block in searched(blocks, chosen.processes):
            total.update(block.counts)
            cpu += block.seconds
            if block.fault:
                print(block.fault, flush=True)
                return 1
            done = min(block.first + BLOCK, end)
            if (block.first // BLOCK) % 20 == 19 or done == end:
                print(
                    f"{done - chosen.first:>8} schedules  {total['sums that opened']:>8} sums "
                    f"opened  {cpu:8.0f} s of CPU  {time.monotonic() - started:8.0f} s",
                    flush=True,
                )
    except KeyboardInterrupt:
        left = end - done
        print(f"interrupted; go on with --first {done} --schedules {left}", flush=True)
        return 130
    write_report(chosen.first, end, cpu, time.monotonic() - started, total)
    return 0


def searched(blocks: list[tuple[int, int]], processes: int) -> Iterator[Block]:
    """Search blocks in order, in this process or in several."""
    if processes == 1:
        yield from map(search, blocks)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        yield from pool.imap(search, blocks)


def search(block: tuple[int, int]) -> Block:
    """Play one block of schedules."""
    first, end = block
    counts: Counter[str] = Counter()
    before = time.process_time()
    gc.disable()  # a schedule leaves few cycles: they are collected once a block
    try:
        with hospitals():
            for seed in range(first, end):
                try:
                    outcome, _ = play(seed)
                except Violation as violation:
                    return Block(first, counts, 0.0, explained(seed, violation))
                except Exception as error:
                    error.add_note(f"in schedule {seed}")
                    raise
                counts.update(outcome.counts)
                counts["sums that opened"] += outcome.opened
                counts[f"in {SCENES[seed % len(SCENES)]}"] += 1
    finally:
        gc.enable()
        gc.collect()
    return Block(first, counts, time.process_time() - before)


def explained(seed: int, violation: Violation) -> str:
    """Play a schedule again and list its messages."""
    scene = SCENES[seed % len(SCENES)]
    world = World(scene, str(seed))
    with suppress(Violation):  # raised on the way, or only by what is concluded at the end
        Adversary(world, Random(f"cohortium/search/{seed}")).play()
    messages = "\n".join(f"  {line}" for line in world.log)
    return f"VIOLATION in schedule {seed}: {violation}\n{scene}\n{messages}"


def write_report(first: int, end: int, cpu: float, wall: float, total: Counter[str]) -> None:
    """Write what was searched, for whoever wants to judge how much it means."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "first": first,
        "schedules": end - first,
        "violations": 0,
        "cpu_seconds": round(cpu),
        "wall_seconds": round(wall),
        "counts": dict(sorted(total.items())),
    }
    REPORT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"no rule was broken; counts in {REPORT}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
