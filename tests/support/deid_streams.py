"""How is identity put into code streams and behind the pixels, where no attribute names it?"""

from __future__ import annotations

import random

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from tests.support.deid_ledger import Ledger
from tests.support.deid_people import Person

_JPEG2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 53, 55, 57, 70, 80, 81))


def expected_length(dataset: Dataset) -> int:
    """Bytes of native pixel data, unpadded; 0 where the data set does not say."""
    try:
        if not dataset.PixelData:
            return 0
        samples = int(dataset.SamplesPerPixel)
        bits = int(dataset.Rows) * int(dataset.Columns) * samples * int(dataset.BitsAllocated)
        bits *= int(dataset.get("NumberOfFrames") or 1)
    except (AttributeError, ValueError, TypeError):
        return 0
    if "422" in str(dataset.get("PhotometricInterpretation")):
        bits = bits * 2 // 3
    return (bits + 7) // 8


def plant_after_pixels(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    """Append identity to native pixel data, beyond the last frame's last row."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax.startswith("1.2.840.10008.1.2.4") or syntax.endswith("1.2.5"):
        return
    size = expected_length(dataset)
    if "PixelData" not in dataset or not size or rng.random() < 0.5:
        return
    data = bytes(dataset.PixelData)
    if len(data) - size not in (0, 1):
        return  # already odd: leave that as it is
    tail = f"{who.given} {who.mrn}".encode("ascii", "ignore") + who.full_hangul.encode("euc-kr")
    dataset["PixelData"]._value = data + tail + b"\0" * ((len(data) + len(tail)) % 2)
    ledger.plant("stream/after-native-pixels", (), [who.given, who.mrn])


def plant_in_code_streams(
    dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random
) -> None:
    """Put comments, application segments and bytes after the end into compressed frames."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if not dataset.get("PixelData") or syntax not in (*_JPEG, *_JPEG2000):
        return
    count = int(dataset.get("NumberOfFrames") or 1)
    frames = list(generate_frames(bytes(dataset.PixelData), number_of_frames=count))
    note = f"{who.given} {who.family} {who.mrn} {who.full_hangul}".encode()
    changed = []
    for frame in frames:
        if frame[:2] == b"\xff\xd8" and syntax in _JPEG:
            frame = _with_jpeg_segments(frame, note)
        elif frame[:4] == b"\xff\x4f\xff\x51" and syntax in _JPEG2000:
            frame = _with_jpeg2000_comment(frame, note)
        if rng.random() < 0.3 and frame[:1] == b"\xff":
            frame = frame.rstrip(b"\0") + who.mrn.encode() + b" " + who.given.encode()
        changed.append(frame + b"\0" * (len(frame) % 2))
    if any(new != old for new, old in zip(changed, frames, strict=True)):
        dataset["PixelData"]._value = encapsulate(changed, has_bot=rng.random() < 0.5)
        ledger.plant("stream/markers", (), [who.given, who.mrn])


def _with_jpeg_segments(frame: bytes, note: bytes) -> bytes:
    comment = b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note
    exif = b"Exif\0\0" + note.decode().encode("utf-16-be")
    app = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    start = 2
    if frame[2:4] == b"\xff\xe0":  # JFIF demands to be first
        start = 4 + int.from_bytes(frame[4:6], "big")
    return frame[:start] + app + comment + frame[start:]


def _with_jpeg2000_comment(frame: bytes, note: bytes) -> bytes:
    start = 4 + int.from_bytes(frame[4:6], "big")  # after SIZ, which must be first
    comment = b"\xff\x64" + (len(note) + 4).to_bytes(2, "big") + b"\0\x01" + note
    return frame[:start] + comment + frame[start:]
