"""Read and write sequential JPEG bit by bit (ITU-T T.81), for comparison with faster code."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ALL_AC = bytes(run << 4 | size for run in range(16) for size in range(1, 11))


@dataclass(frozen=True)
class Component:
    """Hold one component: sampling across and down, coefficients (rows, columns, 64)."""

    across: int
    down: int
    blocks: NDArray[np.int64]


def _codes(counts: bytes | tuple[int, ...], symbols: bytes) -> dict[int, str]:
    codes, code, at = {}, 0, 0
    for length, count in enumerate(counts, 1):
        for symbol in symbols[at : at + count]:
            codes[symbol] = f"{code:0{length}b}"
            code += 1
        at += count
        code <<= 1
    return codes


def _equal(count: int, length: int) -> tuple[int, ...]:
    """Give a table's counts with all codes of one length."""
    return tuple(count if bits == length else 0 for bits in range(1, 17))


def _order(
    components: list[Component], chosen: list[int], rows: int, columns: int
) -> list[tuple[int, int, int, int]]:
    """List (component, block row, block column, MCU) of one scan (A.2)."""
    most_across = max(part.across for part in components)
    most_down = max(part.down for part in components)
    if len(chosen) == 1:
        part = components[chosen[0]]
        samples = -(-columns * part.across // most_across)
        lines = -(-rows * part.down // most_down)
        wide, high = -(-samples // 8), -(-lines // 8)
        return [(chosen[0], n // wide, n % wide, n) for n in range(wide * high)]
    wide, high = -(-columns // (8 * most_across)), -(-rows // (8 * most_down))
    return [
        (c, n // wide * components[c].down + v, n % wide * components[c].across + h, n)
        for n in range(wide * high)
        for c in chosen
        for v in range(components[c].down)
        for h in range(components[c].across)
    ]


def read(stream: bytes) -> list[Component]:
    """Give a code stream's quantised coefficients in zigzag order."""
    at, tables, interval = 2, {}, 0
    names: list[int] = []
    components: list[Component] = []
    rows = columns = 0
    while stream[at + 1] != 0xD9:
        marker = stream[at + 1]
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        body, at = stream[at + 4 : end], end
        if marker in (0xC0, 0xC1):
            rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            parts = [body[6 + 3 * n : 9 + 3 * n] for n in range(body[5])]
            names = [part[0] for part in parts]
            wide = -(-columns // (8 * max(part[1] >> 4 for part in parts)))
            high = -(-rows // (8 * max(part[1] & 15 for part in parts)))
            for part in parts:
                across, down = part[1] >> 4, part[1] & 15
                shape = (high * down, wide * across, 64)
                components.append(Component(across, down, np.zeros(shape, np.int64)))
        elif marker == 0xC4:
            while body:
                total = sum(body[1:17])
                codes = _codes(body[1:17], body[17 : 17 + total])
                tables[body[0]] = {bits: symbol for symbol, bits in codes.items()}
                body = body[17 + total :]
        elif marker == 0xDD:
            interval = int.from_bytes(body, "big")
        elif marker == 0xDA:
            found = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]").search(stream, at)
            assert found
            pieces = re.split(rb"\xff[\xd0-\xd7]", stream[at : found.start()])
            at = found.start()
            chosen = [names.index(body[1 + 2 * n]) for n in range(body[0])]
            pairs = {c: body[2 + 2 * n] for n, c in enumerate(chosen)}
            _read_scan(pieces, components, _order(components, chosen, rows, columns), pairs,
                       tables, interval)  # fmt: skip
    return components


def _read_scan(
    pieces: list[bytes],
    components: list[Component],
    order: list[tuple[int, int, int, int]],
    pairs: dict[int, int],
    tables: dict[int, dict[str, int]],
    interval: int,
) -> None:
    current, bits, at = -1, "", 0
    before: dict[int, int] = {}

    def symbol(table: dict[str, int]) -> int:
        nonlocal at
        for length in range(1, 17):
            if bits[at : at + length] in table:
                at += length
                return table[bits[at - length : at]]
        raise AssertionError("no code")

    def extra(size: int) -> int:
        nonlocal at
        value = int(bits[at : at + size] or "0", 2)
        at += size
        return value if not size or value >> (size - 1) else value - (1 << size) + 1

    for c, row, column, mcu in order:
        piece = mcu // interval if interval else 0
        if piece != current:
            current, at, before = piece, 0, {}
            plain = pieces[piece].replace(b"\xff\x00", b"\xff")
            bits = "".join(f"{byte:08b}" for byte in plain)
        block = components[c].blocks[row, column]
        before[c] = before.get(c, 0) + extra(symbol(tables[pairs[c] >> 4]))
        block[0] = before[c]
        k = 1
        while k < 64:
            run, size = divmod(symbol(tables[16 | pairs[c] & 15]), 16)
            if not size and run < 15:
                break
            k += run
            block[k] = extra(size)
            k += 1


def write(
    components: list[Component],
    rows: int,
    columns: int,
    *,
    interleaved: bool = True,
    interval: int = 0,
    precision: int = 8,
    quantiser: int = 8,
) -> bytes:
    """Write coefficients as a code stream with fixed tables."""
    ac = bytes([0, 0xF0]) + _ALL_AC
    dc = bytes(range(12 if precision == 8 else 16))
    dc_counts, ac_counts = _equal(len(dc), 5), _equal(len(ac), 8)
    sof = bytes([precision]) + rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
    sof += bytes([len(components)])
    for n, part in enumerate(components):
        sof += bytes([n + 1, part.across << 4 | part.down, 0])
    out = [b"\xff\xd8", _segment(0xDB, b"\x00" + bytes([quantiser]) * 64)]
    out.append(_segment(0xC0 if precision == 8 else 0xC1, sof))
    out.append(_segment(0xC4, b"\x00" + bytes(dc_counts) + dc))
    out.append(_segment(0xC4, b"\x10" + bytes(ac_counts) + ac))
    if interval:
        out.append(_segment(0xDD, interval.to_bytes(2, "big")))
    dc_codes, ac_codes = _codes(dc_counts, dc), _codes(ac_counts, ac)
    every = list(range(len(components)))
    for chosen in [every] if interleaved else [[n] for n in every]:
        head = bytes([len(chosen)]) + b"".join(bytes([n + 1, 0]) for n in chosen)
        out.append(_segment(0xDA, head + b"\x00\x3f\x00"))
        order = _order(components, chosen, rows, columns)
        out.append(_scan(components, order, interval, dc_codes, ac_codes))
    return b"".join([*out, b"\xff\xd9"])


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def _number(value: int) -> tuple[int, str]:
    size = abs(value).bit_length()
    coded = value if value >= 0 else value + (1 << size) - 1
    return size, f"{coded:0{size}b}" if size else ""


def _scan(
    components: list[Component],
    order: list[tuple[int, int, int, int]],
    interval: int,
    dc_codes: dict[int, str],
    ac_codes: dict[int, str],
) -> bytes:
    pieces: list[str] = []
    current = -1
    before: dict[int, int] = {}
    for c, row, column, mcu in order:
        piece = mcu // interval if interval else 0
        if piece != current:
            current, before = piece, {}
            pieces.append("")
        block = components[c].blocks[row, column].tolist()
        size, bits = _number(block[0] - before.get(c, 0))
        before[c] = block[0]
        text, run = dc_codes[size] + bits, 0
        last = max((k for k in range(1, 64) if block[k]), default=0)
        for k in range(1, last + 1):
            if not block[k]:
                run += 1
                continue
            while run > 15:
                text, run = text + ac_codes[0xF0], run - 16
            size, bits = _number(block[k])
            text, run = text + ac_codes[run << 4 | size] + bits, 0
        pieces[-1] += text + (ac_codes[0] if last < 63 else "")
    out = b""
    for number, piece in enumerate(pieces):
        padded = piece + "1" * (-len(piece) % 8)
        raw = int(padded, 2).to_bytes(len(padded) // 8, "big")
        out += bytes([0xFF, 0xD0 + (number - 1) % 8]) if number else b""
        out += raw.replace(b"\xff", b"\xff\x00")
    return out
