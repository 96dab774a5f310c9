"""Which parts of an ultrasound picture does its own header call margin?

The US Region Calibration Module (PS3.3 C.8.5.5) lists where image data stand; names, hospital and
time stand outside, mostly in a banner on top. Where a region says that it holds data, everything
above the uppermost one is blanked by rule; the other margins (scales, depth, gain, thermal index)
are left to the text detector, because blanking them all would take out what research needs.
"""

from __future__ import annotations

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


def region_boxes(dataset: Dataset) -> tuple[Box, ...]:
    """The banner above all declared ultrasound regions, as a box of every frame; () without."""
    if str(dataset.get("SOPClassUID", "")) not in US_CLASSES:
        return ()
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not isinstance(rows, int) or not isinstance(columns, int):
        return ()
    tops = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        top, bottom = item.get("RegionLocationMinY0"), item.get("RegionLocationMaxY1")
        left, right = item.get("RegionLocationMinX0"), item.get("RegionLocationMaxX1")
        corners = (left, top, right, bottom)
        if not all(isinstance(corner, int) for corner in corners):
            return ()
        if not (0 <= left < right <= columns and 0 <= top < bottom <= rows):
            return ()  # a region outside the picture: the list cannot be trusted
        tops.append(top)
    banner = min(tops, default=0)
    if not 0 < banner <= MAX_BANNER * rows:
        return ()
    return (Box(0, 0, banner, columns, None, "region"),)
