"""Small DICOM pictures made for tests of the pixel codecs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filereader import dcmread

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


def picture(data: bytes, rows: int, columns: int, vr: str = "OW", **attributes: Any) -> Dataset:
    """Give an object with that pixel data, 8-bit MONOCHROME2 unless attributes say else."""
    dataset = Dataset()
    stated: dict[str, Any] = {
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8,
        "BitsStored": attributes.get("BitsAllocated", 8),
        "HighBit": attributes.get("BitsStored", attributes.get("BitsAllocated", 8)) - 1,
        "PixelRepresentation": 0,
    }
    for keyword, value in (stated | attributes).items():
        setattr(dataset, keyword, value)
    dataset.add_new(0x7FE00010, vr, data)
    return dataset


def encapsulated(frames: Sequence[bytes], rows: int, columns: int, **attributes: Any) -> Dataset:
    """Give an object of compressed frames with a Basic Offset Table."""
    attributes = {"NumberOfFrames": len(frames)} | attributes
    return picture(encapsulate(list(frames), has_bot=True), rows, columns, "OB", **attributes)


def shipped(name: str) -> tuple[Dataset, str]:
    """Read one of pydicom's own files; give it and its transfer syntax."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are wrong on purpose
        dataset = dcmread(get_testdata_file(name, download=False))
    return dataset, str(dataset.file_meta.TransferSyntaxUID)


def replaced(dataset: Dataset, data: bytes, changes: dict[str, object]) -> Dataset:
    """Give a copy of an object with other pixel data and attributes."""
    copy = Dataset()
    copy.update(dataset)
    copy.add_new(0x7FE00010, dataset["PixelData"].VR, data)
    for keyword, value in changes.items():
        if value is None:
            copy.pop(keyword, None)
        else:
            setattr(copy, keyword, value)
    return copy


def noise(shape: tuple[int, ...], bits: int = 8, seed: int = 3) -> NDArray[Any]:
    """Give a picture of smooth ground with noise, unsigned, of that many bits."""
    draw = np.random.default_rng(seed)
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return draw.integers(1 << (bits - 1), 1 << bits, shape).astype(kind)
