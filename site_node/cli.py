"""What can hospital IT and the data steward do from the command line?

Every command takes ``--home DIR`` and ``--json`` anywhere on the line. The exit code tells the
class of an error. Heavy modules are loaded inside the command that needs them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import CohortiumError, ConfigError, ErrorCode, InternalError
from site_node.screen import Screen

if TYPE_CHECKING:
    from site_node.context import SiteContext
    from site_node.governance.peers import Peer

_HELP = "The site node of one hospital. Every command takes --home DIR and --json."
app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
card_app = typer.Typer(help="This hospital's identity card.", no_args_is_help=True)
peers_app = typer.Typer(help="The other hospitals' identity cards.", no_args_is_help=True)
plan_app = typer.Typer(help="Study plans: read, approve, refuse.", no_args_is_help=True)
ledger_app = typer.Typer(help="The privacy budget spent here.", no_args_is_help=True)
audit_app = typer.Typer(help="The signed log of everything that happened.", no_args_is_help=True)
config_app = typer.Typer(help="site.toml.", no_args_is_help=True)
app.add_typer(card_app, name="card")
app.add_typer(peers_app, name="peers")
app.add_typer(plan_app, name="plan")
app.add_typer(ledger_app, name="ledger")
app.add_typer(audit_app, name="audit")
app.add_typer(config_app, name="config")


class _State:
    """What the options before the command said; set once per run of ``main``."""

    home: Path | None = None
    screen = Screen()


@app.callback()
def _options(
    home: Annotated[Path | None, typer.Option(help="The site's folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document, nothing else.")] = False,
) -> None:
    _State.home = home
    _State.screen = Screen(as_json=json)


def _home() -> Path:
    from site_node.config import resolve_home

    return resolve_home(_State.home)


def _site() -> SiteContext:
    from site_node.context import open_site

    return open_site(_home())


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ConfigError(
            ErrorCode.CONFIG_FILE_MISSING,
            "The file you named cannot be read.",
            hint="Check the path and your rights.",
            detail=str(path),
        ) from None


def _grouped(fingerprint: str) -> str:
    return " ".join(fingerprint[i : i + 8] for i in range(0, len(fingerprint), 8))


# --- site ------------------------------------------------------------------------------------


@app.command()
def init(
    site_id: Annotated[str, typer.Option(help="Short name: lower-case words with hyphens.")],
    name: Annotated[str, typer.Option(help="Full name of the hospital.")],
) -> None:
    """Make keys, configuration and database of a new site."""
    from site_node.context import create_site
    from site_node.enrol import own_card

    screen = _State.screen
    site = create_site(_home(), site_id, name)
    own_card(site)
    screen.title(f"Site {site_id} ({name}) was created in {site.home}")
    screen.facts(
        [
            ("site.toml", "settings and floors; floors can only make plans stricter"),
            ("keys/", "seven secrets, one file each, readable by this user only: back them up"),
            ("state/site.db", "audit log, privacy ledger, journal, manifest"),
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

    screen, site = _State.screen, _site()
    record, recording = run_enrol(site, _read_file(invite))
    screen.title(f"Enrolled with {record.coordinator_name}")
    screen.facts(
        [
            ("Gateway", f"{record.gateway_url} (the only address this site will connect to)"),
            ("Its authority", _grouped(record.ca_sha256)),
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
    from site_node.ingest import ingest as run_ingest
    from site_node.ingest import profile_for
    from site_node.report import keep_report, show_report

    screen, site = _State.screen, _site()
    plan = site.inbox.find(study).plan
    if profile_for(plan.data).digest != plan.deid_profile_sha256:
        raise ConfigError(
            ErrorCode.PLAN_DEID_PROFILE_MISMATCH,
            "The plan names another de-identification profile than the one used here.",
            hint="Compare versions of the site node with the vendor.",
        )
    report = run_ingest(
        source,
        study_id=plan.study_id,
        data=plan.data,
        secret=site.keys.pseudonym_secret,
        store=site.store,
        quarantine=site.folders.quarantine,
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

    screen, site = _State.screen, _site()
    received = site.inbox.find(study)
    report = site.approvals.stop(received.digest, reason)
    show_stop(screen, received.plan, report)
    screen.event(report.recording)


@app.command()
def serve() -> None:
    """Run the site node in the foreground: gateway, SuperNode, executor."""
    site = _site()
    from site_node.service import serve as run_service

    run_service(site)


@app.command()
def doctor() -> None:
    """Check this machine and site: green, amber or red, and what to do about each."""
    from site_node.doctor import Colour, examine, show_findings

    findings = examine(_home())
    show_findings(_State.screen, findings)
    if any(finding.colour is Colour.RED for finding in findings):
        _State.screen.finish()
        raise typer.Exit(ConfigError.exit_code)


@app.command()
def status() -> None:
    """Show what runs, what waits, and what has left."""
    from site_node.report import show_status

    show_status(_State.screen, _site())


# --- cards and peers -------------------------------------------------------------------------


@card_app.command("show")
def card_show() -> None:
    """Show this hospital's own fingerprint, to read out to the other hospitals."""
    from schemas.identity import fingerprint, fingerprint_words, open_card
    from site_node.enrol import own_card

    screen, site = _State.screen, _site()
    card = open_card(own_card(site))
    mark = fingerprint(card)
    screen.title(f"Identity card of {card.name} ({card.site_id})")
    screen.facts([("Fingerprint", _grouped(mark)), ("In words", fingerprint_words(mark))])
    screen.put(site_id=card.site_id, fingerprint=mark, words=fingerprint_words(mark))
    screen.line("Read it out to each other hospital by telephone; they confirm the hexadecimal.")


@card_app.command("export")
def card_export(
    output: Annotated[Path | None, typer.Option(help="File to write; default: the screen.")] = None,
) -> None:
    """Write the signed identity card; hand it to the other hospitals, not via the coordinator."""
    from site_node.config import write_atomically
    from site_node.enrol import own_card
    from site_node.governance.audit import AuditWord

    screen, site = _State.screen, _site()
    card = own_card(site)
    screen.put(card=card.model_dump(mode="json"))
    if output is None:
        screen.exact(card.canonical().decode("utf-8"))
        return
    write_atomically(output.absolute(), card.canonical(), mode=0o644)
    with site.audit.recording(AuditWord.CARD_EXPORTED) as recording:
        pass
    screen.line(f"The card was written to {output}. It holds public keys only.")
    screen.event(recording)


def _show_peer(screen: Screen, peer: Peer) -> None:
    screen.facts(
        [
            ("Hospital", f"{peer.card.name} ({peer.card.site_id})"),
            ("Fingerprint", _grouped(peer.fingerprint)),
            ("In words", peer.words),
            ("Confirmed", peer.confirmed_at or "NO - compare by telephone before any approval"),
        ]
    )


def _peer_values(peer: Peer) -> dict[str, str | None]:
    return {
        "site_id": peer.card.site_id,
        "name": peer.card.name,
        "fingerprint": peer.fingerprint,
        "words": peer.words,
        "imported_at": peer.imported_at,
        "confirmed_at": peer.confirmed_at,
    }


@peers_app.command("import")
def peers_import(
    file: Annotated[Path, typer.Argument(help="The other hospital's card file.")],
    replace: Annotated[bool, typer.Option(help="Put it in the place of an older card.")] = False,
) -> None:
    """Read another hospital's card; it counts only once it is confirmed."""
    screen, site = _State.screen, _site()
    peer, recording = site.peers.import_card(_read_file(file), replace=replace)
    screen.title("Card imported")
    _show_peer(screen, peer)
    screen.put(peer=_peer_values(peer))
    screen.event(recording)
    if peer.confirmed_at is None:
        screen.title("Next: call that hospital and compare, then")
        screen.exact(f"  cohortium-site peers confirm {peer.card.site_id} --fingerprint HEX")


@peers_app.command("show")
def peers_show() -> None:
    """List the other hospitals and whether their fingerprints are confirmed."""
    screen, site = _State.screen, _site()
    peers = site.peers.all()
    screen.title("Other hospitals" if peers else "No other hospital's card was imported yet.")
    for peer in peers:
        _show_peer(screen, peer)
        screen.line()
    screen.put(peers=[_peer_values(peer) for peer in peers])


@peers_app.command("confirm")
def peers_confirm(
    site_id: Annotated[str, typer.Argument(help="The other hospital's site id.")],
    fingerprint: Annotated[str, typer.Option(help="The 64 hex characters it told you.")],
) -> None:
    """Confirm a fingerprint that the other hospital told you by another way."""
    screen, site = _State.screen, _site()
    peer, recording = site.peers.confirm(site_id, fingerprint)
    screen.title("Confirmed")
    _show_peer(screen, peer)
    screen.put(peer=_peer_values(peer))
    screen.event(recording)


# --- plans -----------------------------------------------------------------------------------


@plan_app.command("list")
def plan_list() -> None:
    """List the plans that arrived and where each stands."""
    screen, site = _State.screen, _site()
    plans = site.inbox.plans()
    rows = [
        (
            received.plan.study_id,
            site.approvals.state(received.digest, received.plan.expires).value,
            received.digest[:16],
            received.plan.expires[:10],
            received.plan.vendor,
        )
        for received in plans
    ]
    screen.title("Study plans" if rows else "No plan has arrived.")
    if rows:
        screen.table(("study", "state", "hash begins", "expires", "vendor"), rows)
    screen.put(
        plans=[
            {
                "study_id": received.plan.study_id,
                "digest": received.digest,
                "state": row[1],
                "expires": received.plan.expires,
                "vendor": received.plan.vendor,
            }
            for received, row in zip(plans, rows, strict=True)
        ]
    )


@plan_app.command("import")
def plan_import(
    file: Annotated[Path, typer.Argument(help="A sealed plan as the vendor wrote it.")],
) -> None:
    """Read a plan from a file, where no coordinator is at hand."""
    from schemas.canonical import parse
    from schemas.signing import SignedDocument
    from site_node.governance.inbox import MAX_SEALED_PLAN_BYTES, open_plan

    screen, site = _State.screen, _site()
    raw = parse(
        SignedDocument, _read_file(file).strip(), max_bytes=MAX_SEALED_PLAN_BYTES
    ).canonical()
    plan = open_plan(raw)
    recording = site.inbox.receive("plan", plan.study_id, raw)
    screen.put(study_id=plan.study_id, digest=plan.digest(), new=recording is not None)
    if recording is None:
        screen.line(f"This plan of study {plan.study_id} is known here already.")
    else:
        screen.line(f"The plan of study {plan.study_id} was read.")
        screen.event(recording)
    screen.exact(f"  cohortium-site plan show {plan.study_id}")


@plan_app.command("show")
def plan_show(
    study: Annotated[str, typer.Argument(help="Study name, or the beginning of a plan's hash.")],
) -> None:
    """Say what will leave this hospital, what it costs, and who takes part."""
    from site_node.report import show_plan

    screen, site = _State.screen, _site()
    show_plan(screen, site, site.approvals.review(site.inbox.find(study)))


@plan_app.command("approve")
def plan_approve(
    study: Annotated[str, typer.Argument(help="Study name, or the beginning of a plan's hash.")],
    hash: Annotated[str, typer.Option(help="The whole hash that `plan show` printed.")],
) -> None:
    """Sign a plan for this hospital and reserve its privacy budget."""
    screen, site = _State.screen, _site()
    received = site.inbox.find(study)
    approval, recording = site.approvals.approve(received.sealed, hash)
    screen.title(f"Approved: {received.plan.title}")
    screen.facts(
        [
            ("Hash", approval.plan_digest),
            ("Hospitals confirmed", ", ".join(sorted(approval.peers))),
            ("Attempts reserved", str(received.plan.training.attempts)),
            ("Sent", "by the courier, as soon as `serve` runs and the coordinator answers"),
        ]
    )
    screen.put(digest=approval.plan_digest, study_id=approval.study_id)
    screen.event(recording)
    screen.exact(f"  cohortium-site stop {received.plan.study_id}   takes it back, for good")


@plan_app.command("refuse")
def plan_refuse(
    study: Annotated[str, typer.Argument(help="Study name, or the beginning of a plan's hash.")],
    reason: Annotated[str, typer.Option(help="A code, for example steward.decision.")] = (
        "steward.decision"
    ),
) -> None:
    """Say no to a plan; a changed plan can be approved later under its new hash."""
    screen, site = _State.screen, _site()
    received = site.inbox.find(study)
    recording = site.approvals.refuse(received.digest, reason)
    screen.line(f"The plan {received.digest[:16]} of study {received.plan.study_id} was refused.")
    screen.put(digest=received.digest)
    screen.event(recording)


# --- ledger, audit, configuration ------------------------------------------------------------


@ledger_app.command("show")
def ledger_show() -> None:
    """Show what every study has spent and may still spend here."""
    from site_node.report import show_ledger

    show_ledger(_State.screen, _site())


@ledger_app.command("verify")
def ledger_verify() -> None:
    """Recompute the ledger's chain, signatures and rules."""
    from site_node.report import show_chain

    show_chain(_State.screen, "ledger", ErrorCode.LEDGER_BROKEN, _site().ledger.verify())


@audit_app.command("show")
def audit_show(
    last: Annotated[int, typer.Option(min=1, help="How many of the newest events.")] = 20,
) -> None:
    """Show the newest events."""
    screen, site = _State.screen, _site()
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

    show_chain(_State.screen, "audit log", ErrorCode.AUDIT_BROKEN, _site().audit.verify())


@config_app.command("check")
def config_check() -> None:
    """Print the effective configuration with every default."""
    from site_node.config import load_config, render_config

    config = load_config(_home())
    _State.screen.put(config=config.model_dump(mode="json"))
    _State.screen.exact(render_config(config).rstrip())


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
    _State.home, _State.screen = None, Screen(as_json="--json" in given)
    try:
        status = app(given, prog_name="cohortium-site", standalone_mode=False)
        if status in (0, None):
            _State.screen.finish()
        return int(status or 0)
    except CohortiumError as error:
        if not _State.screen.as_json:
            sys.stdout.flush()
        _State.screen.error(error)
        return error.exit_code
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        usage = ConfigError(
            ErrorCode.CONFIG_USAGE,
            error.format_message(),
            hint="`cohortium-site COMMAND --help` lists what it takes.",
        )
        _State.screen.error(usage)
        return usage.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        detail = type(error).__name__
        if os.environ.get("COHORTIUM_DEBUG") == "1":
            raise
        _State.screen.error(
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
