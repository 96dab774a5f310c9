"""How is a sound DICOM file damaged, in the ways that files are damaged and that attackers choose?

Every change is a function of a file and a seeded generator, so that a case is its number. Where
elements begin is found by a walk of our own that believes nothing it reads.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import NamedTuple

_LONG_VRS = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
_VRS = b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US ZZ ?? ox".split()
_VRS += [*_LONG_VRS, b"\0\0"]
_TAGS = [
    0x00020000, 0x00020010, 0x00080005, 0x00080016, 0x00080018, 0x00081140, 0x00100020, 0x00101001,
    0x00280008, 0x00280010, 0x00280100, 0x00280301, 0x00400555, 0x0040A730, 0x00420011, 0x04000561,
    0x50003000, 0x52009229, 0x54001010, 0x60003000, 0x7FE00001, 0x7FE00008, 0x7FE00010, 0x00091001,
    0x00290010, 0xFFFAFFFA, 0xFFFCFFFC, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x00000000, 0xFFFFFFFF,
]  # fmt: skip
_LENGTHS = [0, 1, 2, 7, 8, 0x7F, 0xFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0]
_LENGTHS += [0xFFFFFFFE, 0xFFFFFFFF]
_SYNTAXES = [f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99", ".5", ".8.1", ".6.1")]
_SYNTAXES += [f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 100, 111, 201)]
_CHARSETS = ["ISO_IR 100", "ISO_IR 192", "ISO 2022 IR 149", "\\ISO 2022 IR 149", "ISO 2022 IR 87"]
_CHARSETS += ["GB18030", "ISO_IR 13", "\\ISO 2022 IR 6\\ISO 2022 IR 58", "ISO_IR 999", "\\\\\\"]
_TEXTS = [b"\x1b$)C\xc8\xab", b"\x1b$B;3ED", b"\x1b", b"\x1b$", b"^" * 40, b"=" * 9, b"\\" * 99]
_TEXTS += [
    "홍길동".encode(),
    "홍길동".encode("cp949"),
    b"\xff\xfe\x00\xd8",
    b"9" * 70,
    b"-1",
    b"1e999",
]
_TEXTS += [b"00000000", b"20241399", b"99991231", b"00010101", b"\0" * 8, b"1.2.3." * 20]


class Place(NamedTuple):
    """Say where an element stands: its head, its length field (`width` bytes), its value."""

    start: int
    length_at: int
    width: int
    value: int
    end: int


def mutate(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Give a damaged copy: one to four changes, now and then a file built to hurt."""
    if rng.random() < 0.02:
        return rng.choice(_BUILDERS)(raw, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        raw = rng.choice(_CHANGES)(raw, others, rng)
    return raw


def places(raw: bytes) -> list[Place]:
    """Find the elements of the file meta and of the top level, as far as they can be read."""
    return list(_places(raw))


@lru_cache(maxsize=512)
def _places(raw: bytes) -> tuple[Place, ...]:
    at = 132 if raw[128:132] == b"DICM" else 0
    found: list[Place] = []
    order, explicit, meta = "<", True, True
    while at + 8 <= len(raw):
        if meta and raw[at : at + 2] != b"\x02\x00":
            meta = False
            explicit = raw[at + 4 : at + 6] in _VRS
            order = ">" if raw[at : at + 1] == b"\0" and explicit else "<"
        vr = raw[at + 4 : at + 6]
        width, length_at = 4, at + 4
        if explicit:
            width, length_at = (4, at + 8) if vr in _LONG_VRS else (2, at + 6)
        if length_at + width > len(raw):
            break
        size = int.from_bytes(
            raw[length_at : length_at + width], "little" if order == "<" else "big"
        )
        value = length_at + width
        end = len(raw) if size == 0xFFFFFFFF else min(value + size, len(raw))
        found.append(Place(at, length_at, width, value, end))
        at = end
    return tuple(found)


def _place(raw: bytes, rng: Random) -> Place | None:
    found = _places(raw)
    return rng.choice(found) if found else None


def _truncate(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    place = _place(raw, rng)
    if place is None or rng.random() < 0.4:
        return raw[: rng.randrange(len(raw) + 1)]
    return raw[
        : rng.choice((place.start, place.length_at, place.value, place.end)) + rng.randrange(3)
    ]


def _flip(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    size = rng.choice((1, 2, 4, 8, 64))
    new = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
    if rng.random() < 0.5:
        new = rng.randbytes(size)
    return raw[:at] + new + raw[at + len(new) :]


def _length(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    place = _place(raw, rng)
    if place is None:
        return raw
    size = rng.choice(
        (*_LENGTHS, rng.randrange(1 << 16), place.end - place.value + rng.randrange(9) - 4)
    )
    size &= (1 << 8 * place.width) - 1
    order = rng.choice(("little", "little", "little", "big"))
    new = size.to_bytes(place.width, "big" if order == "big" else "little")
    return raw[: place.length_at] + new + raw[place.length_at + place.width :]


def _vr(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    place = _place(raw, rng)
    if place is None:
        return raw
    return raw[: place.start + 4] + rng.choice(_VRS) + raw[place.start + 6 :]


def _tag(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    one, two = _place(raw, rng), _place(raw, rng)
    if one is None or two is None:
        return raw
    tag = rng.choice(_TAGS)
    new = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if rng.random() < 0.5:
        new = raw[two.start : two.start + 4]
    return raw[: one.start] + new + raw[one.start + 4 :]


def _value(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Give an element another value, with a right length: what is sound but unexpected."""
    place = _place(raw, rng)
    if place is None:
        return raw
    size = min(place.end - place.value, 64)
    texts = (*_TEXTS, rng.randbytes(rng.randrange(16)), rng.randbytes(size))
    new = rng.choice((*texts, rng.choice(_SYNTAXES).encode(), rng.choice(_CHARSETS).encode()))
    new += b" " * (len(new) & 1)
    length = len(new).to_bytes(place.width, "little")
    return raw[: place.length_at] + length + new + raw[place.end :]


def _number(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Give a short binary value an extreme: rows, frames, bits of which memory is made."""
    found = [place for place in _places(raw) if place.end - place.value in (2, 4)]
    if not found:
        return raw
    place = rng.choice(found)
    new = rng.choice((b"\xff\xff", b"\0\0", b"\1\0", b"\xfe\xff", b"\x40\0", b"\0\x80")) * 2
    return raw[: place.value] + new[: place.end - place.value] + raw[place.end :]


def _syntax(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    for place in _places(raw):
        if raw[place.start : place.start + 4] == b"\x02\x00\x10\x00":
            new = rng.choice(_SYNTAXES).encode()
            new += b"\0" * (len(new) & 1)
            return raw[: place.length_at] + struct.pack("<H", len(new)) + new + raw[place.end :]
    return raw


def _move(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    one, two = _place(raw, rng), _place(raw, rng)
    if one is None or two is None:
        return raw
    element = raw[one.start : one.end]
    rest = raw if rng.random() < 0.5 else raw[: one.start] + raw[one.end :]
    at = min(two.start, len(rest))
    return rest[:at] + element * rng.choice((0, 1, 1, 2)) + rest[at:]


def _splice(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    other = rng.choice(others)
    one, two = _place(raw, rng), _place(other, rng)
    if one is None or two is None or rng.random() < 0.3:
        return raw[: rng.randrange(len(raw) + 1)] + other[rng.randrange(len(other)) :]
    return raw[: one.start] + other[two.start :]


def _nest(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    place = _place(raw, rng)
    if place is None:
        return raw
    levels = rng.choice((1, 2, 5, 17, 33, 65, 200, 2_000))
    sequence = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    ends *= levels if rng.random() < 0.7 else rng.randrange(levels + 1)
    inner = raw[place.start : place.end][:2_000]
    return raw[: place.start] + (sequence + item) * levels + inner + ends + raw[place.end :]


def _pixels(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Damage the code stream or samples, behind sound elements."""
    at = raw.rfind(b"\xe0\x7f\x10\x00")
    if at < 0:
        return raw
    tail = bytearray(raw[at + 12 :])
    for _ in range(rng.choice((1, 3, 10, 50)) if tail else 0):
        tail[rng.randrange(len(tail))] = rng.choice((0, 0xFF, 0xD8, 0xD9, 0xFE, rng.randrange(256)))
    return raw[: at + 12] + bytes(tail)


def _head(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    found = [place.start for place in _places(raw) if raw[place.start] != 2]
    cut = rng.choice((128, 132, found[0] if found else 0, rng.randrange(132)))
    return raw[cut:]


def _tail(raw: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    padding = struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, 8) + b"HONG^GIL"
    return raw + rng.choice((padding, b"\0" * 513, b"HONG^GILDONG", raw[:200], rng.randbytes(33)))


_CHANGES: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
    _truncate, _flip, _flip, _overwrite, _length, _length, _length, _vr, _vr, _tag, _tag, _value,
    _value, _value, _number, _syntax, _move, _splice, _nest, _pixels, _head, _tail,
)  # fmt: skip


def _bomb(raw: bytes, rng: Random) -> bytes:
    """A deflated data set of up to a gigabyte of zeros, in a file of under a megabyte."""
    megabytes = rng.choice((1, 1, 1, 1, 1, 16, 16, 16, 64, 1_000))
    return _deflated(megabytes, rng.random() < 0.5)


@lru_cache(maxsize=8)
def _deflated(megabytes: int, as_value: bool) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    size = megabytes << 20
    ct = b"1.2.840.10008.5.1.4.1.1.2\0"
    head = struct.pack("<HH2sH", 8, 0x16, b"UI", len(ct)) + ct
    head += struct.pack("<HH2sH", 8, 0x18, b"UI", 4) + b"1.2\0"
    if as_value:
        head += struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, size)
    parts = [packer.compress(head)]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(megabytes)]
    return _meta("1.2.840.10008.1.2.1.99") + b"".join(parts) + packer.flush()


def _meta(syntax: str) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) & 1)
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(element))
    return bytes(128) + b"DICM" + length + element


def _abyss(raw: bytes, rng: Random) -> bytes:
    """Sequences in sequences, far deeper than any stack."""
    levels = rng.choice((100, 1_000, 20_000))
    sequence = struct.pack("<HHL", 0x0008, 0x1140, 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return _meta("1.2.840.10008.1.2") + (sequence + item) * levels


def _crowd(raw: bytes, rng: Random) -> bytes:
    """Very many empty items, or very many private elements."""
    if rng.random() < 0.5:
        items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 20_000
        body = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, len(items)) + items
    else:
        body = b"".join(
            struct.pack("<HH2sH", 0x0009, 0x1000 + n, b"LO", 2) + b"x " for n in range(4_000)
        )
    cut = next((p.start for p in _places(raw) if raw[p.start : p.start + 2] == b"\x10\0"), len(raw))
    return raw[:cut] + body + raw[cut:]


def _junk(raw: bytes, rng: Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(2_000))
    if kind == 1:
        return bytes(rng.randrange(2_000))
    if kind == 2:
        return b"%PDF-1.7 HONG^GILDONG" * 20
    return bytes(128) + b"DICM" + rng.randbytes(rng.randrange(500))


_BUILDERS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _bomb, _abyss, _abyss, _crowd, _crowd, _junk, _junk, _junk,
)  # fmt: skip
