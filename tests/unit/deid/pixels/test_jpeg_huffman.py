from __future__ import annotations

import pytest

from deid.pixels import jpeg_huffman as huffman
from deid.pixels.jpeg_huffman import BadTable, HuffmanTable

_LUMA_DC = HuffmanTable((0, 1, 5, 1, 1, 1, 1, 1, 1) + (0,) * 7, bytes(range(12)))  # T.81 Table K.3


def test_codes_are_those_of_the_standard() -> None:
    codes = _LUMA_DC.codes()
    assert codes[0] == (0b00, 2) and codes[1] == (0b010, 3) and codes[11] == (0b111111110, 9)


def test_a_table_is_read_as_it_is_written() -> None:
    segment = _LUMA_DC.segment(1, 2)
    assert segment[:2] == b"\xff\xc4" and int.from_bytes(segment[2:4], "big") == len(segment) - 2
    assert huffman.parse_tables(segment[4:]) == {(1, 2): _LUMA_DC}


@pytest.mark.parametrize("body", [b"\0", b"\0" + bytes([3] + [0] * 15) + b"abc", b"\0" + b"\1" * 9])
def test_an_impossible_table_is_refused(body: bytes) -> None:
    with pytest.raises(BadTable):
        huffman.parse_tables(body)


@pytest.mark.parametrize("counts", [(1,) + (0,) * 15, (0, 3) + (0,) * 14, (1, 1, 1) + (0,) * 13])
def test_new_symbols_leave_old_codes_alone(counts: tuple[int, ...]) -> None:
    table = HuffmanTable(counts, bytes(range(1, 1 + sum(counts))))
    more = table.extended(frozenset({0, 77, 78, 79}))
    codes = more.codes()
    assert codes.items() >= table.codes().items()
    texts = [f"{code:0{length}b}" for code, length in codes.values()]
    assert len(texts) == sum(counts) + 4
    assert not any(a != b and b.startswith(a) for a in texts for b in texts)
    assert not any(set(text) == {"1"} for text in texts)


def test_a_full_table_takes_no_symbol() -> None:
    full = HuffmanTable((1,) * 16, bytes(range(16)))
    with pytest.raises(BadTable):
        full.extended(frozenset({99}))


def test_differences_are_coded_as_the_standard_does() -> None:
    codes = _LUMA_DC.codes()
    assert "".join(map(str, huffman.dc_bits(0, codes))) == "00"
    assert "".join(map(str, huffman.dc_bits(-3, codes))) == "011" + "00"
    assert "".join(map(str, huffman.dc_bits(5, codes))) == "100" + "101"


def test_readers_tell_lengths_and_invalid_codes() -> None:
    reader = huffman.dc_reader(_LUMA_DC)
    assert reader[0b010 << 13] == 3 << 5 | 1 and reader[0xFFFF] == -1
    steps = huffman.ac_reader(HuffmanTable((0, 3) + (0,) * 14, bytes([0x00, 0xF0, 0x32])))
    assert steps[0] == 64 << 6 | 2
    assert steps[1 << 14] == 16 << 6 | 2
    assert steps[2 << 14] == 4 << 6 | 4
    assert steps[0xFFFF] == huffman.INVALID << 6


def test_every_bit_position_sees_what_follows() -> None:
    ahead = huffman.bits_ahead(b"\x12\x34\x56")
    assert (ahead[0], ahead[4], ahead[9]) == (0x1234, 0x2345, 0x68AD)
