"""Does a file that we wrote keep every promise of its profile?

Reads the written bytes again with a reader of its own, holds every element against the rules, at
every depth, and searches all values, pixels and code streams for what was removed. It knows the
removed values of this one file and nothing else: no fault means that the recognised values are
gone and that nothing stands there which the profile does not allow. It does not mean that nobody
can be recognised; the output is pseudonymised, not anonymous.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from deid.actions import Kind
from deid.marking import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from deid.needles import Needles, compile_needles, search
from deid.options import Option
from deid.output_reader import BadLayout, Element, Layout, read_layout
from deid.profile import Profile
from deid.rules import ClassRules

__all__ = ["Fault", "Needles", "compile_needles", "search", "verify_output"]

MAX_INFLATED_BYTES = 512 * 1024 * 1024
_CHARACTER_SET: Final = 0x00080005
_METHOD_CODES: Final = 0x00120064
_CODE_VALUE: Final = 0x00080100
_META: Final = frozenset([0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012])
_IMPLEMENTATION_NAME_TAG: Final = 0x00020013
# What de-identification itself writes (PS3.15 E.1.1): present whatever the rules say of it.
_OURS: Final = frozenset(
    [_CHARACTER_SET, 0x00120062, 0x00120063, _METHOD_CODES, 0x00280301, 0x00280302, 0x00280303]
)
_KEEPING_UIDS: Final = frozenset([Option.RETAIN_UIDS, Option.RETAIN_DEVICE_IDENTITY])
_DATES_MODIFIED: Final = {"remove": b"REMOVED", "modify": b"MODIFIED", "keep": b"UNMODIFIED"}
_TEXT: Final = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
_ASCII: Final = frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"])
_NUMERIC: Final = frozenset(["DS", "IS", "TM"])
_BINARY: Final = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UN", ""])
_FREE: Final = (_TEXT | _BINARY) - {""}  # may hold anything; numbers, terms and dates may not
_BULK_BYTES = 1_024  # a longer binary value holds samples or tables, not a name
_BULK_TEXT_BYTES = 16_384  # a longer list of numbers, as of a contour
_NOT_BULK: Final = _TEXT | {"UR", "UI", "PN"}
_SHORT_NUMBER_DIGITS = 8  # a shorter one may well be a time of day, a count or a size
_OUR_UID_ROOTS: Final = (b"2.25.", b"1.2.840.10008.")


@dataclass(frozen=True, slots=True)
class Fault:
    """Name one broken promise; never a value.

    Attributes:
        kind: "unreadable" (not what a sound writer makes), "identifier" (a removed value stands
            there), "rule" (an element or value which the profile does not allow), "meta"
            (preamble or file meta information not fresh), "marking" (does not say that and how it
            was de-identified).
        tag: the innermost element concerned; None where there is none.
        offset: where, in bytes of the file; behind the file meta information of a deflated file,
            of the file with its data set inflated.
    """

    kind: str
    tag: int | None
    offset: int


def verify_output(
    raw: bytes, rules: ClassRules, profile: Profile, needles: Needles
) -> tuple[Fault, ...]:
    """Give every fault of a written file; none if it keeps what the profile promises.

    Args:
        raw: the complete file.
        rules: the rules of its SOP class.
        profile: the profile it was made under.
        needles: the values removed from this file.
    """
    try:
        layout = read_layout(raw, rules.vr, MAX_INFLATED_BYTES)
    except BadLayout as bad:
        return (Fault("unreadable", None, bad.offset),)
    faults = [*_meta_faults(raw, layout), *_marking_faults(layout, profile)]
    faults += _rule_faults(layout, rules, profile)
    faults += _identifier_faults(layout, rules, profile, needles)
    return tuple(faults)


def _meta_faults(raw: bytes, layout: Layout) -> list[Fault]:
    meta = layout.meta
    faults = [] if raw[:128] == bytes(128) else [Fault("meta", None, 0)]
    for tag in meta.keys() ^ (_META | {_IMPLEMENTATION_NAME_TAG}):
        faults.append(Fault("meta", tag, 132))
    expected = {
        0x00020001: b"\x00\x01",
        0x00020012: _padded(IMPLEMENTATION_UID, b"\x00"),
        _IMPLEMENTATION_NAME_TAG: _padded(IMPLEMENTATION_NAME, b" "),
    }
    for element in layout.elements:  # class and instance as the data set names them
        if element.tag > 0x00080018:
            break
        if element.tag in (0x00080016, 0x00080018):
            stated = 0x00020002 if element.tag == 0x00080016 else 0x00020003
            expected[stated] = layout.data[element.start : element.end]
    faults += [
        Fault("meta", tag, 132)
        for tag, value in expected.items()
        if tag in meta and meta[tag].rstrip(b"\x00 ") != value.rstrip(b"\x00 ")
    ]
    return faults


def _padded(text: str, pad: bytes) -> bytes:
    raw = text.encode("ascii")
    return raw + pad * (len(raw) & 1)


def _marking_faults(layout: Layout, profile: Profile) -> list[Fault]:
    wanted = {0x00120062: b"YES", 0x00280303: _DATES_MODIFIED[profile.dates]}
    codes: list[bytes] = []
    top: dict[int, Element] = {}
    for element in layout.elements:
        if element.parent == 0:
            top[element.tag] = element
        elif element.parent == _METHOD_CODES and element.tag == _CODE_VALUE:
            codes.append(_value(layout, element))
    faults = [
        Fault("marking", tag, top[tag].start if tag in top else len(layout.data))
        for tag, value in wanted.items()
        if tag not in top or _value(layout, top[tag]) != value
    ]
    # Pixels that nobody had to look at do not claim the option that cleans them.
    claimed = {code.encode("ascii") for code, _ in profile.method_codes}
    if not claimed - {Option.CLEAN_PIXEL_DATA.code.encode("ascii")} <= set(codes):
        faults.append(Fault("marking", _METHOD_CODES, len(layout.data)))
    burned_in = top.get(0x00280301)
    if burned_in is not None and _value(layout, burned_in) == b"YES":
        faults.append(Fault("marking", 0x00280301, burned_in.start))
    return faults


def _value(layout: Layout, element: Element) -> bytes:
    return layout.data[element.start : element.end].rstrip(b" \x00")


def _rule_faults(layout: Layout, rules: ClassRules, profile: Profile) -> list[Fault]:
    data, faults = layout.data, []
    creators = {element.creator for element in layout.elements}
    unicode = False
    for tag, parent, creator, vr, start, end in layout.elements:
        if vr in _ASCII:
            if start != end and not data[start:end].isascii():
                faults.append(Fault("rule", tag, start))
        elif vr in _TEXT and start != end and not data[start:end].isascii():
            unicode = True
            if not _is_unicode(data[start:end]):
                faults.append(Fault("rule", tag, start))
        if tag in _OURS and (tag != _CHARACTER_SET or parent == 0):
            continue
        if parent == _METHOD_CODES:
            continue
        if tag & 0x10000:
            if tag & 0xFFFF < 0x0100:  # a block is reserved for what stands in it, no more
                name = data[start:end].decode("latin-1").rstrip(" \x00")
                kept = name in creators and tag & 0xFFFF >= 0x0010
            else:
                form = vr or "UN"  # implicit VR names none
                kept = rules.decide_private(creator, tag, form, parent).kind is not Kind.REMOVE
            if not kept:
                faults.append(Fault("rule", tag, start))
            continue
        kind = rules.decide(tag, parent).kind
        if (
            kind is Kind.REMOVE
            or tag & 0xFFFF == 0  # a group's length
            or (kind is Kind.EMPTY and start != end)
            or (kind is Kind.UID and not _is_ours(data[start:end]))
            or (vr in _FREE and not _fits(vr, rules.vr(tag), end - start))
            or (vr == "AS" and profile.age_cap and not _is_capped(data[start:end], profile.age_cap))
        ):
            faults.append(Fault("rule", tag, start))
    return faults + _character_set_faults(layout, unicode)


def _character_set_faults(layout: Layout, unicode: bool) -> list[Fault]:
    """What is not ASCII is UTF-8, and the object says so once, at the top (PS3.3 C.12.1.1.2)."""
    stated, at = b"", 132
    for element in layout.elements:
        if element.tag > _CHARACTER_SET:
            break
        if element.tag == _CHARACTER_SET:
            stated, at = _value(layout, element), element.start
    allowed = (b"ISO_IR 192",) if unicode else (b"", b"ISO_IR 6", b"ISO_IR 192")
    return [] if stated in allowed else [Fault("rule", _CHARACTER_SET, at)]


def _fits(vr: str, known: str, size: int) -> bool:
    """Tell whether a value has the form its rule was made for: no text in a number's place.

    A value too long for its VR's length field may stand as UN (PS3.5 6.2.2 note 4).
    """
    if not known or vr == known or len(known) > 2 or (vr == "UN" and size > 0xFFFE):
        return True
    if vr in _TEXT:
        return known in _TEXT
    return known in _BINARY and vr != "UN"


def _is_unicode(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_ours(value: bytes) -> bool:
    uids = value.rstrip(b"\x00 ").split(b"\\") if value else ()
    return all(not uid or uid.startswith(_OUR_UID_ROOTS) for uid in uids)


def _is_capped(value: bytes, cap: int) -> bool:
    """Tell an age of at most one year above the cap, which stands for every higher one."""
    for age in value.strip(b" \x00").split(b"\\"):
        if age[3:4] == b"Y" and age[:3].isdigit() and int(age[:3]) > cap + 1:
            return False
    return True


def _identifier_faults(
    layout: Layout, rules: ClassRules, profile: Profile, needles: Needles
) -> list[Fault]:
    data = layout.data
    keeps_uids = bool(_KEEPING_UIDS & profile.options)
    leaves = [element for element in layout.elements if element.vr != "SQ"]
    head = min((element.start for element in leaves), default=len(data))
    values: list[tuple[int, int]] = [(0, head)]
    bulk: list[tuple[int, int]] = []
    faults: list[Fault] = []
    for tag, _, _, vr, start, end in leaves:
        size = end - start
        if not size:
            continue
        if (
            tag >> 16 == 0x7FE0
            or (size > _BULK_BYTES and vr in _BINARY)
            or (size > _BULK_TEXT_BYTES and vr not in _NOT_BULK)
        ):
            bulk.append((start, end))
        else:
            values.append((start, end))
            if needles.words and vr in _TEXT:
                text = data[start:end].decode("utf-8", "replace")
                if needles.find_word(text) is not None:
                    faults.append(Fault("identifier", tag, start))
    starts = [element.start for element in leaves]
    for hit in search(needles, data, values, bulk):
        at = bisect_right(starts, hit.offset) - 1
        element = leaves[at] if at >= 0 and hit.offset < leaves[at].end else None
        if (
            element is not None
            and element.vr in _NUMERIC
            and _is_measure(needles.texts[hit.needle])
        ):
            continue
        if keeps_uids and _in_kept_uid(element, rules, profile):
            continue
        faults.append(Fault("identifier", element.tag if element else None, hit.offset))
    return faults


def _in_kept_uid(element: Element | None, rules: ClassRules, profile: Profile) -> bool:
    """Tell a place in a UID that an option leaves as it is: a day may be part of it.

    `element` is None in front of the data set, where the instance's UID stands once more.
    """
    if element is None:
        return profile.keep_uids
    if (element.vr or rules.vr(element.tag)) != "UI":
        return False
    return rules.decide(element.tag, element.parent).kind is Kind.KEEP


def _is_measure(text: str) -> bool:
    """Tell what a time of day, a count or a measured value may be by chance."""
    whole, point, part = text.lstrip("+-").partition(".")
    if point:
        return (whole + part).isdigit()
    return whole.isdigit() and len(whole) < _SHORT_NUMBER_DIGITS
