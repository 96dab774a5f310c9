"""One object's pixels: refused, left, or blanked in every frame; what is told about it."""

from __future__ import annotations

from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from deid.errors import DeidRefusal
from deid.pixels.boxes import Box
from deid.pixels.detector import TextDetector
from deid.pixels.examine import PixelOutcome, examine
from deid.profile import Profile, shipped_profile
from schemas.errors import ErrorCode

LITTLE, JPEG_BASELINE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
ROOT = "1.2.840.10008.5.1.4.1.1."
CT, US, US_LOOP, SC, SEG = (ROOT + tail for tail in ("2", "6.1", "3.1", "7", "66.4"))
RESEARCH, BASIC = shipped_profile("research"), shipped_profile("basic")


class ScriptedDetector(TextDetector):
    """Finds what the test says, where the picture is brighter than 200."""

    def __init__(self, boxes: list[Box]) -> None:
        self.boxes = boxes
        self.looks = 0

    def find(self, grey: NDArray[np.uint8], *, thorough: bool = True) -> list[Box]:
        self.looks += 1
        return list(self.boxes) if grey.max() > 200 else []


def picture(sop_class: str, frames: NDArray[np.uint8]) -> Dataset:
    """An object of these frames, shape (frames, rows, columns)."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.Rows, dataset.Columns = frames.shape[1:]
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = frames.tobytes()
    return dataset


def written(count: int = 1, side: int = 64) -> NDArray[np.uint8]:
    frames = np.full((count, side, side), 90, dtype=np.uint8)
    frames[:, 0, :] = 10
    frames[:, 12:18, 10:50:3] = 250
    return frames


def pixels(outcome: PixelOutcome, like: NDArray[np.uint8]) -> NDArray[np.uint8]:
    assert outcome.pixel_data is not None
    return np.frombuffer(outcome.pixel_data, dtype=np.uint8)[: like.size].reshape(like.shape)


BOX = Box(10, 8, 20, 52)


def refusal(*arguments: object) -> ErrorCode:
    with pytest.raises(DeidRefusal) as caught:
        examine(*arguments)  # type: ignore[arg-type]
    return caught.value.code


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_found_is_blanked_in_every_frame_and_nothing_else(count: int) -> None:
    frames = written(count)
    outcome = examine(picture(US_LOOP, frames), LITTLE, RESEARCH, ScriptedDetector([BOX]))
    after = pixels(outcome, frames)
    inside = np.zeros(frames.shape, dtype=bool)
    inside[:, BOX.top : BOX.bottom, BOX.left : BOX.right] = True
    assert (after[~inside] == frames[~inside]).all()
    assert after[inside].max() <= 90
    assert outcome.burned_in == "NO" and outcome.transfer_syntax == LITTLE
    report = outcome.report
    assert (report.frames, report.examined, report.detected, report.why) == (
        count,
        count,
        1,
        "examined",
    )
    assert report.removed_fraction == pytest.approx(BOX.area / 64**2, abs=1e-6)


def test_a_picture_without_writing_keeps_its_bytes() -> None:
    frames = np.full((1, 64, 64), 90, dtype=np.uint8)
    outcome = examine(picture(CT, frames), LITTLE, RESEARCH, ScriptedDetector([BOX]))
    assert outcome.pixel_data is None and outcome.burned_in == "NO"
    assert outcome.report.detected == 0 and outcome.report.examined == 1


def test_the_rule_for_regions_works_beside_the_detector() -> None:
    frames = written(side=96)
    dataset = picture(US, frames)
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 96, 90
    dataset.SequenceOfUltrasoundRegions = [region]
    outcome = examine(dataset, LITTLE, RESEARCH, ScriptedDetector([BOX]))
    assert (pixels(outcome, frames)[:, BOX.top : BOX.bottom] == 10).all()
    assert (outcome.report.ruled, outcome.report.detected) == (1, 1)
    beside = outcome.report.removed_fraction - BOX.area / 96**2
    assert outcome.report.outside_text == pytest.approx(beside, abs=1e-5)
    assert outcome.report.outside_text > 0
    strict = replace(RESEARCH, max_outside_text_fraction=outcome.report.outside_text / 2)
    refused = refusal(dataset, LITTLE, strict, ScriptedDetector([BOX]))
    assert refused is ErrorCode.DICOM_REDACTION_TOO_LARGE


def test_what_jpeg_blocks_cost_beside_the_text_is_counted() -> None:
    frames = written(side=96)
    dataset = picture(US, frames)
    dataset.PixelData = encapsulate([imagecodecs.jpeg8_encode(frames[0], level=95)])
    outcome = examine(dataset, JPEG_BASELINE, RESEARCH, ScriptedDetector([BOX]))
    assert outcome.transfer_syntax == JPEG_BASELINE
    assert outcome.report.removed_fraction == pytest.approx(16 * 48 / 96**2, abs=1e-5)
    assert outcome.report.outside_text == pytest.approx((16 * 48 - BOX.area) / 96**2, abs=1e-5)


def test_more_than_the_profile_allows_is_refused() -> None:
    strict = replace(RESEARCH, max_removed_fraction=0.05)
    detector = ScriptedDetector([BOX])
    assert (
        refusal(picture(US, written()), LITTLE, strict, detector)
        is ErrorCode.DICOM_REDACTION_TOO_LARGE
    )


def test_without_the_extra_kinds_that_carry_text_are_refused_and_plain_slices_pass() -> None:
    for sop_class in (US, SC):
        dataset = picture(sop_class, written())
        assert refusal(dataset, LITTLE, RESEARCH, None) is ErrorCode.TEXT_DETECTION_MISSING
    outcome = examine(picture(CT, written()), LITTLE, RESEARCH, None)
    assert outcome.pixel_data is None and outcome.burned_in is None
    assert outcome.report.why == "modality-without-text" and outcome.report.examined == 0


def test_a_profile_that_leaves_pixels_refuses_declared_text() -> None:
    dataset = picture(US, written())
    outcome = examine(dataset, LITTLE, BASIC, ScriptedDetector([BOX]))
    assert outcome.pixel_data is None and outcome.burned_in is None
    assert outcome.report.why == "not-examined-by-profile"
    dataset.BurnedInAnnotation = "YES"
    assert refusal(dataset, LITTLE, BASIC, None) is ErrorCode.DICOM_BURNED_IN


def test_no_line_fits_a_tiny_picture() -> None:
    detector = ScriptedDetector([BOX])
    outcome = examine(picture(SC, written(side=24)[:, :24, :24]), LITTLE, RESEARCH, None)
    assert outcome.report.why == "too-small" and outcome.burned_in is None
    assert detector.looks == 0


def test_a_tiny_picture_that_declares_text_is_not_believed_to_be_clean() -> None:
    dataset = picture(SC, written(side=24)[:, :24, :24])
    dataset.BurnedInAnnotation = "YES"
    detector = ScriptedDetector([])
    assert refusal(dataset, LITTLE, RESEARCH, detector) is ErrorCode.DICOM_BURNED_IN


def test_a_header_that_calls_a_picture_tiny_is_not_believed() -> None:
    dataset = picture(US, written())
    dataset.Rows = dataset.Columns = 64
    stream = imagecodecs.jpegls_encode(written()[0])
    dataset.PixelData = encapsulate([stream])
    dataset.Rows = dataset.Columns = 8
    detector = ScriptedDetector([])
    outcome = examine(dataset, "1.2.840.10008.1.2.4.80", RESEARCH, detector)
    assert outcome.report.why == "examined" and detector.looks == 1


def test_segmentations_are_not_looked_at() -> None:
    detector = ScriptedDetector([BOX])
    outcome = examine(picture(SEG, written()), LITTLE, RESEARCH, detector)
    assert outcome.report.why == "not-a-picture" and detector.looks == 0


def test_an_object_without_pixels_has_nothing_to_examine() -> None:
    outcome = examine(Dataset(), LITTLE, RESEARCH, None)
    assert (outcome.pixel_data, outcome.report.why) == (None, "no-pixels")


def test_bytes_beside_the_picture_go_even_when_nothing_is_found() -> None:
    dataset = picture(CT, np.full((1, 64, 64), 90, dtype=np.uint8))
    dataset.PixelData += b"HONG GILDONG    "
    outcome = examine(dataset, LITTLE, RESEARCH, ScriptedDetector([]))
    assert outcome.pixel_data is not None and b"HONG" not in outcome.pixel_data


def test_pixels_that_cannot_be_read_are_refused() -> None:
    dataset = picture(US, written())
    detector = ScriptedDetector([])
    assert refusal(dataset, "1.2.3.4", RESEARCH, detector) is ErrorCode.DICOM_PIXELS_UNDECODABLE


def test_a_report_holds_counts_and_fixed_words_only() -> None:
    report = examine(picture(US, written()), LITTLE, RESEARCH, ScriptedDetector([BOX])).report
    values = [getattr(report, name) for name in report.__slots__]
    assert all(isinstance(value, int | float | str) for value in values)


@pytest.mark.parametrize("profile", [RESEARCH, BASIC])
@pytest.mark.parametrize("sop_class", [ROOT + "77.1.6", SC])
def test_a_picture_of_a_slide_s_label_is_refused(profile: Profile, sop_class: str) -> None:
    dataset = picture(sop_class, written())
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    with pytest.raises(DeidRefusal) as refused:
        examine(dataset, LITTLE, profile, ScriptedDetector([]))
    assert refused.value.code is ErrorCode.DICOM_BURNED_IN


def test_writing_declared_in_what_is_no_picture_is_refused() -> None:
    dataset = picture(SEG, written())
    dataset.BurnedInAnnotation = "YES"
    with pytest.raises(DeidRefusal) as refused:
        examine(dataset, LITTLE, RESEARCH, ScriptedDetector([]))
    assert refused.value.code is ErrorCode.DICOM_BURNED_IN
