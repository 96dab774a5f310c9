"""What does an object's header say of the layout of its pixels?"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_MAX_FRAMES = 1 << 24
_TAGS = {
    "SamplesPerPixel": BaseTag(0x00280002),
    "PlanarConfiguration": BaseTag(0x00280006),
    "Rows": BaseTag(0x00280010),
    "Columns": BaseTag(0x00280011),
    "BitsAllocated": BaseTag(0x00280100),
    "BitsStored": BaseTag(0x00280101),
    "HighBit": BaseTag(0x00280102),
    "PixelRepresentation": BaseTag(0x00280103),
}


@dataclass(frozen=True, slots=True)
class PixelForm:
    """Hold the Image Pixel attributes (PS3.3 C.7.6.3) that fix where a pixel's bits lie.

    Attributes:
        rows, columns: size of a frame in pixels.
        samples: samples per pixel, 1 or 3 (4 in retired objects).
        bits_allocated, bits_stored, high_bit: bits of one sample, and which of them hold it.
        signed: whether samples are two's complement.
        planar: whether a colour frame lies plane by plane.
        photometric: Photometric Interpretation, upper case.
        frames: Number of Frames; None where it is absent or is not a number.
        is_float: whether samples are IEEE 754 numbers (PS3.3 C.7.6.24).
        words: whether the element's VR is OW, which swaps 8-bit samples in big endian (PS3.5 8.1).
    """

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool
    photometric: str
    frames: int | None
    is_float: bool
    words: bool

    @property
    def subsampled(self) -> bool:
        """Whether native pixels share their colour two by two (PS3.3 C.7.6.3.1.2)."""
        return self.photometric.endswith("_422") and self.samples == 3

    @property
    def frame_bits(self) -> int:
        """Bits of one native frame."""
        samples = 2 if self.subsampled else self.samples
        return self.rows * self.columns * samples * self.bits_allocated


def pixel_keyword(dataset: Dataset) -> str | None:
    """Give the keyword of the element that holds an object's pixels; None without one."""
    return next((keyword for keyword in _KEYWORDS if keyword in dataset), None)


def pixel_bytes(dataset: Dataset) -> bytes:
    """Give the bytes of an object's pixels; empty where it has none."""
    keyword = pixel_keyword(dataset)
    value = dataset[keyword].value if keyword else None
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b""


def pixel_form(dataset: Dataset) -> PixelForm | None:
    """Read the layout of an object's pixels; None where it states no picture at all."""
    keyword = pixel_keyword(dataset)
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    is_float = keyword in _KEYWORDS[1:]
    width = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keyword or "")
    allocated = width or _number(dataset, "BitsAllocated")
    if not keyword or not rows or not columns or not allocated:
        return None
    stored = None if is_float else _number(dataset, "BitsStored")
    stored = stored if stored and stored <= allocated else allocated
    high = _number(dataset, "HighBit")
    high = high if high is not None and stored - 1 <= high < allocated else stored - 1
    frames = _number(dataset, "NumberOfFrames")
    if frames is None and not str(dataset.get("NumberOfFrames") or "").strip():
        frames = 1
    return PixelForm(
        rows=rows,
        columns=columns,
        samples=_number(dataset, "SamplesPerPixel") or 1,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=bool(_number(dataset, "PixelRepresentation")) and not is_float,
        planar=_number(dataset, "PlanarConfiguration") == 1,
        photometric=str(dataset.get("PhotometricInterpretation") or "MONOCHROME2").strip().upper(),
        frames=frames if frames and 0 < frames <= _MAX_FRAMES else None,
        is_float=is_float,
        words=str(dataset[keyword].VR) == "OW",
    )


def _number(dataset: Dataset, keyword: str) -> int | None:
    # One US value not yet decoded, as nearly all are: no need for pydicom's machinery.
    element = dataset.get_item(_TAGS[keyword]) if keyword in _TAGS else None
    if isinstance(element, RawDataElement) and element.VR in ("US", None):
        value = element.value
        if value is not None and len(value) == 2:
            return int.from_bytes(value, "little" if element.is_little_endian else "big")
    try:
        return int(str(dataset.get(keyword)))
    except (ValueError, TypeError):
        return None
