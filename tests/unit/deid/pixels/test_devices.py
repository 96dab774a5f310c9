"""The list of device layouts: what fits, and what a list may not say."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from deid.pixels.devices import device_boxes, parse_rules, shipped_rules
from schemas.errors import ConfigError

RULE = b"""
version = 1
[[device]]
manufacturer = "Acme"
model = "Echo 1"
modality = "US"
rows = 100
columns = 200
boxes = [[0, 0, 10, 200]]
because = "a banner"
"""


def picture(**values: object) -> Dataset:
    dataset = Dataset()
    known = {"Manufacturer": "ACME ", "ManufacturerModelName": "echo  1", "Modality": "US"}
    for keyword, value in ({**known, "Rows": 100, "Columns": 200} | values).items():
        setattr(dataset, keyword, value)
    return dataset


def test_case_and_blanks_do_not_matter() -> None:
    (rule,) = parse_rules(RULE)
    assert rule.fits(picture())


@pytest.mark.parametrize(
    "values", [{"Rows": 99}, {"ManufacturerModelName": "Echo 2"}, {"Modality": "OT"}]
)
def test_another_layout_does_not_fit(values: dict[str, object]) -> None:
    (rule,) = parse_rules(RULE)
    assert not rule.fits(picture(**values))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"version = 1", b"version = 2"),
        (b'because = "a banner"', b'becuase = "a banner"'),
        (b"rows = 100\n", b""),
        (b'manufacturer = "Acme"\n', b""),
        (b"[[0, 0, 10, 200]]", b"[]"),
        (b"[[0, 0, 10, 200]]", b"[[0, 0, 10, 201]]"),
        (b"[[0, 0, 10, 200]]", b"[[0, 0, 10]]"),
        (b"[[device]]", b"[device"),
    ],
)
def test_a_list_with_a_fault_is_refused(old: bytes, new: bytes) -> None:
    assert old in RULE
    with pytest.raises(ConfigError):
        parse_rules(RULE.replace(old, new))


def test_the_shipped_list_is_sound_and_blanks_its_own_layouts() -> None:
    assert shipped_rules()
    dataset = picture(
        Manufacturer="G.E. Medical Systems",
        ManufacturerModelName="LOGIQ 700",
        Rows=480,
        Columns=640,
    )
    boxes = device_boxes(dataset)
    assert boxes and all(box.source == "device" and box.frame is None for box in boxes)
    assert device_boxes(picture()) == ()
