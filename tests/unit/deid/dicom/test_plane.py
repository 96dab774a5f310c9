from __future__ import annotations

import pytest

from deid import DeidRefusal, DeidReport, Pseudonymiser, shipped_profile
from deid.dicom import DicomDeidentifier, pixel_plane
from schemas.errors import ErrorCode
from tests.support.forge import SECRET, dicom_bytes


def _cleaner() -> DicomDeidentifier:
    return DicomDeidentifier(
        shipped_profile("research"), Pseudonymiser(SECRET, "cxr"), DeidReport()
    )


def test_pixels_are_given_as_one_plane() -> None:
    image = _cleaner().clean(dicom_bytes())
    assert pixel_plane(image, 4, 4) == bytes(range(16))
    odd = _cleaner().clean(dicom_bytes(Rows=3, Columns=5, PixelData=bytes(16)))
    assert pixel_plane(odd, 3, 5) == bytes(15)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Rows": 2, "Columns": 8}, ErrorCode.DICOM_SHAPE),
        ({"PhotometricInterpretation": "MONOCHROME1"}, ErrorCode.DICOM_PIXELS_UNSUPPORTED),
        ({"BitsStored": 7}, ErrorCode.DICOM_PIXELS_UNSUPPORTED),
        ({"NumberOfFrames": "2", "PixelData": bytes(32)}, ErrorCode.DICOM_PIXELS_UNSUPPORTED),
        ({"remove": ("PixelData",)}, ErrorCode.DICOM_PIXELS_UNSUPPORTED),
    ],
    ids=["shape", "inverted", "bits", "frames", "absent"],
)
def test_other_pixels_are_refused(changes: dict[str, object], code: ErrorCode) -> None:
    image = _cleaner().clean(dicom_bytes(**changes))  # type: ignore[arg-type]
    with pytest.raises(DeidRefusal) as caught:
        pixel_plane(image, 4, 4)
    assert caught.value.code is code
