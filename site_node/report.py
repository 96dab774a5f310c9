"""What do people at the hospital read? Plans, stops, ingest, ledger and status in plain words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from schemas.errors import CohortiumError, ErrorCode, InternalError, TrustError
from site_node.config import write_atomically
from site_node.egress.preview import NEVER_LEAVES, what_leaves
from site_node.governance.approvals import PlanState
from site_node.governance.audit import AuditWord
from site_node.screen import Screen, amount, mapping_rows

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from site_node.context import SiteContext
    from site_node.governance.approvals import Review, StopReport
    from site_node.governance.audit import ChainReport, Recording
    from site_node.governance.ledger import Budget
    from site_node.ingest import IngestReport


# --- plan show -------------------------------------------------------------------------------


def show_plan(screen: Screen, site: SiteContext, review: Review) -> None:
    """Answer "what will leave this hospital?" for one plan."""
    plan, digest = review.received.plan, review.received.digest
    screen.title(f"{plan.title}")
    screen.facts(
        [
            ("Study", f"{plan.study_id}, {review.state.value} at this hospital"),
            ("Purpose", plan.purpose),
            ("Vendor", f"{plan.vendor}, key {plan.vendor_key[:16]}… {_vendor_note(site, plan)}"),
            ("Results go to", ", ".join(plan.recipients)),
            ("Written, expires", f"{plan.created}, {plan.expires}"),
            ("Model", _model_words(plan)),
            ("Data used", _data_words(site, plan)),
        ]
    )
    _show_leaving(screen, plan)
    _show_privacy(screen, plan, review.budget, is_reserved=review.state is PlanState.APPROVED)
    _show_hospitals(screen, site, review)
    _show_problems(screen, review)
    screen.title("Hash of this plan (a changed plan has another one)")
    screen.exact(f"  {digest}")
    screen.title("Next")
    if review.state is PlanState.PENDING and not review.problems:
        screen.exact(f"  cohortium-site plan approve {plan.study_id} --hash {digest}")
        screen.exact(f"  cohortium-site plan refuse {plan.study_id}")
    elif review.state is PlanState.PENDING:
        screen.line("  It cannot be approved as it stands; see above what to do.")
    elif review.state is PlanState.APPROVED:
        screen.exact(f"  cohortium-site stop {plan.study_id}   stops it at once, for good")
    else:
        screen.line("  Nothing; only a new plan from the vendor can be approved.")
    screen.put(
        study_id=plan.study_id,
        digest=digest,
        state=review.state.value,
        expires=plan.expires,
        vendor_key=plan.vendor_key,
        app_bundle_sha256=plan.app_bundle_sha256,
    )


def _vendor_note(site: SiteContext, plan: StudyPlan) -> str:
    known = site.config.known_vendors
    if not known:
        return "(this hospital lists no vendors; compare the key with the vendor's own)"
    return "(listed here)" if plan.vendor_key in known else "(NOT LISTED here)"


def _model_words(plan: StudyPlan) -> str:
    training = plan.training
    how = (
        "every training patient in each step"
        if training.sampling == "full"
        else f"each training patient with chance {training.sampling_rate:g} in each step"
    )
    return (
        f"{plan.model.architecture.value}, {plan.model.parameters:,} parameters, "
        f"{training.steps} steps, {how}"
    )


def _data_words(site: SiteContext, plan: StudyPlan) -> str:
    if plan.data.source == "dicom":
        what = f"DICOM images as {plan.data.image_rows} x {plan.data.image_columns} grey pixels"
    else:
        what = f"{len(plan.data.columns)} columns: " + ", ".join(c.name for c in plan.data.columns)
    path = site.folders.reports / f"{plan.study_id}.json"
    if not path.exists():
        return f"{what}. NOT INGESTED yet: `cohortium-site ingest {plan.study_id} --source DIR`"
    return f"{what}. Ingested here; nothing of it is readable outside the store"


def _show_leaving(screen: Screen, plan: StudyPlan) -> None:
    leaving = what_leaves(plan)
    training = plan.training
    screen.title("What will leave this hospital?")
    screen.facts([(line.kind, line.what) for line in leaving])
    screen.line()
    screen.table(
        ("kind", "at most", "bytes each, at most", "bytes in all, at most"),
        [(x.kind, f"{x.at_most:,}", f"{x.bytes_each:,}", f"{x.bytes_total:,}") for x in leaving],
    )
    total = sum(line.bytes_total for line in leaving)
    screen.line(
        f"  In all at most {amount(total)}. An update is 4 bytes for each of "
        f"{plan.model.parameters:,} parameters and a signed header; there are {training.steps} "
        f"steps and at most {training.retry_cap} retries. The gate refuses anything larger. "
        "Besides this only signed approvals and stops, and the connection's own polls and "
        "heartbeats, which are counted (`cohortium-site status`)."
    )
    screen.title("What never leaves")
    for text in NEVER_LEAVES:
        screen.line(f"  - {text}")
    screen.put(
        leaves=[
            {
                "kind": line.kind,
                "what": line.what,
                "at_most": line.at_most,
                "bytes_each": line.bytes_each,
                "bytes_total": line.bytes_total,
            }
            for line in leaving
        ],
        leaves_bytes_total=total,
        never_leaves=list(NEVER_LEAVES),
    )


def privacy_words(plan: StudyPlan) -> str:
    """Say epsilon with its whole scope in one sentence; it is never printed without."""
    privacy, training = plan.privacy, plan.training
    return (
        f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g}, unit {privacy.unit} "
        f"(adjacency {privacy.adjacency}), for a patient of {_hospitals(privacy)}, against the "
        f"coordinator together with up to t = {plan.collusion_bound} hospital(s), over all "
        f"{training.attempts} attempts ({training.steps} steps and {training.retry_cap} retries), "
        f"accountant {privacy.accountant}"
    )


def _hospitals(privacy: Any) -> str:
    count = privacy.hospitals_per_patient
    return "one hospital" if count == 1 else f"up to {count} hospitals"


def _show_privacy(screen: Screen, plan: StudyPlan, budget: Budget, *, is_reserved: bool) -> None:
    privacy = plan.privacy
    screen.title("What it costs the patients' privacy")
    before = budget.committed
    screen.facts(
        [
            ("Cost", privacy_words(plan)),
            ("In two hospitals", f"epsilon {privacy.epsilon_two_hospitals:g} for such a patient"),
            ("Outside epsilon", "metrics on the test patients, and tuning: "
                                + plan.tuning_declaration),
            ("A colluding site", "can read the summed test counts of all hospitals together"),
            ("Budget here", f"{'with' if is_reserved else 'before'} this plan epsilon "
                            f"{before:.4f} of {budget.limit:g}"
                            + ("" if is_reserved else f", after it {budget.after:.4f}")
                            + f" (all studies, delta {budget.delta:g}); spent so far "
                              f"{budget.spent:.4f}"),
        ]
    )  # fmt: skip
    screen.put(
        privacy={
            "epsilon": privacy.epsilon,
            "delta": privacy.delta,
            "unit": privacy.unit,
            "adjacency": privacy.adjacency,
            "t": plan.collusion_bound,
            "hospitals_per_patient": privacy.hospitals_per_patient,
            "epsilon_two_hospitals": privacy.epsilon_two_hospitals,
            "attempts": plan.training.attempts,
            "steps": plan.training.steps,
            "retry_cap": plan.training.retry_cap,
            "accountant": privacy.accountant,
            "outside_epsilon": ["test-set metrics", "tuning"],
        },
        budget={
            "spent": budget.spent,
            "before": before,
            "after": budget.after,
            "limit": budget.limit,
            "delta": budget.delta,
        },
    )


def _show_hospitals(screen: Screen, site: SiteContext, review: Review) -> None:
    plan = review.received.plan
    screen.title(
        f"Who takes part: {len(plan.sites)} hospitals, never fewer than {plan.cohort_minimum} in "
        "one sum"
    )
    rows = []
    for check in review.peers:
        state = "confirmed here" if check.problem is None else check.problem.meaning
        rows.append((check.site_id, check.name, check.fingerprint[:16] or "-", state))
    screen.table(("hospital", "name", "fingerprint begins", "keys"), rows)
    screen.line(f"  and this hospital, {site.config.site_id}.")
    screen.put(
        peers=[
            {
                "site_id": check.site_id,
                "name": check.name,
                "fingerprint": check.fingerprint,
                "confirmed": check.problem is None,
                "problem": None if check.problem is None else check.problem.value,
            }
            for check in review.peers
        ]
    )


def _show_problems(screen: Screen, review: Review) -> None:
    decided = {
        ErrorCode.PLAN_ALREADY_APPROVED,
        ErrorCode.PLAN_STOPPED,
        ErrorCode.PLAN_REFUSED,
    }
    problems = [error for error in review.problems if error.code not in decided]
    if problems:
        screen.title("What speaks against approving it")
        for error in problems:
            screen.line(f"  - {error.sentence} {error.hint} [{error.code.value}]", style="red")
    screen.put(
        problems=[
            {"code": error.code.value, "sentence": error.sentence, "hint": error.hint}
            for error in problems
        ]
    )


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
                for x in report.sent
            ],
        )
        screen.line(
            "They were masked; sums they are part of may still be computed. They stay charged."
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
    """Keep an ingest report at the site and write the audit event that goes with it."""
    with site.audit.recording(
        AuditWord.DATA_INGESTED,
        study=report.study_id,
        read=report.read,
        stored=report.stored,
        quarantined=sum(report.quarantined.values()),
        snapshot=report.snapshot or "none",
    ) as recording:
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
        rows = mapping_rows(report.quarantined)
        screen.table(("reason", "records"), rows)
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


# --- ledger, chains, status ------------------------------------------------------------------


def show_ledger(screen: Screen, site: SiteContext) -> None:
    """Show every plan's account and the total of this hospital."""
    state, budget = site.ledger.state(), site.ledger.budget()
    rows = [
        (
            account.reserve.study_id,
            digest[:16],
            str(account.reserve.attempts),
            str(account.charged),
            str(account.remaining),
            f"{account.epsilon_charged():.4f}",
            f"{account.epsilon_reserved():.4f}",
            "settled" if account.settled else "open",
        )
        for digest, account in state.accounts.items()
    ]
    screen.title("Privacy ledger of this hospital" if rows else "Nothing was spent here yet.")
    if rows:
        screen.table(
            ("study", "plan", "reserved", "charged", "left", "eps charged", "eps reserved", ""),
            rows,
        )
    screen.facts(
        [
            ("Spent", f"epsilon {budget.spent:.4f}, every attempt ever opened"),
            ("Committed", f"epsilon {budget.committed:.4f} if every approved plan runs to its end"),
            ("Limit", f"epsilon {budget.limit:g}, set by this hospital"),
            ("Scope", f"all studies together at delta {budget.delta:g}, unit patient, adjacency "
                      "add-remove; test-set metrics and tuning are outside it"),
            ("Head", site.ledger.head()),
        ]
    )  # fmt: skip
    screen.put(
        accounts=[
            {
                "study_id": account.reserve.study_id,
                "digest": digest,
                "reserved": account.reserve.attempts,
                "charged": account.charged,
                "remaining": account.remaining,
                "epsilon_charged": account.epsilon_charged(),
                "epsilon_reserved": account.epsilon_reserved(),
                "delta": account.reserve.delta,
                "settled": account.settled,
            }
            for digest, account in state.accounts.items()
        ],
        spent=budget.spent,
        committed=budget.committed,
        limit=budget.limit,
        delta=budget.delta,
        unit="patient",
        adjacency="add-remove",
        head=site.ledger.head(),
    )


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
            state = site.approvals.state(received.digest, received.plan.expires)
            highest = site.journal.highest(received.digest, "train")
            step = "-" if highest is None else f"{highest[0] + 1} of {received.plan.training.steps}"
            rows.append((received.plan.study_id, state.value, step, received.digest[:16]))
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
                "state": site.approvals.state(received.digest, received.plan.expires).value,
            }
            for received in plans
        ],
    )


def _health(site: SiteContext) -> dict[str, Any]:
    try:
        values = json.loads((site.folders.state / "health.json").read_bytes())
    except OSError:
        return {}
    except ValueError:
        raise InternalError(
            ErrorCode.INTERNAL_UNEXPECTED, "The service's health file cannot be read."
        ) from None
    return values if isinstance(values, dict) else {}
