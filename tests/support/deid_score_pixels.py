"""Are burned-in lines gone, and is all else untouched? By correlation with the glyphs."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from tests.support.deid_burn import palette_shades
from tests.support.deid_ledger import Ledger, Line
from tests.support.deid_pixels import decode
from tests.support.deid_places import tag
from tests.support.deid_stats import Score

_VISIBLE = 0.5  # correlation with the ink at which a piece of a line could be read
_HIDDEN_SHARE = 0.2  # of a line's pieces may be left: less than that reads as nothing
MARGIN = 24  # pixels around a line that redaction may take
HARMED_SHARE = 0.01  # of the pixels outside the boxes


def score_pixels(
    name: str, before: Dataset, after: Dataset, ledger: Ledger, cleaned: bool, result: Score
) -> None:
    """Judge overlays, icons, lines and all other pixels of one file."""
    for each in ledger.planted:
        if each.place in ("overlay/plane", "icon"):
            result.add(
                "pixels_hidden", each.place, name, _plane_is_gone(before, after, each.path[0])
            )
    if "PixelData" not in before:
        return
    try:
        old = decode(before)
    except Exception:  # the judge cannot decode it either
        return
    try:
        new = decode(after)
    except Exception:
        result.add("pixels_retained", "undecodable", name, False)
        return
    if old.shape != new.shape:
        result.add("pixels_retained", "shape", name, False)
        return
    _score_unused_bits(name, after, ledger, result)
    old, new = _used_bits(before, old), _used_bits(before, new)
    if cleaned:
        for line in ledger.lines:
            if _share_visible(_shades(before, old), line) > 0.8:  # drawn where it shows
                shown = _share_visible(_shades(after, new), line)
                result.add("pixels_hidden", f"line/{line.script}", name, shown <= _HIDDEN_SHARE)
    changed = _changed(old, new)
    outside = np.ones(changed.shape[1:], bool)
    for line in ledger.lines if cleaned else ():
        outside[
            max(0, line.top - MARGIN) : line.bottom + MARGIN,
            max(0, line.left - MARGIN) : line.right + MARGIN,
        ] = False
    share = float(changed[:, outside].mean()) if outside.any() else 0.0
    if not cleaned:
        result.add("pixels_retained", "every pixel", name, share == 0.0)
        return
    result.area_outside.append((share, ledger.native_text, name))
    if ledger.native_text:
        result.native_text_files += 1  # its own text is redacted too, and rightly
    else:
        result.add("pixels_retained", "outside the boxes", name, share <= HARMED_SHARE)


def _changed(old: NDArray[np.generic], new: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which pixels differ, (frames, rows, columns)."""
    differs = old != new
    return differs.any(axis=-1) if differs.ndim == 4 else differs


def _shades(dataset: Dataset, frames: NDArray[np.generic]) -> NDArray[np.generic]:
    """Palette numbers as brightness; all else as it is stored."""
    if str(dataset.PhotometricInterpretation) != "PALETTE COLOR":
        return frames
    shades = palette_shades(dataset)
    return shades[np.minimum(frames, len(shades) - 1)]


def _share_visible(frames: NDArray[np.generic], line: Line) -> float:
    """Give the share of the line's pieces, each about three letters wide, that still show."""
    ink = np.frombuffer(line.ink, np.uint8).reshape(line.bottom - line.top, line.right - line.left)
    which = slice(None) if line.frame is None else slice(line.frame, line.frame + 1)
    patches = frames[which, line.top : line.bottom, line.left : line.right]
    planes = np.moveaxis(patches, -1, 0) if patches.ndim == 4 else patches[None]
    width = max(8, 2 * ink.shape[0])
    edges = [*range(0, max(1, ink.shape[1] - width // 2), width), ink.shape[1]]
    shown = []
    for left, right in itertools.pairwise(edges):
        glyphs = ink[:, left:right].astype(np.float64)
        if glyphs.std() == 0:
            continue
        pieces = (frame[:, left:right].astype(np.float64) for plane in planes for frame in plane)
        shown.append(max(_correlation(piece, glyphs) for piece in pieces) > _VISIBLE)
    return sum(shown) / len(shown) if shown else 0.0


def _correlation(piece: NDArray[np.float64], glyphs: NDArray[np.float64]) -> float:
    if piece.std() < 1e-9:
        return 0.0
    return abs(float(np.corrcoef(piece.ravel(), glyphs.ravel())[0, 1]))


def _plane_is_gone(before: Dataset, after: Dataset, number: int) -> bool:
    if number == tag("IconImageSequence"):
        if number not in after or not after[number].value:
            return True
        old, new = before[number].value[0], after[number].value[0]
        return bytes(old.PixelData) != bytes(new.get("PixelData", b""))
    return number not in after or not any(bytes(after[number].value or b""))


def _score_unused_bits(name: str, after: Dataset, ledger: Ledger, result: Score) -> None:
    """Old overlays live in the bits of native pixels that the image does not use."""
    if all(each.place != "overlay/in-pixels" for each in ledger.planted):
        return
    data = bytes(after.PixelData)
    words = np.frombuffer(data[: len(data) // 2 * 2], "<u2")
    result.add("pixels_hidden", "overlay/in-pixels", name, not (words >> 15).any())


def _used_bits(dataset: Dataset, frames: NDArray[np.generic]) -> NDArray[np.generic]:
    """Stored values without the bits that the image does not use."""
    stored = int(dataset.get("BitsStored") or 16)
    if frames.dtype == np.uint16 and 0 < stored < 16:
        return frames & np.uint16((1 << stored) - 1)
    return frames
