"""How is de-identification used alone, from the command line?

`cohortium-deid run` de-identifies a folder, a file or a table; `verify` examines what came out;
`explain` lists what is done to every attribute and why; `mapping` shows an encrypted mapping. The
exit code tells the class of an error; 5 means that something was quarantined or found.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from deid.cli_screen import PlainCommand, PlainGroup, Screen, quoted, said_once
from schemas.errors import (
    CohortiumError,
    ConfigError,
    DataRejected,
    ErrorCode,
    InternalError,
)

app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="De-identify DICOM files and tables, and verify the result.",
)  # fmt: skip

_INTERRUPTED = 130  # what a shell gives a command that Ctrl-C ended; Typer gives it too
ProfileOption = Annotated[
    str,
    typer.Option("--profile", help="basic, research, ehr-table, or the path of a profile file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document, nothing else.")]
ProjectOption = Annotated[
    str, typer.Option("--project", help="Pseudonyms of different projects cannot be linked.")
]
PatientColumnOption = Annotated[
    str, typer.Option("--patient-column", help="The table's column that names the patient.")
]


@app.command(cls=PlainCommand)
def run(
    source: Annotated[Path, typer.Argument(metavar="INPUT")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT")],
    key_file: Annotated[
        Path, typer.Option("--key-file", help="The hospital's key: 32 random bytes.")
    ],
    profile: ProfileOption = "research",
    project: ProjectOption = "",
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Processes that clean.")
    ] = min(4, len(os.sched_getaffinity(0))),
    report: Annotated[
        Path | None, typer.Option("--report", help="Where the report (JSON) goes.")
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", help="Which output is which input; written encrypted."),
    ] = None,
    mapping_plain: Annotated[
        bool, typer.Option("--mapping-plain", help="Write the mapping in clear (for tests).")
    ] = False,
    accept_faces: Annotated[
        str | None,
        typer.Option(
            "--accept-faces", metavar="REASON", help="Release heads too; REASON is reported."
        ),
    ] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option("--quarantine", help="The list of files set aside [OUTPUT.quarantine.csv]."),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try files again that an earlier run set aside.")
    ] = False,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=1.0, help="Seconds that one file may take.")
    ] = 1800.0,
    patient_column: PatientColumnOption = "PatientID",
    as_json: JsonOption = False,
) -> None:
    """De-identify files; what cannot be cleaned is set aside with a reason.

    INPUT is a folder, a DICOM file or a .csv table; it is never changed. OUTPUT is a new folder, or
    the one of the last run: the same command goes on where it stopped, and does what is not done.
    """
    from deid.batch.chosen import choose_profile, read_key
    from deid.batch.run import Order, run_batch
    from deid.cli_table import is_table, run_table
    from deid.cli_views import counting, show_run, show_table

    screen = Screen(as_json)
    key = read_key(key_file)
    if key.is_exposed:
        screen.warn("other users of this machine may read the key file; run: chmod 600 on it.")
    if mapping is not None and mapping_plain:
        screen.warn("the mapping undoes the de-identification and is written in clear.")
    order = Order(
        source=source,
        output=output,
        profile=profile,
        key=key,
        project=project,
        workers=workers,
        accept_faces=accept_faces,
        report=report,
        mapping=mapping,
        mapping_plain=mapping_plain,
        quarantine=quarantine,
        key_file=key_file,
        time_limit_seconds=time_limit,
        retry=retry,
    )
    if is_table(source):
        body = run_table(order, choose_profile(profile), patient_column)
        _refuse_nothing(body)
        screen.document(body)
        show_table(screen, order, body)
    else:
        with screen.progress("Cleaning", counting(source)) as say:
            outcome = run_batch(
                order,
                lambda totals: say(totals.read, f"{totals.quarantined.total():,} set aside"),
            )
        body = outcome.report
        _refuse_nothing(body)
        screen.document(body)
        show_run(screen, order, outcome)
    if body["counts"]["quarantined"]:
        raise typer.Exit(DataRejected.exit_code)


@app.command(cls=PlainCommand)
def explain(
    words: Annotated[list[str] | None, typer.Argument(metavar="[ATTRIBUTE]...")] = None,
    profile: ProfileOption = "research",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The conformance page, as in deid/CONFORMANCE.md.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List what is done to every attribute and column, and why.

    With ATTRIBUTE, only those whose keyword, tag or column holds it: PatientName, 0010,0040.
    """
    from deid import conformance
    from deid.batch.chosen import choose_profile
    from deid.cli_views import show_explanation

    if markdown:
        typer.echo(conformance.markdown(), nl=False)
        return
    show_explanation(Screen(as_json), choose_profile(profile), words or ())


@app.command(cls=PlainCommand)
def verify(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT")],
    profile: ProfileOption = "research",
    source: Annotated[
        Path | None,
        typer.Option("--source", help="The input, to search for all that was removed from it."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="The hospital's key; needed with --source.")
    ] = None,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Examine every clean file again; --source also searches for what was removed.

    OUTPUT is the folder that `run` wrote; --profile must be the one that `run` was given.
    """
    from deid.batch.check import check_folder
    from deid.batch.chosen import choose_profile, read_key
    from deid.batch.output import other_profile
    from deid.cli_table import is_table, verify_table
    from deid.cli_views import counting, show_findings, show_table_findings

    screen, chosen = Screen(as_json), choose_profile(profile)
    if source is not None and is_table(source):
        searched, found = verify_table(output, chosen, source)
        show_table_findings(screen, searched, found)
        is_clean = not found
    else:
        if source is not None and key_file is None:
            raise ConfigError(
                ErrorCode.CONFIG_USAGE,
                "--source needs --key-file.",
                hint="Only the key tells which clean file came from which input.",
            )
        key = read_key(key_file) if key_file is not None else None
        if (other := other_profile(output, chosen)) is not None:
            screen.warn(
                f"the folder was written with the profile “{quoted(other)}”, not with this "
                f"state of “{chosen.name}”. If faults are found, name that one with --profile."
            )
        with screen.progress("Examining", counting(output)) as say:
            findings = check_folder(
                output,
                chosen,
                source=source,
                key=key,
                project=project,
                progress=lambda found: say(found.files, f"{found.broken:,} broken"),
            )
        show_findings(screen, findings, is_searched=source is not None)
        is_clean = findings.is_clean
    if not is_clean:
        raise typer.Exit(DataRejected.exit_code)


@app.command("mapping", cls=PlainCommand)
def show_mapping(
    path: Annotated[Path, typer.Argument(metavar="MAPPING")],
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="The key that `run` was given.")
    ] = None,
) -> None:
    """Print a mapping as CSV: which output came from which input.

    MAPPING is the file that --mapping of `run` wrote.
    """
    from deid.batch.chosen import read_key
    from deid.batch.mapping import read_mapping

    secret = read_key(key_file).secret if key_file is not None else None
    for _ in read_mapping(path, secret):
        pass  # to its end first: a part of a mapping must not be taken for the whole
    for piece in read_mapping(path, secret):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _refuse_nothing(body: dict[str, Any]) -> None:
    """Say that there was nothing to do, instead of a summary of nothing."""
    if not body["counts"]["read"]:
        raise DataRejected(
            ErrorCode.SOURCE_EMPTY,
            "The input holds no file or row.",
            hint="Check the first path of the command.",
        )


# --- the process edge ------------------------------------------------------------------------


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code (0, 2 for usage, or the error's class)."""
    screen = Screen("--json" in arguments)
    try:
        status = app(list(arguments), prog_name="cohortium-deid", standalone_mode=False)
        return _interrupted() if status == _INTERRUPTED else int(status or 0)
    except CohortiumError as error:
        screen.error(error)
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _interrupted()
    except click.exceptions.NoArgsIsHelpError as error:
        typer.echo(error.format_message())
        return ConfigError.exit_code
    except click.ClickException as error:
        usage = ConfigError(
            ErrorCode.CONFIG_USAGE,
            said_once(error.format_message()),
            hint="`cohortium-deid COMMAND --help` lists what it takes.",
        )
        screen.error(usage)
        return usage.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the process edge: a traceback would quote paths and values
        if os.environ.get("COHORTIUM_DEBUG") == "1":
            raise
        screen.error(
            InternalError(
                ErrorCode.INTERNAL_UNEXPECTED,
                "The command failed in a way nobody foresaw; clean files already there are whole.",
                hint="Run it again with COHORTIUM_DEBUG=1 and report what you see.",
                detail=type(error).__name__,
            )
        )
        return InternalError.exit_code


def _interrupted() -> int:
    print("Stopped. Run the same command again to go on.", file=sys.stderr)
    return _INTERRUPTED


def main() -> None:
    """Run ``cohortium-deid``."""
    status = run_command(sys.argv[1:])
    if "deid.batch.pool" in sys.modules:
        sys.modules["deid.batch.pool"].stop_server()
    sys.exit(status)


if __name__ == "__main__":
    main()
