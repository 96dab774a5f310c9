"""Does any of a thousand kills, or any of ten thousand histories, bring spent budget back?

Scheduled, not part of the tests: `python -m scripts.fault_ledger --points 1000`. It kills a
hospital at every write point of a longer story, then at that many points of time, drawn from a
seed that is printed, and replays random histories of ledger entries. It ends with exit code 1 at
the first that breaks a rule, and says how to repeat it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.support.ledger_faults import Story, check_site, ended, every_point, in_child, warm_up
from tests.support.ledger_histories import broken_rule, random_history
from tests.support.sites import TestClock, approve, make_sites, real_plan

_LIVES = 20  # kills after which a fresh hospital takes over, so that its ledger stays short
_LONGEST_SECONDS = 0.08
_TERMS = {"steps": 100, "retry_cap": 20, "average_from_step": 100, "integer_clip": 2**17}


def main(arguments: list[str] | None = None) -> int:
    """Run all three; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000, help="kills at random times")
    parser.add_argument("--histories", type=int, default=10_000, help="random histories")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}")
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        problems = (
            _every_point(Path(name))
            or _random_times(Path(name), options.points, chance)
            or _histories(options.histories, chance)
        )
    for problem in problems:
        print(f"BROKEN (seed {seed}): {problem}")
    return 1 if problems else 0


def _every_point(folder: Path) -> list[str]:
    home, story = _hospital(folder / "points", rounds=3)
    began = time.monotonic()
    points, problems = every_point(home, folder / "points", story)
    print(f"every write point: {points} points in {time.monotonic() - began:.0f} s")
    return problems


def _random_times(folder: Path, points: int, chance: random.Random) -> list[str]:
    base, story = _hospital(folder / "times", rounds=100)
    home, spent, kills, began = base, 0.0, 0, time.monotonic()
    charged: list[int] = []  # by the end of each life
    number = 0
    while kills < points:
        if number % _LIVES == 0:
            home, spent = Path(shutil.copytree(base, folder / "times" / f"life-{number}")), 0.0
            charged.append(0)
        number += 1
        child = in_child(home, story.go_on)
        time.sleep(chance.uniform(0, _LONGEST_SECONDS))
        os.kill(child, signal.SIGKILL)
        kills += not ended(child)
        found = check_site(home)
        if found.problems:
            return [f"kill {number}: {problem}" for problem in found.problems]
        if found.spent < spent:
            return [f"kill {number}: spent fell from {spent} to {found.spent}"]
        spent, charged[-1] = found.spent, found.charged
    took = time.monotonic() - began
    print(f"random times: {kills} kills, {sum(charged)} charges between them, {took:.0f} s")
    lived = charged[: number // _LIVES]  # the last hospital may be killed before it came to charge
    return [] if all(lived) else ["a hospital charged nothing in all its lives"]


def _histories(count: int, chance: random.Random) -> list[str]:
    began = time.monotonic()
    for number in range(count):
        broken = broken_rule(random_history(chance))
        if broken:
            return [f"history {number}: {broken}"]
    print(f"histories: {count} in {time.monotonic() - began:.0f} s")
    return []


def _hospital(folder: Path, *, rounds: int) -> tuple[Path, Story]:
    folder.mkdir()
    sites = make_sites(folder, TestClock())
    plan = real_plan(sites, training=_TERMS, privacy={"noise_multiplier": 60.0})
    warm_up(sites[0], plan)
    if rounds >= _TERMS["steps"]:
        approve(sites[0], plan)
    for site in sites:
        site.db.close()
    return sites[0].home, Story(plan, rounds=rounds, ends=rounds < _TERMS["steps"])


if __name__ == "__main__":
    sys.exit(main())
