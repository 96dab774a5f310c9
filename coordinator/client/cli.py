"""Which commands do vendors and researchers have?"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.client.console import run_app, say, working
from schemas.errors import ConfigError, ErrorCode, PolicyDenied, ProtocolError

if TYPE_CHECKING:
    from coordinator.client.http import Client
    from schemas.identity import IdentityCard

app = typer.Typer(
    help="Write a study, send it, watch it, and read its result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
study_app = typer.Typer(help="Write, send and watch studies.", no_args_is_help=True)
model_app = typer.Typer(help="Fetch final models.", no_args_is_help=True)
app.add_typer(study_app, name="study")
app.add_typer(model_app, name="model")

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Your folder (default ~/.cohortium).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")]
PlanHashOption = Annotated[
    str | None,
    typer.Option("--plan-hash", help="The plan's hash from a hospital; another one is refused."),
]
StudyArgument = Annotated[str, typer.Argument(help="The study's name.")]


@app.command()
def init(
    access: Annotated[Path, typer.Option(help="The access file from the operator.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep an access file and make the key that signs your plans."""
    from coordinator.client.home import create, find_home
    from schemas.signing import public_hex

    if not access.is_file():
        raise ConfigError(ErrorCode.CONFIG_FILE_MISSING, "There is no access file of this name.")
    found = find_home(home)
    kept = create(found, access.read_bytes())
    key = public_hex(found.key())
    say(
        as_json,
        {"home": str(found.root), "coordinator": kept.coordinator, "vendor_key": key},
        f"{kept.holder}: {kept.role} at {kept.coordinator}",
        f"Vendor key {key} (tell the hospitals, so that they know your plans)",
    )


@study_app.command("init")
def study_init(
    name: StudyArgument,
    template: Annotated[
        str, typer.Option(help="heart, cxr, survival or tabular-prepared")
    ] = "heart",
    out: Annotated[Path, typer.Option("--out", "-o", help="The draft's file.")] = Path(
        "draft.toml"
    ),
    as_json: JsonOption = False,
) -> None:
    """Write a draft from a template; edit it, then make the plan."""
    from coordinator.client.drafts import start_draft

    if out.exists():
        raise ConfigError(
            ErrorCode.CONFIG_USAGE, "The draft's file exists already.", hint="Name another: -o"
        )
    out.write_text(start_draft(name, template), encoding="utf-8")
    say(
        as_json,
        {"study_id": name, "template": template, "file": str(out)},
        f"Wrote {out}. Edit it, then: cohortium study plan {out} --cards DIR -o {name}.plan",
    )


@study_app.command("plan")
def study_plan(
    draft: Annotated[Path, typer.Argument(help="The draft.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The plan's file.")],
    cards: Annotated[
        Path | None, typer.Option(help="A folder of the hospitals' card files.")
    ] = None,
    from_coordinator: Annotated[
        bool, typer.Option("--from-coordinator", help="Take the cards the hospitals enrolled with.")
    ] = False,
    sites: Annotated[
        str, typer.Option(help="Only these hospitals, by name, separated by commas.")
    ] = "",
    weights: Annotated[
        Path | None,
        typer.Option(help="Your own initial weights (safetensors); see initialisation."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fill a draft in, show what it will cost and what will leave, and sign it."""
    import os

    from coordinator.client.aggregation import aggregation_values
    from coordinator.client.drafts import Parties, read_cards, read_draft, resolve
    from coordinator.client.home import find_home
    from coordinator.client.http import Client
    from coordinator.client.render import plan_lines
    from coordinator.client.weights import read_weights, weights_path
    from schemas.privacy.costs import cost_values, plan_costs
    from schemas.privacy.statement import privacy_statement
    from schemas.signing import Context, public_hex, seal

    found = find_home(home)
    key, access = found.key(), found.access()
    if (cards is None) == (not from_coordinator):
        raise ConfigError(
            ErrorCode.CONFIG_USAGE, "Say where the cards are: --cards DIR or --from-coordinator."
        )
    values = read_draft(draft)
    with Client(access) as client:
        bundle = str(client.get("/v1/info")["app_bundle_sha256"])
        known = read_cards(cards) if cards else _cards_from(client)
    chosen = _choose(known, sites)
    parties = Parties(access.holder, public_hex(key), chosen, bundle)
    own = None if weights is None else read_weights(weights)
    now = datetime.now(tz=UTC)
    with working("Calibrating the noise"):
        plan, initial = resolve(values, parties, now=now, entropy=os.urandom, weights=own)
        costs = plan_costs(plan)
    beside = None if own is None else weights_path(out)
    if beside is not None:
        beside.write_bytes(initial)
    out.write_bytes(seal(key, Context.PLAN, plan).canonical())
    say(
        as_json,
        {
            "study_id": plan.study_id,
            "plan_digest": plan.digest(),
            "file": str(out),
            "weights_file": None if beside is None else str(beside),
            "plan": plan.model_dump(mode="json"),
            "aggregation": aggregation_values(plan),
            "privacy": privacy_statement(plan).values(),
            "costs": cost_values(costs),
        },
        *plan_lines(plan, chosen, costs),
        *([] if beside is None else [f"Wrote {beside}, {plan.model.initial_weights_sha256}."]),
        f"Signed and wrote {out}. Send exactly this file: cohortium study apply {out}",
    )


@study_app.command("apply")
def study_apply(
    plan_file: Annotated[Path, typer.Argument(help="The signed plan.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send exactly this plan, with the weights beside it if it has any; the hospitals are asked."""
    import base64

    import rfc8785

    from coordinator.client.home import find_home
    from coordinator.client.http import Client
    from coordinator.client.weights import weights_to_send
    from schemas.canonical import parse
    from schemas.governance.study import open_plan
    from schemas.limits import MAX_PLAN_BYTES
    from schemas.signing import SignedDocument

    if not plan_file.is_file():
        raise ConfigError(
            ErrorCode.CONFIG_FILE_MISSING,
            "There is no plan of this name.",
            hint="Run: cohortium study plan draft.toml --cards DIR -o NAME.plan",
        )
    try:
        signed = parse(SignedDocument, plan_file.read_bytes(), max_bytes=2 * MAX_PLAN_BYTES)
    except ProtocolError as error:
        raise ConfigError(
            error.code,
            "The file is not a signed plan.",
            hint="Send the file that `cohortium study plan` wrote with -o, unchanged.",
        ) from error
    plan = open_plan(signed)
    weights = base64.b64encode(weights_to_send(plan, plan_file)).decode("ascii")
    body = rfc8785.dumps({"plan": signed.model_dump(mode="json"), "weights": weights})
    with Client(find_home(home).access()) as client:
        study = client.post("/v1/studies", body)
    say(
        as_json,
        {"study_id": plan.study_id, "plan_digest": plan.digest(), "state": study["state"]},
        f"Sent {plan.study_id}, digest {plan.digest()}.",
        f"{study['state_words']}. Hospitals compare the digest before they approve.",
        "Event: study.proposed",
        f"Next:  cohortium study watch {plan.study_id}",
    )


@study_app.command("start")
def study_start(name: StudyArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Go on with the hospitals that have approved, without waiting for the rest."""
    with _client(home) as client:
        study = client.post(f"/v1/studies/{_path(name)}/start")
    say(
        as_json,
        {"study_id": name, "state": study["state"]},
        f"{name}: {study['state_words']}",
        "Event: study.approved",
    )


@study_app.command("list")
def study_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List all studies."""
    from coordinator.client.render import progress_line

    with _client(home) as client:
        studies = client.get("/v1/studies")["studies"]
    say(as_json, {"studies": studies}, *(progress_line(study) for study in studies))


@study_app.command("watch")
def study_watch(
    name: StudyArgument,
    every_seconds: Annotated[float, typer.Option(help="Seconds between two looks.")] = 1.0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a study until it ends; a live table on a terminal, plain lines elsewhere."""
    with _client(home) as client:
        if sys.stdout.isatty() and not as_json:
            study = _watch_live(client, name, every_seconds)
        else:
            study = _watch_lines(client, name, every_seconds, as_json)
    if study["state"] != "done":
        raise PolicyDenied(
            ErrorCode.STUDY_ENDED_EARLY,
            f"The study ended without a result: {study['state_words']}.",
            hint=study["reason"] or "See the page, or cohortium study list.",
        )
    say(as_json, study, f"Done. Read the result: cohortium results {name}")


@app.command()
def results(
    name: StudyArgument,
    home: HomeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Answer as CSV.")] = False,
    plan_hash: PlanHashOption = None,
) -> None:
    """Show a study's co-signed result; every signature is checked here."""
    from coordinator.client import render
    from coordinator.client.results import check_result

    if as_csv and as_json:
        raise ConfigError(ErrorCode.CONFIG_USAGE, "Choose one of --json and --csv.")
    with _client(home) as client:
        checked = check_result(client.get(f"/v1/studies/{_path(name)}/results"), name, plan_hash)
    values = render.result_values(
        checked.plan, checked.release, checked.signed_by, checked.released_at
    )
    if as_csv:
        typer.echo(render.result_csv(values), nl=False)
    else:
        say(as_json, values, *render.result_lines(checked.plan, values))


@model_app.command("get")
def model_get(
    name: StudyArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The model's file.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    plan_hash: PlanHashOption = None,
) -> None:
    """Fetch the final model and check it against the hash the hospitals signed.

    Where the study prepared its inputs from a noised sum, the constants that follow from it (means,
    standard deviations, bin edges, the weight of positives) are written beside the model.
    """
    from coordinator.client.results import check_model, check_result

    with _client(home) as client:
        checked = check_result(client.get(f"/v1/studies/{_path(name)}/results"), name, plan_hash)
        raw, _ = client.get_bytes(f"/v1/studies/{_path(name)}/model")
    prepared = check_model(raw, checked.plan, checked.release.model_hash)
    path = out or Path(f"{name}.safetensors")
    path.write_bytes(raw)
    values = {"study_id": name, "file": str(path), "model_hash": checked.release.model_hash}
    lines = [
        f"Wrote {path}; what it holds has the hash the hospitals signed:",
        f"  {checked.release.model_hash}",
    ]
    if prepared is not None:
        beside = path.with_name(f"{path.name.removesuffix('.safetensors')}.preparation.json")
        beside.write_bytes(prepared.canonical())
        values["preparation"] = str(beside)
        lines.append(f"Wrote {beside}; its constants follow from the model file.")
    say(as_json, values, *lines)


def main() -> None:
    """Run the command line."""
    run_app(app)


def _client(home: Path | None) -> Client:
    from coordinator.client.home import find_home
    from coordinator.client.http import Client

    return Client(find_home(home).access())


def _path(name: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from schemas.ids import StudyId

    try:
        return TypeAdapter[str](StudyId).validate_python(name)
    except ValidationError:
        raise ConfigError(
            ErrorCode.CONFIG_USAGE,
            "A study's name is lower-case words and numbers joined by hyphens.",
        ) from None


def _cards_from(client: Client) -> list[IdentityCard]:
    from schemas.canonical import build
    from schemas.identity import open_card
    from schemas.signing import SignedDocument

    return [
        open_card(build(SignedDocument, site["card"])) for site in client.get("/v1/sites")["sites"]
    ]


def _choose(cards: list[IdentityCard], names: str) -> list[IdentityCard]:
    if not names:
        return cards
    wanted = [name.strip() for name in names.split(",")]
    known = {card.site_id: card for card in cards}
    if not set(wanted) <= set(known):
        raise ConfigError(
            ErrorCode.SITE_UNKNOWN,
            "A hospital that was named has no card here.",
            hint=f"Known: {', '.join(sorted(known))}",
        )
    return [known[name] for name in wanted]


def _watch_live(client: Client, name: str, every_seconds: float) -> dict[str, Any]:
    from rich.live import Live

    from coordinator.client.render import progress_table

    path = f"/v1/studies/{_path(name)}"
    study = client.get(path)
    with Live(progress_table(study), refresh_per_second=4) as live:
        while not study["is_final"]:
            time.sleep(every_seconds)
            study = client.get(path)
            live.update(progress_table(study))
    return study


def _watch_lines(client: Client, name: str, every_seconds: float, as_json: bool) -> dict[str, Any]:
    from coordinator.client.render import progress_line

    path = f"/v1/studies/{_path(name)}"
    last = ""
    while True:
        study = client.get(path)
        line = progress_line(study)
        if line != last and not as_json:
            typer.echo(line)
            sys.stdout.flush()
        last = line
        if study["is_final"]:
            return study
        time.sleep(every_seconds)
