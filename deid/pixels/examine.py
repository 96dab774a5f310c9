"""What is done about the pixels of one object: looked at, blanked, stripped, or refused?

Order: what the object's class can show, then what its header declares, then the detector on every
frame, then the rules for ultrasound and devices, then one redaction. Nothing is passed
on a guess: a picture of a kind that carries writing is refused where no detector is installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from deid.errors import DeidRefusal
from deid.pixels.boxes import clipped, covered_fraction, in_blocks
from deid.pixels.codec import JPEG_SEQUENTIAL, Frames, open_frames
from deid.pixels.detector import TextDetector
from deid.pixels.devices import device_boxes
from deid.pixels.find import find_boxes, too_small
from deid.pixels.form import pixel_keyword
from deid.pixels.kinds import carries_text, is_picture, shows_label
from deid.pixels.redact import redact
from deid.pixels.regions import region_boxes
from deid.pixels.strip import offset_changes, strip_pixel_data
from deid.profile import Profile
from schemas.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class PixelReport:
    """Count what was looked at and taken out; no value out of the object.

    Attributes:
        frames: frames of the object.
        examined: frames the detector looked at.
        detected: boxes the detector asked for (one that all frames share counts once).
        ruled: boxes that the ultrasound rule and the device list asked for.
        removed_fraction: share of all pixels of all frames that was blanked, 0 to 1: all boxes,
            of sequential JPEG all blocks that they touch.
        why: one fixed word: "examined", "too-small", "not-examined-by-profile",
            "modality-without-text", "not-a-picture" or "no-pixels".
        outside_text: the part of `removed_fraction` outside the lines that the detector marked:
            what the rules for regions and devices and the rest of JPEG blocks cost.
    """

    frames: int
    examined: int
    detected: int
    ruled: int
    removed_fraction: float
    why: str
    outside_text: float = 0.0


@dataclass(frozen=True, slots=True)
class PixelOutcome:
    """Say what replaces the object's pixels.

    Attributes:
        pixel_data: the new value of Pixel Data (or of Float or Double Float Pixel Data, where the
            object has that); None when it stays as it is.
        transfer_syntax: the coding of ``pixel_data``; the object's own wherever possible.
        changes: further attributes to set, by keyword; None deletes one.
        burned_in: "NO" when every frame was examined; None when nothing is claimed.
        report: the counts.
    """

    pixel_data: bytes | None
    transfer_syntax: str
    burned_in: str | None
    report: PixelReport
    changes: dict[str, object] = field(default_factory=dict)


def examine(
    dataset: Dataset, transfer_syntax: str, profile: Profile, detector: TextDetector | None
) -> PixelOutcome:
    """Examine one object's pixels and blank what the rules and the detector find.

    Args:
        dataset: the object; not changed.
        transfer_syntax: UID of the coding of its Pixel Data.
        profile: says whether pixels are cleaned, and how much may be blanked.
        detector: None when the optional extra is not installed.

    Raises:
        DeidRefusal: DICOM_BURNED_IN (declared, but the profile does not clean pixels or the
            picture is none that is examined; or a slide's label), TEXT_DETECTION_MISSING,
            DICOM_PIXELS_UNDECODABLE, DICOM_REDACTION_TOO_LARGE.
    """
    keyword = pixel_keyword(dataset)
    if keyword is None:
        return PixelOutcome(None, transfer_syntax, None, _unexamined(0, "no-pixels"))
    frames = _frame_count(dataset)
    declared = str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES"
    if keyword != "PixelData" or not is_picture(dataset):
        if declared:
            raise DeidRefusal(ErrorCode.DICOM_BURNED_IN)
        return _untouched(dataset, transfer_syntax, _unexamined(frames, "not-a-picture"))
    tiny = _is_tiny(dataset, transfer_syntax)
    if shows_label(dataset) or (declared and (tiny or not profile.clean_pixels)):
        raise DeidRefusal(ErrorCode.DICOM_BURNED_IN)
    if not profile.clean_pixels:
        return _untouched(dataset, transfer_syntax, _unexamined(frames, "not-examined-by-profile"))
    if tiny:
        return _untouched(dataset, transfer_syntax, _unexamined(frames, "too-small"))
    if detector is None:
        if carries_text(dataset):
            raise DeidRefusal(ErrorCode.TEXT_DETECTION_MISSING)
        return _untouched(dataset, transfer_syntax, _unexamined(frames, "modality-without-text"))
    return _cleaned(dataset, transfer_syntax, profile, detector)


def _cleaned(
    dataset: Dataset, transfer_syntax: str, profile: Profile, detector: TextDetector
) -> PixelOutcome:
    frames = open_frames(dataset, transfer_syntax)
    if not frames.count:
        return _untouched(dataset, transfer_syntax, _unexamined(0, "no-pixels"))
    detected = find_boxes(frames, detector)
    rules = (*region_boxes(dataset, detected), *device_boxes(dataset))
    ruled = clipped(rules, frames.rows, frames.columns)
    boxes = (*ruled, *detected)
    size = (frames.rows, frames.columns, frames.count)
    block = _block(frames, transfer_syntax)
    removed = covered_fraction([in_blocks(box, block) for box in boxes], *size)
    outside = max(0.0, removed - covered_fraction(detected, *size))
    report = PixelReport(
        frames.count,
        frames.count,
        len(detected),
        len(ruled),
        round(removed, 6),
        "examined",
        round(outside, 6),
    )
    if not boxes:
        return _untouched(dataset, transfer_syntax, report, "NO")
    asked = covered_fraction(boxes, *size)
    if asked > profile.max_removed_fraction or outside > profile.max_outside_text_fraction:
        raise DeidRefusal(ErrorCode.DICOM_REDACTION_TOO_LARGE)
    redacted = redact(dataset, transfer_syntax, boxes)
    return PixelOutcome(
        redacted.pixel_data, redacted.transfer_syntax, "NO", report, dict(redacted.changes)
    )


def _block(frames: Frames, transfer_syntax: str) -> int:
    """Side of the smallest square that can be blanked; of colour JPEG the largest in use."""
    if transfer_syntax not in JPEG_SEQUENTIAL:
        return 1
    return 8 if frames.samples == 1 else 16  # PS3.5 8.2.1: chrominance may have half the rows


def _untouched(
    dataset: Dataset, transfer_syntax: str, report: PixelReport, burned_in: str | None = None
) -> PixelOutcome:
    """Leave the pixels, but not what hides beside them in the code stream."""
    stripped = strip_pixel_data(dataset, transfer_syntax)
    changes = {} if stripped is None else offset_changes(dataset, transfer_syntax, stripped)
    return PixelOutcome(stripped, transfer_syntax, burned_in, report, changes)


def _unexamined(frames: int, why: str) -> PixelReport:
    return PixelReport(frames, 0, 0, 0, 0.0, why)


def _frame_count(dataset: Dataset) -> int:
    try:
        return max(1, int(str(dataset.get("NumberOfFrames") or 1)))
    except ValueError:
        return 1


def _is_tiny(dataset: Dataset, transfer_syntax: str) -> bool:
    """Whether no line fits in, by the header and, lest that lies, by the code stream too."""
    sides = [dataset.get("Rows"), dataset.get("Columns")]
    if all(isinstance(side, int) for side in sides) and not too_small(*sides):
        return False
    frames = open_frames(dataset, transfer_syntax)
    return not frames.count or too_small(*frames.size(0))
