"""Which bytes are an image's pixels, where it is one plain 8-bit plane?"""

from __future__ import annotations

from typing import Literal

from deid.dicom.clean import CleanObject
from deid.dicom.container import read
from deid.dicom.elements import PIXEL_DATA
from deid.errors import DeidRefusal
from schemas.errors import ErrorCode

_GROUPS = (0x0028, 0x7FE0)
_SAMPLES, _PHOTOMETRIC, _FRAMES = 0x00280002, 0x00280004, 0x00280008
_ROWS, _COLUMNS, _ALLOCATED = 0x00280010, 0x00280011, 0x00280100
_STORED, _SIGNED = 0x00280101, 0x00280103


def pixel_plane(image: CleanObject, rows: int, columns: int) -> bytes:
    """Give an image's pixels as rows x columns bytes (uint8, row by row).

    Raises:
        DeidRefusal: not one 8-bit MONOCHROME2 plane (DICOM_PIXELS_UNSUPPORTED), or of another
            size (DICOM_SHAPE).
    """
    source = read(image.raw)
    found = {element.tag: element for element in source.elements if element.tag >> 16 in _GROUPS}
    order: Literal["little", "big"] = "little" if source.coding.little else "big"

    def number(tag: int, default: int) -> int:
        element = found.get(tag)
        if element is None or not element.value:
            return default
        return int.from_bytes(element.value, order) if len(element.value) == 2 else -1

    def text(tag: int, default: str) -> str:
        element = found.get(tag)
        return (element.value.decode("latin-1").strip(" \0") if element else "") or default

    pixels = found.get(PIXEL_DATA)
    form = (number(_SAMPLES, -1), number(_ALLOCATED, -1), number(_STORED, -1), number(_SIGNED, 0))
    plain = form == (1, 8, 8, 0) and text(_PHOTOMETRIC, "") == "MONOCHROME2"
    if not plain or text(_FRAMES, "1") != "1" or pixels is None or pixels.undefined:
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)
    if (number(_ROWS, -1), number(_COLUMNS, -1)) != (rows, columns):
        raise DeidRefusal(ErrorCode.DICOM_SHAPE)
    size = rows * columns
    if len(pixels.value) != size + size % 2:
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)
    return pixels.value[:size]
