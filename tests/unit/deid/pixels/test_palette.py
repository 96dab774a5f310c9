from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from deid.pixels.codec import open_frames
from deid.pixels.palette import colours_of
from tests.support.pixel_objects import BIG, EXPLICIT, picture, shipped


def _with_tables(kind: str, entries: int = 4, first: int = 0) -> Dataset:
    dataset = picture(bytes([0, 1, 2, 3]), 2, 2, PhotometricInterpretation="PALETTE COLOR")
    scale = 1 if kind == "u1" else 256
    for n, colour in enumerate(("Red", "Green", "Blue")):
        table = (np.arange(entries) * 10 + n) * scale
        raw = table.astype(kind).tobytes()
        if kind == ">u1":  # words of bytes: each word's bytes change places
            raw = np.frombuffer((np.arange(entries) * 10 + n).astype("u1").tobytes(), ">u2")
            raw = raw.astype("<u2").tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [entries, first, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", raw)
    return dataset


@pytest.mark.parametrize(
    ("kind", "syntax"), [("<u2", EXPLICIT), (">u2", BIG), ("u1", EXPLICIT), (">u1", BIG)]
)
def test_tables_are_read_in_their_byte_order(kind: str, syntax: str) -> None:
    dataset = _with_tables(kind)
    colours = colours_of(np.array([0, 1, 3, 9], np.uint8), dataset, syntax)
    assert colours is not None
    assert colours.tolist() == [[0, 1, 2], [10, 11, 12], [30, 31, 32], [30, 31, 32]]


def test_the_first_index_is_heeded() -> None:
    colours = colours_of(np.array([5, 7, 8], np.uint8), _with_tables("<u2", first=7), EXPLICIT)
    assert colours is not None and colours[:, 0].tolist() == [0, 0, 10]


def test_real_tables_give_what_another_reader_does() -> None:
    dataset, syntax = shipped("examples_palette.dcm")
    indices = open_frames(dataset, syntax).stored(0)
    colours = colours_of(indices, dataset, syntax)
    assert colours is not None
    assert np.array_equal(colours, apply_color_lut(indices, dataset) >> 8)


def test_unusable_tables_are_none() -> None:
    dataset = _with_tables("<u2")
    del dataset.BluePaletteColorLookupTableData
    assert colours_of(np.zeros(3, np.uint8), dataset, EXPLICIT) is None
    dataset = _with_tables("<u2")
    dataset.RedPaletteColorLookupTableData = b""
    assert colours_of(np.zeros(3, np.uint8), dataset, EXPLICIT) is None
