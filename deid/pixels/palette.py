"""Which colour does each entry of an object's palette stand for (PS3.3 C.7.6.3.1.5 and .6)?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from deid.pixels.native import BIG_ENDIAN, Pixels

_COLOURS = ("Red", "Green", "Blue")
_ERRORS = (ValueError, AttributeError, KeyError, IndexError, TypeError, NotImplementedError)


def colours_of(values: Pixels, dataset: Dataset, transfer_syntax: str) -> NDArray[np.uint8] | None:
    """Look up the colours of palette indices; those beyond the table take its nearest end.

    Returns:
        The shape of ``values`` and 3 colours more, 8 bits each; None where the tables are unusable.
    """
    try:
        if f"Segmented{_COLOURS[0]}PaletteColorLookupTableData" in dataset:
            return _eight_bits(apply_color_lut(values, dataset))
        tables = [_table(dataset, colour, transfer_syntax) for colour in _COLOURS]
        first, entries = tables[0][0], min(len(table) for _, table in tables)
        at = np.clip(values.astype(np.int64) - first, 0, entries - 1)
        return _eight_bits(np.stack([table[at] for _, table in tables], axis=-1))
    except _ERRORS:
        return None


def _table(dataset: Dataset, colour: str, transfer_syntax: str) -> tuple[int, Pixels]:
    """Give a table's first index and its entries, read in the transfer syntax's byte order."""
    name = f"{colour}PaletteColorLookupTable"
    entries, first, _ = (int(part) for part in getattr(dataset, f"{name}Descriptor"))
    entries = entries % 65_536 or 65_536  # 0 stands for that many
    data: bytes = getattr(dataset, f"{name}Data")
    big = transfer_syntax == BIG_ENDIAN
    if len(data) >= 2 * entries:
        table: Pixels = np.frombuffer(data, ">u2" if big else "<u2", entries)
        return first, table
    words = np.frombuffer(data[: len(data) // 2 * 2], ">u2" if big else "<u2")
    return first, words.astype("<u2").view(np.uint8)[:entries]


def _eight_bits(colours: Pixels) -> NDArray[np.uint8]:
    """Cut 16-bit colours to their upper half, unless they use only the lower."""
    wide = colours.astype(np.uint16)
    return (wide >> 8 if wide.max(initial=0) > 255 else wide).astype(np.uint8)
