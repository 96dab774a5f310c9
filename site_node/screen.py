"""How does the command line speak? Plain aligned lines, rich tables on a terminal, or JSON."""

from __future__ import annotations

import json
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import CohortiumError

if TYPE_CHECKING:
    from rich.console import Console

    from site_node.governance.audit import Recording

_WIDTH: Final = 96
_LONG_WORK: Final = 500  # records; shorter work ends before a line of progress is read
_STYLES: Final = {"green": "green", "amber": "yellow", "red": "bold red"}


@dataclass(slots=True)
class Screen:
    """One command's output; with ``as_json`` nothing but one JSON document is printed."""

    as_json: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    _console: Console | None = None

    @property
    def is_rich(self) -> bool:
        """Say whether a person sits in front of a terminal."""
        return not self.as_json and sys.stdout.isatty()

    def _rich(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(highlight=False)
        return self._console

    def put(self, **values: Any) -> None:
        """Add machine-readable values."""
        self.values.update(values)

    def title(self, text: str) -> None:
        """Begin a section."""
        if self.is_rich:
            self._rich().print(f"\n[bold]{_escaped(text)}[/bold]")
        else:
            self._print(f"\n{text}")

    def line(self, text: str = "", *, style: str = "") -> None:
        """Print one paragraph, wrapped."""
        if self.is_rich:
            self._rich().print(_escaped(text), style=_STYLES.get(style, style))
            return
        wrapped = textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        self._print(wrapped)

    def exact(self, text: str) -> None:
        """Print a line that must not be wrapped: a hash, a command."""
        if self.is_rich:
            self._rich().print(_escaped(text), soft_wrap=True)
        else:
            self._print(text)

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Print names and values in two columns."""
        if self.is_rich:
            from rich.table import Table

            grid = Table.grid(padding=(0, 2))
            grid.add_column(style="dim", no_wrap=True)
            grid.add_column(overflow="fold")
            for name, value in pairs:
                grid.add_row(f"  {name}", _escaped(value))
            self._rich().print(grid)
            return
        width = max((len(name) for name, _ in pairs), default=0) + 2
        for name, value in pairs:
            head = f"  {name:<{width}}"
            room = max(40, _WIDTH - len(head))
            wrapped = textwrap.wrap(value, room, break_long_words=False, break_on_hyphens=False)
            self._print(("\n" + " " * len(head)).join([head + "".join(wrapped[:1]), *wrapped[1:]]))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; right-aligned where every cell of a column is a number."""
        numeric = [
            bool(rows) and all(row[i].replace(",", "").replace(".", "").isdigit() for row in rows)
            for i in range(len(columns))
        ]
        if self.is_rich:
            from rich.table import Table

            table = Table(box=None, pad_edge=True, header_style="bold")
            for name, right in zip(columns, numeric, strict=True):
                table.add_column(name, justify="right" if right else "left", overflow="fold")
            for row in rows:
                table.add_row(*(_escaped(cell) for cell in row))
            self._rich().print(table)
            return
        widths = [
            max(_columns_of(name), *(_columns_of(row[i]) for row in rows)) if rows else len(name)
            for i, name in enumerate(columns)
        ]
        for row in (columns, *rows):
            cells = [
                " " * (width - _columns_of(cell)) + cell
                if right
                else cell + " " * (width - _columns_of(cell))
                for cell, width, right in zip(row, widths, numeric, strict=True)
            ]
            self._print(("  " + "  ".join(cells)).rstrip())

    def light(self, colour: str, name: str, text: str) -> None:
        """Print one line of a check: green, amber or red."""
        if self.is_rich:
            style = _STYLES[colour]
            self._rich().print(
                f"  [{style}]{colour:<5}[/{style}]  {name:<22}  {_escaped(text)}", soft_wrap=True
            )
        else:
            head = f"  {colour:<5}  {name:<22}  "
            self._print(
                textwrap.fill(
                    text,
                    _WIDTH,
                    initial_indent=head,
                    subsequent_indent=" " * len(head),
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show how far long work is: a bar on a terminal, a line every tenth elsewhere.

        Yields:
            A function to call with (done, of all; 0 if unknown).
        """
        if self.as_json:
            yield lambda _done, _total: None
            return
        if not self.is_rich:
            shown = -1

            def say(done: int, total: int) -> None:
                nonlocal shown
                tenth = 10 * done // total if total else -1
                if tenth > shown and total >= _LONG_WORK:
                    shown = tenth
                    self._print(f"{what}: {done:,} of {total:,}")

            yield say
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._rich(), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total or None)

    def event(self, recording: Recording) -> None:
        """Print the audit event a change wrote."""
        event = recording.event
        self.put(audit_event={"index": event.index, "event": event.event, "time": event.time})
        self.line(f"Written to the audit log: #{event.index} {event.event} {event.time}")

    def error(self, error: CohortiumError) -> None:
        """Print what happened, why, what to do and the code."""
        if self.as_json:
            problem = {
                "code": error.code.value,
                "sentence": error.sentence,
                "meaning": error.code.meaning,
                "hint": error.hint,
                "class": type(error).__name__,
                "exit_code": error.exit_code,
            }
            if error.detail:
                problem["detail"] = error.detail
            print(json.dumps({"error": problem}, ensure_ascii=False, sort_keys=True))
            return
        sys.stdout.flush()  # what was printed before comes before, also where both go to one file
        pairs = [
            ("What happened", error.sentence),
            ("Why", error.code.meaning + (f" ({error.detail})" if error.detail else "")),
            ("What to do", error.hint or "Run `cohortium-site doctor`."),
            ("Code", error.code.value),
        ]
        for name, value in pairs:
            head = f"{name:<15}"
            print(
                textwrap.fill(
                    value,
                    _WIDTH,
                    initial_indent=head,
                    subsequent_indent=" " * len(head),
                    break_long_words=False,
                    break_on_hyphens=False,
                ),
                file=sys.stderr,
            )

    def finish(self) -> None:
        """Print the JSON document, if that was asked for."""
        if self.as_json:
            print(json.dumps(self.values, ensure_ascii=False, sort_keys=True, indent=2))

    def _print(self, text: str) -> None:
        if not self.as_json:
            print(text)


def amount(n_bytes: int) -> str:
    """Write a number of bytes as people read it."""
    value = float(n_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{n_bytes:,} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _columns_of(text: str) -> int:
    """Count terminal columns; Hangul takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
