"""What can hospital IT and the data steward do from the command line?

Every command takes ``--home DIR`` and ``--json`` anywhere on the line. The exit code tells the
class of an error. Heavy modules are loaded inside the command that needs them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import typer.core

from schemas.errors import CohortiumError, ConfigError, ErrorCode, InternalError
from site_node.cli_ledger import ledger_app
from site_node.cli_membership import membership
from site_node.cli_peers import card_app, peers_app
from site_node.cli_plan import plan_app
from site_node.command import State, grouped, home, read_file, site_here
from site_node.screen import Screen

_HELP = "The site node of one hospital. Every command takes --home DIR and --json."
typer.core.HAS_RICH = False  # plain help: rich's escapes, as in \[required], would be printed
app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
audit_app = typer.Typer(help="The signed log of everything that happened.", no_args_is_help=True)
config_app = typer.Typer(help="site.toml.", no_args_is_help=True)
app.add_typer(card_app, name="card")
app.add_typer(peers_app, name="peers")
app.add_typer(plan_app, name="plan")
app.add_typer(ledger_app, name="ledger")
app.add_typer(audit_app, name="audit")
app.add_typer(config_app, name="config")
app.command()(membership)


@app.callback()
def _options(
    home: Annotated[Path | None, typer.Option(help="The site's folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document, nothing else.")] = False,
) -> None:
    State.home = home
    State.screen = Screen(as_json=json)


# --- site ------------------------------------------------------------------------------------


@app.command()
def init(
    site_id: Annotated[str, typer.Option(help="Short name: lower-case words with hyphens.")],
    name: Annotated[str, typer.Option(help="Full name of the hospital.")],
) -> None:
    """Make keys, configuration and database of a new site."""
    from site_node.context import create_site
    from site_node.enrol import own_card

    screen = State.screen
    site = create_site(home(), site_id, name)
    own_card(site)
    screen.title(f"Site {site_id} ({name}) was created in {site.home}")
    screen.facts(
        [
            ("site.toml", "settings and floors; floors can only make plans stricter"),
            ("keys/", "eight secrets, one file each, readable by this user only: back them up"),
            ("state/site.db", "audit log, privacy ledger, journal, manifest"),
            ("witness/", "what the ledger must be; best on another disk: [ledger] in site.toml"),
        ]
    )
    rows = site.audit.rows(last=1)
    screen.put(site_id=site_id, name=name, home=str(site.home))
    screen.line(f"Written to the audit log: #{rows[0].event.index} {rows[0].event.event}")
    screen.title("Next")
    screen.exact("  cohortium-site card export --output CARD.json   give it to the other hospitals")
    screen.exact("  cohortium-site enrol --invite FILE              the file the operator gave you")


@app.command()
def enrol(
    invite: Annotated[Path, typer.Option(help="The invite file from the operator.")],
) -> None:
    """Get this site's certificate for a single-use invite."""
    from site_node.enrol import enrol as run_enrol

    screen, site = State.screen, site_here()
    record, recording = run_enrol(site, read_file(invite))
    screen.title(f"Enrolled with {record.coordinator_name}")
    screen.facts(
        [
            ("Gateway", f"{record.gateway_url} (the only address this site will connect to)"),
            ("Its authority", grouped(record.ca_sha256)),
        ]
    )
    screen.put(coordinator=record.coordinator_name, gateway_url=record.gateway_url)
    screen.event(recording)


@app.command()
def ingest(
    study: Annotated[str, typer.Argument(help="The study whose plan says what is needed.")],
    source: Annotated[Path, typer.Option(help="Folder with the raw extract.")],
) -> None:
    """De-identify an extract, check it against the study's contract, store it encrypted."""
    from site_node.governance.checks import check_own_delta
    from site_node.ingest import ingest as run_ingest
    from site_node.ingest import profile_for
    from site_node.report import keep_report, show_report

    screen, site = State.screen, site_here()
    # An approved plan says what is needed, whatever else came in under the same name.
    plan = (*site.approvals.in_force(study)[-1:], site.inbox.find(study))[0].plan
    if profile_for(plan.data).digest != plan.deid_profile_sha256:
        raise ConfigError(
            ErrorCode.PLAN_DEID_PROFILE_MISMATCH,
            "The plan names another de-identification profile than the one used here.",
            hint="Compare versions of the site node with the vendor.",
        )

    def accept(patients: int) -> None:
        # Every plan in force under this name trains on these rows, not only the one that says
        # what they are. Asked when the extract was read: one may have been approved meanwhile.
        plans = {plan.digest(): plan}
        plans |= {each.digest: each.plan for each in site.approvals.in_force(plan.study_id)}
        for each in plans.values():
            check_own_delta(each, patients)

    with screen.progress("Records") as progress:
        report = run_ingest(
            source,
            study_id=plan.study_id,
            data=plan.data,
            secret=site.keys.pseudonym_secret,
            store=site.store,
            quarantine=site.folders.quarantine,
            progress=progress,
            accept=accept,
        )
    recording = keep_report(site, report)
    show_report(screen, report)
    screen.event(recording)
    if not report.accepted:
        from schemas.errors import DataRejected

        raise DataRejected(
            ErrorCode.SOURCE_EMPTY,
            "No record of the extract could be stored; what was stored before is unchanged.",
            hint="Correct the extract by the reasons above and ingest it again.",
        )


@app.command()
def stop(
    study: Annotated[str, typer.Argument(help="Study name, or the beginning of a plan's hash.")],
    reason: Annotated[str, typer.Option(help="A code, for example steward.decision.")] = (
        "steward.decision"
    ),
) -> None:
    """Stop a study here at once and for good; works without the coordinator."""
    from site_node.report import show_stop

    screen, site = State.screen, site_here()
    for received in site.approvals.in_force(study) or (site.inbox.find(study),):
        report = site.approvals.stop(received.digest, reason)
        show_stop(screen, received.plan, report)
        screen.event(report.recording)


@app.command()
def serve() -> None:
    """Run the site node in the foreground: gateway, SuperNode, executor."""
    site = site_here()
    from site_node.service import serve as run_service

    run_service(site)


@app.command()
def doctor() -> None:
    """Check this machine and site: green, amber or red, and what to do about each."""
    from site_node.doctor import Colour, examine, show_findings

    findings = examine(home())
    show_findings(State.screen, findings)
    if any(finding.colour is Colour.RED for finding in findings):
        State.screen.finish()
        raise typer.Exit(ConfigError.exit_code)


@app.command()
def status() -> None:
    """Show what runs, what waits, and what has left."""
    from site_node.report import show_status

    show_status(State.screen, site_here())


# --- audit, configuration --------------------------------------------------------------------


@audit_app.command("show")
def audit_show(
    last: Annotated[int, typer.Option(min=1, help="How many of the newest events.")] = 20,
) -> None:
    """Show the newest events."""
    screen, site = State.screen, site_here()
    rows = site.audit.rows(last=last)
    screen.table(
        ("#", "time", "event", "plan", "attributes"),
        [
            (
                str(row.event.index),
                row.event.time,
                row.event.event,
                (row.event.plan_digest or "")[:8],
                " ".join(f"{k}={_short(v)}" for k, v in sorted(row.event.attributes.items())),
            )
            for row in rows
        ],
    )
    screen.put(events=[{**row.event.model_dump(mode="json"), "hash": row.hash} for row in rows])


@audit_app.command("verify")
def audit_verify() -> None:
    """Recompute the audit log's chain and signatures."""
    from site_node.report import show_chain

    show_chain(State.screen, "audit log", ErrorCode.AUDIT_BROKEN, site_here().audit.verify())


@config_app.command("check")
def config_check() -> None:
    """Print the effective configuration with every default."""
    from site_node.config import load_config, render_config

    config = load_config(home())
    State.screen.put(config=config.model_dump(mode="json"))
    State.screen.exact(render_config(config).rstrip())


def _short(value: str | int) -> str:
    text = str(value)
    return text if len(text) <= 20 else text[:12] + "…"


# --- the process edge ------------------------------------------------------------------------


def _hoisted(arguments: Sequence[str]) -> list[str]:
    """Move --home and --json to the front, so that they may stand anywhere on the line."""
    front: list[str] = []
    rest: list[str] = []
    items = iter(arguments)
    for item in items:
        if item == "--":
            rest += [item, *items]
        elif item == "--json" or item.startswith("--home="):
            front.append(item)
        elif item == "--home":
            front += [item, *([value] if (value := next(items, None)) is not None else [])]
        else:
            rest.append(item)
    return front + rest


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code (0, 2 for usage, or the error's class)."""
    import click

    given = _hoisted(arguments)
    State.home, State.screen = None, Screen(as_json="--json" in given)
    try:
        status = app(given, prog_name="cohortium-site", standalone_mode=False)
        if status in (0, None):
            State.screen.finish()
        return int(status or 0)
    except CohortiumError as error:
        if not State.screen.as_json:
            sys.stdout.flush()
        State.screen.error(error)
        return error.exit_code
    except click.exceptions.Abort:
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        if not State.screen.as_json:  # a group alone: its help is the answer
            print(error.format_message())
            return ConfigError.exit_code
        State.screen.error(ConfigError(ErrorCode.CONFIG_USAGE, "A command is missing."))
        return ConfigError.exit_code
    except click.ClickException as error:
        usage = ConfigError(
            ErrorCode.CONFIG_USAGE,
            error.format_message(),
            hint="`cohortium-site COMMAND --help` lists what it takes.",
        )
        State.screen.error(usage)
        return usage.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the process edge: a person gets a code, never a traceback
        detail = type(error).__name__
        if os.environ.get("COHORTIUM_DEBUG") == "1":
            raise
        State.screen.error(
            InternalError(
                ErrorCode.INTERNAL_UNEXPECTED,
                "The command failed in a way nobody foresaw; nothing was sent.",
                hint="Run it again with COHORTIUM_DEBUG=1 and report what you see.",
                detail=detail,
            )
        )
        return InternalError.exit_code


def main() -> None:
    """Run ``cohortium-site``."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
