"""Is the drawn curve the released one, without style or script?"""

from __future__ import annotations

import re

import pytest

from coordinator.overview import Overview
from coordinator.web.charts import interval_chart, roc_chart, rounds_chart
from tests.support.desk import Desk, seed_four_states


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("charts"))
    seed_four_states(desk)
    return desk


def test_the_curve_has_every_released_point_and_both_corners(seeded: Desk) -> None:
    result = Overview(seeded.database).study("heart").result
    assert result is not None
    svg = roc_chart(result.release)
    line = re.search(r'class="curve" points="([^"]+)"', svg)
    assert line is not None
    points = [tuple(map(float, pair.split(","))) for pair in line.group(1).split()]
    assert points[0] == (60.0, 332.0) and points[-1] == (380.0, 12.0)
    assert points == sorted(points)
    assert all(60 <= x <= 380 and 12 <= y <= 332 for x, y in points)
    assert f"AUROC {result.release.auroc:.3f}" in svg


def test_nothing_inline_is_drawn(seeded: Desk) -> None:
    study = Overview(seeded.database).study("heart")
    assert study.result is not None
    for svg in (
        roc_chart(study.result.release),
        rounds_chart(study.rounds, study.steps),
        interval_chart(0.8, 0.9, 0.95),
    ):
        assert "style=" not in svg and "<script" not in svg and "href" not in svg


def test_rounds_show_done_running_void_and_ahead(seeded: Desk) -> None:
    study = Overview(seeded.database).study("cxr")
    svg = rounds_chart(study.rounds, study.steps)
    assert svg.count('class="step done"') == 17
    assert svg.count('class="step running"') == 1
    assert svg.count('class="step void"') == 1
    assert svg.count('class="step ahead"') == study.steps - 18
    assert "17 of 40 steps done, 1 void attempts" in svg


def test_an_interval_below_the_usual_start_stays_inside() -> None:
    spans = re.findall(r'class="span" x1="([\d.]+)" x2="([\d.]+)"', interval_chart(0.3, 0.4, 0.5))
    assert all(8 <= float(value) <= 232 for pair in spans for value in pair)
