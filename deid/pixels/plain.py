"""How are an object's frames written uncompressed, as Explicit VR Little Endian?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deid.pixels.boxes import Box
from deid.pixels.codec import Frames, undecodable
from deid.pixels.form import PixelForm
from deid.pixels.native import Pixels
from deid.pixels.paint import painted

_MAX_BYTES = 1 << 31  # more is no element of a DICOM file (PS3.5 7.1.1), and no memory's


def uncompressed(
    frames: Frames, form: PixelForm, wanted: Mapping[int, Sequence[Box]]
) -> tuple[bytes, dict[str, object]]:
    """Write all frames uncompressed, the wanted ones with their boxes blank.

    Returns:
        The pixel data, and the attributes to set with it; None deletes one.
    """
    planes: list[bytes] = []
    first: Pixels | None = None
    kind = form.photometric
    if frames.count * -(-form.frame_bits // 8) > _MAX_BYTES:
        raise undecodable()
    for index in range(frames.count):
        coded = frames.coded(index)
        if index in wanted:
            coded = painted(frames, coded, wanted[index])
        values, kind = frames.values(coded), coded.photometric
        if first is None:
            first = values
        if values.shape != (form.rows, form.columns, *first.shape[2:]):
            values = _fitted(values, form)
        planes.append(values.astype(values.dtype.newbyteorder("<")).tobytes())
    data = b"".join(planes)
    allocated = 8 * first.dtype.itemsize if first is not None else form.bits_allocated
    stored = min(form.bits_stored, allocated)
    changes: dict[str, object] = {
        "PhotometricInterpretation": kind.removesuffix("_422"),
        "BitsAllocated": allocated,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "ExtendedOffsetTable": None,
        "ExtendedOffsetTableLengths": None,
    }
    if first is not None and first.ndim == 3:
        changes["PlanarConfiguration"] = 0
    return data + b"\x00" * (len(data) % 2), changes


def _fitted(values: Pixels, form: PixelForm) -> Pixels:
    """Cut or pad a frame of another size than the header's; the pad is black."""
    shape = (form.rows, form.columns, *values.shape[2:])
    fitted = np.zeros(shape, values.dtype)
    part = values[: form.rows, : form.columns]
    fitted[: part.shape[0], : part.shape[1]] = part
    return fitted
