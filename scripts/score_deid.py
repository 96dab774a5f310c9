"""How well does the real command de-identify? ``python -m scripts.score_deid --corpus DIR``

Plants an invented identity in every file of a corpus (tests/support/deid_inject), runs
``cohortium-deid run`` on it as a hospital would, and scores what was released in the ten categories
of MIDI-B and seven of our own, with 95 % Wilson bounds. Failures are listed by category and place.

    --without              no text detection (the default): the profile less `clean-pixel-data`, no
                           lines burned in; header, private, code streams, files
    --with-text-detection  the profile as shipped, four lines burned into every image that can hold
                           them; about two CPU-seconds an image and frame

Hangul lines are rendered with NanumGothic (Debian: fonts-nanum, SIL OFL); where it is not
installed, twelve stored lines are used instead.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench_timing import Goal, write_json
from tests.support.deid_burn import HANGUL_FONT
from tests.support.deid_bytes import found_in
from tests.support.deid_corpus import Archive, build, corpus_files, wheel_files
from tests.support.deid_score import Expectation, score
from tests.support.deid_score_pixels import HARMED_SHARE
from tests.support.deid_stats import Rate, Score, merge

ROOT = Path(__file__).resolve().parents[1]
LINES_PER_IMAGE = 4
_RESEARCH = ROOT / "deid" / "profiles" / "research.toml"


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of the command."""

    exit_code: int
    released: dict[str, Path]  # by input name
    quarantined: dict[str, str]  # input name to code
    errors: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Inject, run, score, print; 0 when every goal is met, 1 when one is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.score_deid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, help="real DICOM files; pydicom's own if absent")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--with-text-detection", action="store_true")
    parser.add_argument("--without", action="store_true", help="no text detection (the default)")
    parser.add_argument("--basic", action="store_true", help="score the profile basic instead")
    parser.add_argument("--seeds", nargs="+", default=["0"], help="one archive per seed")
    parser.add_argument("--every", type=int, default=1, help="use every n-th file only")
    parser.add_argument("--first", type=int, default=0, help="begin with this file")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--keep", type=Path, help="leave archive and output in this folder")
    options = parser.parse_args(arguments)
    detect = options.with_text_detection and not options.without and not options.basic
    files = corpus_files(options.corpus) if options.corpus else wheel_files()
    files = files[options.first :: options.every]
    if detect and not HANGUL_FONT.exists():
        print("no Hangul font here (Debian: fonts-nanum): Hangul lines are twelve stored ones")
    scores = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            folder = (options.keep or Path(scratch)) / f"seed{seed}"
            how = How(detect, options.workers, options.basic)
            scores.append(one_run(files, folder, seed, how))
    total = merge(scores)
    print(total.table())
    print()
    print(total.failures())
    print(held_back(total))
    for share, native, name in sorted(total.area_outside, reverse=True):
        if share > HARMED_SHARE and not native:
            print(f"changed outside the boxes: {100 * share:.1f} % of {Path(name).name}")
    found = goals(total, detect)
    print()
    for goal, rate in found:
        low, high = rate.bounds
        print(f"{goal.line()}  [{low:.4f}, {high:.4f}]  n={rate.of}")
    if options.json:
        write_json(options.json, document(total, found, detect))
    return 0 if all(goal.is_met for goal, _ in found) else 1


def held_back(total: Score, limit: int = 6) -> str:
    """Valid files that were quarantined, by code, with a few names each."""
    by_code: dict[str, list[str]] = {}
    for check in total.checks:
        if check.category == "not_quarantined":
            by_code.setdefault(check.place, []).append(Path(check.file).name)
    return "\n".join(
        f"quarantined {len(names):>4} {code}: {', '.join(names[:limit])}"
        for code, names in sorted(by_code.items())
    )


@dataclass(frozen=True, slots=True)
class How:
    """How the command is run."""

    detect: bool  # text detection on, lines burned in
    workers: int = 1
    basic: bool = False  # the profile basic: dates and descriptions gone, pixels left alone


def one_run(files: Sequence[Path], folder: Path, seed: str, how: How) -> Score:
    """Inject the files, run the command on them, score what came out."""
    lines = LINES_PER_IMAGE if how.detect else 0
    archive = build(files, folder / "in", seed=seed, lines=lines)
    ran = run_command(
        archive.folder, folder, detect=how.detect, workers=how.workers, basic=how.basic
    )
    print(
        f"seed {seed}: exit code {ran.exit_code}, {len(archive.ledgers)} files, "
        f"{len(ran.released)} released; not injected: {len(archive.untouched)}"
    )
    if ran.errors:
        print(ran.errors[-3000:])
    return judge(archive, ran, how.detect, how.basic)


def judge(archive: Archive, ran: Ran, detect: bool, basic: bool = False) -> Score:
    """Score one run, and its book-keeping: no file lost, none twice, no identity in a path."""
    result = score(
        {name: (archive.folder / name).read_bytes for name in archive.ledgers},
        archive.ledgers,
        {name: path.read_bytes for name, path in ran.released.items()},
        Expectation(modified_dates=not basic, option_tier=not basic, pixels_cleaned=detect),
    )
    for name, ledger in archive.ledgers.items():
        accounted = (name in ran.released) != (name in ran.quarantined)
        result.add("file_accounted", "file", name, accounted)
        if name in ran.released:
            path = "/".join(ran.released[name].parts[-3:]).encode()
            result.add("path_clean", "file", name, not found_in(path, ledger.secrets))
    for name in result.quarantined:
        code = ran.quarantined.get(name, "lost")
        result.add("not_quarantined", code, name, False)
    return result


def run_command(
    source: Path,
    folder: Path,
    *,
    detect: bool,
    workers: int = 1,
    basic: bool = False,
    key: bytes = bytes(range(32)),
) -> Ran:
    """Run ``cohortium-deid run`` as a process of its own, as a hospital does."""
    folder.mkdir(parents=True, exist_ok=True)
    key_file, output, mapping = folder / "key", folder / "out", folder / "mapping.csv"
    key_file.write_bytes(key)
    key_file.chmod(0o600)
    without = "basic" if basic else str(without_detection(folder))
    profile = "research" if detect else without
    command = [sys.executable, "-m", "deid.cli", "run", str(source), str(output)]
    command += ["--profile", profile, "--key-file", str(key_file), "--workers", str(workers)]
    command += ["--mapping", str(mapping), "--mapping-plain", "--report", str(folder / "r.json")]
    command += ["--accept-faces", "scored on published files of invented people"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    released = {}
    if mapping.exists():
        with mapping.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                released[row["input_rel"]] = output / row["output_rel"]
    quarantined = {}
    listed = folder / "out.quarantine.csv"
    if listed.exists():
        with listed.open(encoding="utf-8-sig", newline="") as file:
            quarantined = {row["input_rel"]: row["code"] for row in csv.DictReader(file)}
    crashed = "Traceback" in done.stderr or done.returncode not in (0, 5)
    return Ran(done.returncode, released, quarantined, done.stderr if crashed else "")


def without_detection(folder: Path) -> Path:
    """The research profile as shipped, less the one option that looks into pixels."""
    lines = _RESEARCH.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.strip() != '"clean-pixel-data",']
    assert len(kept) == len(lines) - 1
    path = folder / "research-without-pixels.toml"
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


def goals(total: Score, detect: bool) -> list[tuple[Goal, Rate]]:
    """The goals of the de-identifier, with what was measured."""
    released = Rate(total.files - len(total.quarantined), total.files)
    held = Rate(total.malformed - len(total.malformed_released), total.malformed)
    rates = dict(total.rates())
    exact = ["patid_consistent", "uid_consistent", "file_valid", "deid_marked"]
    if rates["date_interval"].of:
        exact.insert(0, "date_interval")
    rows: list[tuple[str, Rate, float]] = [
        ("privacy", rates["privacy"], 0.999),
        ("header text removed", total.header_text(), 1.0),
        ("MIDI-B's ten categories", rates["MIDI-B, all"], 0.999),
        ("MIDI-B's ten categories, basic tier", rates["MIDI-B, basic tier"], 0.999),
        ("utility", rates["utility"], 0.98),
        ("no injected string in the bytes", rates["file_clean"], 0.99),
        ("no identity in a path", total.rate("path_clean"), 1.0),
        *((name.replace("_", " "), rates[name], 1.0) for name in exact),
        ("transfer syntax kept", rates["ts_retained"], 0.99),
        ("malformed files quarantined", held, 1.0),
        ("every file accounted for", total.rate("file_accounted"), 1.0),
        ("valid files released", released, 0.98),
    ]  # fmt: skip
    if detect:
        rows += [
            ("burned-in lines hidden, Latin and digits", total.lines("latin", "digits"), 0.97),
            ("burned-in lines hidden, Hangul", total.lines("hangul"), 0.95),
            ("files unharmed outside the boxes", rates["pixels_retained"], 0.95),
        ]
    return [
        (Goal(name, rate.share if rate.of else 0.0, wanted, True), rate)
        for name, rate, wanted in rows
    ]


def document(total: Score, found: Sequence[tuple[Goal, Rate]], detect: bool) -> dict[str, Any]:
    """The numbers for a JSON file; nothing in it comes from a value."""

    def entry(rate: Rate) -> dict[str, Any]:
        return {"passed": rate.passed, "of": rate.of, "wilson_95": rate.bounds}

    areas = sorted(share for share, native, _ in total.area_outside if not native)
    return {
        "text_detection": detect,
        "goals": [goal.document() | entry(rate) for goal, rate in found],
        "categories": {name: entry(rate) for name, rate in total.rates() if rate.of},
        "area_changed_outside_boxes": {
            "files": len(areas),
            "median": areas[len(areas) // 2] if areas else None,
            "largest": areas[-1] if areas else None,
            "share_of_files_below": {
                str(bound): sum(share <= bound for share in areas) / max(1, len(areas))
                for bound in (0.0, 0.001, 0.01, 0.05)
            },
        },
        "quarantined": len(total.quarantined),
        "valid_files": total.files,
    }


if __name__ == "__main__":
    sys.exit(main())
