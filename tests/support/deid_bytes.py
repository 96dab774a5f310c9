"""Does any of these strings stand anywhere in a file's bytes, in any encoding a hospital uses?

A search of its own, by plain ``in``: the product's search is not used to judge the product.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence

_ENCODINGS = ("utf-8", "cp949", "utf-16-le", "utf-16-be", "cp932", "latin-1", "iso2022_jp")
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def forms(text: str) -> frozenset[bytes]:
    """Every spelling in bytes, in lower case: encodings, composed and decomposed."""
    found = set()
    for norm in ("NFC", "NFD"):
        spelled = unicodedata.normalize(norm, text)
        for encoding in _ENCODINGS:
            try:
                found.add(spelled.encode(encoding).lower())
            except UnicodeEncodeError:
                continue
    return frozenset(found)


def layers(raw: bytes) -> list[bytes]:
    """The file as it is, and what is packed inside: a deflated data set, streams of a PDF."""
    found = [raw]
    if _DEFLATED in raw[:1024]:
        for start in range(132, min(len(raw), 2048)):
            try:
                found.append(zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw[start:]))
            except zlib.error:
                continue
            if len(found[-1]) > 64 and b"\0" in found[-1][:8]:
                break
            found.pop()
    for each in re.finditer(rb"stream\r?\n", raw):
        try:
            found.append(zlib.decompressobj().decompress(raw[each.end() :]))
        except zlib.error:
            continue
    return found


def found_in(raw: bytes, secrets: Iterable[str]) -> list[str]:
    """Give the secrets that stand anywhere in the bytes, case aside."""
    lowered = [layer.lower() for layer in layers(raw)]
    return [
        secret
        for secret in dict.fromkeys(secrets)
        if any(form in layer for layer in lowered for form in forms(secret))
    ]


def value_holds(values: Sequence[object], secret: str) -> bool:
    """Whether any of an attribute's values, text or bytes, still holds the secret."""
    for value in values:
        if isinstance(value, bytes):
            if any(form in value.lower() for form in forms(secret)):
                return True
        else:
            for norm in ("NFC", "NFD"):
                text = unicodedata.normalize(norm, str(value)).casefold()
                if unicodedata.normalize(norm, secret).casefold() in text:
                    return True
    return False
