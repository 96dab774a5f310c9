from __future__ import annotations

import struct
import zlib

import pytest

from deid.output_reader import BadLayout, Layout, read_layout

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED, JPEG = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
VRS = {0x00100010: "PN", 0x00081115: "SQ", 0x00081150: "UI", 0x7FE00010: "OB or OW"}
ITEM, ITEM_END, END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF


def _element(tag: int, vr: str, value: bytes, size: int | None = None, order: str = "<") -> bytes:
    size = len(value) if size is None else size
    group, number = tag >> 16, tag & 0xFFFF
    if not vr:
        return struct.pack(order + "HHL", group, number, size) + value
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return struct.pack(order + "HH2sHL", group, number, vr.encode(), 0, size) + value
    return struct.pack(order + "HH2sH", group, number, vr.encode(), size) + value


def _file(body: bytes, syntax: str = EXPLICIT) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) & 1)
    meta = _element(0x00020010, "UI", uid)
    length = _element(0x00020000, "UL", struct.pack("<L", len(meta)))
    if syntax == DEFLATED:
        packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
        body += b"\0" * (len(body) & 1)
    return bytes(128) + b"DICM" + length + meta + body


def _read(raw: bytes, max_bytes: int = 1 << 20) -> Layout:
    return read_layout(raw, lambda tag: VRS.get(tag, ""), max_bytes)


def _values(layout: Layout) -> list[tuple[int, int, str, bytes]]:
    return [(e.tag, e.parent, e.vr, layout.data[e.start : e.end]) for e in layout.elements]


NAME = (0x00100010, 0, "PN", b"A^B ")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
def test_elements_are_read_in_every_coding(syntax: str) -> None:
    order, vr = ">" if syntax == BIG else "<", "" if syntax == IMPLICIT else "PN"
    body = _element(0x00100010, vr, b"A^B ", order=order)
    body += _element(0x7FE00010, "OW" if vr else "", b"\1\2", order=order)
    values = _values(_read(_file(body, syntax)))
    assert values == [NAME, (0x7FE00010, 0, "OW", b"\1\2")]


@pytest.mark.parametrize(("vr", "delimited"), [("SQ", True), ("SQ", False), ("UN", True)])
def test_sequences_are_walked(vr: str, delimited: bool) -> None:
    inner = _element(0x00081150, "UI" if vr == "SQ" else "", b"1.2.")
    ends = _element(ITEM_END, "", b"") if delimited else b""
    item = _element(ITEM, "", inner + ends, UNDEFINED if delimited else None)
    closing = _element(END, "", b"") if delimited else b""
    body = _element(0x00081115, vr, item + closing, UNDEFINED if delimited else None)
    layout = _read(_file(body + _element(0x00100010, "PN", b"A^B ")))
    assert _values(layout)[1:] == [(0x00081150, 0x00081115, "UI", b"1.2."), NAME]


def test_fragments_are_one_value() -> None:
    fragments = _element(ITEM, "", b"") + _element(ITEM, "", b"\xff\xd8\xff\xd9")
    raw = _file(_element(0x7FE00010, "OB", fragments + _element(END, "", b""), UNDEFINED), JPEG)
    assert _values(_read(raw)) == [(0x7FE00010, 0, "OB", fragments)]


def test_private_elements_know_who_reserved_their_block() -> None:
    body = _element(0x00090010, "LO", b"ACME 1.0") + _element(0x00091001, "LO", b"x ")
    body += _element(0x00091101, "LO", b"y ")
    creators = [element.creator for element in _read(_file(body)).elements]
    assert creators == ["", "ACME 1.0", ""]


_PN = _element(0x00100010, "PN", b"A^B ")
_OPEN_ITEM = _element(ITEM, "", _PN, UNDEFINED)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_PN + b"\0\0", id="bytes behind the data set"),
        pytest.param(_element(0x00100010, "PN", b"A^B"), id="odd length"),
        pytest.param(_element(0x00100010, "PN", b"A^B ", 6), id="length beyond the end"),
        pytest.param(_PN + _PN, id="a tag twice"),
        pytest.param(_PN + _element(0x00080005, "CS", b""), id="tags out of order"),
        pytest.param(_element(0x00100010, "ZZ", b"A^B "), id="unknown VR"),
        pytest.param(_element(0x00020010, "UI", b"1.2."), id="file meta in the data set"),
        pytest.param(_PN + _element(0xFFFCFFFC, "OB", b"\0\0"), id="trailing padding"),
        pytest.param(_element(0x00081115, "SQ", _OPEN_ITEM, UNDEFINED), id="item without an end"),
        pytest.param(_element(0x00081115, "SQ", _PN), id="no item in a sequence"),
        pytest.param(_element(0x00081115, "SQ", b"\0\0"), id="stub of an item"),
        pytest.param(_element(0x7FE00010, "OB", _PN, UNDEFINED), id="no fragment"),
        pytest.param(_element(0x00420011, "OB", b"\0\0", UNDEFINED), id="bulk without length"),
        pytest.param(_PN[:6], id="stub of an element"),
    ],
)
def test_what_no_sound_writer_makes_is_refused(body: bytes) -> None:
    with pytest.raises(BadLayout):
        _read(_file(body))


def test_endless_nesting_is_refused() -> None:
    body = b""
    for _ in range(70):
        body = _element(0x00081115, "SQ", _element(ITEM, "", body))
    with pytest.raises(BadLayout):
        _read(_file(body))


def test_damaged_meta_is_refused() -> None:
    raw = _file(_PN)
    for broken in (
        raw[:128] + b"DICX" + raw[132:],
        raw[:132],
        raw[:140] + b"\xff\0\0\0" + raw[144:],  # the group's length
        raw[:150],
        raw[:148] + b"ZZ" + raw[150:],
    ):
        with pytest.raises(BadLayout):
            _read(broken)


def test_a_deflated_file_must_end_with_its_stream_and_stay_small() -> None:
    raw = _file(_PN * 1 + _element(0x7FE00010, "OB", bytes(100_000)), DEFLATED)
    assert len(_read(raw).data) > 100_000
    for broken in (raw + b"\0\0", raw[:-4], raw[:-30] + b"\xff" * 30):
        with pytest.raises(BadLayout):
            _read(broken)
    with pytest.raises(BadLayout):
        _read(raw, max_bytes=50_000)


def test_the_error_tells_an_offset_and_no_value() -> None:
    raw = _file(_PN + _PN)
    with pytest.raises(BadLayout) as caught:
        _read(raw)
    assert caught.value.offset == len(raw) - len(_PN)
    assert "A^B" not in str(caught.value)
