"""How long does a long vector take between runner and hospital, and how much memory on the way?

    python -m scripts.bench transport [--megabytes 4 40 400] [--sites 1] [--quick] [--json]

Starts a real SuperLink, both gateways over mutual TLS 1.3, a real SuperNode and our executor on
loopback, with the product's own egress gate and its database, and sends random bodies each way: a
sum to the site ("down"), an upload to the coordinator ("up"). Random, because Flower stores equal
pieces once: a body of zeros would travel as a single piece. The hash of what arrived comes back
the other way. Writes build/bench/transport.json: seconds, CPU seconds and peak resident memory of
each process; memory peaks are the kernel's own high-water marks, reset before each measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # flwr 1.41 imports a name that click has deprecated
    import flwr.app  # noqa: F401

from coordinator.flower.fleet import Fleet, Reply
from schemas.limits import PIECE_BYTES
from schemas.pieces import piece_count
from tests.integration.transport.deployment import Deployment, wait_for

OUT = Path("build/bench/transport.json")
_MEGABYTE = 1_000_000
_REPEATS_BELOW = 100 * _MEGABYTE  # a short transfer is measured three times, a long one once
_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One direction at one length, median of `repeats`; memory is the highest of them."""

    direction: str
    n_bytes: int
    n_pieces: int
    sites: int
    repeats: int
    seconds: float
    megabytes_per_second: float
    cpu_seconds: dict[str, float]
    peak_rss_mib: dict[str, float]
    rss_before_mib: dict[str, float]


class WrongAnswer(Exception):
    """What came back is not what was sent."""


def processes(deployment: Deployment) -> dict[str, int]:
    """Name every process on the way by its part in it; the runner is this process."""
    found = {"runner": os.getpid()}
    for name, child in deployment.children.items():
        found["coordinator gateway" if name == "gateway" else name] = child.pid
    for site in deployment.sites:
        for name, child in site.children.items():
            found[f"{site.name} {name}"] = child.pid
    return found


def memory_mib(pid: int, field: str) -> float:
    """Read a line of /proc/PID/status, such as VmRSS or VmHWM, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def reset_peak(pid: int) -> None:
    """Let the high-water mark of a process begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """Read the CPU seconds, user and system, a process has used."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    """A running deployment, and one measurement after another."""

    def __init__(self, deployment: Deployment, fleet: Fleet) -> None:
        """Measure `deployment` through `fleet`."""
        self._deployment = deployment
        self._fleet = fleet
        self._nodes = [site.node_id for site in deployment.sites]

    def ask(self, body: bytes) -> list[bytes]:
        """Send every site one body and return the answers."""
        outcomes = self._fleet.exchange(
            dict.fromkeys(self._nodes, body), timeout_seconds=_TIMEOUT_SECONDS
        )
        found = []
        for node in self._nodes:
            outcome = outcomes[node]
            if not isinstance(outcome, Reply):
                raise WrongAnswer(outcome.code)
            found.append(outcome.body)
        return found

    def measure(self, direction: str, n_bytes: int) -> Measured:
        """Carry random bodies of `n_bytes` in one direction."""
        once = self._down if direction == "down" else self._up
        repeats = 3 if n_bytes < _REPEATS_BELOW else 1
        pids = processes(self._deployment)
        runs, used, peaks = [], [], []
        before = {name: memory_mib(pid, "VmRSS") for name, pid in pids.items()}
        for _ in range(repeats):
            seconds, cpu, peak = once(n_bytes, pids)
            runs.append(seconds)
            used.append(cpu)
            peaks.append(peak)
        seconds = statistics.median(runs)
        carried = n_bytes * len(self._nodes)
        return Measured(
            direction=direction,
            n_bytes=n_bytes,
            n_pieces=piece_count(n_bytes),
            sites=len(self._nodes),
            repeats=repeats,
            seconds=round(seconds, 2),
            megabytes_per_second=round(carried / _MEGABYTE / seconds, 1),
            cpu_seconds={
                name: round(statistics.median(each[name] for each in used), 2) for name in pids
            },
            peak_rss_mib={name: max(each[name] for each in peaks) for name in pids},
            rss_before_mib=before,
        )

    def _timed(
        self, body: bytes, pids: dict[str, int]
    ) -> tuple[list[bytes], float, dict[str, float], dict[str, float]]:
        for pid in pids.values():
            reset_peak(pid)
        cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
        begun = time.perf_counter()
        answers = self.ask(body)
        seconds = time.perf_counter() - begun
        used = {name: cpu_seconds(pid) - cpu[name] for name, pid in pids.items()}
        peak = {name: memory_mib(pid, "VmHWM") for name, pid in pids.items()}
        return answers, seconds, used, peak

    def _down(
        self, n_bytes: int, pids: dict[str, int]
    ) -> tuple[float, dict[str, float], dict[str, float]]:
        body = os.urandom(n_bytes)
        answers, *numbers = self._timed(body, pids)
        if set(answers) != {hashlib.sha256(body).hexdigest().encode("ascii")}:
            raise WrongAnswer("down")
        return numbers[0], numbers[1], numbers[2]

    def _up(
        self, n_bytes: int, pids: dict[str, int]
    ) -> tuple[float, dict[str, float], dict[str, float]]:
        expected = self.ask(b"prepare|%d" % n_bytes)
        answers, *numbers = self._timed(b"send|", pids)
        if [hashlib.sha256(each).hexdigest().encode("ascii") for each in answers] != expected:
            raise WrongAnswer("up")
        return numbers[0], numbers[1], numbers[2]


def run(megabytes: Sequence[int], n_sites: int) -> dict[str, Any]:
    """Start everything, measure every length in both directions, and stop everything."""
    with tempfile.TemporaryDirectory(prefix="transport-") as folder:
        deployment = Deployment(Path(folder), n_sites, is_measured=True)
        try:
            deployment.start()
            with contextlib.closing(deployment.fleet()) as fleet:
                fleet.acquire(deployment.start_run(), timeout_seconds=60)
                everyone = {site.node_id for site in deployment.sites}
                wait_for(lambda: fleet.online_nodes() >= everyone, 60, "the sites")
                bench = Bench(deployment, fleet)
                bench.ask(b"prepare|0")  # the first exchange fetches the bundle and opens the lines
                results = [
                    bench.measure(direction, size * _MEGABYTE)
                    for size in megabytes
                    for direction in ("down", "up")
                ]
                fleet.finish(ok=True)
        finally:
            deployment.stop()
    return {
        "machine": {
            "cores": os.cpu_count(),
            "load_average": [round(each, 2) for each in os.getloadavg()],
            "python": platform.python_version(),
            "flwr": version("flwr"),
        },
        "piece_bytes": PIECE_BYTES,
        "results": [asdict(each) for each in results],
    }


def show(report: dict[str, Any]) -> str:
    """Lay the report out as a table."""
    lines = []
    for each in report["results"]:
        lines.append(
            f"{each['n_bytes'] // _MEGABYTE:>4} MB {each['direction']:<4} "
            f"{each['n_pieces']:>3} pieces  {each['seconds']:>6} s  "
            f"{each['megabytes_per_second']:>6} MB/s"
        )
        for name, peak in each["peak_rss_mib"].items():
            lines.append(
                f"        {name:<20} peak {peak:>7} MiB (before {each['rss_before_mib'][name]:>7})"
                f"  CPU {each['cpu_seconds'][name]:>6} s"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the JSON file and print a table or the JSON."""
    parser = argparse.ArgumentParser(prog="bench transport", description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[4, 40, 400])
    parser.add_argument("--sites", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="4 MB only")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    chosen = parser.parse_args(arguments)
    report = run([4] if chosen.quick else chosen.megabytes, chosen.sites)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1) if chosen.json else show(report))


if __name__ == "__main__":
    main()
