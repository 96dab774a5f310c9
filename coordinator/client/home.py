"""What does a vendor or researcher keep on their own machine? An access file and a signing key."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from schemas.errors import ConfigError, ErrorCode

HOME_VARIABLE: Final = "COHORTIUM_HOME"
_ACCESS_KEYS: Final = frozenset(
    {"version", "coordinator", "api_url", "ca_pem", "token", "holder", "role"}
)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the coordinator is, how it proves itself, and the token to show."""

    coordinator: str
    api_url: str
    ca_pem: str
    token: str
    holder: str
    role: str


@dataclass(frozen=True, slots=True)
class ClientHome:
    """One person's folder."""

    root: Path

    @property
    def access_file(self) -> Path:
        return self.root / "access.json"

    @property
    def key_file(self) -> Path:
        """The vendor's Ed25519 key that signs plans (0600)."""
        return self.root / "vendor.key"

    def access(self) -> Access:
        """Read the access file.

        Raises:
            ConfigError: there is none yet, or it is not one.
        """
        try:
            raw = self.access_file.read_bytes()
        except FileNotFoundError:
            raise ConfigError(
                ErrorCode.CONFIG_HOME_MISSING,
                "This folder holds no access to a coordinator yet.",
                hint="Run: cohortium init --access FILE (the operator makes it with grant).",
            ) from None
        return parse_access(raw)

    def key(self) -> Ed25519PrivateKey:
        """Read the signing key.

        Raises:
            ConfigError: it is missing, readable by others, or not an Ed25519 key.
        """
        try:
            if self.key_file.stat().st_mode & 0o077:
                raise ConfigError(
                    ErrorCode.KEY_PERMISSIONS,
                    "The vendor's key can be read by other users.",
                    hint=f"Run: chmod 600 {self.key_file}",
                )
            key = load_pem_private_key(self.key_file.read_bytes(), password=None)
        except FileNotFoundError:
            raise ConfigError(
                ErrorCode.KEY_MISSING,
                "This folder holds no vendor key.",
                hint="Run: cohortium init --access FILE",
            ) from None
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(ErrorCode.KEY_INVALID, "The vendor's key is not an Ed25519 key.")
        return key


def find_home(given: Path | None) -> ClientHome:
    """Return the folder of ``--home``, of the environment, or ``~/.cohortium``."""
    named = os.environ.get(HOME_VARIABLE)
    if given is not None:
        return ClientHome(given.resolve())
    return ClientHome(Path(named).resolve() if named else Path.home() / ".cohortium")


def create(home: ClientHome, access_raw: bytes) -> Access:
    """Make the folder with its key, and keep the access file; a key once made stays."""
    access = parse_access(access_raw)
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(home.access_file, access_raw)
    if not home.key_file.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        write_private(home.key_file, pem)
    return access


def parse_access(raw: bytes) -> Access:
    """Read an access file.

    Raises:
        ConfigError: it is not the file that ``cohortium-coordinator grant`` writes.
    """
    try:
        values: Any = json.loads(raw)
    except ValueError:
        values = None
    if (
        not isinstance(values, dict)
        or set(values) != _ACCESS_KEYS
        or values["version"] != 1
        or not all(isinstance(values[key], str) for key in _ACCESS_KEYS - {"version"})
        or not values["api_url"].startswith("https://")
    ):
        raise ConfigError(
            ErrorCode.CONFIG_INVALID,
            "This is not an access file.",
            hint="Use the file that cohortium-coordinator grant wrote.",
        )
    return Access(**{key: values[key] for key in _ACCESS_KEYS - {"version"}})


def write_private(path: Path, raw: bytes) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(raw)
