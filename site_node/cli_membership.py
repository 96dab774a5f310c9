"""Which command tries whether a study's model betrays who trained it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from site_node.command import State, site_here

if TYPE_CHECKING:
    from site_node.membership import Attack, MembershipReport
    from site_node.screen import Screen


def membership(
    study: Annotated[str, typer.Argument(help="Study name, or the beginning of a plan's hash.")],
) -> None:
    """Try whether the study's model betrays who trained it; the report stays here."""
    from site_node.config import write_atomically
    from site_node.governance.audit import AuditWord
    from site_node.membership import membership_report

    screen, site = State.screen, site_here()
    received = (*site.approvals.in_force(study)[-1:], site.inbox.find(study))[0]
    report = membership_report(site, received.plan, received.digest)
    path = site.folders.reports / f"{received.plan.study_id}.membership.json"
    with site.audit.recording(
        AuditWord.MEMBERSHIP_REPORTED,
        plan_digest=received.digest,
        steps=report.steps,
        members=report.members,
        others=report.others,
    ) as recording:
        write_atomically(path, report.to_json().encode("utf-8"))
    _show(screen, report)
    screen.line(f"Kept in {path}; nothing was sent.")
    screen.put(path=str(path))
    screen.event(recording)


def _show(screen: Screen, report: MembershipReport) -> None:
    from site_node.membership import CAVEATS

    which = "the final model" if report.is_final else f"the model after step {report.steps}"
    screen.title(
        f"Who trained {report.study_id}? Attacks on {which}, with this hospital's patients"
    )
    screen.line(
        f"{report.members:,} training patients against {report.others:,} test patients. An AUROC "
        "of 0.5 is guessing. Beside each value stands the most that the plan allows any attack."
    )
    screen.table(
        ("attack", "measure", "found", "95 % interval", "allowed"),
        [row for attack in report.attacks for row in _rows(attack)],
    )
    if report.is_within:
        screen.line(
            "Nothing here exceeds what the plan allows by more than chance: no interval lies above "
            "it.",
            style="green",
        )
    else:
        screen.line(
            "More is found than the plan allows. If training and test patients are alike, stop "
            "the study and report this: `cohortium-site stop`.",
            style="red",
        )
    screen.line(f"The plan: {report.privacy.sentence()}.")
    screen.title("How to read this")
    for caveat in CAVEATS:
        screen.line(f"- {caveat}")
    screen.put(**report.values())


def _rows(attack: Attack) -> list[tuple[str, str, str, str, str]]:
    def interval(pair: tuple[float, float]) -> str:
        return f"{pair[0]:.3f} to {pair[1]:.3f}"

    first = (attack.name, "AUROC", f"{attack.auroc:.3f}", interval(attack.interval))
    return [
        (*first, f"{attack.allowed_auroc:.3f}"),
        *(
            (
                attack.name,
                f"share found at {100 * point.false_positive_rate:g} % false alarms",
                f"{point.true_positive_rate:.3f}",
                interval(point.interval),
                f"{point.allowed:.3f}",
            )
            for point in attack.points
        ),
    ]
