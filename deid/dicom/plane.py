"""Which bytes are an image's pixels, where it is one plain 8-bit plane?"""

from __future__ import annotations

from deid.dicom.clean import CleanObject
from deid.errors import DeidRefusal
from schemas.errors import ErrorCode


def pixel_plane(image: CleanObject, rows: int, columns: int) -> bytes:
    """Give an image's pixels as rows x columns bytes (uint8, row by row).

    Raises:
        DeidRefusal: not one 8-bit MONOCHROME2 plane (DICOM_PIXELS_UNSUPPORTED), or of another
            size (DICOM_SHAPE).
    """
    dataset = image.dataset
    form = tuple(
        str(dataset.get(keyword) or default)
        for keyword, default in (
            ("SamplesPerPixel", ""),
            ("PhotometricInterpretation", ""),
            ("BitsAllocated", ""),
            ("BitsStored", ""),
            ("PixelRepresentation", "0"),
            ("NumberOfFrames", "1"),
        )
    )
    pixels = dataset.get("PixelData")
    if form != ("1", "MONOCHROME2", "8", "8", "0", "1") or not isinstance(pixels, bytes):
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)
    if image.is_encapsulated:
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)
    if (dataset.get("Rows"), dataset.get("Columns")) != (rows, columns):
        raise DeidRefusal(ErrorCode.DICOM_SHAPE)
    size = rows * columns
    if len(pixels) != size + size % 2:
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)
    return pixels[:size]
