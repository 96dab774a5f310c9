"""How do plans, progress and results read on a screen or in a file?"""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from coordinator.client.aggregation import aggregation_lines
from schemas.evaluation import Release
from schemas.governance.preparation import preparation_norm
from schemas.governance.study import StudyPlan, TrainingTerms
from schemas.identity import IdentityCard, fingerprint, fingerprint_words
from schemas.privacy.costs import Cost, cost_lines
from schemas.privacy.statement import privacy_statement

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDTH: Final = 96
_LABEL: Final = 15  # columns of a label and the room around it
AUROC_METHOD: Final = "DeLong on binned scores, 95 %"
RATE_METHOD: Final = "Wilson, 95 %, at the plan's threshold"
CALIBRATION_METHOD: Final = "mean prediction less observed share, normal, 95 %"
BRIER_METHOD: Final = "mean squared error, normal, 95 %"


def plan_lines(
    plan: StudyPlan, cards: Sequence[IdentityCard] = (), costs: Sequence[Cost] = ()
) -> list[str]:
    """Write the preview of a plan: who, what leaves, what it costs, its digest."""
    prints = {card.site_id: fingerprint(card) for card in cards}
    training = plan.training
    lines = [
        f"{plan.study_id}: {plan.title}",
        f"  vendor      {plan.vendor}; results go to {', '.join(plan.recipients)}",
        f"  model       {plan.model.architecture.value}, {plan.model.parameters} parameters",
        *_labelled("training", wrapped([training_words(training)]), width=11),
        f"  cohort      at least {plan.cohort_minimum} of {len(plan.sites)} hospitals",
    ]
    if plan.preparation is not None:
        lines[3:3] = _labelled("prepares", wrapped([_prepares(plan)]), width=11)
    for site in plan.sites:
        words = fingerprint_words(prints[site.site_id]) if site.site_id in prints else ""
        lines.append(f"    {site.site_id:<14} {site.name}  {words}".rstrip())
    vector = 4 * plan.longest_vector
    first, *rest = aggregation_lines(plan)
    lines += [
        f"  adding up   {first}",
        *("              " + line for line in rest),
        f"  leaves      {', '.join(plan.outputs)}",
        f"              each update at most {vector} bytes of masked words and a signed header; "
        "no loss,",
        "              no counts. Every hospital sees all kinds and bytes in its own `plan show`.",
        *_labelled("privacy", wrapped(privacy_statement(plan).lines()), width=11),
        *_labelled("costs", cost_lines(costs) if costs else (), width=11),
        *_labelled("tuning", wrapped([plan.tuning_declaration]), width=11),
        f"  valid       {plan.created} to {plan.expires}",
        f"  digest      {plan.digest()}",
    ]
    return lines


def training_words(training: TrainingTerms) -> str:
    """Name algorithm, batch, optimiser and the constants that shape a step."""
    batch = "full batch" if training.sampling == "full" else f"Poisson {training.sampling_rate:g}"
    words = [f"{training.algorithm}, {_counted(training.steps, 'step')}"]
    if training.is_local:
        words.append(
            f"{_counted(training.local_steps, 'local step')} each at rate "
            f"{training.local_learning_rate:g} over {training.local_divisor:g} patients, change "
            f"at most {training.update_clip:g}"
        )
    momentum = f" with momentum {training.momentum:g}" if training.momentum else ""
    words += [
        f"{batch}, clip {training.clip:g}",
        f"{training.optimiser}{momentum}, learning rate {training.learning_rate:g}, divisor "
        f"{training.divisor:g} {'hospitals' if training.is_local else 'patients'}",
    ]
    return "; ".join(words)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _prepares(plan: StudyPlan) -> str:
    """Name what one noised sum before training is for, and how exact it can be."""
    groups = plan.preparation_groups
    words = sum(group.words for group in groups)
    uses = ", ".join(f"{group.use} {group.column}".rstrip() for group in groups)
    return (
        f"one noised sum of {words} numbers before training, for: {uses}; noise in each number: "
        f"{preparation_noise(plan):.0f} patients"
    )


def preparation_noise(plan: StudyPlan) -> float:
    """Give the standard deviation of the noise in each number of the preparation, in patients."""
    assert plan.preparation is not None
    return plan.preparation.noise_multiplier * preparation_norm(plan.preparation_groups)


def result_values(
    plan: StudyPlan, release: Release, signed_by: Sequence[str], released_at: str
) -> dict[str, Any]:
    """Return the result as one JSON object, with method and scope beside every number."""
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
        "privacy": privacy_statement(plan).values(),
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
        *_labelled("privacy", wrapped(privacy_statement(plan).lines())),
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
    writer.writerow([study, "epsilon", privacy["epsilon"], "", "", privacy["sentence"]])
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
    scope = Text(study["privacy"]["sentence"], style="dim")
    bar = ProgressBar(total=study["steps"], completed=study["steps_done"], width=60)
    return Group(head, state, bar, table, scope)


def _with_interval(item: Mapping[str, Any], form: str = ".3f") -> str:
    low, high = item["interval"]
    return f"{item['value']:{form}} [{low:{form}}, {high:{form}}]"


def wrapped(lines: Sequence[str]) -> list[str]:
    """Break long lines, going on indented."""
    return [
        piece
        for line in lines
        for piece in textwrap.wrap(
            line,
            _WIDTH - _LABEL,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def _labelled(label: str, lines: Sequence[str], width: int = 12) -> list[str]:
    return [f"  {label if place == 0 else '':<{width}} {line}" for place, line in enumerate(lines)]
