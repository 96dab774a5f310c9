"""Does of a colour profile or look-up table only what is table stay?"""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image, ImageCms

from deid.dicom.container import Out
from deid.dicom.tables import icc_profile, trim_tables

RED, RED_DESCRIPTOR = 0x00281201, 0x00281101


def _profile(*tags: tuple[bytes, bytes], gap: bytes = b"") -> bytes:
    table, data = struct.pack(">L", len(tags)), gap
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags:
        table += struct.pack(">4sLL", name, start + len(data), len(content))
        data += content
    size = (start + len(data)).to_bytes(4, "big")
    return size + bytes(32) + b"acsp" + bytes(88) + table + data


def test_a_colour_profile_loses_its_words_and_keeps_its_numbers() -> None:
    curve = b"curv" + bytes(4) + struct.pack(">LH", 1, 0x0233)
    raw = _profile(
        (b"rTRC", curve),
        (b"desc", b"desc" + bytes(4) + b"scanner of Hong Gildong"),
        (b"priv", b"zzzz" + bytes(4) + "홍길동".encode("utf-16-be")),
        gap=b"between the tags",
    )
    clean = icc_profile(raw + b"behind the end")
    assert clean is not None and len(clean) == len(raw) and curve in clean
    for word in (b"Gildong", b"between", b"behind", "홍길동".encode("utf-16-be")):
        assert word not in clean
    assert icc_profile(clean) == clean


def test_a_colour_profile_gives_the_same_colours() -> None:
    raw = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    clean = icc_profile(raw)
    assert clean is not None
    picture = Image.new("RGB", (1, 1), (100, 50, 20))
    lab = ImageCms.createProfile("LAB")
    seen = [
        ImageCms.profileToProfile(picture, io.BytesIO(p), lab, outputMode="LAB")
        for p in (raw, clean)
    ]
    assert seen[0] is not None and seen[1] is not None
    assert seen[0].tobytes() == seen[1].tobytes()


@pytest.mark.parametrize(
    "raw",
    [
        b"a note",
        _profile()[:100],
        (140).to_bytes(4, "big") + bytes(32) + b"acsp" + bytes(88) + b"\xff" * 12,
        _profile((b"rTRC", b"curv")),  # shorter than a type
        _profile((b"rTRC", b"curv" + bytes(8)))[:-4],
    ],
)
def test_what_is_no_colour_profile_goes(raw: bytes) -> None:
    assert icc_profile(raw) is None


@pytest.mark.parametrize(
    ("descriptor", "size", "left"),
    [
        ((256, 0, 16), 528, 512),
        ((256, 0, 8), 272, 256),
        ((256, 0, 8), 530, 512),  # 8-bit entries written as words
        ((255, 0, 8), 300, 256),  # padded to even length
        ((0, 0, 16), 131_080, 131_072),
        ((256, 0, 16), 400, 400),  # too short: as it was
    ],
)
@pytest.mark.parametrize("little", [True, False])
def test_a_table_ends_where_its_descriptor_says(
    descriptor: tuple[int, int, int], size: int, left: int, little: bool
) -> None:
    stated = struct.pack("<3H" if little else ">3H", *descriptor)
    outs = {RED_DESCRIPTOR: Out(RED_DESCRIPTOR, "US", stated), RED: Out(RED, "OW", bytes(size))}
    trim_tables(outs, little)
    assert len(outs[RED].value) == left


def test_a_table_without_a_descriptor_goes() -> None:
    outs = {RED: Out(RED, "OW", b"Hong Gildong")}
    trim_tables(outs, little=True)
    assert not outs
