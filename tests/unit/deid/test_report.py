from __future__ import annotations

import json

from deid.report import DeidReport


def test_a_new_report_counts_nothing() -> None:
    report = DeidReport()
    assert report.as_mapping()["records"] == 0
    assert report.as_mapping()["pixels"] == {
        "images": {},
        "frames_examined": 0,
        "boxes": {},
        "images_redacted": 0,
        "mean_removed_fraction": 0.0,
        "largest_removed_fraction": 0.0,
        "mean_outside_text": 0.0,
        "largest_outside_text": 0.0,
    }


def test_blanked_areas_are_averaged_over_the_images_that_were_redacted() -> None:
    report = DeidReport()
    report.add_pixels("examined", 1, 0, 0, 0.0)
    report.add_pixels("examined", 10, 3, 1, 0.1, 0.02)
    report.add_pixels("examined", 1, 1, 0, 0.3)
    pixels = report.as_mapping()["pixels"]
    assert isinstance(pixels, dict)
    assert pixels["images"] == {"examined": 3} and pixels["frames_examined"] == 12
    assert pixels["boxes"] == {"detected": 4, "ruled": 1} and pixels["images_redacted"] == 2
    assert (pixels["mean_removed_fraction"], pixels["largest_removed_fraction"]) == (0.2, 0.3)
    assert (pixels["mean_outside_text"], pixels["largest_outside_text"]) == (0.01, 0.02)


def test_the_mapping_is_sorted_json() -> None:
    report = DeidReport()
    report.actions.update({"remove": 2, "keep": 1})
    report.notes.update({"repaired": 1, "age-capped": 1})
    shown = json.loads(json.dumps(report.as_mapping()))
    assert list(shown["actions"]) == ["keep", "remove"]
    assert list(shown["notes"]) == ["age-capped", "repaired"]
