"""How are a DICOM file's bytes opened, and how is a fresh file written? (PS3.10 section 7)

Read leniently where real files differ from the standard (no preamble, no file meta, another
coding than declared), strictly where bytes are missing. Written anew: a zero preamble, file meta
of our own, no group lengths, nothing behind the data set. The transfer syntax stays.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pydicom._uid_dict import UID_dictionary

from deid.dicom.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LONG_VRS,
    UNDEFINED,
    VRS,
    BrokenError,
    Coding,
    Item,
    Parser,
)
from deid.dicom.values import STRING_VRS
from deid.errors import DeidRefusal
from deid.marking import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from schemas.errors import ErrorCode

MAX_FILE_BYTES = 512 * 1024 * 1024  # whole slides and long loops come near; more is not one object
MAX_INFLATED_BYTES = 512 * 1024 * 1024  # half a megabyte of deflated zeros is half a gigabyte
IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
EXPLICIT_BE, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_NATIVE = frozenset([IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED])
# Named as transfer syntaxes by the standard, but not of files that hold one object (PS3.6 A-1).
_NO_FILES = frozenset(
    ["1.2.840.10008.1.20", "1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2"]
    + [f"1.2.840.10008.1.2.7.{n}" for n in (1, 2, 3)]
    + ["1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"]  # deflated references to a server
)
SYNTAXES = (
    frozenset(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
    - _NO_FILES
)
_META_CLASS, _META_INSTANCE, _META_SYNTAX = 0x00020002, 0x00020003, 0x00020010
_TAIL_BYTES = 4_096  # of what stood behind the data set, searched for text; more is not kept


class Out(NamedTuple):
    """Hold one element to be written; a sequence's value is its items, encoded."""

    tag: int
    vr: str
    value: bytes
    undefined: bool = False


@dataclass(slots=True)
class Source:
    """Hold one file, opened.

    Attributes:
        syntax: the transfer syntax that its bytes have.
        coding: how its elements are written.
        elements: the data set.
        meta: file meta values by tag, as bytes.
        data: the bytes that elements' offsets refer to (inflated where the file is deflated).
        outside: bytes before and behind the data set: preamble and tail.
    """

    syntax: str
    coding: Coding
    elements: Item
    meta: dict[int, bytes] = field(default_factory=dict)
    data: bytes = b""
    outside: tuple[bytes, ...] = ()

    def meta_text(self, tag: int) -> str:
        """Give one value of the file meta as text."""
        return self.meta.get(tag, b"").decode("latin-1").strip(" \0")

    @property
    def sop_class(self) -> str:
        """Give Media Storage SOP Class UID."""
        return self.meta_text(_META_CLASS)

    @property
    def sop_instance(self) -> str:
        """Give Media Storage SOP Instance UID."""
        return self.meta_text(_META_INSTANCE)


def read(raw: bytes) -> Source:
    """Open a file.

    Raises:
        DeidRefusal: empty (FILE_EMPTY), too large (FILE_TOO_LARGE, also inflated), no DICOM
            (FILE_NOT_DICOM), of an unknown transfer syntax (DICOM_SYNTAX_UNKNOWN), or damaged
            (DICOM_UNREADABLE).
    """
    if not raw:
        raise DeidRefusal(ErrorCode.FILE_EMPTY)
    if len(raw) > MAX_FILE_BYTES:
        raise DeidRefusal(ErrorCode.FILE_TOO_LARGE)
    prefixed = raw[128:132] == b"DICM"
    start = 132 if prefixed else 0
    try:
        meta, start = _read_meta(raw, start)
        source = _read_data(raw, start, meta)
    except BrokenError:
        code = ErrorCode.DICOM_UNREADABLE if prefixed else ErrorCode.FILE_NOT_DICOM
        raise DeidRefusal(code) from None
    if not source.elements:
        raise DeidRefusal(ErrorCode.DICOM_UNREADABLE if prefixed else ErrorCode.FILE_NOT_DICOM)
    if not prefixed and not any(element.tag == 0x00080016 for element in source.elements):
        raise DeidRefusal(ErrorCode.FILE_NOT_DICOM)
    source.outside = (raw[:128] if prefixed else b"", *source.outside)
    return source


def _read_meta(raw: bytes, position: int) -> tuple[dict[int, bytes], int]:
    """Read group 0002, always explicit little endian; its group length is not believed."""
    meta: dict[int, bytes] = {}
    parser = Parser(raw, EXPLICIT_LITTLE)
    while raw[position : position + 2] == b"\x02\x00":
        element, position = parser.one(position, len(raw))
        if element is not None:
            meta[element.tag] = element.value
    return meta, position


def _read_data(raw: bytes, start: int, meta: dict[int, bytes]) -> Source:
    declared = meta.get(_META_SYNTAX, b"").decode("latin-1").strip(" \0")
    if declared and declared not in SYNTAXES:
        raise DeidRefusal(ErrorCode.DICOM_SYNTAX_UNKNOWN)
    data = raw
    if declared == DEFLATED:
        data, start = _inflate(raw, start), 0
    coding = _coding(data, start, declared)
    syntax = declared
    if not declared or (declared in _NATIVE and coding != _declared_coding(declared)):
        syntax = _PLAIN[coding]
    elements, last = Parser(data, coding).data_set(start, len(data))
    return Source(syntax, coding, elements, meta, data, (data[last : last + _TAIL_BYTES],))


_PLAIN = {IMPLICIT_LITTLE: IMPLICIT_LE, EXPLICIT_LITTLE: EXPLICIT_LE, EXPLICIT_BIG: EXPLICIT_BE}


def _declared_coding(syntax: str) -> Coding:
    if syntax == IMPLICIT_LE:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if syntax == EXPLICIT_BE else EXPLICIT_LITTLE


def _coding(data: bytes, at: int, declared: str) -> Coding:
    """Tell how the first element is written; what is declared is right unless it cannot be."""
    head = data[at : at + 8]
    if len(head) < 8:
        raise BrokenError(at)
    named = head[4:6] in VRS
    stated = _declared_coding(declared) if declared else None
    if named:
        group_little, group_big = (struct.unpack(order + "H", head[:2])[0] for order in "<>")
        if stated is not None and not stated.implicit:
            swapped = (group_big < group_little) is stated.little and group_little != group_big
            if not swapped:
                return stated
        elif stated is not None and int.from_bytes(head[4:], "little") <= len(data) - at - 8:
            return stated
        return EXPLICIT_LITTLE if group_little <= group_big else EXPLICIT_BIG
    if stated is not None and not stated.implicit:
        fits = int.from_bytes(head[4:], "little") <= len(data) - at - 8
        return IMPLICIT_LITTLE if fits else stated
    return IMPLICIT_LITTLE


def _inflate(raw: bytes, start: int) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5), up to a bound."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = stream.decompress(raw[start:], MAX_INFLATED_BYTES)
    except zlib.error:
        raise DeidRefusal(ErrorCode.DICOM_UNREADABLE) from None
    if stream.unconsumed_tail:
        raise DeidRefusal(ErrorCode.FILE_TOO_LARGE)
    if not stream.eof:
        raise DeidRefusal(ErrorCode.DICOM_UNREADABLE)
    return data


def is_native(syntax: str) -> bool:
    """Tell a transfer syntax whose pixel data are plain samples."""
    return syntax in _NATIVE


def coding_of(syntax: str) -> Coding:
    """Give how a transfer syntax writes elements: all but three are explicit little endian."""
    return _declared_coding(syntax)


class Writer:
    """Encode elements in one coding."""

    __slots__ = ("_implicit", "_item", "_long", "_pair", "_short")

    def __init__(self, coding: Coding) -> None:
        order = "<" if coding.little else ">"
        self._implicit = coding.implicit
        self._short = struct.Struct(order + "HH2sH").pack
        self._long = struct.Struct(order + "HH2sHL").pack
        self._pair = struct.Struct(order + "HHL").pack
        self._item = struct.Struct(order + "HHL").pack

    def elements(self, outs: Iterable[Out]) -> bytes:
        """Encode elements in the order given, values padded to even length (PS3.5 7.1.1)."""
        parts: list[bytes] = []
        add = parts.append
        for tag, vr, value, undefined in outs:
            size = len(value)
            if size & 1:
                value += b" " if vr in _SPACED else b"\0"
                size += 1
            length = UNDEFINED if undefined else size
            if self._implicit:
                add(self._pair(tag >> 16, tag & 0xFFFF, length))
            elif vr in LONG_VRS:
                add(self._long(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, length))
            elif size > 0xFFFE:  # a short form cannot say it: UN can (PS3.5 6.2.2)
                add(self._long(tag >> 16, tag & 0xFFFF, b"UN", 0, length))
            else:
                add(self._short(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), size))
            add(value)
            if undefined:
                add(self._pair(0xFFFE, 0xE0DD, 0))
        return b"".join(parts)

    def items(self, items: Iterable[bytes]) -> bytes:
        """Encode a sequence's items from their encoded elements."""
        parts: list[bytes] = []
        for content in items:
            parts.append(self._item(0xFFFE, 0xE000, len(content)))
            parts.append(content)
        return b"".join(parts)


_SPACED = STRING_VRS - {"UI"}  # padded with a blank; a UID and binary values with NUL


def plain_vr(tag: int, vr: str, value: bytes) -> str:
    """Give a single VR for one that depends on other attributes (PS3.6: "US or SS")."""
    if len(vr) == 2:
        return vr
    if vr == "OB or OW" or (vr.endswith("OW") and len(value) > 6):
        return "OW"
    return "US"


@dataclass(frozen=True, slots=True)
class File:
    """Hold a file to be: `head` is preamble, prefix and file meta; `body` the data set."""

    head: bytes
    body: bytes
    deflated: bool

    def packed(self) -> bytes:
        """Give the file's bytes, deflated where the transfer syntax says so (PS3.5 A.5)."""
        if not self.deflated:
            return self.head + self.body
        packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = packer.compress(self.body) + packer.flush()
        return self.head + body + b"\0" * (len(body) & 1)


def assemble(outs: list[Out], syntax: str) -> File:
    """Give a complete file: zero preamble, file meta of our own, the data set, nothing else.

    Args:
        outs: the data set's elements, ascending; SOP Class and Instance UID among them.
        syntax: its transfer syntax UID.
    """
    identity = {out.tag: out.value for out in outs[:8]}
    meta_values = (
        (0x00020001, "OB", b"\0\1"),
        (_META_CLASS, "UI", identity.get(0x00080016, b"")),
        (_META_INSTANCE, "UI", identity.get(0x00080018, b"")),
        (_META_SYNTAX, "UI", syntax.encode("ascii")),
        (0x00020012, "UI", IMPLEMENTATION_UID.encode("ascii")),
        (0x00020013, "SH", IMPLEMENTATION_NAME.encode("ascii")),
    )
    plain = Writer(EXPLICIT_LITTLE)
    meta = plain.elements(Out(*entry) for entry in meta_values)
    length = plain.elements([Out(0x00020000, "UL", struct.pack("<L", len(meta)))])
    body = Writer(coding_of(syntax)).elements(outs)
    return File(b"".join((b"\0" * 128, b"DICM", length, meta)), body, syntax == DEFLATED)
