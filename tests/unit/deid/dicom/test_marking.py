from __future__ import annotations

from dataclasses import replace

import pytest

from deid import DeidRefusal, shipped_profile
from deid.dicom.container import Out, Source, Writer
from deid.dicom.elements import EXPLICIT_LITTLE
from deid.dicom.marking import apply_pixels, mark
from deid.options import Option
from deid.pixels import PixelOutcome, PixelReport
from schemas.errors import ErrorCode

SYNTAX, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
PIXELS = Out(0x7FE00010, "OB", b"abcd", undefined=True)
OUTCOME = PixelOutcome(None, RLE, "NO", PixelReport(1, 1, 0, 0, 0.0, "examined"))


def _source(syntax: str = SYNTAX) -> Source:
    return Source(syntax, EXPLICIT_LITTLE, [])


@pytest.mark.parametrize(
    ("option", "word"),
    [
        (None, b"REMOVED"),
        (Option.RETAIN_MODIFIED_DATES, b"MODIFIED"),
        (Option.RETAIN_FULL_DATES, b"UNMODIFIED"),
    ],
)
def test_what_became_of_dates_is_said(option: Option | None, word: bytes) -> None:
    outs: dict[int, Out] = {}
    options = frozenset([option] if option else [])
    profile = replace(shipped_profile("basic"), options=options)
    mark(outs, _source(), profile, False, None, Writer(EXPLICIT_LITTLE))
    assert outs[0x00280303].value == word and outs[0x00120062].value == b"YES"
    assert 0x00080005 not in outs and 0x00280301 not in outs


def test_unicode_and_examined_pixels_are_said() -> None:
    outs: dict[int, Out] = {}
    mark(outs, _source(), shipped_profile("basic"), True, OUTCOME, Writer(EXPLICIT_LITTLE))
    assert outs[0x00080005].value == b"ISO_IR 192" and outs[0x00280301].value == b"NO"


@pytest.mark.parametrize(
    ("why", "claimed"),
    [
        ("examined", True),
        ("no-pixels", True),
        ("too-small", False),
        ("modality-without-text", False),
    ],
)
def test_clean_pixels_are_claimed_only_where_somebody_looked(why: str, claimed: bool) -> None:
    outs: dict[int, Out] = {}
    outcome = PixelOutcome(None, SYNTAX, None, PixelReport(1, 0, 0, 0, 0.0, why))
    mark(outs, _source(), shipped_profile("research"), False, outcome, Writer(EXPLICIT_LITTLE))
    assert (b"113101" in outs[0x00120064].value) == claimed
    assert b"113100" in outs[0x00120064].value


def test_pixels_that_did_not_change_stay_as_they_were() -> None:
    outs = {PIXELS.tag: PIXELS}
    assert apply_pixels(outs, OUTCOME, _source(RLE)) == RLE and outs[PIXELS.tag] is PIXELS
    assert apply_pixels(outs, None, _source(RLE)) == RLE


def test_new_pixels_in_another_syntax_bring_their_attributes() -> None:
    outs = {PIXELS.tag: PIXELS, 0x00280008: Out(0x00280008, "IS", b"1 ")}
    changes: dict[str, object] = {"BitsAllocated": 16, "NumberOfFrames": None}
    outcome = replace(OUTCOME, pixel_data=b"wxyz", transfer_syntax=SYNTAX, changes=changes)
    assert apply_pixels(outs, outcome, _source(RLE)) == SYNTAX
    assert outs[PIXELS.tag] == Out(PIXELS.tag, "OW", b"wxyz") and 0x00280008 not in outs
    assert outs[0x00280100].value == b"\x10\0"


def test_pixels_are_not_moved_into_another_byte_order() -> None:
    outcome = replace(OUTCOME, transfer_syntax="1.2.840.10008.1.2.2")
    with pytest.raises(DeidRefusal) as caught:
        apply_pixels({}, outcome, _source(RLE))
    assert caught.value.code is ErrorCode.DICOM_PIXELS_UNDECODABLE
