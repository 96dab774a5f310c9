"""Which profile and which key did the person at the keyboard name?"""

from __future__ import annotations

import importlib.util
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from deid.profile import SHIPPED, Profile, load_profile, shipped_profile
from deid.pseudonym import MIN_SECRET_BYTES
from schemas.errors import ConfigError, ErrorCode

_MAX_KEY_BYTES = 4096  # a key is 32 bytes; a file of another kind named by mistake is larger
MAKE_KEY = "(umask 077; head -c 32 /dev/urandom > FILE)"


def choose_profile(name: str) -> Profile:
    """Give a shipped profile by its name, or the one in a TOML file by its path.

    Raises:
        ConfigError: there is none, or it is not a profile.
    """
    if name in SHIPPED:
        return shipped_profile(name)
    try:
        return load_profile(Path(name))
    except OSError:
        raise ConfigError(
            ErrorCode.CONFIG_FILE_MISSING,
            "There is no such profile.",
            hint=f"Name one of {', '.join(SHIPPED)}, or the path of a profile file.",
        ) from None


@dataclass(frozen=True, slots=True)
class Key:
    """Hold the hospital's secret.

    Attributes:
        secret: its bytes.
        is_exposed: whether other users of this machine may read its file.
    """

    secret: bytes
    is_exposed: bool

    def __repr__(self) -> str:
        return "Key(…)"


def read_key(path: Path) -> Key:
    """Read a key file: at least 32 raw bytes, taken as they are.

    Raises:
        ConfigError: it cannot be read, or is too short or too long to be a key.
    """
    try:
        with path.open("rb") as file:
            secret = file.read(_MAX_KEY_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError:
        raise ConfigError(
            ErrorCode.KEY_MISSING,
            "The key file cannot be read.",
            hint="Check its path and that you may read it: another key gives other pseudonyms. "
            f"If the hospital has none yet: {MAKE_KEY}",
        ) from None
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(
            ErrorCode.DEID_SECRET_INVALID,
            "The de-identification key must have at least 32 bytes.",
            hint="Check that it is the hospital's key file. "
            f"If the hospital has none yet: {MAKE_KEY}",
        )
    if len(secret) > _MAX_KEY_BYTES:
        raise ConfigError(
            ErrorCode.DEID_SECRET_INVALID,
            "The key file is larger than a key.",
            hint="Name the file with the 32 random bytes.",
        )
    return Key(secret, is_exposed=bool(mode & (stat.S_IRWXG | stat.S_IRWXO)))


def text_detection_installed() -> bool:
    """Tell whether the optional extra that finds text in pixels is installed."""
    return all(importlib.util.find_spec(name) for name in ("rapidocr", "onnxruntime"))
