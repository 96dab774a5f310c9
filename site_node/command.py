"""What do the commands share? The folder and the screen of this run, and how to open the site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import ConfigError, ErrorCode
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


def grouped(fingerprint: str) -> str:
    """Write a fingerprint in groups that can be read out."""
    return " ".join(fingerprint[i : i + 8] for i in range(0, len(fingerprint), 8))
