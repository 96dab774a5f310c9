"""How are a run, an examination and a profile shown to a person?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deid.batch.findings import EXAMPLES, Findings
from deid.batch.lists import DOES_NOT_PROVE, PROVES, percent
from deid.batch.run import Order, Outcome
from deid.batch.sources import walk
from deid.cli_screen import Screen, quoted
from deid.profile import Profile
from schemas.errors import ConfigError, ErrorCode


def counting(root: Path) -> Callable[[], int]:
    """Give a function that counts the files below a folder, for a progress bar."""

    def count() -> int:
        try:
            return sum(1 for _ in walk(root))
        except ConfigError:  # not there: the command itself says so
            return 0

    return count


def show_run(screen: Screen, order: Order, outcome: Outcome) -> None:
    """Sum a run up: what was released, what was set aside and why, where the lists are."""
    totals, counts = outcome.totals, outcome.report["counts"]
    screen.title("Done: every file of the input is either clean in the output or set aside.")
    screen.facts(
        [
            ("Input", quoted(order.source)),
            ("Output", quoted(order.output)),
            ("Profile", f"{outcome.report['profile']['name']}"),
        ]
    )
    screen.line("")
    pairs = [("Files read", f"{counts['read']:>9,}"), ("Released", f"{counts['released']:>9,}")]
    if totals.duplicates:
        note = "identical to another input file; one clean file each"
        pairs.append(("  duplicates", f"{totals.duplicates:>9,}  {note}"))
    pairs.append(("Set aside", f"{counts['quarantined']:>9,}"))
    if outcome.taken_over:
        pairs.append(("Already done", f"{outcome.taken_over:>9,}  by an earlier run"))
    screen.facts(pairs)
    if totals.left_over:
        screen.line(
            f"{totals.left_over:,} clean files of earlier runs are still in the output, although "
            "their input is gone. They are not in this run's mapping and report.",
            indent=2,
        )
    _show_pixels(screen, outcome)
    _show_reasons(screen, outcome.report["quarantined"], "files")
    screen.title("Where things are")
    lists = [("Set aside", outcome.quarantine)]
    if order.mapping is not None:
        lists.append(("Mapping", order.mapping))
    if order.report_path is not None:
        lists.append(("Report", order.report_path))
    screen.facts([(name, quoted(path)) for name, path in lists])
    screen.line("The first two name input files: they stay at the hospital."
                if order.mapping is not None
                else "The list of files set aside names input files: it stays at the hospital.",
                indent=2)  # fmt: skip
    if totals.released:
        _show_proof(screen)


def _show_pixels(screen: Screen, outcome: Outcome) -> None:
    totals, faces = outcome.totals, outcome.report["faces"]
    if totals.redacted:
        mean, most = (
            percent(part).replace(" ", "\u00a0")  # the sign stays with its number
            for part in (totals.removed_sum / totals.redacted, totals.removed_max)
        )
        screen.line(
            f"Text was blanked in {totals.redacted:,} of {totals.images:,} images: on average "
            f"{mean} of their area, at most {most}.",
            indent=2,
        )
    if outcome.report["text_detection"] == "not-installed":
        unseen = totals.why["modality-without-text"]
        screen.line(
            "Text detection is not installed: images of kinds that carry text were set aside, and "
            f"{unseen:,} images of other kinds (CT, MR, …) were released without being looked at.",
            indent=2,
        )
    if faces["accepted"]:
        screen.line(
            f"{faces['accepted']:,} files that may show a face were released, because the steward "
            "accepted it; the reason is in the report.",
            indent=2,
        )


def _show_reasons(screen: Screen, reasons: Sequence[Mapping[str, Any]], unit: str) -> None:
    if not reasons:
        return
    screen.title("Why they were set aside, and what to do")
    for reason in sorted(reasons, key=lambda each: -int(each[unit])):
        screen.line(
            f"{reason[unit]:>7,}  {reason['meaning']} [{reason['code']}]", indent=2, hanging=9
        )
        screen.line(str(reason["what_to_do"]), indent=11)


def _show_proof(screen: Screen) -> None:
    screen.title("What this proves, and what it does not")
    screen.line(PROVES, indent=2)
    screen.line(f"It does not prove {DOES_NOT_PROVE[0].lower()}{DOES_NOT_PROVE[1:]}", indent=2)


def show_table(screen: Screen, order: Order, body: Mapping[str, Any]) -> None:
    """Sum the run of a table up."""
    counts = body["counts"]
    screen.title("Done: every row of the table is either clean in the output or set aside.")
    screen.facts(
        [
            ("Input", quoted(order.source)),
            ("Output", quoted(order.output / "table.csv")),
            ("Profile", body["profile"]["name"]),
            ("Rows read", f"{counts['read']:,}"),
            ("Released", f"{counts['released']:,}"),
            ("Set aside", f"{counts['quarantined']:,}  {quoted(order.quarantine_path)}"),
        ]
    )
    _show_reasons(screen, body["quarantined"], "rows")
    if counts["read"] and not counts["released"]:
        screen.line(
            "No row is left. A table needs the --profile that lists its columns, and "
            "--patient-column with the name of the column that names the patient.",
            indent=2,
        )


def show_findings(screen: Screen, found: Findings, *, is_searched: bool) -> None:
    """Say what an examination found; a hundred thousand files give the same few lines."""
    screen.document(
        {
            "files": found.files,
            "broken": found.broken,
            "faults": dict(sorted(found.faults.items())),
            "examples": [{"output": name, "fault": fault} for name, fault in found.examples],
            "other_files": found.n_others,
            "compared": found.compared,
            "patterns": found.patterns,
            "missing": found.missing,
            "input_not_run": found.not_run,
        }
    )
    verdict = "Nothing was found." if found.is_clean else "Do not use this folder as it is."
    screen.title(f"Examined {found.files:,} files. {verdict}")
    pairs = [("Broken files", f"{found.broken:>9,}")]
    pairs += [(f"  {kind}", f"{n:>9,}  {_FAULTS[kind]}") for kind, n in found.faults.items()]
    pairs.append(("Missing", f"{found.missing:>9,}  gone, or not as `run` left them"))
    if found.n_others:
        pairs.append(("Other files", f"{found.n_others:>9,}  not DICOM, not written by a run"))
    if is_searched:
        pairs.append(("Searched", f"{found.compared:>9,}  for {found.patterns:,} removed values"))
        pairs.append(("Not run", f"{found.not_run:>9,}  input files that came or changed later"))
    screen.facts(pairs)
    if found.examples:
        screen.title(f"The first {min(EXAMPLES, found.broken)} of them")
        for name, fault in found.examples:
            screen.exact(f"  {quoted(name)}")
            screen.exact(f"      {fault}")
    for name in found.others:
        screen.exact(f"  {quoted(name)}")
    if not is_searched:
        screen.line(
            "Each file was held against the profile. With --source and --key-file it is also "
            "searched for everything that was removed.",
            indent=2,
        )
    screen.line(f"It does not prove {DOES_NOT_PROVE[0].lower()}{DOES_NOT_PROVE[1:]}", indent=2)


def _is_named(line: str, words: Sequence[str]) -> bool:
    name = line.split(": ", 1)[0].casefold()
    return not words or any(word.strip("()").casefold() in name for word in words)


_FAULTS = {
    "unreadable": "cannot be read as what we write",
    "identifier": "a removed value is still there",
    "rule": "an attribute or value the profile does not allow",
    "meta": "preamble or file meta information is not fresh",
    "marking": "does not say how it was de-identified",
}


def show_table_findings(screen: Screen, searched: int, found: int) -> None:
    """Say what the search of a table found."""
    screen.document({"patterns": searched, "found": found})
    verdict = "Do not use it." if found else "Nothing was found."
    screen.title(f"Searched the table for {searched:,} removed cells: {found:,} found. {verdict}")


def show_explanation(screen: Screen, profile: Profile, words: Sequence[str]) -> None:
    """List a profile's treatment of everything, or of what holds one of the words in its name."""
    lines = [line for line in profile.explain() if _is_named(line, words)]
    if not lines:
        raise ConfigError(
            ErrorCode.CONFIG_USAGE,
            "The profile names no such attribute or column: it is removed.",
            hint="Name a keyword or a part of it, or a tag as (0010,0010), in quotes.",
        )
    screen.document({"name": profile.name, "digest": profile.digest, "lines": list(lines)})
    screen.exact(f"{profile.name}  sha256 {profile.digest}")
    for line in lines:
        if sys.stdout.isatty():
            screen.line(line, indent=2, hanging=4)
        else:
            screen.exact(f"  {line}")  # one line each, for grep
