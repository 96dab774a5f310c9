"""What do the commands share? The folder and the screen of this run, and how to open the site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from schemas.errors import CohortiumError, ConfigError, ErrorCode
from site_node.screen import Screen

if TYPE_CHECKING:
    from site_node.context import SiteContext


class State:
    """What the options before the command said; set once per run of ``main``."""

    home: Path | None = None
    screen = Screen()


def home() -> Path:
    """Give the folder this run is about."""
    from site_node.config import resolve_home

    return resolve_home(State.home)


def site_here() -> SiteContext:
    """Open the site of this run."""
    from site_node.context import open_site

    return open_site(home())


def read_file(path: Path) -> bytes:
    """Read a file named on the command line.

    Raises:
        ConfigError: CONFIG_FILE_MISSING.
    """
    try:
        return path.read_bytes()
    except OSError:
        raise ConfigError(
            ErrorCode.CONFIG_FILE_MISSING,
            "The file you named cannot be read.",
            hint="Check the path and your rights.",
            detail=str(path),
        ) from None


def write_file(path: Path, raw: bytes, *, mode: int = 0o600) -> None:
    """Write a file named on the command line, whole or not at all.

    Raises:
        ConfigError: CONFIG_FILE_UNWRITABLE.
    """
    from site_node.config import write_atomically

    try:
        write_atomically(path.absolute(), raw, mode=mode)
    except OSError as error:
        raise ConfigError(
            ErrorCode.CONFIG_FILE_UNWRITABLE,
            "The file you named cannot be written.",
            hint="Name a file, not a folder, where you may write.",
            detail=f"{path}: {error.strerror}",
        ) from None


def end_with(problem: CohortiumError | None) -> None:
    """End the command with a problem's exit code, after what it printed; go on without one."""
    if problem is not None:
        State.screen.finish()
        raise typer.Exit(problem.exit_code)


def grouped(fingerprint: str) -> str:
    """Write a fingerprint in groups that can be read out."""
    return " ".join(fingerprint[i : i + 8] for i in range(0, len(fingerprint), 8))
