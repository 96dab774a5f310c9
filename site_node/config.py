"""How is this site set up? One TOML file, read once, every key known."""

from __future__ import annotations

import difflib
import os
import tempfile
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from schemas.errors import ConfigError, ErrorCode
from schemas.ids import HexBytes32, Name, SiteId
from site_node.floors import Floors

HOME_VARIABLE = "COHORTIUM_SITE_HOME"
CONFIG_NAME = "site.toml"
# What a person reads instead of the pattern that was not met.
_WANTED = {"site_id": "use lower-case words and digits joined by hyphens, such as site-1"}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class ServiceSettings(_Section):
    """Times and sizes of the running node; none of them is policy."""

    pull_seconds: float = Field(default=2.0, ge=0.05, le=600)
    restart_seconds: float = Field(default=2.0, ge=0.1, le=600)
    task_deadline_seconds: float = Field(default=120.0, ge=1, le=3600)
    stop_grace_seconds: float = Field(default=10.0, ge=1, le=120)
    health_seconds: float = Field(default=2.0, ge=0.1, le=60)
    # answers of a study leave at multiples of it: see `site_node.pace`
    answer_quantum_seconds: float = Field(default=0.05, ge=0.01, le=10)


class LedgerSettings(_Section):
    """Where the ledger's witness lies; best on another disk than the site's folder."""

    witness: str = ""  # an absolute path; empty: witness/ledger.witness in the site's folder

    @field_validator("witness")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if value and not Path(value).is_absolute():
            raise ValueError("the witness's path must be absolute")
        return value


class DebugSettings(_Section):
    """Taps that write what leaves in clear; empty in every hospital."""

    unsafe_plaintext_tap: str = ""


class SiteConfig(_Section):
    """The whole of ``site.toml``; secrets never stand in it, only in ``keys/``."""

    version: int = Field(default=1, ge=1, le=1)
    site_id: SiteId
    name: Name
    known_vendors: tuple[HexBytes32, ...] = ()
    known_bundles: tuple[HexBytes32, ...] = ()
    floors: Floors = Floors()
    service: ServiceSettings = ServiceSettings()
    ledger: LedgerSettings = LedgerSettings()
    debug: DebugSettings = DebugSettings()

    @field_validator("known_vendors", "known_bundles", mode="before")
    @classmethod
    def _from_toml_array(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


def resolve_home(home: Path | None) -> Path:
    """Choose the site's folder: the argument, else the environment variable.

    Raises:
        ConfigError: neither is given.
    """
    if home is not None:
        return home.resolve()
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named).resolve()
    raise ConfigError(
        ErrorCode.CONFIG_HOME_MISSING,
        "No site folder was named.",
        hint=f"Give --home DIR or set {HOME_VARIABLE}.",
    )


def load_config(home: Path) -> SiteConfig:
    """Read ``home/site.toml`` into a frozen value.

    Args:
        home: the site's folder.

    Raises:
        ConfigError: no file, not TOML, an unknown key (with the nearest name), a bad value,
            or a floor looser than the product's own.
    """
    path = home / CONFIG_NAME
    try:
        raw = path.read_bytes()
    except OSError:
        raise ConfigError(
            ErrorCode.CONFIG_HOME_MISSING,
            "This folder holds no site node.",
            hint="Run `cohortium-site init --home DIR` first, or name the right folder.",
            detail=str(path),
        ) from None
    return parse_config(raw)


def parse_config(raw: bytes) -> SiteConfig:
    """Turn the bytes of a ``site.toml`` into a frozen value; see ``load_config``."""
    try:
        values = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            ErrorCode.CONFIG_INVALID,
            "site.toml is not valid TOML.",
            hint="Correct the line named in the detail.",
            detail=str(error),
        ) from None
    _refuse_unknown(values, SiteConfig, "")
    try:
        return SiteConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = _WANTED.get(where, first["msg"])
        raise ConfigError(
            ErrorCode.CONFIG_INVALID,
            f"site.toml: {where or 'the file'} is not acceptable: {reason}.",
            hint="Correct the value; a floor can only be stricter than the product's own.",
        ) from None


def _refuse_unknown(values: dict[str, object], section: type[BaseModel], prefix: str) -> None:
    for key, value in values.items():
        field = section.model_fields.get(key)
        if field is None:
            nearest = difflib.get_close_matches(key, section.model_fields, n=1, cutoff=0.0)
            raise ConfigError(
                ErrorCode.CONFIG_UNKNOWN_KEY,
                f"site.toml has an unknown key: {prefix}{key}.",
                hint=f"The nearest known key is {prefix}{nearest[0]}." if nearest else "",
            )
        inner = field.annotation
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
            _refuse_unknown(value, inner, f"{prefix}{key}.")


def render_config(config: SiteConfig) -> str:
    """Write the effective configuration as TOML, every default included."""
    lines = ["# Site node of one hospital. An unknown key is an error. Secrets live in keys/."]
    tables: list[str] = []
    for key, value in config.model_dump().items():
        if isinstance(value, dict):
            tables += ["", f"[{key}]", *(f"{k} = {_literal(v)}" for k, v in value.items())]
        else:
            lines.append(f"{key} = {_literal(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ConfigError(
            ErrorCode.CONFIG_INVALID,
            "A name may not hold control characters.",
            hint="Use letters, digits and spaces.",
        )
    return f'"{text}"'


def write_atomically(path: Path, raw: bytes, *, mode: int = 0o600, is_forced: bool = True) -> None:
    """Replace a file so that a reader or a crash sees the old bytes or the new, never half.

    Args:
        path: the file.
        raw: its new content.
        mode: its permissions.
        is_forced: wait until the disk has it; without, a power cut may bring the old one back.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(raw)
            handle.flush()
            if is_forced:
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if not is_forced:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
