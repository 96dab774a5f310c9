"""How is de-identification used alone, from the command line?

`cohortium-deid run` de-identifies a folder or a table; `verify` searches what came out for
everything that was removed; `explain` prints the keep-list.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from deid.actions import Kind
from deid.dicom import DicomDeidentifier, removed_values
from deid.errors import DeidRefusal
from deid.profile import SHIPPED, Profile, load_profile, shipped_profile
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport
from deid.residual import NeedleIndex
from deid.tabular import TableDeidentifier
from schemas.errors import CohortiumError, ConfigError, DataRejected, ErrorCode

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="De-identify DICOM files and tables by a keep-list, and verify the result.",
)  # fmt: skip

_DATE = re.compile(r"[0-9]{4}[-./]?[0-9]{2}[-./]?[0-9]{2}")
ProfileOption = Annotated[
    str, typer.Option("--profile", help="a shipped keep-list, or the path of a TOML file")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def explain(profile: ProfileOption = "dicom-image", as_json: JsonOption = False) -> None:
    """Say what stays and what is done to it."""
    chosen = _profile(profile)
    if as_json:
        typer.echo(json.dumps({"digest": chosen.digest, "lines": chosen.explain()}))
        return
    typer.echo(f"{chosen.name}  sha256 {chosen.digest}")
    for line in chosen.explain():
        typer.echo(f"  {line}")


@app.command()
def run(
    source: Annotated[Path, typer.Option("--source", help="a .csv file, or a folder of DICOM")],
    out: Annotated[Path, typer.Option("--out", help="an empty folder for the clean records")],
    secret_file: Annotated[Path, typer.Option("--secret-file", help="at least 32 random bytes")],
    project: Annotated[str, typer.Option("--project", help="pseudonyms differ by project")],
    profile: ProfileOption = "dicom-image",
    patient_column: Annotated[
        str, typer.Option("--patient-column", help="the table's column that names the patient")
    ] = "PatientID",
    as_json: JsonOption = False,
) -> None:
    """De-identify a table or a folder; what is refused is counted, and left where it is."""
    chosen = _profile(profile)
    report = DeidReport()
    try:
        pseudonyms = Pseudonymiser(_read(secret_file), project)
    except ValueError:
        raise ConfigError(
            ErrorCode.DEID_SECRET_INVALID,
            "The de-identification secret must have at least 32 bytes.",
            hint="Make one with: head -c 32 /dev/urandom > FILE",
        ) from None
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ConfigError(
            ErrorCode.CONFIG_USAGE,
            "The output folder is not empty.",
            hint="Name a new folder: clean records never join older ones.",
        )
    if source.is_file():
        _run_table(chosen, pseudonyms, report, source, out / "table.csv", patient_column)
    else:
        _run_folder(chosen, pseudonyms, report, source, out)
    _print(as_json, report.as_mapping())
    if not report.records:
        raise DataRejected(
            ErrorCode.SOURCE_EMPTY,
            "No record could be de-identified.",
            hint="See `cohortium-deid explain`; a table needs --profile and --patient-column.",
        )


@app.command()
def verify(
    source: Annotated[Path, typer.Option("--source", help="the raw .csv file or folder")],
    out: Annotated[Path, typer.Option("--out", help="the folder that `run` wrote")],
    profile: ProfileOption = "dicom-image",
    as_json: JsonOption = False,
) -> None:
    """Search every clean file, its name too, for every value that had to go."""
    chosen = _profile(profile)
    # One patient's shifted date may be another's true one, so dates are only searched record by
    # record, which `run` does.
    removed = {text for text in _removed_values(chosen, source) if not _DATE.fullmatch(text)}
    index = NeedleIndex(sorted(removed))
    files = sorted(path for path in out.rglob("*") if path.is_file())
    hits = sum(bool(index.search(path.name.encode() + b"\n" + path.read_bytes())) for path in files)
    _print(as_json, {"patterns": len(index), "files": len(files), "files_with_a_find": hits})
    if hits:
        raise DataRejected(
            ErrorCode.IDENTIFIER_LEFT,
            "A value that had to be removed is still in the output.",
            hint="Do not use these files; report the profile and the kind of record.",
        )


def _run_table(
    profile: Profile,
    pseudonyms: Pseudonymiser,
    report: DeidReport,
    source: Path,
    target: Path,
    patient: str,
) -> None:
    cleaner = TableDeidentifier(profile, pseudonyms, patient, report)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for row in _rows(source):
            try:
                clean = cleaner.clean(row)
            except DeidRefusal:
                continue  # counted in the report
            if writer is None:
                writer = csv.DictWriter(file, list(clean))
                writer.writeheader()
            writer.writerow(clean)


def _run_folder(
    profile: Profile, pseudonyms: Pseudonymiser, report: DeidReport, source: Path, out: Path
) -> None:
    cleaner = DicomDeidentifier(profile, pseudonyms, report)
    for path in _files(source):
        try:
            image = cleaner.clean(path.read_bytes())
        except DeidRefusal:
            continue  # counted in the report
        (out / f"{image.uid}.dcm").write_bytes(image.raw)  # the old name may name the patient


def _removed_values(profile: Profile, source: Path) -> set[str]:
    if not source.is_file():
        values: set[str] = set()
        for path in _files(source):
            values |= removed_values(profile, path.read_bytes())
        return values
    kept = {name for name, action in profile.table.items() if action.kind is Kind.KEEP}
    return {v for row in _rows(source) for name, v in row.items() if name not in kept}


def _rows(source: Path) -> Iterator[dict[str, str]]:
    with source.open(encoding=_encoding(source), newline="") as file:
        for row in csv.DictReader(file, restval="", restkey="\x00"):
            row.pop("\x00", None)
            yield row


def _encoding(source: Path) -> str:
    raw = source.read_bytes()
    for encoding in ("utf-8-sig", "cp949"):
        try:
            raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    raise DataRejected(ErrorCode.FILE_ENCODING, ErrorCode.FILE_ENCODING.meaning)


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        raise ConfigError(ErrorCode.SOURCE_MISSING, ErrorCode.SOURCE_MISSING.meaning)
    return sorted(path for path in source.rglob("*") if path.is_file())


def _profile(name: str) -> Profile:
    return shipped_profile(name) if name in SHIPPED else load_profile(Path(name))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ConfigError(ErrorCode.KEY_MISSING, ErrorCode.KEY_MISSING.meaning) from None


def _print(as_json: bool, body: object) -> None:
    typer.echo(json.dumps(body, indent=None if as_json else 2))


def main() -> None:
    """Run the command; an error ends with its sentence and its class's exit code."""
    try:
        app()
    except CohortiumError as error:
        if "--json" in sys.argv:
            body = {"code": error.code.value, "sentence": error.sentence, "hint": error.hint}
            typer.echo(json.dumps({"error": body}))
        else:
            typer.echo(str(error), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
