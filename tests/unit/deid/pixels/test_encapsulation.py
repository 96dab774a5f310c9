from __future__ import annotations

import struct

import pytest
from pydicom.encaps import encapsulate, generate_frames

from deid.errors import DeidRefusal
from deid.pixels.encapsulation import assemble, extended_offsets, is_encapsulated, parse

_JPEG = b"\xff\xd8\xff"


def _item(data: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(data)) + data


def test_frames_are_found_by_the_offset_table() -> None:
    frames = [_JPEG + bytes([n] * (5 + 2 * n)) for n in range(3)]
    items = parse(encapsulate(frames, fragments_per_frame=2), 3)
    assert [items.frame(n) for n in range(3)] == frames
    assert items.tidy and len(items.table) == 3


def test_without_a_table_frames_begin_where_code_streams_do() -> None:
    value = _item(b"") + _item(_JPEG + b"a") + _item(b"bb") + _item(_JPEG + b"c")
    items = parse(value, 2)
    assert [items.frame(0), items.frame(1)] == [_JPEG + b"abb", _JPEG + b"c"]
    assert items.tidy


def test_run_length_frames_are_one_fragment_each() -> None:
    value = _item(b"") + _item(b"aa") + _item(b"bb")
    assert parse(value, None).frame(1) == b"bb"
    assert parse(value, 1).frame(0) == b"aabb"


def test_fragments_beyond_the_frames_are_dropped() -> None:
    value = _item(b"") + _item(_JPEG + b"1") + _item(_JPEG + b"2")
    items = parse(value, 1)
    assert not items.tidy
    assert assemble(items, {}) == _item(b"") + _item(_JPEG + b"1")


@pytest.mark.parametrize("table", [b"\0\0\0\0\x07\0\0\0", b"name", b"\0\0\0\0\x0c\0\0\0!"])
def test_a_wrong_table_is_written_anew(table: bytes) -> None:
    value = _item(table) + _item(_JPEG + b"1") + _item(_JPEG + b"2")
    items = parse(value, 2)
    assert not items.tidy
    again = parse(assemble(items, {}), 2)
    assert again.tidy and again.table == (0, 12)


def test_replaced_frames_move_the_table() -> None:
    frames = [_JPEG + bytes(9), _JPEG + bytes(5), _JPEG + bytes(7)]
    value = assemble(parse(encapsulate(frames), 3), {1: _JPEG + bytes(100)})
    assert [len(f) for f in generate_frames(value, number_of_frames=3)] == [12, 104, 10]
    assert parse(value, 3).tidy and len(value) % 2 == 0


def test_extended_offsets_count_from_the_first_item() -> None:
    items = parse(encapsulate([_JPEG + bytes(5), _JPEG + bytes(9)], has_bot=False), 2)
    offsets, lengths = extended_offsets(items.frames)
    assert struct.unpack("<2Q", offsets) == (0, 16)
    assert struct.unpack("<2Q", lengths) == (8, 12)


@pytest.mark.parametrize(
    "value", [b"", b"no items at all", _item(b"")[:4] + b"\xff" * 4, _item(b"") + b"x" * 9]
)
def test_what_is_no_row_of_items_is_refused(value: bytes) -> None:
    with pytest.raises(DeidRefusal):
        parse(value, 1)


def test_native_bytes_are_told_from_items() -> None:
    assert is_encapsulated(_item(b"") + _item(_JPEG + b"a"))
    assert not is_encapsulated(_item(b"") + _item(b"samples"))
    assert not is_encapsulated(b"\xfe\xff\x00\xe0")
