"""Which commands does the operator of a coordinator have?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.client.console import run_app, say
from schemas.errors import ConfigError, ErrorCode

if TYPE_CHECKING:
    from coordinator.config import Home
    from coordinator.db import Database

app = typer.Typer(
    help="Run a coordinator: invite hospitals, pass rounds on, show a read-only page.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
HomeOption = Annotated[
    Path | None, typer.Option("--home", help="The coordinator's folder.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Where the file goes.", show_default=False)
]


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The consortium's name, as hospitals see it.")],
    home: HomeOption = None,
    public_host: Annotated[
        str, typer.Option(help="The name or address under which hospitals reach this machine.")
    ] = "127.0.0.1",
    as_json: JsonOption = False,
) -> None:
    """Make a coordinator: its folder, certificate authority and database."""
    from coordinator.clock import system_clock
    from coordinator.config import CONFIG_NAME, find_home, load, write_initial
    from coordinator.db import Database, Event
    from coordinator.pki import make_authority

    found = find_home(home)
    if found.config_file.exists():
        raise ConfigError(
            ErrorCode.CONFIG_HOME_EXISTS, "This folder is a coordinator's home already."
        )
    found.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    found.root.chmod(0o700)
    write_initial(found, name, public_host)
    load(found)
    authority = make_authority(found.authority, name=name, now=system_clock())
    with Database(found.database).write(Event("coordinator.created")):
        pass
    say(
        as_json,
        {
            "home": str(found.root),
            "ca_sha256": authority.ca_sha256(),
            "event": "coordinator.created",
        },
        f"Made {found.root / CONFIG_NAME}, a certificate authority and a database.",
        f"Authority fingerprint: {authority.ca_sha256()}",
        "Event: coordinator.created",
        "Next:  cohortium-coordinator serve",
    )


@app.command()
def invite(
    site: Annotated[str, typer.Argument(help="The hospital's short name, such as site-1.")],
    out: OutOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a single-use invite file for one hospital."""
    from coordinator.config import load
    from coordinator.enrolment import Enrolment
    from coordinator.files import authority_of, write_private

    found = _home(home)
    config = load(found)
    authority = authority_of(found, config)
    made = Enrolment(_database(found)).invite(
        site, authority, valid_hours=config.invite_valid_hours
    )
    path = out or Path(f"{site}.invite")
    write_private(path, made.canonical().decode("utf-8"))
    say(
        as_json,
        {"site_id": site, "file": str(path), "expires": made.expires, "event": "site.invited"},
        f"Wrote {path}; hand it to {site} by a way you trust. It works once, until {made.expires}.",
        "Event: site.invited",
        f"Next:  cohortium-site enrol --invite {path.name}",
    )


@app.command()
def grant(
    holder: Annotated[str, typer.Argument(help="Whose access this is.")],
    role: Annotated[str, typer.Option(help="vendor (may send studies) or researcher.")] = "vendor",
    out: OutOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an access file for a vendor or researcher."""
    import json

    from coordinator.config import load
    from coordinator.enrolment import Enrolment, Role
    from coordinator.files import authority_of, write_private

    if role != "vendor" and role != "researcher":
        raise ConfigError(
            ErrorCode.CONFIG_USAGE, "A role is vendor or researcher.", hint="--role researcher"
        )
    allowed: Role = "vendor" if role == "vendor" else "researcher"
    found = _home(home)
    authority = authority_of(found, load(found))
    token = Enrolment(_database(found)).grant(holder, allowed)
    path = out or Path(f"{holder}.access")
    access = {
        "version": 1,
        "coordinator": authority.name,
        "api_url": authority.api_url,
        "ca_pem": authority.ca_pem,
        "token": token,
        "holder": holder,
        "role": role,
    }
    write_private(path, json.dumps(access, indent=1, sort_keys=True))
    say(
        as_json,
        {"holder": holder, "role": role, "file": str(path), "event": "access.granted"},
        f"Wrote {path} for {holder} ({role}). It holds a secret; hand it over accordingly.",
        "Event: access.granted",
        f"Next:  cohortium init --access {path.name}",
    )


@app.command()
def serve(
    home: HomeOption = None,
    tap: Annotated[
        Path | None,
        typer.Option(
            help="Test beds only: also write every body the gateway takes in to this file.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run everything until Ctrl-C: SuperLink, gateway, API, page and runner."""
    from coordinator.config import load
    from coordinator.logs import configure
    from coordinator.service import Service

    found = _home(home)
    config = load(found)
    configure()

    def announce(ports: dict[str, int]) -> None:
        say(
            as_json,
            {"ready": True, "ports": ports},
            f"{config.name} is ready.",
            f"  hospitals enrol at  https://{config.public_host}:{ports['api']}",
            f"  their nodes talk to https://{config.public_host}:{ports['gateway']}",
            f"  page (this machine) http://127.0.0.1:{ports['page']}",
        )

    Service(found, config, announce, tap=str(tap.resolve()) if tap else "").run()


@app.command()
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say what runs, who is enrolled and where each study stands."""
    from coordinator.files import read_json
    from coordinator.overview import Overview
    from coordinator.service import read_health

    found = _home(home)
    health = read_health(found)
    overview = Overview(_database(found))
    hospitals, studies = overview.hospitals(), overview.studies()
    ports = read_json(found.ports_file) or {}
    lines = [f"Serving: {'yes' if health['ready'] else 'no'}"]
    if health["ready"]:
        lines.append(f"Page:    http://127.0.0.1:{ports['page']}")
    lines.append(f"Sites:   {len(hospitals)}")
    lines += [f"  {item.site_id:<16} {item.words}  {item.name}" for item in hospitals]
    lines.append(f"Studies: {len(studies)}")
    lines += [
        f"  {item.study_id:<16} {item.state_words}, step {item.steps_done} of {item.steps}"
        + (f" ({item.reason})" if item.reason else "")
        for item in studies
    ]
    say(
        as_json,
        {
            **health,
            "ports": ports,
            "sites": [item.model_dump(mode="json") for item in hospitals],
            "studies": [
                {
                    "study_id": item.study_id,
                    "state": item.state.value,
                    "steps_done": item.steps_done,
                }
                for item in studies
            ],
        },
        *lines,
    )


@app.command()
def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check keys, disk, clock, audit trail and Flower's switches; say how to mend what is wrong."""
    from coordinator.doctor import examine

    findings = examine(_home(home))
    say(
        as_json,
        {"findings": [finding.as_dict() for finding in findings]},
        *(finding.line() for finding in findings),
    )
    if any(finding.colour == "red" for finding in findings):
        raise typer.Exit(ConfigError.exit_code)


def main() -> None:
    """Run the command line."""
    run_app(app)


def _home(given: Path | None) -> Home:
    from coordinator.config import find_home, load

    found = find_home(given)
    load(found)
    return found


def _database(home: Home) -> Database:
    from coordinator.db import Database

    return Database(home.database)
