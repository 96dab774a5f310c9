"""Which commands does the data steward use on study plans?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from site_node.command import State, end_with, read_file, site_here

if TYPE_CHECKING:
    from schemas.governance.approval import Approval
    from schemas.governance.study import StudyPlan

plan_app = typer.Typer(help="Study plans: read, approve, refuse.", no_args_is_help=True)


@plan_app.command("list")
def plan_list() -> None:
    """List the plans that arrived and where each stands."""
    from site_node.plan_view import plan_state_words

    screen, site = State.screen, site_here()
    plans = site.inbox.plans()
    rows = [
        (
            received.plan.study_id,
            plan_state_words(site, received),
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

    screen, site = State.screen, site_here()
    raw = parse(
        SignedDocument, read_file(file).strip(), max_bytes=MAX_SEALED_PLAN_BYTES
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
    from site_node.plan_view import show_plan

    screen, site = State.screen, site_here()
    end_with(show_plan(screen, site, site.approvals.review(site.inbox.find(study))))


@plan_app.command("approve")
def plan_approve(
    study: Annotated[str, typer.Argument(help="Study name, or the beginning of a plan's hash.")],
    hash: Annotated[str, typer.Option(help="The whole hash that `plan show` printed.")],
) -> None:
    """Sign a plan for this hospital and reserve its privacy budget."""
    screen, site = State.screen, site_here()
    received = site.inbox.find(study)
    approval, recording = site.approvals.approve(received.sealed, hash)
    screen.title(f"Approved: {received.plan.title}")
    screen.facts(
        [
            ("Hash", approval.plan_digest),
            ("Hospitals confirmed", ", ".join(sorted(approval.peers))),
            ("Attempts reserved", _attempt_words(received.plan)),
            *_hybrid_words(approval),
            ("Sent", "by the courier, as soon as `serve` runs and the coordinator answers"),
        ]
    )
    screen.put(
        digest=approval.plan_digest,
        study_id=approval.study_id,
        encapsulated_for=sorted(approval.encapsulations),
    )
    screen.event(recording)
    screen.exact(f"  cohortium-site stop {received.plan.study_id}   takes it back, for good")


def _attempt_words(plan: StudyPlan) -> str:
    """Say what the ledger reserved; the preparation before training has attempts of its own."""
    training = f"{plan.training.attempts} of training"
    if plan.preparation is None:
        return training
    return f"{plan.preparation.attempts} of the preparation, {training}"


def _hybrid_words(approval: Approval) -> list[tuple[str, str]]:
    peers = sorted(approval.encapsulations)
    return [("ML-KEM-768 secrets", f"made for {', '.join(peers)}")] if peers else []


@plan_app.command("refuse")
def plan_refuse(
    study: Annotated[str, typer.Argument(help="Study name, or the beginning of a plan's hash.")],
    reason: Annotated[str, typer.Option(help="A code, for example steward.decision.")] = (
        "steward.decision"
    ),
) -> None:
    """Say no to a plan; a changed plan can be approved later under its new hash."""
    screen, site = State.screen, site_here()
    received = site.inbox.find(study)
    recording = site.approvals.refuse(received.digest, reason)
    screen.line(f"The plan {received.digest[:16]} of study {received.plan.study_id} was refused.")
    screen.put(digest=received.digest)
    screen.event(recording)
