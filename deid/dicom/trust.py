"""Can a kept value be what its tag says it is? The tag in a file does not make it so."""

from __future__ import annotations

from functools import lru_cache

from deid.dicom.container import plain_vr
from deid.dicom.elements import Element, dictionary_vr
from deid.dicom.values import BULK_SIZES, STRING_VRS, in_repertoire
from deid.text import is_common


def agreed_vr(element: Element) -> str | None:
    """Give the VR to write a kept value as; None where coding and dictionary cannot both be.

    | coded                | dictionary        | written as            |
    | as the dictionary    | any               | the same              |
    | US                   | US or SS          | US: the file says so  |
    | UN                   | CS                | CS                    |
    | LO, OB               | PN                | PN, decoded as text   |
    | IS, LO               | US, OB            | not at all            |
    | UL                   | US                | UL: both are numbers  |
    | SQ                   | anything else     | not at all; nor the reverse |
    """
    coded, due = element.vr, dictionary_vr(element.tag)
    if coded == due and len(due) == 2:
        return coded
    if due == "UN":
        return coded if len(coded) == 2 else None
    if due == "SQ" or coded == "SQ":
        return None
    if len(due) > 2:
        if len(coded) == 2 and (coded in due or (coded in BULK_SIZES and "OW" in due)):
            return plain_vr(element.tag, due, element.value) if coded == "UN" else coded
        return plain_vr(element.tag, due, element.value) if coded in (due, "UN") else None
    if coded == "UN":
        return due
    if due in STRING_VRS:
        return due if coded in STRING_VRS or coded in BULK_SIZES else None
    return None if coded in STRING_VRS else coded


def due_vr(element: Element) -> str:
    """Give the VR of what replaces a value: the dictionary's; a private element's own."""
    if element.tag & 0x10000:
        return element.vr if len(element.vr) == 2 else "UN"
    due = dictionary_vr(element.tag)
    return element.vr if due == "UN" else plain_vr(element.tag, due, element.value)


def is_code(part: str) -> bool:
    """Tell one part of a coded string: of the VR CS, or ordinary words in small letters."""
    return part.isascii() and (in_repertoire("CS", part.encode("ascii")) or is_common(part))


@lru_cache(maxsize=4_096)  # a hospital shares a few hundred; bounded for hostile files
def is_known_code(value: bytes) -> bool:
    """Tell a coded value of ordinary words alone, in which nobody's name needs to be looked for."""
    return value.isascii() and all(is_common(part) for part in value.decode("ascii").split("\\"))
