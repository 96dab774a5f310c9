"""Which text do these bytes mean under the data set's character set? (PS3.5 6.1, PS3.3 C.12.1.1.2)

Text is decoded before anything is changed, so that Hangul, hanja and kana survive where they may
stay. A file that does not keep to what it declares, as many from Korea do not, is read as UTF-8 or
EUC-KR where its bytes are valid in it.
"""

from __future__ import annotations

import re

from pydicom.charset import convert_encodings, decode_bytes

_TEXT_DELIMITERS = set(b"\r\n\t\f\\")  # what ends the reach of an escape sequence (PS3.5 6.1.2.5.3)
_NAME_DELIMITERS = _TEXT_DELIMITERS | set(b"^=")
_ESCAPES = re.compile(rb"\x1b[\x20-\x2f]+[\x30-\x7e]")
_ESCAPE = 0x1B
_known: dict[bytes, Charset] = {}


class Charset:
    """Decode text values under one value of Specific Character Set (0008,0005)."""

    __slots__ = ("_encodings",)

    def __init__(self, value: bytes) -> None:
        terms = [term.strip() for term in value.decode("latin-1").strip(" \0").split("\\")]
        try:
            names = convert_encodings(terms)
        except (LookupError, ValueError):
            names = ["iso8859"]
        self._encodings = [name for name in names if _is_codec(name)] or ["iso8859"]

    @classmethod
    def of(cls, value: bytes) -> Charset:
        """Give the decoder of one value; made once."""
        found = _known.get(value)
        if found is None:
            found = cls(value)
            if len(_known) < 1_024:  # a hostile file may name any number of sets
                _known[value] = found
        return found

    def decode(self, value: bytes) -> str:
        """Give the text, padding and NUL removed at its end; never fails."""
        if value.isascii() and _ESCAPE not in value:
            return value.decode("ascii").rstrip(" \0")
        return self._foreign(value, _TEXT_DELIMITERS).rstrip(" \0")

    def names(self, value: bytes) -> tuple[str, ...]:
        """Give what a person name may mean: as declared, and as Korean text declared otherwise."""
        if value.isascii() and _ESCAPE not in value:
            return (value.decode("ascii").rstrip(" \0"),)
        readings = [self._foreign(value, _NAME_DELIMITERS)]
        plain = _ESCAPES.sub(b"", value)
        for encoding in ("utf-8", "cp949"):
            try:
                readings.append(plain.decode(encoding))
            except UnicodeDecodeError:
                continue
        return tuple(dict.fromkeys(reading.rstrip(" \0") for reading in readings))

    def _foreign(self, value: bytes, delimiters: set[int]) -> str:
        first = self._encodings[0]
        if _ESCAPE in value:
            return decode_bytes(value, self._encodings, delimiters)
        if first not in _LATIN:
            try:
                return value.decode(first)
            except UnicodeDecodeError:
                pass
        korean = first != "latin_1" or _HANGUL.fullmatch(value) is not None
        for other in ("utf-8", "cp949") if korean else ("utf-8",):
            try:
                return value.decode(other)
            except UnicodeDecodeError:
                continue
        return value.decode(first, "replace")


# Two or more syllables of KS X 1001 and nothing else beyond ASCII: as Latin-1 it would be rows of
# capitals with accents, which no language writes.
_HANGUL = re.compile(rb"(?:[\x00-\x7f]*+(?:[\xb0-\xc8][\xa1-\xfe]){2,})++[\x00-\x7f]*+")
# Any byte is valid in these, so that failing to decode cannot show a wrong declaration.
_LATIN = frozenset(["iso8859", "latin_1"])


def _is_codec(name: str) -> bool:
    try:
        b"".decode(name)
    except LookupError:
        return False
    return True


DEFAULT = Charset(b"")
