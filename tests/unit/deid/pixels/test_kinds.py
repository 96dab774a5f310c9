"""What can show writing, and what usually does."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from deid.pixels.kinds import carries_text, is_picture, shows_label

ROOT = "1.2.840.10008.5.1.4.1.1."


def image(tail: str, **values: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = ROOT + tail
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("tail", ["66.4", "66.7", "30", "481.2"])
def test_labels_doses_and_maps_are_no_pictures(tail: str) -> None:
    assert not is_picture(image(tail))


@pytest.mark.parametrize("tail", ["2", "4", "7", "6.1", "1.1", "481.1", "77.1.6", "999"])
def test_everything_else_with_pixels_is_a_picture(tail: str) -> None:
    assert is_picture(image(tail))


@pytest.mark.parametrize("tail", ["7", "6.1", "3.1", "1", "1.1", "1.2", "12.1", "77.1.4", "999"])
def test_kinds_that_carry_text_and_unknown_ones_do(tail: str) -> None:
    assert carries_text(image(tail, ImageType=["ORIGINAL", "PRIMARY"]))


@pytest.mark.parametrize("tail", ["2", "4", "20", "128", "2.1", "4.1", "130"])
def test_a_scanners_own_slices_do_not(tail: str) -> None:
    assert not carries_text(image(tail, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]))
    assert not carries_text(image(tail))


@pytest.mark.parametrize(
    "values",
    [
        {"ImageType": ["DERIVED", "SECONDARY"]},
        {"BurnedInAnnotation": "YES"},
        {"SamplesPerPixel": 3},
    ],
)
def test_screens_colour_and_declared_text_among_slices_do(values: dict[str, object]) -> None:
    assert carries_text(image("2", **values))


@pytest.mark.parametrize(
    ("flavour", "stated", "shown"),
    [
        ("LABEL", None, True),
        ("LABEL", "NO", True),  # the type says what the picture is of
        ("OVERVIEW", None, True),
        ("OVERVIEW", "YES", True),
        ("OVERVIEW", "NO", False),
        ("VOLUME", "YES", True),
        ("VOLUME", None, False),
        ("THUMBNAIL", None, False),
    ],
)
def test_a_slide_s_label_is_seen_in_the_header(
    flavour: str, stated: str | None, shown: bool
) -> None:
    dataset = Dataset()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", flavour, "NONE"]
    if stated is not None:
        dataset.SpecimenLabelInImage = stated
    assert shows_label(dataset) is shown
