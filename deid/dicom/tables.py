"""What of a colour profile or a look-up table is table, and what may be text beside it?

A profile describes its device in words, and both may be longer than what they state. Only what
turns numbers into colours stays (ICC.1 7.2 and 7.3; PS3.3 C.7.6.3.1.5, C.11.1.1, C.11.2.1).
"""

from __future__ import annotations

import struct

from deid.dicom.container import Out

ICC_PROFILE = 0x00282000
_ICC_HEADER_BYTES = 128
_ICC_TABLE_ENTRY = 12
_MAX_ICC_TAGS = 256
_TYPE_BYTES = 8  # of a tag's data: its type, and four bytes reserved
# Types that hold numbers. Text (desc, text, mluc, ascii) and private types are blanked.
_ICC_NUMBERS = frozenset(
    [b"XYZ ", b"curv", b"para", b"sf32", b"uf32", b"mft1", b"mft2", b"mAB ", b"mBA ", b"mpet",
     b"meas", b"view", b"sig ", b"chrm", b"vcgt", b"ui08", b"ui16", b"ui32", b"u16f", b"cicp"]
)  # fmt: skip
_PALETTE = 0x00281201, 0x00281202, 0x00281203
# Data by the descriptor that gives its entries; the alpha palette has that of the red one.
_TABLES = {0x00283006: 0x00283002, 0x00281204: 0x00281101} | {
    data: data - 0x100 for data in _PALETTE
}
_MANY = 65_536  # entries: what a 16-bit count writes as 0


def icc_profile(value: bytes) -> bytes | None:
    """Give a colour profile without its words; None for what is no profile.

    Header, tag table and numbers stay in place, so that colours are the same; text, private types
    and what lies between the tags become zeros (text keeps its type, so it reads as empty).
    """
    size = int.from_bytes(value[:4], "big")
    if value[36:40] != b"acsp" or not _ICC_HEADER_BYTES + 4 <= size <= len(value):
        return None
    count = int.from_bytes(value[_ICC_HEADER_BYTES : _ICC_HEADER_BYTES + 4], "big")
    start = _ICC_HEADER_BYTES + 4
    head = start + count * _ICC_TABLE_ENTRY
    if count > _MAX_ICC_TAGS or head > size:
        return None
    clean = bytearray(size)
    clean[:head] = value[:head]
    clean[84:_ICC_HEADER_BYTES] = bytes(44)  # its digest, now void, and what is reserved
    for at in range(start, head, _ICC_TABLE_ENTRY):
        _, first, length = struct.unpack_from(">4sLL", value, at)
        if first < head or length < _TYPE_BYTES or first + length > size:
            return None
        kept = length if value[first : first + 4] in _ICC_NUMBERS else _TYPE_BYTES
        clean[first : first + kept] = value[first : first + kept]
    return bytes(clean)


def trim_tables(outs: dict[int, Out], little: bool) -> None:
    """Cut look-up tables to the entries their descriptors state; without one, a table goes."""
    for tag, descriptor in _TABLES.items():
        table, stated = outs.get(tag), outs.get(descriptor)
        if table is None or not table.value:
            continue
        if stated is None or len(stated.value) < 6:
            del outs[tag]
            continue
        entries, _, bits = struct.unpack_from("<3H" if little else ">3H", stated.value)
        entries = entries or _MANY
        size = len(table.value)
        narrow = bits <= 8 and size < 2 * entries  # some write 8-bit entries as words
        wanted = entries + (entries & 1) if narrow else 2 * entries
        if size > wanted:
            outs[tag] = table._replace(value=table.value[:wanted])
