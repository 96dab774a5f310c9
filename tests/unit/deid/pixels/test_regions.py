"""The banner above the declared ultrasound regions."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from deid.pixels.boxes import Box
from deid.pixels.regions import region_boxes


def ultrasound(*corners: tuple[int, int, int, int]) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    dataset.Rows, dataset.Columns = 480, 640
    items = []
    for left, top, right, bottom in corners:
        item = Dataset()
        item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
        items.append(item)
    dataset.SequenceOfUltrasoundRegions = items
    return dataset


LINE = Box(10, 400, 26, 500)


def test_a_line_found_above_all_regions_goes_in_its_whole_width() -> None:
    dataset = ultrasound((20, 60, 300, 400), (320, 52, 630, 400))
    found = [LINE, Box(20, 8, 40, 90, 3), Box(200, 8, 220, 90)]
    assert region_boxes(dataset, found) == (Box(10, 0, 40, 640, None, "region"),)


def test_a_banner_without_writing_stays() -> None:
    dataset = ultrasound((20, 60, 300, 400))
    assert region_boxes(dataset, []) == ()
    assert region_boxes(dataset, [Box(70, 8, 90, 90), Box(45, 8, 69, 90)]) == ()


@pytest.mark.parametrize(
    "corners",
    [
        (0, 0, 640, 480),  # the whole picture: no banner
        (20, 300, 600, 400),  # a strip far down is no picture under a banner
        (20, 60, 700, 400),  # outside the picture
        (300, 60, 20, 400),  # upside down
    ],
)
def test_a_list_that_cannot_be_trusted_rules_nothing(corners: tuple[int, int, int, int]) -> None:
    assert region_boxes(ultrasound(corners), [LINE]) == ()


def test_other_classes_and_half_filled_items_rule_nothing() -> None:
    dataset = ultrasound((20, 60, 300, 400))
    del dataset.SequenceOfUltrasoundRegions[0].RegionLocationMinY0
    assert region_boxes(dataset, [LINE]) == ()
    dataset = ultrasound((20, 60, 300, 400))
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    assert region_boxes(dataset, [LINE]) == ()
    assert region_boxes(Dataset(), [LINE]) == ()
