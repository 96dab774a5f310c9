"""How are the items of a report, an annotation or a removed list treated? (PS3.3 C.17.3, C.10.5)

Inside such a sequence a rule for one attribute is not enough: free text there is always somebody's
dictation, while its coded parts say nothing about a person unless a known identifier stands in one.
Names (PNAME), dates (DATE, DATETIME) and references (UIDREF) follow their own rules by VR.
"""

from __future__ import annotations

from enum import StrEnum

from deid.actions import Kind
from deid.dicom.container import Out, Writer
from deid.dicom.elements import Element, dictionary_vr
from deid.dicom.values import STAND_IN_TEXT

CONTENT_SEQUENCE = 0x0040A730
# The parts of a code (PS3.3 Table 8.8-1): value, scheme, version, meaning, long value, URN.
_CODE_PARTS = frozenset(
    [0x00080100, 0x00080102, 0x00080103, 0x00080104, 0x00080119, 0x00080120, 0x0008010C]
)
# WaveformAnnotation, GraphicAnnotation, ReferencedPerformedProcedureStep.
_ANNOTATIONS = frozenset([0x0040B020, 0x00700001, 0x00081111])
_FREE_TEXT = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
_STAYS = frozenset([Kind.KEEP, Kind.TECHNICAL, Kind.CLEAN_TEXT])


class Mode(StrEnum):
    """Name in which kind of sequence the walk is."""

    PLAIN = "plain"  # each attribute by its own rule
    CLEAN = "clean"  # a cleaned description or annotation: free text in it is cleaned
    CONTENT = "content"  # content items: free text cleaned, stand-ins for what the rules replace
    DUMMY = "dummy"  # a sequence that is replaced: its shape stays, its texts do not
    HOLLOW = "hollow"  # the same for annotations: their codes describe a finding and stay


def treat_in(mode: Mode, kind: Kind, element: Element) -> Kind:
    """Give the treatment of an attribute inside such a sequence; never a milder one."""
    tag = element.tag
    if tag & 0x10000 or element.items is not None:
        return kind
    vr = dictionary_vr(tag)
    if vr not in _FREE_TEXT:
        return kind
    if mode is Mode.DUMMY:
        return Kind.DUMMY if kind in _STAYS else kind
    if kind not in _STAYS:
        return kind
    if vr == "PN":
        return Kind.DUMMY
    if tag in _CODE_PARTS:
        return Kind.TECHNICAL
    return Kind.DUMMY if mode is Mode.HOLLOW else Kind.CLEAN_TEXT


def mode_of_replaced(tag: int) -> Mode:
    """Give how the items of a replaced sequence are treated: codes of staff go (PS3.15 E.1.1)."""
    return Mode.HOLLOW if tag in _ANNOTATIONS else Mode.DUMMY


def content_stand_in(tag: int, writer: Writer) -> Out | None:
    """Give the stand-in of a report's content: one item that says it was removed.

    None for any other sequence. Container, relationship and concept are those of the basic text
    report (PS3.3 A.35.1, TID 2000).
    """
    if tag != CONTENT_SEQUENCE:
        return None
    concept = writer.elements(
        (
            Out(0x00080100, "SH", b"121071"),
            Out(0x00080102, "SH", b"DCM"),
            Out(0x00080104, "LO", b"Finding"),
        )
    )
    item = writer.elements(
        (
            Out(0x0040A010, "CS", b"CONTAINS"),
            Out(0x0040A040, "CS", b"TEXT"),
            Out(0x0040A043, "SQ", writer.items([concept])),
            Out(0x0040A160, "UT", STAND_IN_TEXT.encode("ascii")),
        )
    )
    return Out(tag, "SQ", writer.items([item]))
