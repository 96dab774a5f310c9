"""How do the Huffman codes of sequential JPEG read and write (ITU-T T.81 Annexes C and F)?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INVALID = 1 << 20
"""Advance of a code that is none: far beyond the 64 coefficients of a block."""
_END = 64  # advance of End Of Block: beyond the last coefficient from any


class BadTable(Exception):
    """Say that a Huffman table is malformed or cannot take another symbol."""


@dataclass(frozen=True, slots=True)
class HuffmanTable:
    """Hold one table of a DHT segment.

    Attributes:
        counts: codes of each length, 1 to 16 bits.
        symbols: their symbols in the order of the codes.
    """

    counts: tuple[int, ...]
    symbols: bytes

    def codes(self) -> dict[int, tuple[int, int]]:
        """Give each symbol's (code, length) (T.81 C.2)."""
        codes: dict[int, tuple[int, int]] = {}
        code = at = 0
        for length, count in enumerate(self.counts, 1):
            for symbol in self.symbols[at : at + count]:
                codes[symbol] = (code, length)
                code += 1
            at += count
            code <<= 1
        return codes

    def extended(self, missing: frozenset[int]) -> HuffmanTable:
        """Give a table with more symbols in which every old symbol keeps its code.

        New codes are longer than, or follow, the old ones; a code of ones alone stays unused, as
        T.81 C.2 asks.

        Raises:
            BadTable: no code is left for them.
        """
        counts, added = list(self.counts), sorted(missing)
        for _ in added:
            longest = max((i for i, count in enumerate(counts) if count), default=0)
            free = _free(counts)
            length = longest
            while free[length] < 2:  # one more must stay free: it is, or begins, the ones alone
                length += 1
                if length == 16:
                    raise BadTable
            counts[length] += 1
        return HuffmanTable(tuple(counts), self.symbols + bytes(added))

    def segment(self, kind: int, identifier: int) -> bytes:
        """Write the table as a DHT segment; ``kind`` is 0 for DC, 1 for AC."""
        body = bytes([kind << 4 | identifier, *self.counts]) + self.symbols
        return b"\xff\xc4" + (len(body) + 2).to_bytes(2, "big") + body


def _free(counts: list[int]) -> list[int]:
    """Count, for each length from 1 bit, the codes unused once all up to that length are given."""
    free, code = [], 0
    for length, count in enumerate(counts, 1):
        code = (code << 1) + count
        free.append((1 << length) - code)
    return free


def parse_tables(body: bytes) -> dict[tuple[int, int], HuffmanTable]:
    """Read a DHT segment's tables by (0 for DC or 1 for AC, identifier).

    Raises:
        BadTable: it is cut, or its code lengths are impossible.
    """
    tables: dict[tuple[int, int], HuffmanTable] = {}
    at = 0
    while at < len(body):
        counts = tuple(body[at + 1 : at + 17])
        symbols = body[at + 17 : at + 17 + sum(counts)]
        if len(counts) < 16 or len(symbols) < sum(counts) or min(_free(list(counts))) < 0:
            raise BadTable
        tables[body[at] >> 4, body[at] & 15] = HuffmanTable(counts, symbols)
        at += 17 + len(symbols)
    return tables


def dc_reader(table: HuffmanTable) -> list[int]:
    """Give, for each 16 bits ahead, code length << 5 | extra bits; -1 where no code matches."""
    return _reader(table, lambda symbol, length: length << 5 | symbol & 31, -1)


def ac_reader(table: HuffmanTable) -> list[int]:
    """Give, for each 16 bits ahead, coefficients advanced << 6 | bits taken, extra bits included.

    End Of Block advances beyond the block; bits that are no code advance by ``INVALID``.
    """

    def step(symbol: int, length: int) -> int:
        run, size = symbol >> 4, symbol & 15
        if size:
            return (run + 1) << 6 | (length + size)
        return (16 if run == 15 else _END) << 6 | length

    return _reader(table, step, INVALID << 6)


def _reader(table: HuffmanTable, entry: Callable[[int, int], int], bad: int) -> list[int]:
    reader = np.full(1 << 16, bad, np.int64)
    for symbol, (code, length) in table.codes().items():
        start = code << (16 - length)
        reader[start : start + (1 << (16 - length))] = entry(symbol, length)
    listed: list[int] = reader.tolist()
    return listed


def bits_ahead(data: bytes) -> memoryview:
    """Give the 16 bits that follow each bit position, ones after the end."""
    raw = np.frombuffer(data + b"\xff" * 8, np.uint8).astype(np.uint32)
    words = raw[:-2] << 16 | raw[1:-1] << 8 | raw[2:]
    ahead = np.empty((len(words), 8), np.uint16)
    for shift in range(8):
        ahead[:, shift] = words >> (8 - shift) & 0xFFFF
    return memoryview(ahead.tobytes()).cast("H")


def dc_bits(difference: int, codes: dict[int, tuple[int, int]]) -> NDArray[np.uint8]:
    """Give the bits of a DC difference: its size's code, then the size's extra bits (F.1.2.1)."""
    size = abs(difference).bit_length()
    code, length = codes[size]
    extra = difference if difference >= 0 else difference + (1 << size) - 1
    return bits_of(code << size | extra, length + size)


def bits_of(value: int, count: int) -> NDArray[np.uint8]:
    """Give a number's low ``count`` bits, the highest first."""
    text = f"{value:0{count}b}".encode("ascii") if count else b""
    return np.frombuffer(text, np.uint8) - 48
