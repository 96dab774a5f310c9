"""Which parts of an ultrasound picture does its own header call margin?

The US Region Calibration Module (PS3.3 C.8.5.5) lists where image data stand; names, hospital and
time stand above them in a banner, on common lines. So where the detector finds writing in the
banner, the rule takes the whole width of those lines, and with it what the detector overlooked
beside. The rest of the banner stays: regions are often drawn smaller than the picture's sector.
The other margins (scales, depth, gain, thermal index) are left to the detector.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from deid.pixels.boxes import Box

US_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
        "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
        "1.2.840.10008.5.1.4.1.1.6",  # the same, retired
        "1.2.840.10008.5.1.4.1.1.3",
    }
)
MAX_BANNER = 0.25  # a banner higher than a quarter of the picture is a wrong region, not a banner


def region_boxes(dataset: Dataset, detected: Sequence[Box]) -> tuple[Box, ...]:
    """The lines of the banner above all declared ultrasound regions, as boxes of every frame.

    Args:
        dataset: the object.
        detected: where the detector found writing.

    Returns:
        Full-width boxes; () without regions, or where they cannot be trusted.
    """
    banner, columns = _banner(dataset)
    lines: list[tuple[int, int]] = []
    for top, bottom in sorted({(box.top, box.bottom) for box in detected}):
        if bottom > banner:
            continue  # not above all regions: a line inside the picture
        if lines and top <= lines[-1][1]:
            lines[-1] = (lines[-1][0], max(lines[-1][1], bottom))
        else:
            lines.append((top, bottom))
    return tuple(Box(top, 0, bottom, columns, None, "region") for top, bottom in lines)


def _banner(dataset: Dataset) -> tuple[int, int]:
    """Rows above the uppermost region (0 if there is no banner), and the picture's columns."""
    if str(dataset.get("SOPClassUID", "")) not in US_CLASSES:
        return 0, 0
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not isinstance(rows, int) or not isinstance(columns, int):
        return 0, 0
    tops = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        top, bottom = item.get("RegionLocationMinY0"), item.get("RegionLocationMaxY1")
        left, right = item.get("RegionLocationMinX0"), item.get("RegionLocationMaxX1")
        if not all(isinstance(corner, int) for corner in (left, top, right, bottom)):
            return 0, 0
        if not (0 <= left < right <= columns and 0 <= top < bottom <= rows):
            return 0, 0  # a region outside the picture: the list cannot be trusted
        tops.append(top)
    banner = min(tops, default=0)
    return (banner, columns) if banner <= MAX_BANNER * rows else (0, 0)
