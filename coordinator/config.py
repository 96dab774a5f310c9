"""What did the operator set? One TOML file per home, read once, an unknown key is an error."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import ConfigError, ErrorCode

HOME_VARIABLE: Final = "COHORTIUM_COORDINATOR_HOME"
CONFIG_NAME: Final = "coordinator.toml"
Port = Annotated[int, Field(ge=0, le=65535)]


class CoordinatorConfig(BaseModel):
    """Settings of one coordinator; port 0 lets the system choose, once, and is then kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    public_host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")] = "127.0.0.1"
    api_bind: str = "127.0.0.1"
    api_port: Port = 0
    gateway_bind: str = "127.0.0.1"
    gateway_port: Port = 0
    page_port: Port = 0  # the page listens on loopback only, whatever else is set
    invite_valid_hours: Annotated[int, Field(ge=1, le=24 * 14)] = 72
    restart_after_seconds: Annotated[float, Field(ge=0.1, le=600.0)] = 2.0


@dataclass(frozen=True, slots=True)
class Home:
    """Where everything of one coordinator lies."""

    root: Path

    @property
    def config_file(self) -> Path:
        return self.root / CONFIG_NAME

    @property
    def database(self) -> Path:
        return self.root / "coordinator.db"

    @property
    def authority(self) -> Path:
        """Folder of the certificate authority and the server certificates (0700)."""
        return self.root / "authority"

    @property
    def superlink(self) -> Path:
        """Folder of the SuperLink's loopback certificate, secret and bundle."""
        return self.root / "superlink"

    @property
    def run(self) -> Path:
        """Folder of what only holds while serving: ports, process numbers, logs."""
        return self.root / "run"

    @property
    def ports_file(self) -> Path:
        return self.run / "ports.json"

    @property
    def pids_file(self) -> Path:
        return self.run / "pids.json"


def find_home(given: Path | None) -> Home:
    """Return the home of ``--home``, else of the environment variable.

    Raises:
        ConfigError: neither names one.
    """
    if given is not None:
        return Home(given.resolve())
    named = os.environ.get(HOME_VARIABLE)
    if not named:
        raise ConfigError(
            ErrorCode.CONFIG_MISSING,
            "No coordinator home was named.",
            hint=f"Give --home DIR or set {HOME_VARIABLE}.",
        )
    return Home(Path(named).resolve())


def load(home: Home) -> CoordinatorConfig:
    """Read the home's configuration.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown (the nearest known key is
            named), or a value is out of its range.
    """
    try:
        values = tomllib.loads(home.config_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            ErrorCode.CONFIG_MISSING,
            "This folder is not a coordinator home.",
            hint="Run: cohortium-coordinator init --home DIR --name NAME",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            ErrorCode.CONFIG_INVALID, f"{CONFIG_NAME} is not TOML.", detail=str(error)
        ) from None
    known = list(CoordinatorConfig.model_fields)
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ConfigError(
                ErrorCode.CONFIG_UNKNOWN_KEY,
                f"{CONFIG_NAME} has an unknown key.",
                hint=f"Is {near} meant? Unknown: {key}",
            )
    try:
        return CoordinatorConfig.model_validate(values)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        raise ConfigError(
            ErrorCode.CONFIG_INVALID,
            f"{CONFIG_NAME} has a value out of its range.",
            hint=f"Look at: {where}",
        ) from None


def write_initial(home: Home, name: str, public_host: str) -> None:
    """Write the first configuration file with every default spelled out.

    Raises:
        ConfigError: the name or host is not usable.
    """
    try:
        defaults = CoordinatorConfig(name=name, public_host=public_host)
    except ValidationError:
        raise ConfigError(
            ErrorCode.CONFIG_INVALID,
            "The coordinator's name or host is not usable.",
            hint="A name has 1 to 80 characters; a host is a DNS name or an address.",
        ) from None
    lines = ["# Settings of this coordinator. Port 0: chosen by the system at the first start."]
    for key, value in defaults.model_dump().items():
        # A JSON string of printable text is a TOML basic string too.
        lines.append(f"{key} = {json.dumps(value)}")
    home.config_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
