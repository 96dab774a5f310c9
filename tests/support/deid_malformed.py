"""Which broken or unsupported files must be held back, each without a crash?

Every maker takes a sound file (CT, explicit little endian) and breaks it in one way.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from tests.support.deid_inject import lenient, read, to_bytes
from tests.support.deid_people import Person


def _with_syntax(raw: bytes, uid: str) -> bytes:
    """Name another transfer syntax of the same length, or shorter, padded."""
    dataset = read(raw)
    out = io.BytesIO()
    dataset.save_as(out)
    text = out.getvalue()
    old = b"1.2.840.10008.1.2.1\0"
    at = text.index(old)
    new = uid.encode() + b"\0" * (len(uid) % 2)
    grown = len(new) - len(old)
    start = at - 8
    header = text[start : start + 6] + struct.pack("<H", len(new))
    length_at = 132 + 8
    meta_length = struct.unpack("<I", text[length_at : length_at + 4])[0] + grown
    text = text[:start] + header + new + text[at + len(old) :]
    return text[:length_at] + struct.pack("<I", meta_length) + text[length_at + 4 :]


def _replaced(raw: bytes, **values: object) -> bytes:
    with lenient():
        dataset = read(raw)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        if "SOPClassUID" in values:
            dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
        return to_bytes(dataset)


def _delimiter_as_element(raw: bytes) -> bytes:
    with lenient():
        dataset = read(raw)
        number = Tag(0xFFFEE00D)
        dataset.add(RawDataElement(number, "UN", 4, b"abcd", 0, False, True, True))
    out = io.BytesIO()
    del dataset[number]
    dataset.save_as(out)
    return out.getvalue() + struct.pack("<HHI", 0xFFFE, 0xE00D, 4) + b"abcd"


def _wrong_length(raw: bytes) -> bytes:
    at = raw.index(b"\x10\x00\x10\x00PN")  # Patient's Name
    return raw[: at + 6] + struct.pack("<H", 0xFFF0) + raw[at + 8 :]


def _odd_nesting(raw: bytes) -> bytes:
    """A sequence that opens and never closes, 2,000 deep."""
    opening = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    at = raw.index(b"\x10\x00\x10\x00PN")
    return raw[:at] + opening * 2000 + raw[at:]


MAKERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "one-byte": lambda raw: b"D",
    "random": lambda raw: bytes((i * 7919 + i // 3) % 256 for i in range(20_000)),
    "text": lambda raw: b"patient,study\nHong,1\n" * 50,
    "png": lambda raw: b"\x89PNG\r\n\x1a\n" + bytes(2000),
    "preamble-only": lambda raw: raw[:132],
    "meta-only": lambda raw: raw[:300],
    "truncated-header": lambda raw: raw[: raw.index(b"\x10\x00\x10\x00PN") + 5],
    "truncated-pixels": lambda raw: raw[: len(raw) - len(raw) // 3],
    "jpeg-xl": lambda raw: _with_syntax(raw, "1.2.840.10008.1.2.4.111"),
    "deflated-frame": lambda raw: _with_syntax(raw, "1.2.840.10008.1.2.8.1"),
    "private-syntax": lambda raw: _with_syntax(raw, "1.2.410.200088.99.1"),
    "delimiter-as-element": _delimiter_as_element,
    "wrong-length": _wrong_length,
    "nested-without-end": _odd_nesting,
    "private-class": lambda raw: _replaced(raw, SOPClassUID="1.2.410.200088.99.2"),
    "siemens-csa-class": lambda raw: _replaced(raw, SOPClassUID="1.3.12.2.1107.5.9.1"),
    "dicomdir": lambda raw: _replaced(raw, SOPClassUID="1.2.840.10008.1.3.10"),
    "not-deflated": lambda raw: _with_syntax(raw, "1.2.840.10008.1.2.1.99"),
}


def malformed(raw: bytes, who: Person) -> dict[str, bytes]:
    """Give every kind, by name; the identity in it is ``who``'s."""
    with lenient():
        dataset = read(raw)
        dataset.PatientName, dataset.PatientID = who.pn.split("=")[0], who.mrn
        sound = to_bytes(dataset)
        return {name: maker(sound) for name, maker in MAKERS.items()}
