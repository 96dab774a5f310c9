"""How does an object say that and how it was de-identified? (PS3.15 E.1.1, E.2, PS3.16 CID 7050)"""

from __future__ import annotations

from pydicom.datadict import dictionary_VR, tag_for_keyword

from deid.dicom.collect import CHARACTER_SET
from deid.dicom.container import Out, Source, Writer, coding_of, is_native, plain_vr
from deid.dicom.elements import PIXEL_DATA
from deid.dicom.values import encode
from deid.errors import DeidRefusal
from deid.options import BASIC_CODE, Option
from deid.pixels import PixelOutcome
from deid.profile import Profile
from schemas.errors import ErrorCode

BURNED_IN = 0x00280301
_METHODS = 0x00120064
_NOT_LOOKED_AT = ("too-small", "modality-without-text")
_DATES = {"remove": b"REMOVED", "modify": b"MODIFIED", "keep": b"UNMODIFIED"}
_MEANINGS = {BASIC_CODE[0]: BASIC_CODE[1]} | {option.code: option.title for option in Option}


def mark(
    outs: dict[int, Out],
    source: Source,
    profile: Profile,
    unicode: bool,
    outcome: PixelOutcome | None,
    writer: Writer,
) -> None:
    """Set the marking attributes; methods of an earlier de-identification stay, by code alone."""
    codes = dict(profile.method_codes)
    if outcome is not None and outcome.report.why in _NOT_LOOKED_AT:
        codes.pop(Option.CLEAN_PIXEL_DATA.code, None)  # nobody looked: it is not claimed
    for code in _earlier_codes(source):
        codes.setdefault(code, _MEANINGS[code])
    items = [
        writer.elements(
            (
                Out(0x00080100, "SH", code.encode("ascii")),
                Out(0x00080102, "SH", b"DCM"),
                Out(0x00080104, "LO", meaning.encode("ascii")),
            )
        )
        for code, meaning in codes.items()
    ]
    outs[0x00120062] = Out(0x00120062, "CS", b"YES")
    outs[_METHODS] = Out(_METHODS, "SQ", writer.items(items))
    outs[0x00280303] = Out(0x00280303, "CS", _DATES[profile.dates])
    outs.pop(0x00120063, None)
    if outcome is not None and outcome.burned_in is not None:
        outs[BURNED_IN] = Out(BURNED_IN, "CS", outcome.burned_in.encode("ascii"))
    stated = any(element.tag == CHARACTER_SET for element in source.elements)
    outs.pop(CHARACTER_SET, None)
    if unicode or stated:
        outs[CHARACTER_SET] = Out(CHARACTER_SET, "CS", b"ISO_IR 192")


def _earlier_codes(source: Source) -> list[str]:
    codes: list[str] = []
    for element in source.elements:
        if element.tag != _METHODS or element.items is None:
            continue
        for item in element.items:
            parts = {part.tag: part.value.decode("latin-1").strip(" \0") for part in item}
            code = parts.get(0x00080100, "")
            if parts.get(0x00080102) == "DCM" and code in _MEANINGS:
                codes.append(code)
    return codes


def apply_pixels(outs: dict[int, Out], outcome: PixelOutcome | None, source: Source) -> str:
    """Put in what became of the pixels; give the transfer syntax of the result.

    Raises:
        DeidRefusal: the new pixels would need all elements in another coding.
    """
    if outcome is None:
        return source.syntax
    syntax, little = outcome.transfer_syntax, source.coding.little
    if coding_of(syntax) != coding_of(source.syntax):
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
    for keyword, value in outcome.changes.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            continue
        if value is None:
            outs.pop(tag, None)
            continue
        vr = plain_vr(tag, dictionary_VR(tag), b"")
        outs[tag] = Out(tag, vr, encode(vr, value, little))
    if outcome.pixel_data is not None and PIXEL_DATA in outs:
        native = is_native(syntax)
        bits = outs.get(0x00280100)
        narrow = bits is not None and bits.value[:1] == b"\x08"
        vr = outs[PIXEL_DATA].vr if native and not outs[PIXEL_DATA].undefined else "OB"
        if native and syntax != source.syntax and not narrow:
            vr = "OW"
        outs[PIXEL_DATA] = Out(PIXEL_DATA, vr, outcome.pixel_data, not native)
    if PIXEL_DATA in outs and outs[PIXEL_DATA].undefined and is_native(syntax):
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNDECODABLE)
    return syntax
