"""What do people at the hospital read? Stops, ingest, chains and status in plain words."""

from __future__ import annotations

import json
import os
import textwrap
from typing import TYPE_CHECKING, Any, Final

from deid.batch.advice import ADVICE
from schemas.errors import CohortiumError, ErrorCode, InternalError, TrustError
from site_node.config import write_atomically
from site_node.governance.audit import AuditWord
from site_node.plan_view import plan_state_words
from site_node.screen import Screen

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from site_node.context import SiteContext
    from site_node.governance.approvals import StopReport
    from site_node.governance.audit import ChainReport, Recording
    from site_node.ingest import IngestReport


_SENT_SHOWN: Final = 10


# --- stop ------------------------------------------------------------------------------------


def show_stop(screen: Screen, plan: StudyPlan, report: StopReport) -> None:
    """Say what a stop did, and what had left before."""
    screen.title(f"Stopped, for good: {plan.title} ({plan.study_id})")
    screen.line("From this moment no answer of this plan leaves this hospital.")
    if report.sent:
        screen.line(f"Already sent before the stop ({len(report.sent)}):")
        screen.table(
            ("sent", "kind", "round", "attempt", "bytes"),
            [
                (x.sent_at, x.kind, str(x.round), str(x.attempt), f"{x.n_bytes:,}")
                for x in report.sent[-_SENT_SHOWN:]
            ],
        )
        if len(report.sent) > _SENT_SHOWN:
            screen.line(f"  These are the last {_SENT_SHOWN}; --json lists all of them.")
        screen.line(
            "They were masked; sums they are part of may still be computed. They stay charged."
        )
        if plan.is_recoverable:
            screen.line(
                "This hospital signs no list of survivors and helps to unmask no sum any more; "
                "enough of the others may do without it."
            )
    else:
        screen.line("No upload of this plan had been sent.")
    if report.held_back:
        screen.line(f"Held back: {report.held_back} answer(s) that were ready and had not left.")
    screen.line(f"Attempts never opened and given back to the budget: {report.attempts_returned}.")
    if report.statement_signed:
        screen.line("The signed stop waits for the courier, which tells the coordinator.")
    else:
        screen.line(
            "The approval key could not be used, so the coordinator is not told; the stop holds "
            "here all the same.",
            style="amber",
        )
    screen.put(
        study_id=plan.study_id,
        digest=report.plan_digest,
        sent=[
            {
                "kind": x.kind,
                "round": x.round,
                "attempt": x.attempt,
                "n_bytes": x.n_bytes,
                "sent_at": x.sent_at,
            }
            for x in report.sent
        ],
        held_back=report.held_back,
        attempts_returned=report.attempts_returned,
        statement_signed=report.statement_signed,
    )


# --- ingest ----------------------------------------------------------------------------------


def keep_report(site: SiteContext, report: IngestReport) -> Recording:
    """Keep the report of what is stored now, and write the audit event of any ingest."""
    with site.audit.recording(
        AuditWord.DATA_INGESTED,
        study=report.study_id,
        read=report.read,
        stored=report.stored,
        quarantined=sum(report.quarantined.values()),
        snapshot=report.snapshot or "none",
    ) as recording:
        if report.accepted:  # else the rows of before are in force, and their number counts
            path = site.folders.reports / f"{report.study_id}.json"
            write_atomically(path, report.to_json().encode("utf-8"))
    return recording


def show_report(screen: Screen, report: IngestReport) -> None:
    """Show an ingest report: counts and codes, never a value."""
    screen.title(f"Ingested for study {report.study_id}")
    quarantined = sum(report.quarantined.values())
    screen.facts(
        [
            ("Records read", f"{report.read:,}"),
            ("Stored", f"{report.stored:,} (encrypted, pseudonymised - not anonymous)"),
            ("Quarantined", f"{quarantined:,} (kept aside with a reason; see below)"),
            ("Training", f"{report.train.patients:,} patients, {report.train.rows:,} records"),
            ("Test", f"{report.test.patients:,} patients, {report.test.rows:,} records"),
            ("De-identification", f"profile {report.deid_profile}"),
            ("Snapshot", report.snapshot or "none: nothing was stored"),
        ]
    )
    if report.quarantined:
        screen.title("Quarantined, by reason")
        for word, count in sorted(report.quarantined.items(), key=lambda item: -item[1]):
            code = ErrorCode(word)
            screen.exact(f"  {count:>7,}  {code.meaning} [{word}]")
            if advice := ADVICE.get(code):
                margin = " " * 11
                screen.exact(textwrap.fill(advice, 96, initial_indent=margin,
                                           subsequent_indent=margin))  # fmt: skip
    if report.findings:
        screen.title("Findings (they stay at this hospital)")
        screen.table(
            ("code", "column", "severity", "count", "of"),
            [
                (
                    finding.code.value,
                    str(getattr(finding, "column", "") or ""),
                    finding.severity.value,
                    f"{finding.count:,}",
                    f"{finding.of:,}",
                )
                for finding in report.findings
            ],
        )
    screen.put(report=json.loads(report.to_json()))


# --- chains, status --------------------------------------------------------------------------


def show_chain(screen: Screen, name: str, code: ErrorCode, report: ChainReport) -> None:
    """Say whether a chain holds.

    Raises:
        TrustError: it does not.
    """
    screen.put(entries=report.entries, head=report.head, intact=report.is_intact)
    if not report.is_intact:
        raise TrustError(
            code,
            f"The {name} of this site does not verify: {report.problems[0]}.",
            hint="Stop the service, keep the folder as it is, and call your security officer. "
            "Restoring an old backup also shows like this.",
        )
    screen.line(f"The {name} is whole: {report.entries} entries, all signed by this site.")
    screen.facts([("Head", report.head)])


def show_status(screen: Screen, site: SiteContext) -> None:
    """Show processes, documents that wait, studies, and every byte that left."""
    health = _health(site)
    try:
        from site_node.enrol import read_enrolment

        enrolment = read_enrolment(site)
        coordinator = f"{enrolment.coordinator_name} at {enrolment.gateway_url}"
    except CohortiumError:
        coordinator = "not enrolled"
    waiting = site.inbox.waiting()
    screen.title(f"{site.config.name} ({site.config.site_id})")
    screen.facts(
        [
            ("Coordinator", coordinator),
            ("Service", str(health.get("state", "not running"))),
            ("Waiting to be sent", str(len(waiting))),
        ]
    )
    processes: dict[str, dict[str, Any]] = health.get("processes", {})
    if processes:
        screen.table(
            ("process", "state", "pid", "restarts"),
            [
                (name, str(x["state"]), str(x["pid"]), str(x["restarts"]))
                for name, x in sorted(processes.items())
            ],
        )
    plans = site.inbox.plans()
    if plans:
        screen.title("Studies")
        rows = []
        for received in plans:
            state = plan_state_words(site, received)
            highest = site.journal.highest(received.digest, "train")
            step = _step_words(received.plan, None if highest is None else highest[0])
            rows.append((received.plan.study_id, state, step, received.digest[:16]))
        screen.table(("study", "state", "step", "hash begins"), rows)
    totals = site.manifest.totals()
    if totals:
        screen.title("What has left (HTTP bodies, counted before the socket)")
        screen.table(
            ("path", "calls", "bytes"),
            [(path, f"{calls:,}", f"{count:,}") for path, (calls, count) in totals.items()],
        )
    screen.put(
        site_id=site.config.site_id,
        coordinator=coordinator,
        health=health,
        waiting=[{"kind": x.kind, "plan_digest": x.plan_digest} for x in waiting],
        bytes_out={path: {"calls": c, "bytes": b} for path, (c, b) in totals.items()},
        studies=[
            {
                "study_id": received.plan.study_id,
                "digest": received.digest,
                "state": plan_state_words(site, received),
            }
            for received in plans
        ],
    )


def _step_words(plan: StudyPlan, last: int | None) -> str:
    """Name the step of the last round here; a preparation is the round before the first step."""
    if last is None:
        return "-"
    step = last + 1 - plan.preparation_rounds
    return f"{step} of {plan.training.steps}" if step else "preparation"


def _health(site: SiteContext) -> dict[str, Any]:
    try:
        values = json.loads((site.folders.state / "health.json").read_bytes())
    except OSError:
        return {}
    except ValueError:
        raise InternalError(
            ErrorCode.INTERNAL_UNEXPECTED, "The service's health file cannot be read."
        ) from None
    if not isinstance(values, dict):
        return {}
    if values.get("state") == "ended":
        return {**values, "processes": {}}
    if not _is_served(site):  # killed: the file's last words are not true any more
        return {**values, "state": "killed; start it again: cohortium-site serve", "processes": {}}
    return values


def _is_served(site: SiteContext) -> bool:
    try:
        os.kill(int(json.loads((site.folders.state / "pids.json").read_bytes())["service"]), 0)
    except PermissionError:  # alive, as another user
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True
