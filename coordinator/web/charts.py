"""How do a ROC curve and a row of rounds become SVG? Drawn here, so the page needs no chart code.

No style attribute and no script appear in the output: the page's content security policy forbids
both. Colours come from classes in the style sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

from coordinator.overview import RoundView
from schemas.evaluation import Release

_SIDE: Final = 320  # units of the plot area
_LEFT: Final = 60
_TOP: Final = 12
_TICKS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def roc_chart(release: Release) -> Markup:
    """Draw the thinned ROC curve with the operating point and its intervals."""
    points = [(0.0, 0.0)]
    points += [(p.false_positive_rate, p.true_positive_rate) for p in release.roc]
    points += [(1.0, 1.0)]
    points.sort()
    line = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    area = f"{_x(0):.1f},{_y(0):.1f} {line} {_x(1):.1f},{_y(0):.1f}"
    false_positive = 1 - release.specificity
    low, high = release.auroc_ci
    label = (
        f"ROC curve of the final model on held-out patients of {release.sites} hospitals: "
        f"AUROC {release.auroc:.3f}, 95 % interval {low:.3f} to {high:.3f}."
    )
    width, height = _LEFT + _SIDE + 14, _TOP + _SIDE + 44
    parts = [
        f'<svg class="roc" viewBox="0 0 {width} {height}" role="img" aria-labelledby="roc-title">',
        f'<title id="roc-title">{escape(label)}</title>',
    ]
    for tick in _TICKS:
        parts += [
            f'<line class="grid" x1="{_x(tick)}" x2="{_x(tick)}" y1="{_y(0)}" y2="{_y(1)}"/>',
            f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(tick)}" y2="{_y(tick)}"/>',
            f'<text class="tick" x="{_x(tick)}" y="{_y(0) + 16}" text-anchor="middle">'
            f"{tick:.2f}</text>",
            f'<text class="tick" x="{_x(0) - 7}" y="{_y(tick) + 4}" text-anchor="end">'
            f"{tick:.2f}</text>",
        ]
    middle = _TOP + _SIDE / 2
    parts += [
        f'<line class="chance" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>',
        f'<polygon class="area" points="{area}"/>',
        f'<polyline class="curve" points="{line}"/>',
        *(
            f'<circle class="dot" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="2.4"/>'
            for x, y in points[1:-1]
        ),
        *_cross(release, false_positive),
        f'<text class="axis" x="{_LEFT + _SIDE / 2}" y="{_y(0) + 36}" text-anchor="middle">'
        "false positive rate (1 − specificity)</text>",
        f'<text class="axis" transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">'
        "true positive rate (sensitivity)</text>",
        "</svg>",
    ]
    return Markup("".join(parts))


def interval_chart(low: float, value: float, high: float, *, start: float = 0.5) -> Markup:
    """Draw one value with its interval on a line from ``start`` to 1."""
    width, middle = 240.0, 14.0
    first = min(start, low)

    def at(value_: float) -> float:
        return 8 + (width - 16) * (value_ - first) / (1 - first)

    return Markup(
        f'<svg class="interval" viewBox="0 0 {width:g} 44" aria-hidden="true">'
        f'<line class="rail" x1="8" x2="{width - 8}" y1="{middle}" y2="{middle}"/>'
        f'<line class="span" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{middle}" y2="{middle}"/>'
        f'<circle class="point" cx="{at(value):.1f}" cy="{middle}" r="6"/>'
        f'<text class="tick" x="8" y="38">{first:.2g}</text>'
        f'<text class="tick" x="{width - 8}" y="38" text-anchor="end">1</text></svg>'
    )


def rounds_chart(rounds: Sequence[RoundView], steps: int) -> Markup:
    """Draw one column per step of training; void attempts stand above their step."""
    training = [item for item in rounds if item.kind == "train" and item.step >= 0]
    columns = max(steps, 1)
    gap = 3.0 if columns <= 60 else 1.0
    width = 720.0
    column = (width + gap) / columns - gap
    voids: dict[int, int] = {}
    done = {item.step for item in training if item.state == "summed"}
    running = {item.step for item in training if item.state == "open"}
    for item in training:
        if item.state == "void":
            voids[item.step] = voids.get(item.step, 0) + 1
    void_total = sum(voids.values())
    label = f"{len(done)} of {steps} steps done, {void_total} void attempts"
    parts = [
        f'<svg class="rounds" viewBox="0 0 {width:g} 40" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(label)}">'
    ]
    for step in range(columns):
        kind = "done" if step in done else "running" if step in running else "ahead"
        x = step * (column + gap)
        parts.append(
            f'<rect class="step {kind}" x="{x:.2f}" y="14" width="{column:.2f}" height="26" rx="2">'
            f"<title>step {step + 1}: {kind}</title></rect>"
        )
        if step in voids:
            parts.append(
                f'<rect class="step void" x="{x:.2f}" y="2" width="{column:.2f}" height="9" rx="2">'
                f"<title>step {step + 1}: {voids[step]} void</title></rect>"
            )
    parts.append("</svg>")
    return Markup("".join(parts))


def _cross(release: Release, false_positive: float) -> list[str]:
    low_spec, high_spec = release.specificity_ci
    low_sens, high_sens = release.sensitivity_ci
    x, y = _x(false_positive), _y(release.sensitivity)
    return [
        f'<line class="ci" x1="{_x(1 - high_spec):.1f}" x2="{_x(1 - low_spec):.1f}"'
        f' y1="{y:.1f}" y2="{y:.1f}"/>',
        f'<line class="ci" x1="{x:.1f}" x2="{x:.1f}"'
        f' y1="{_y(low_sens):.1f}" y2="{_y(high_sens):.1f}"/>',
        f'<circle class="operating" cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
    ]


def _x(rate: float) -> float:
    return _LEFT + _SIDE * rate


def _y(rate: float) -> float:
    return _TOP + _SIDE * (1 - rate)
