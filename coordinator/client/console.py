"""How does a command speak to a person, or with --json to a program?"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import typer

from schemas.errors import CohortiumError, ConfigError, ErrorCode, InternalError

_WIDTH: Final = 96
_REASON: Final = "Reason: "  # what a document's own check gives as its hint
_CORRECT: Final = "Correct it and run the command again."


def say(as_json: bool, values: dict[str, Any], *lines: str) -> None:
    """Print ``values`` as one JSON object, or ``lines`` for a person."""
    if as_json:
        typer.echo(json.dumps(values, sort_keys=True))
    else:
        for line in lines:
            typer.echo(line)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something takes its time; silent elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def fail(error: CohortiumError) -> NoReturn:
    """Print what happened, why, what to do and the code; leave with the class's exit code."""
    if "--json" in sys.argv:
        body = {"code": error.code.value, "sentence": error.sentence, "hint": error.hint}
        typer.echo(json.dumps({"error": body}, sort_keys=True))
    else:
        reason = error.hint.removeprefix(_REASON) if error.hint.startswith(_REASON) else ""
        for name, value in (
            ("What happened", error.sentence),
            ("Why", f"{error.code.meaning} {_sentence(reason)}".rstrip()),
            ("What to do", _CORRECT if reason else error.hint or _CORRECT),
            ("Code", error.code.value),
        ):
            typer.echo(
                textwrap.fill(
                    value,
                    _WIDTH,
                    initial_indent=f"{name:<15}",
                    subsequent_indent=" " * 15,
                    break_long_words=False,
                    break_on_hyphens=False,
                ),
                err=True,
            )
    sys.exit(error.exit_code)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def run_app(app: Callable[..., Any]) -> None:
    """Run a command-line app; the one place where its errors end."""
    try:
        status = app(standalone_mode=False)
    except CohortiumError as error:
        fail(error)
    except click.exceptions.NoArgsIsHelpError as error:  # a group alone: its help is the answer
        typer.echo(error.format_message())
        sys.exit(ConfigError.exit_code)
    except click.ClickException as error:
        command = Path(sys.argv[0]).name
        hint = f"`{command} COMMAND --help` lists what it takes."
        fail(ConfigError(ErrorCode.CONFIG_USAGE, error.format_message(), hint=hint))
    except click.exceptions.Abort:  # Ctrl-C
        sys.exit(130)
    except BrokenPipeError:  # the reader, such as head, has gone
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the process edge of every command
        fail(
            InternalError(
                ErrorCode.INTERNAL_UNEXPECTED,
                "Something went wrong that should not.",
                hint=f"Please report this: {type(error).__name__}",
            )
        )
    sys.exit(status if isinstance(status, int) else 0)
