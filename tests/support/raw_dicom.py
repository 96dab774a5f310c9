"""How is a DICOM file put together byte by byte, well-formed or not? For tests of the reader."""

from __future__ import annotations

import struct

_LONG = frozenset([b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OF"])
CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
UNDEFINED = 0xFFFFFFFF


def explicit(
    tag: int, vr: str, value: bytes, *, size: int | None = None, order: str = "<"
) -> bytes:
    """Give one element with explicit VR; `size` states another length than the value's."""
    code = vr.encode("ascii")
    length = len(value) if size is None else size
    head = struct.pack(order + "HH2s", tag >> 16, tag & 0xFFFF, code)
    if code in _LONG:
        return head + struct.pack(order + "HL", 0, length) + value
    return head + struct.pack(order + "H", length) + value


def implicit(tag: int, value: bytes, *, size: int | None = None) -> bytes:
    """Give one element with implicit VR."""
    return (
        struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if size is None else size) + value
    )


def item(content: bytes, *, undefined: bool = False) -> bytes:
    """Give one sequence item."""
    if undefined:
        end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        return struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED) + content + end
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def head(syntax: str = EXPLICIT) -> bytes:
    """Give preamble, prefix and a short file meta."""
    uid = syntax.encode("ascii")
    meta = explicit(0x00020010, "UI", uid + b"\0" * (len(uid) % 2))
    return b"\0" * 128 + b"DICM" + explicit(0x00020000, "UL", struct.pack("<L", len(meta))) + meta


def identity(sop_class: str = CT, order: str = "<") -> bytes:
    """Give class, instance, patient and study in explicit VR."""
    uids = [(0x00080016, sop_class), (0x00080018, "1.2.410.200088.7.1.5.5")]
    parts = [explicit(tag, "UI", _even(uid), order=order) for tag, uid in uids]
    parts.append(explicit(0x00100020, "LO", b"K10482213 ", order=order))
    parts.append(explicit(0x0020000D, "UI", _even("1.2.410.200088.7.1.5"), order=order))
    return b"".join(parts)


def _even(uid: str) -> bytes:
    raw = uid.encode("ascii")
    return raw + b"\0" * (len(raw) % 2)
