"""How do plans, progress and results read on a screen or in a file?"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from coordinator.client.aggregation import aggregation_lines
from schemas.evaluation import Release
from schemas.governance.study import StudyPlan
from schemas.identity import IdentityCard, fingerprint, fingerprint_words

if TYPE_CHECKING:
    from rich.console import RenderableType

OUTSIDE: Final = (
    "the test-set metrics, which are computed once, without noise, on held-out patients",
    "the tuning the plan declares",
)
AUROC_METHOD: Final = "DeLong on binned scores, 95 %"
RATE_METHOD: Final = "Wilson, 95 %, at the plan's threshold"
CALIBRATION_METHOD: Final = "mean prediction less observed share, normal, 95 %"
BRIER_METHOD: Final = "mean squared error, normal, 95 %"


def epsilon_lines(plan: StudyPlan) -> list[str]:
    """Write epsilon with everything it depends on; it is never printed alone."""
    terms, training = plan.privacy, plan.training
    sampling = (
        "full batch" if training.sampling == "full" else f"Poisson, rate {training.sampling_rate:g}"
    )
    return [
        f"epsilon {terms.epsilon:g} at delta {terms.delta:g}, per {terms.unit}, "
        f"{terms.adjacency} neighbours, accountant {terms.accountant.upper()}",
        f"covers {training.attempts} attempts ({training.steps} steps and "
        f"{training.retry_cap} retries), {sampling}, noise multiplier {terms.noise_multiplier:g}",
        f"against the coordinator with up to {plan.collusion_bound} colluding hospital(s); "
        f"a patient known to {terms.hospitals_per_patient} hospital "
        f"(for two hospitals: epsilon {terms.epsilon_two_hospitals:g})",
        *(f"outside epsilon: {what}" for what in OUTSIDE),
    ]


def plan_lines(plan: StudyPlan, cards: Sequence[IdentityCard] = ()) -> list[str]:
    """Write the preview of a plan: who, what leaves, what it costs, its digest."""
    prints = {card.site_id: fingerprint(card) for card in cards}
    lines = [
        f"{plan.study_id}: {plan.title}",
        f"  vendor      {plan.vendor}; results go to {', '.join(plan.recipients)}",
        f"  model       {plan.model.architecture.value}, {plan.model.parameters} parameters",
        f"  training    {plan.training.steps} steps, clip {plan.training.clip:g}, "
        f"learning rate {plan.training.learning_rate:g}",
        f"  cohort      at least {plan.cohort_minimum} of {len(plan.sites)} hospitals",
    ]
    for site in plan.sites:
        words = fingerprint_words(prints[site.site_id]) if site.site_id in prints else ""
        lines.append(f"    {site.site_id:<14} {site.name}  {words}".rstrip())
    vector = 4 * plan.model.parameters
    first, *rest = aggregation_lines(plan)
    lines += [
        f"  adding up   {first}",
        *("              " + line for line in rest),
        f"  leaves      {', '.join(plan.outputs)}",
        f"              each update {vector} bytes of masked words and a signed header; no loss,",
        "              no counts. Every hospital sees all kinds and bytes in its own `plan show`.",
        "  privacy     " + epsilon_lines(plan)[0],
        *("              " + line for line in epsilon_lines(plan)[1:]),
        f"  tuning      {plan.tuning_declaration}",
        f"  valid       {plan.created} to {plan.expires}",
        f"  digest      {plan.digest()}",
    ]
    return lines


def result_values(
    plan: StudyPlan, release: Release, signed_by: Sequence[str], released_at: str
) -> dict[str, Any]:
    """Return the result as one JSON object, with method and scope beside every number."""
    terms, training = plan.privacy, plan.training
    names = {site.site_id: site.name for site in plan.sites}
    return {
        "study_id": plan.study_id,
        "plan_digest": release.plan_digest,
        "model_hash": release.model_hash,
        "released_at": released_at,
        "sites": release.sites,
        "signed_by": [{"site_id": site, "name": names[site]} for site in signed_by],
        "auroc": {
            "value": release.auroc,
            "interval": list(release.auroc_ci),
            "method": AUROC_METHOD,
            "certified_bound": release.auroc_bound,
        },
        "sensitivity": {
            "value": release.sensitivity,
            "interval": list(release.sensitivity_ci),
            "method": RATE_METHOD,
            "threshold": release.threshold,
        },
        "specificity": {
            "value": release.specificity,
            "interval": list(release.specificity_ci),
            "method": RATE_METHOD,
            "threshold": release.threshold,
        },
        "calibration_in_the_large": {
            "value": release.calibration_in_the_large,
            "interval": list(release.calibration_in_the_large_ci),
            "method": CALIBRATION_METHOD,
        },
        "brier": {
            "value": release.brier,
            "interval": list(release.brier_ci),
            "method": BRIER_METHOD,
        },
        "positives_at_least": release.positives_at_least,
        "negatives_at_least": release.negatives_at_least,
        "roc": [[p.false_positive_rate, p.true_positive_rate] for p in release.roc],
        "roc_minimum_patients": release.roc_minimum_patients,
        "privacy": {
            "epsilon": terms.epsilon,
            "delta": terms.delta,
            "unit": terms.unit,
            "adjacency": terms.adjacency,
            "accountant": terms.accountant,
            "t": plan.collusion_bound,
            "steps": training.steps,
            "retry_cap": training.retry_cap,
            "noise_multiplier": terms.noise_multiplier,
            "hospitals_per_patient": terms.hospitals_per_patient,
            "epsilon_two_hospitals": terms.epsilon_two_hospitals,
            "outside_epsilon": list(OUTSIDE),
            "tuning_declaration": plan.tuning_declaration,
        },
    }


def result_lines(plan: StudyPlan, values: Mapping[str, Any]) -> list[str]:
    """Write the result for a person."""
    auroc = values["auroc"]
    lines = [
        f"{plan.study_id}: {plan.title}",
        f"  AUROC        {_with_interval(auroc)}  ({auroc['method']})",
        f"               the AUROC of the unbinned scores lies within "
        f"{auroc['certified_bound']:.3f} of it (certified)",
    ]
    for name in ("sensitivity", "specificity"):
        rate = values[name]
        lines.append(
            f"  {name:<12} {_with_interval(rate)}  ({rate['method']} {rate['threshold']:g})"
        )
    large, brier = values["calibration_in_the_large"], values["brier"]
    lines.append(f"  calibration  {_with_interval(large, '+.3f')}  ({large['method']})")
    lines.append(f"  Brier        {_with_interval(brier)}  ({brier['method']})")
    signers = ", ".join(item["site_id"] for item in values["signed_by"])
    return [
        *lines,
        f"  patients     held out: at least {values['positives_at_least']} with and "
        f"{values['negatives_at_least']} without the finding, {values['sites']} hospitals",
        *_labelled("privacy", epsilon_lines(plan)),
        f"  model        {values['model_hash']}",
        f"  plan         {values['plan_digest']}",
        f"  co-signed by {signers}; every signature was checked here",
    ]


def result_csv(values: Mapping[str, Any]) -> str:
    """Write the result as CSV: one row a number, with interval, method and scope."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["study", "quantity", "value", "low", "high", "method"])
    study = values["study_id"]
    for name in ("auroc", "sensitivity", "specificity", "calibration_in_the_large", "brier"):
        item = values[name]
        writer.writerow([study, name, item["value"], *item["interval"], item["method"]])
    bound = values["auroc"]["certified_bound"]
    writer.writerow([study, "auroc_bound", bound, "", "", "certified: binning and rounding"])
    writer.writerow([study, "threshold", values["sensitivity"]["threshold"], "", "", "plan"])
    writer.writerow([study, "sites", values["sites"], "", "", "co-signed"])
    for name in ("positives_at_least", "negatives_at_least"):
        writer.writerow([study, name, values[name], "", "", "held-out patients; outside epsilon"])
    privacy = values["privacy"]
    scope = (
        f"delta={privacy['delta']:g}; per {privacy['unit']}; {privacy['adjacency']}; "
        f"{privacy['accountant']}; t={privacy['t']}; steps={privacy['steps']}; "
        f"retries={privacy['retry_cap']}; hospitals per patient="
        f"{privacy['hospitals_per_patient']}; test metrics and tuning outside"
    )
    writer.writerow([study, "epsilon", privacy["epsilon"], "", "", scope])
    writer.writerow([study, "model_hash", values["model_hash"], "", "", "signed by every site"])
    for false_positive, true_positive in values["roc"]:
        note = (
            f"true positive rate at false positive rate {false_positive:g}; "
            f"at least {values['roc_minimum_patients']} patients a point"
        )
        writer.writerow([study, "roc", true_positive, "", "", note])
    return out.getvalue()


def progress_line(study: Mapping[str, Any]) -> str:
    """Write where a study stands in one line."""
    waits = [f"{site['site_id']}: {site['reason']}" for site in study["sites"] if site["reason"]]
    reason = f" – {study['reason']}" if study["reason"] else ""
    line = (
        f"{study['study_id']}  {study['state_words']}{reason}  "
        f"step {study['steps_done']}/{study['steps']}  "
        f"attempts {study['attempts_opened']} ({study['attempts_void']} void)"
    )
    return line + ("  | " + "; ".join(waits) if waits else "")


def progress_table(study: Mapping[str, Any]) -> RenderableType:
    """Build the live table of one study for a terminal."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Text.assemble((f"{study['study_id']}  ", "bold"), study["title"])
    state = Text.assemble(
        (study["state_words"], "bold cyan"),
        f"  step {study['steps_done']} of {study['steps']}, "
        f"attempts {study['attempts_opened']}, void {study['attempts_void']}",
        f"  {study['reason']}" if study["reason"] else "",
    )
    table = Table(box=None, pad_edge=False)
    for column in ("hospital", "state", "sent", "why it is waited for"):
        table.add_column(column)
    for site in study["sites"]:
        table.add_row(
            f"{site['site_id']}  {site['name']}",
            site["status"],
            f"{site['sent_bytes']} B",
            site["reason"],
        )
    privacy = study["privacy"]
    scope = Text(
        f"epsilon {privacy['epsilon']:g} (delta {privacy['delta']:g}, per {privacy['unit']}, "
        f"{privacy['adjacency']}, t={privacy['collusion_bound']}) for all "
        f"{privacy['attempts_covered']} attempts; test metrics outside",
        style="dim",
    )
    bar = ProgressBar(total=study["steps"], completed=study["steps_done"], width=60)
    return Group(head, state, bar, table, scope)


def _with_interval(item: Mapping[str, Any], form: str = ".3f") -> str:
    low, high = item["interval"]
    return f"{item['value']:{form}} [{low:{form}}, {high:{form}}]"


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    return [f"  {label if place == 0 else '':<12} {line}" for place, line in enumerate(lines)]
