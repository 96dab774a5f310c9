"""How does AUC over epsilon become an SVG file, a panel for each data set?

Drawn here, as the coordinator's page draws its charts: no chart library, nothing to fetch. The file
stands alone, so colours are attributes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 380  # of a plot area
_HEIGHT: Final = 250
_LEFT: Final = 58
_TOP: Final = 40
_GAP: Final = 76
_BOTTOM: Final = 92
_STEPS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # between two lines of the grid
_COLOURS: Final = {
    "pooled": "#6b7280",
    "central": "#0072b2",
    "ours": "#d55e00",
    "fedavg": "#009e73",
}
_NAMES: Final = {
    "pooled": "pooled, no privacy",
    "central": "central DP-SGD",
    "ours": "distributed noise (ours)",
    "fedavg": "per-site DP-SGD + FedAvg",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One method on one data set; ``sd`` is zero where nothing is random.

    Attributes:
        method: one of the four.
        mean: AUC at each epsilon.
        sd: standard deviation over noise seeds at each epsilon.
    """

    method: str
    mean: Sequence[float]
    sd: Sequence[float]


def utility_chart(epsilons: Sequence[float], panels: Mapping[str, Sequence[Line]]) -> str:
    """Draw one panel for each data set: a line for each method, its band one sd up and down."""
    width = _LEFT + len(panels) * (_WIDTH + _GAP) - _GAP + 24
    height = _TOP + _HEIGHT + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'role="img" font-family="sans-serif" font-size="12" fill="#111827">',
        "<title>Test AUC over epsilon of four ways to train, mean and standard deviation over "
        "noise seeds</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, (name, lines) in enumerate(panels.items()):
        parts += _panel(name, epsilons, lines, _LEFT + number * (_WIDTH + _GAP))
    parts += _legend(width, height - 22)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _panel(name: str, epsilons: Sequence[float], lines: Sequence[Line], left: float) -> list[str]:
    low, high, step = _range(lines)

    def x(epsilon: float) -> float:
        first, last = math.log2(epsilons[0]), math.log2(epsilons[-1])
        share = (math.log2(epsilon) - first) / (last - first) if last > first else 0.5
        return left + 14 + (_WIDTH - 28) * share

    def y(auc: float) -> float:
        return _TOP + _HEIGHT * (high - auc) / (high - low)

    parts = [
        f'<text x="{left}" y="{_TOP - 14}"><tspan font-size="14" font-weight="bold">{escape(name)}'
        "</tspan>  test AUC: mean over noise seeds, one standard deviation</text>"
    ]
    for tick in range(round((high - low) / step) + 1):
        value = low + tick * step
        parts += [
            f'<line x1="{left}" x2="{left + _WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            'stroke="#e5e7eb"/>',
            f'<text x="{left - 7}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>',
        ]
    for epsilon in epsilons:
        parts.append(
            f'<text x="{x(epsilon):.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">'
            f"{epsilon:g}</text>"
        )
    parts.append(
        f'<text x="{left + _WIDTH / 2}" y="{_TOP + _HEIGHT + 38}" text-anchor="middle">'
        "epsilon of a patient (delta 1e-5), log scale</text>"
    )
    for line in lines:
        parts += _line(line, [x(epsilon) for epsilon in epsilons], y)
    return parts


def _line(line: Line, places: Sequence[float], y: Callable[[float], float]) -> list[str]:
    colour = _COLOURS[line.method]
    upper = [f"{x:.1f},{y(m + s):.1f}" for x, m, s in zip(places, line.mean, line.sd, strict=True)]
    lower = [f"{x:.1f},{y(m - s):.1f}" for x, m, s in zip(places, line.mean, line.sd, strict=True)]
    middle = [f"{x:.1f},{y(m):.1f}" for x, m in zip(places, line.mean, strict=True)]
    dashes = "" if any(line.sd) else ' stroke-dasharray="6 4"'
    parts = []
    if any(line.sd):
        area = " ".join([*upper, *reversed(lower)])
        parts.append(f'<polygon points="{area}" fill="{colour}" fill-opacity="0.14"/>')
    parts.append(
        f'<polyline class="{line.method}" points="{" ".join(middle)}" fill="none" '
        f'stroke="{colour}" stroke-width="2"{dashes}/>'
    )
    if any(line.sd):
        for point in middle:
            x, _, height = point.partition(",")
            parts.append(f'<circle cx="{x}" cy="{height}" r="3" fill="{colour}"/>')
    return parts


def _legend(width: float, top: float) -> list[str]:
    parts = []
    column = (width - _LEFT) / len(_NAMES)
    for number, (method, name) in enumerate(_NAMES.items()):
        left = _LEFT + number * column
        dashes = ' stroke-dasharray="6 4"' if method == "pooled" else ""
        parts += [
            f'<line x1="{left:.0f}" x2="{left + 26:.0f}" y1="{top - 4}" y2="{top - 4}" '
            f'stroke="{_COLOURS[method]}" stroke-width="2"{dashes}/>',
            f'<text x="{left + 32:.0f}" y="{top}">{escape(name)}</text>',
        ]
    return parts


def _range(lines: Sequence[Line]) -> tuple[float, float, float]:
    """Give the ends of the axis, multiples of the step between its lines, and that step."""
    ends = [m + sign * s for line in lines for m, s in zip(line.mean, line.sd, strict=True)
            for sign in (-1, 1)]  # fmt: skip
    least, most = min(ends), max(ends)
    step = next((s for s in _STEPS if (most - least) / s <= 7), _STEPS[-1])
    low, high = math.floor(least / step) * step, math.ceil(most / step) * step
    return low, max(high, low + step), step
