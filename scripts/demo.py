"""Two studies over four hospitals and a coordinator on this machine, by the product's commands.

`make demo` runs this. Everything it does is one of the commands people use, printed so that you can
repeat it; state lies under `build/demo/`. It ends with `build/demo/summary.json`. On a terminal the
read-only page stays up until Ctrl-C. The baselines on pooled data, and the timings and logs read at
every hospital, are what only a test bed can do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

from scripts.demo_report import Costs, StudyFigures, baselines, study_figures, write_summary
from scripts.identifier_search import SearchResult, search
from scripts.measure import PeakMemory, cpu_seconds
from scripts.testbed import CommandFailed, Testbed

DEFAULT_ROOT = Path("build/demo")
STUDIES = ("heart", "cxr")
SHOWN = (
    "site-3"  # the hospital whose screens the demo prints: it has the most to say about its data
)
_printing = threading.Lock()


def main() -> int:
    """Run the demo; 0 when every study gave a co-signed result and no identifier was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--study", choices=STUDIES, action="append", help="only this study")
    parser.add_argument("--keep", action="store_true", help="keep the page up without a terminal")
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="folder of the run")
    options = parser.parse_args()
    root = options.root.resolve()
    studies = tuple(options.study or STUDIES)
    started = time.monotonic()
    say("Cohortium: four hospitals, one coordinator, every process on this machine.")
    say("The commands below are in .venv/bin; run any of them again while the page is up.")
    shutil.rmtree(root, ignore_errors=True)
    bed = Testbed(root, say=say, tap=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time-out ends like Ctrl-C
    try:
        with bed.ended_at_exit(), PeakMemory(lambda: [os.getpid(), *bed.pids()]) as memory:
            figures = run_studies(bed, studies)
            found = search_everything(bed, studies)
            summary = write_summary(
                root / "summary.json",
                figures,
                found=found,
                processes=memory.most_processes,
                peak_rss_mib=memory.peak_mib,
                seconds_total=time.monotonic() - started,
                tls=tls_version(bed),
            )
            show(summary)
            if sys.stdout.isatty() or options.keep:
                wait_for_reader(bed)
    except KeyboardInterrupt:
        say("\nStopped; every process this demo started was ended.")
        return 130
    except (CommandFailed, TimeoutError) as error:
        say(f"\nThe demo could not go on:\n{error}")
        return 1
    if found.places or not found.control_found:
        say("\nThe search for planted identifiers failed; see identifier_places in summary.json.")
        return 1
    return 0


def run_studies(bed: Testbed, studies: tuple[str, ...]) -> dict[str, StudyFigures]:
    """Tell the whole story, chapter by chapter."""
    raw = bed.root / "raw"
    chapter("1", "What four hospitals would hand over: real, licensed data, invented people")
    make_raw(raw, studies)
    chapter("2", "A coordinator, and four hospitals that enrol with single-use invites")
    bed.start_coordinator()
    bed.enrol_sites()
    chapter("3", "Hospitals confirm each other's fingerprints, outside the coordinator")
    bed.confirm_peers()
    bed.start_sites()
    figures = {}
    for number, study in enumerate(studies, start=4):
        chapter(str(number), f"Study {study}: plan, ingest, approve, train, evaluate")
        figures[study] = run_study(bed, study, raw)
    chapter(str(4 + len(studies)), "What each hospital can show afterwards")
    for command in (("ledger", "show"), ("audit", "verify"), ("status",), ("doctor",)):
        bed.say(bed.site(SHOWN, *command))
    return figures


def run_study(bed: Testbed, study: str, raw: Path) -> StudyFigures:
    """Propose, ingest, read, approve, watch and read the result of one study."""
    digest = bed.propose(study)
    printed = bed.ingest(study, raw)
    say(f"\nWhat {SHOWN} reads, and keeps, about its own extract:\n{printed[SHOWN]}")
    bed.say(bed.site(SHOWN, "plan", "show", study))
    before = [spent(bed, name) for name in bed.site_names]
    bed.approve(study, digest)
    bed.say(bed.run("cohortium", "vendor", "study", "watch", study))
    after = [spent(bed, name) for name in bed.site_names]
    bed.say(bed.run("cohortium", "vendor", "results", study))
    costs = Costs(
        cpu_seconds=[new[0] - old[0] for new, old in zip(after, before, strict=True)],
        bytes_out=[new[1] - old[1] for new, old in zip(after, before, strict=True)],
    )
    say("Baselines on pooled data, which only a test bed can compute …")
    return study_figures(bed, study, baselines(bed, study), costs)


def spent(bed: Testbed, name: str) -> tuple[float, int]:
    """Give one hospital's CPU seconds and HTTP body bytes sent, both so far."""
    totals = bed.json("cohortium-site", name, "status")["bytes_out"]
    n_bytes = sum(row["bytes"] for row in totals.values())
    return cpu_seconds([bed.children[name].pid]), int(n_bytes)


def make_raw(raw: Path, studies: tuple[str, ...]) -> None:
    """Write every hospital's raw folder."""
    command = [sys.executable, "-m", "scripts.make_data", "--out", str(raw)]
    if len(studies) == 1:
        command += ["--study", studies[0]]
    say(f"$ python {' '.join(command[1:])}")
    subprocess.run(command, check=True)


def tls_version(bed: Testbed) -> str:
    """Give the TLS version every gateway negotiated; they must agree."""
    found = {
        json.loads((bed.home(name) / "state" / "gateway.json").read_text())["tls"]
        for name in bed.site_names
    }
    return " ".join(sorted(found))


def search_everything(bed: Testbed, studies: tuple[str, ...]) -> SearchResult:
    """Look for every planted identifier outside the raw folders."""
    import httpx

    say("\nSearching databases, logs, journals, gateways' plaintext, page and decrypted stores …")
    page = f"http://127.0.0.1:{bed.ports()['page']}"
    extra = {}
    with httpx.Client(trust_env=False) as client:
        for path in ("/", *(f"/studies/{study}" for study in studies)):
            extra[f"page {path}"] = client.get(page + path).raise_for_status().content
    return search(
        bed.root,
        bed.root / "raw" / "identifiers.json",
        raw_folders=[bed.root / "raw"],
        homes=[bed.home(name) for name in bed.site_names],
        extra=extra,
    )


def wait_for_reader(bed: Testbed) -> None:
    """Keep the page up until Ctrl-C."""
    say(f"\nThe page: http://127.0.0.1:{bed.ports()['page']}   (Ctrl-C ends everything)")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        say("\nEnding every process …")


def show(summary: dict[str, Any]) -> None:
    """Print what matters of the summary."""
    chapter("*", "Summary (summary.json in the run's folder)")
    for name, study in summary["studies"].items():
        low, high = study["test_auroc_ci"]
        say(
            f"  {name:6} AUROC {study['test_auroc']:.3f} [{low:.3f}, {high:.3f}]; pooled without "
            f"privacy {study['baseline_pooled_no_dp_auroc']:.3f}, central DP "
            f"{study['baseline_central_dp_auroc']:.3f}; {study['steps']} steps, median round "
            f"{study['round_seconds_median']:.2f} s"
        )
        for text in (study["privacy"], study["privacy_reading"]):
            indent = " " * 9
            say(textwrap.fill(text, 96, initial_indent=indent, subsequent_indent=indent,
                              break_on_hyphens=False))  # fmt: skip
    say(
        f"  identifiers found outside the raw folders: {summary['identifiers_found_outside_raw']}"
        f" (planted control found: {summary['identifier_positive_control_found']})"
    )
    say(
        f"  {summary['processes']} processes, {summary['tls']}, peak "
        f"{summary['peak_rss_mib']:.0f} MiB, {summary['seconds_total']:.0f} s in all"
    )


def chapter(number: str, title: str) -> None:
    """Print a heading."""
    say(f"\n== {number}. {title}")


def say(line: str) -> None:
    """Print a line whole and at once: commands run two at a time, and a pipe shows progress too."""
    with _printing:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
