"""Does any damaged or hostile file crash, hang or slip through de-identification?

    python -m scripts.fuzz_deid --cases 100000 --workers 2

A case is one file: a sound small one (pydicom's own test files, `tests/data/dicom`, and a few built
here), damaged by `scripts/fuzz_mutations.py`, under one of the shipped profiles. It must end as a
released object or as a refusal with a code, within its time and memory, without a word in a log or
on the screen. What is released must pass verification, must not hold a value that the damaged
file held and that the rules remove, and must be readable by pydicom.

A case is its number: the same seed and number give the same file on the same code, whatever the
number of workers. A worker that dies (a decoder's fault) is a finding like any other; the next
case goes on. Exit code 1 if anything was found; `build/fuzz/deid.json` has the numbers.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import BytesIO
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from random import Random
from types import FrameType

import numpy as np
import pydicom
import pydicom.data
from numpy.typing import NDArray
from tqdm import tqdm

import deid.dicom.clean as engine
from deid.dicom import DicomDeidentifier, removed_values
from deid.errors import DeidRefusal
from deid.pixels import Box
from deid.profile import shipped_profile
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport
from deid.rules import Rulebook
from deid.verification import compile_needles, verify_output
from scripts.fuzz_mutations import mutate
from scripts.fuzz_seeds import built_seeds

_ROOT = Path(__file__).parent.parent
REPORT = Path("build/fuzz/deid.json")
BLOCK = 250  # cases a process: what leaks, leaks no further
MAX_SEED_BYTES = 20_000
CASE_SECONDS = 20.0  # of wall time; the largest bomb inflates to half a gigabyte
MEMORY_BYTES = 6 << 30  # address space of a worker: half a gigabyte inflated, parsed and written
_PROFILES = ("basic", "research", "research")


class Hang(BaseException):
    """Say that a case took too long; no product code may catch it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One case that broke a rule: which, how; the file itself is made again from the number."""

    case: int
    rule: str
    detail: str


@dataclass(slots=True)
class Tally:
    """What came of some cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    surprises: Counter[str] = field(default_factory=Counter)  # errors ended at the record's edge
    findings: list[Finding] = field(default_factory=list)
    slowest_seconds: float = 0.0  # of CPU, in `clean` alone
    peak_bytes: int = 0

    def add(self, other: Tally) -> None:
        """Add another tally."""
        self.outcomes.update(other.outcomes)
        self.surprises.update(other.surprises)
        self.findings += other.findings
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)


class _Painter:
    """Stand in for the text detector: boxes that depend on the picture, quickly."""

    def find(self, grey: NDArray[np.uint8], **_: object) -> list[Box]:
        rows, columns = grey.shape
        if int(grey.sum()) % 3 == 0 or rows < 4 or columns < 4:
            return []
        return [Box(rows // 4, columns // 4, rows // 2, columns // 2)]


def seeds() -> tuple[bytes, ...]:
    """Give the sound files, in a fixed order: each at most 20 kB."""
    folders = (Path(pydicom.data.__file__).parent, _ROOT / "tests/data/dicom")
    paths = [path for folder in folders for path in sorted(folder.rglob("*.dcm"))]
    small = [path for path in paths if path.is_file() and path.stat().st_size <= MAX_SEED_BYTES]
    return (*(path.read_bytes() for path in small), *built_seeds())


class Fuzzer:
    """Run cases; one of these per process."""

    def __init__(self, seed: int, files: Sequence[bytes]) -> None:
        self._seed = seed
        self._files = files
        self._profiles = {name: shipped_profile(name) for name in set(_PROFILES)}
        self._rules = {name: Rulebook(profile) for name, profile in self._profiles.items()}
        self._pseudonyms = Pseudonymiser(bytes(range(32)), "fuzz")

    def file(self, case: int) -> tuple[bytes, Random]:
        """Give a case's file, and the generator for its other choices."""
        file = Random(f"{self._seed}:{case}:file").choice(self._files)
        rng = Random(f"{self._seed}:{case}")
        return mutate(file, self._files, rng), rng

    def run(self, cases: range, note: Callable[[int], None]) -> Tally:
        """Run some cases; `note` is told each number before its case begins."""
        tally = Tally()
        with _watching(tally) as said:
            for case in cases:
                note(case)
                outcome, rule, detail = self._case(case, tally)
                if not rule and (words := said()):
                    rule, detail = "said something", words
                tally.outcomes[outcome] += 1
                if rule:
                    tally.findings.append(Finding(case, rule, detail))
        tally.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return tally

    def _case(self, case: int, tally: Tally) -> tuple[str, str, str]:
        """Give the outcome, and the rule it broke with a detail, or two empty texts."""
        raw, rng = self.file(case)
        name = rng.choice(_PROFILES)
        cleaner = DicomDeidentifier(
            self._profiles[name],
            self._pseudonyms,
            DeidReport(),
            detector=rng.choice((None, _Painter())),  # type: ignore[arg-type]
            accept_faces=rng.choice((None, "fuzz")),
            require_patient=rng.random() < 0.1,
        )
        started = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
        try:
            clean = cleaner.clean(raw)
        except DeidRefusal as refusal:
            if refusal.__cause__ is not None or str(refusal.args) != str(_plain(refusal).args):
                return str(refusal.code), "a refusal quotes something", str(refusal.code)
            return str(refusal.code), "", ""
        except Hang:
            return "hang", "hang", f"over {CASE_SECONDS} s"
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a finding
            return "crash", type(error).__name__, traceback.format_exc(limit=-3)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            tally.slowest_seconds = max(tally.slowest_seconds, time.process_time() - started)
        try:
            return "released", *self._released(raw, clean.raw, name)
        except Exception as error:  # noqa: BLE001 - so is what the checks stumble over
            return "released", f"unreadable: {type(error).__name__}", traceback.format_exc(limit=-3)

    def _released(self, raw: bytes, written: bytes, name: str) -> tuple[str, str]:
        if not _can_be_walked(written) and _can_be_walked(raw):
            return "pydicom can walk the source, not the release", ""
        with engine.silent_pydicom:
            dataset = pydicom.dcmread(BytesIO(written))
        profile = self._profiles[name]
        rules = self._rules[name].for_class(str(dataset.SOPClassUID))
        faults = verify_output(written, rules, profile, compile_needles(()))
        if faults:
            return "released against the rules", f"{faults[0].kind} {faults[0].tag}"
        removed = removed_values(profile, raw)
        dates = {text for text in removed if text.isdigit() and len(text) == 8}  # they may recur
        needles = compile_needles(removed - dates)
        if verify_output(written, rules, profile, needles):
            return "a removed value was released", ""
        return "", ""


def _can_be_walked(raw: bytes) -> bool:
    """Tell whether pydicom reads every element; of a damaged file it need not."""
    with engine.silent_pydicom:
        try:
            for element in pydicom.dcmread(BytesIO(raw), force=True).iterall():
                str(element.VR)
        except Exception:  # noqa: BLE001 - it raises many kinds
            return False
    return True


def _plain(refusal: DeidRefusal) -> DeidRefusal:
    return DeidRefusal(refusal.code)


@contextmanager
def _watching(tally: Tally) -> Iterator[Callable[[], str]]:
    """Catch what is said to logs, warnings or the screen, and errors ended at the record's edge."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.name)  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    unreadable = engine._unreadable

    def surprised() -> DeidRefusal:
        error = sys.exc_info()[1]
        frames = traceback.extract_tb(error.__traceback__) if error else []
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        tally.surprises[f"{type(error).__name__} {place}"] += 1
        return unreadable()

    engine._unreadable = surprised
    before = signal.signal(signal.SIGALRM, _hang)
    with tempfile.TemporaryFile() as screen:
        saved = [os.dup(1), os.dup(2)]
        for stream in (1, 2):
            os.dup2(screen.fileno(), stream)

        def said() -> str:
            words = records[0] if records else ""
            if os.fstat(screen.fileno()).st_size:
                words = os.pread(screen.fileno(), 200, 0).decode("utf-8", "replace")
                os.ftruncate(screen.fileno(), 0)
                os.lseek(screen.fileno(), 0, os.SEEK_SET)
            records.clear()
            return words

        try:
            yield said
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
            signal.signal(signal.SIGALRM, before)
            engine._unreadable = unreadable
            logging.getLogger().removeHandler(handler)


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang


@dataclass(slots=True)
class _Worker:
    process: ForkProcess
    answers: Connection
    cases: range
    at: int


def _work(seed: int, files: Sequence[bytes], cases: range, answers: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tally = Fuzzer(seed, files).run(cases, answers.send)
    answers.send(tally)


def fuzz(seed: int, files: Sequence[bytes], cases: range, workers: int) -> Iterator[Tally]:
    """Run cases in processes of their own; give tallies as they come, in no fixed order."""
    context = multiprocessing.get_context("fork")
    waiting = [cases[at : at + BLOCK] for at in range(0, len(cases), BLOCK)][::-1]
    running: dict[Connection, _Worker] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            block = waiting.pop()
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(seed, files, block, there))
            process.start()
            there.close()
            running[here] = _Worker(process, here, block, block.start)
        for ready in wait(list(running), timeout=CASE_SECONDS * 2):
            worker = running[ready]  # type: ignore[index]
            try:
                answer = worker.answers.recv()
            except EOFError:  # it died: the case is a finding, and the rest of its block is run
                worker.process.join()
                yield _died(worker)
                done = worker.at + 1
                again = [range(worker.cases.start, worker.at), range(done, worker.cases.stop)]
                waiting += [block for block in again if block]
                del running[worker.answers]
                continue
            if isinstance(answer, int):
                worker.at = answer
                continue
            worker.process.join()
            del running[worker.answers]
            yield answer


def _died(worker: _Worker) -> Tally:
    tally = Tally()
    tally.outcomes["crash"] += 1
    code = str(worker.process.exitcode)
    tally.findings.append(Finding(worker.at, "the process died", f"exit code {code}"))
    return tally


def main(arguments: list[str] | None = None) -> int:
    """Fuzz; 0 when nothing was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="write the files of findings into this folder")
    chosen = parser.parse_args(arguments)
    files = seeds()
    cases = range(chosen.first, chosen.first + chosen.cases)
    total, started = Tally(), time.monotonic()
    with tqdm(total=len(cases), unit=" cases", mininterval=5) as progress:
        for tally in fuzz(chosen.seed, files, cases, chosen.workers):
            total.add(tally)
            progress.update(tally.outcomes.total())
    _report(total, chosen, len(files), time.monotonic() - started)
    if chosen.keep is not None:
        chosen.keep.mkdir(parents=True, exist_ok=True)
        fuzzer = Fuzzer(chosen.seed, files)
        for finding in total.findings:
            (chosen.keep / f"{chosen.seed}-{finding.case}.dcm").write_bytes(
                fuzzer.file(finding.case)[0]
            )
    lost = len(cases) - total.outcomes.total()
    return 1 if total.findings or lost else 0


def _report(total: Tally, chosen: argparse.Namespace, n_seeds: int, seconds: float) -> None:
    document = {
        "seed": chosen.seed,
        "first": chosen.first,
        "cases": total.outcomes.total(),
        "seed_files": n_seeds,
        "outcomes": dict(total.outcomes.most_common()),
        "errors_ended_at_the_edge": dict(total.surprises.most_common()),
        "findings": [asdict(finding) for finding in total.findings[:200]],
        "n_findings": len(total.findings),
        "slowest_case_cpu_seconds": round(total.slowest_seconds, 2),
        "peak_memory_mib": total.peak_bytes >> 20,
        "seconds": round(seconds, 1),
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(document, indent=1), encoding="utf-8")
    for key in ("cases", "outcomes", "errors_ended_at_the_edge", "n_findings"):
        print(f"{key}: {document[key]}")
    for finding in total.findings[:10]:
        print(finding)


if __name__ == "__main__":
    sys.exit(main())
