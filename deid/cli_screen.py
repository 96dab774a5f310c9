"""What does the person at the keyboard read? Plain words, 80 columns, no colours needed.

Results go to standard output, progress and warnings to standard error: a bar on a terminal, a line
now and then elsewhere, nothing with ``--json``.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import click
import typer
from typer.core import TyperCommand, TyperGroup

from schemas.errors import CohortiumError

WIDTH: Final = 80
_QUIET_SECONDS: Final = 30.0  # between two plain lines of progress
Say = Callable[[int, str], None]
"""Called with (files done, a few words about them)."""


@dataclass(slots=True)
class Screen:
    """One command's output; with ``as_json`` standard output is one JSON document."""

    as_json: bool = False

    def title(self, text: str) -> None:
        """Begin a section."""
        self._print(f"\n{text}")

    def line(self, text: str, indent: int = 0, hanging: int = 0) -> None:
        """Print a paragraph, wrapped; its second line stands `hanging` further in."""
        margin = " " * indent
        self._print(
            textwrap.fill(
                text,
                WIDTH,
                initial_indent=margin,
                subsequent_indent=margin + " " * hanging,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )

    def exact(self, text: str) -> None:
        """Print a line as it is: a path, a command. What no terminal can show is escaped."""
        self._print(text)

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Print names and values in two columns; values are paths or short, and not wrapped."""
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            self._print(f"  {name:<{width}}  {value}")

    def warn(self, text: str) -> None:
        """Say on standard error what should be looked at."""
        lines = textwrap.fill(f"Warning: {text}", WIDTH, break_on_hyphens=False)
        print(lines, file=sys.stderr)

    def document(self, body: object) -> None:
        """Print the JSON document, if that was asked for."""
        if self.as_json:
            typer.echo(json.dumps(body, ensure_ascii=False, indent=1))

    def error(self, error: CohortiumError) -> None:
        """Print what happened, what to do and the code."""
        if self.as_json:
            problem: dict[str, Any] = {
                "code": error.code.value,
                "sentence": error.sentence,
                "hint": error.hint,
                "exit_code": error.exit_code,
            }
            typer.echo(json.dumps({"error": problem}, ensure_ascii=False))
            return
        sys.stdout.flush()
        pairs = (
            ("What happened", error.sentence),
            ("What to do", error.hint or "Run the command with --help."),
            ("Code", error.code.value + (f" ({error.detail})" if error.detail else "")),
        )
        for name, value in pairs:
            head = f"{name:<15}"
            text = textwrap.fill(
                value,
                WIDTH,
                initial_indent=head,
                subsequent_indent=" " * len(head),
                break_long_words=False,
                break_on_hyphens=False,
            )
            print(text, file=sys.stderr)

    @contextmanager
    def progress(self, what: str, count: Callable[[], int] | None = None) -> Iterator[Say]:
        """Show how far long work is.

        Args:
            what: one word for what is done.
            count: counts all files, in the background of a terminal's bar.
        """
        if self.as_json:
            yield lambda _done, _words: None
        elif sys.stderr.isatty():
            with _bar(what, count) as say:
                yield say
        else:
            yield _lines(what)

    def _print(self, text: str) -> None:
        if not self.as_json:
            # A file name need not be UTF-8, and a line feed in it must not look like ours.
            shown = text.encode("utf-8", "backslashreplace").decode("utf-8")
            typer.echo(shown)


def said_once(text: str) -> str:
    """Give a message of the argument parser without a proposal that is made twice."""
    return re.sub(r"( Did you mean [^?]*\?)(?:\1)+", r"\1", text)


class PlainCommand(TyperCommand):
    """Show a command's help as it is written, without marks for a page of another format."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help."""
        super().format_help(ctx, formatter)
        formatter.buffer[:] = [part.replace("\\[", "[") for part in formatter.buffer]


class PlainGroup(TyperGroup):
    """List commands with the whole first sentence of each."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        rows = [(name, command.get_short_help_str(limit=200))
                for name in self.list_commands(ctx)
                if (command := self.get_command(ctx, name)) is not None]  # fmt: skip
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def quoted(path: object) -> str:
    """Give a path for the screen: control characters escaped, Hangul as it is."""
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else repr(c)[1:-1]
                   for c in str(path))  # fmt: skip


def _lines(what: str) -> Say:
    started = spoken = time.monotonic()

    def say(done: int, words: str) -> None:
        nonlocal spoken
        now = time.monotonic()
        if now - spoken >= _QUIET_SECONDS:
            spoken = now
            speed = done / (now - started)
            print(f"{what}: {done:,} files, {words}, {speed:.1f} a second", file=sys.stderr)

    return say


@contextmanager
def _bar(what: str, count: Callable[[], int] | None) -> Iterator[Say]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (
        "{task.description}",
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        "{task.fields[words]}",
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, words="")
        if count is not None:
            threading.Thread(
                target=lambda: progress.update(task, total=count()), daemon=True
            ).start()
        yield lambda done, words: progress.update(task, completed=done, words=words)
