from __future__ import annotations

import pytest

from deid import DeidRefusal
from deid.dicom.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    MAX_DEPTH,
    BrokenError,
    Parser,
    dictionary_vr,
)
from schemas.errors import ErrorCode
from tests.support.raw_dicom import SEQUENCE_END, UNDEFINED, explicit, implicit, item

MODALITY, PATIENT, PIXELS, REFERENCED = 0x00080060, 0x00100020, 0x7FE00010, 0x00081140


def _read(raw: bytes, coding=EXPLICIT_LITTLE):  # type: ignore[no-untyped-def]
    return Parser(raw, coding).data_set(0, len(raw))


def test_elements_are_given_as_they_stand() -> None:
    raw = explicit(MODALITY, "CS", b"CT") + explicit(PATIENT, "LO", b"K1")
    elements, end = _read(raw)
    assert [(e.tag, e.vr, e.value) for e in elements] == [
        (MODALITY, "CS", b"CT"),
        (PATIENT, "LO", b"K1"),
    ]
    assert end == len(raw) and raw[elements[1].start : elements[1].end] == b"K1"


def test_group_lengths_are_left_out() -> None:
    elements, _ = _read(explicit(0x00080000, "UL", bytes(4)) + explicit(MODALITY, "CS", b"CT"))
    assert [element.tag for element in elements] == [MODALITY]


def test_implicit_elements_get_the_dictionary_s_vr() -> None:
    elements, _ = _read(implicit(MODALITY, b"CT") + implicit(0x00091001, b"ab"), IMPLICIT_LITTLE)
    assert [element.vr for element in elements] == ["CS", "UN"]


def test_big_endian_is_read() -> None:
    elements, _ = _read(explicit(MODALITY, "CS", b"CT", order=">"), EXPLICIT_BIG)
    assert elements[0].tag == MODALITY


@pytest.mark.parametrize("undefined", [False, True], ids=["defined", "undefined"])
def test_sequences_are_read_whatever_their_length_says(undefined: bool) -> None:
    content = item(explicit(PATIENT, "LO", b"K1"), undefined=undefined)
    raw = explicit(REFERENCED, "SQ", content)
    if undefined:
        raw = explicit(REFERENCED, "SQ", content + SEQUENCE_END, size=UNDEFINED)
    (element,), end = _read(raw)
    assert element.items is not None and element.items[0][0].value == b"K1"
    assert raw[element.start : element.end] == content and end == len(raw)


def test_items_hidden_in_an_unknown_vr_are_read() -> None:
    (element,), _ = _read(explicit(REFERENCED, "UN", item(implicit(PATIENT, b"K1"))))
    assert element.vr == "SQ" and element.recoded
    assert element.items is not None and element.items[0][0].value == b"K1"


def test_an_unknown_vr_of_undefined_length_holds_implicit_items() -> None:
    content = item(implicit(PATIENT, b"K1")) + SEQUENCE_END
    (element,), _ = _read(explicit(REFERENCED, "UN", content, size=UNDEFINED))
    assert element.recoded and element.items is not None


def test_bytes_that_only_begin_like_an_item_stay_bytes() -> None:
    (element,), _ = _read(explicit(0x00091001, "UN", b"\xfe\xff\x00\xe0\xff\xff\x00\x00"))
    assert element.items is None and element.vr == "UN"


def test_fragments_are_one_value() -> None:
    content = item(b"") + item(b"\xff\xd8\xff\xd9")
    (element,), end = _read(explicit(PIXELS, "OB", content + SEQUENCE_END, size=UNDEFINED))
    assert element.undefined and element.value == content and end > len(content)


@pytest.mark.parametrize(
    "raw",
    [
        explicit(PATIENT, "LO", b"K1", size=40),
        explicit(PATIENT, "LO", b"K1")[:5],
        explicit(PIXELS, "OB", item(b"abcd"), size=UNDEFINED),
        explicit(REFERENCED, "SQ", item(b""), size=UNDEFINED),
        explicit(REFERENCED, "SQ", item(explicit(PATIENT, "LO", b"K1", size=9))),
        explicit(REFERENCED, "SQ", b"\x01\x02\x03\x04\x05\x06\x07\x08"),
        explicit(PATIENT, "LO", b"") + SEQUENCE_END,
        explicit(PIXELS, "OB", b"ab") + SEQUENCE_END,
    ],
    ids=["long", "cut", "fragments", "open", "nested", "no-item", "stray", "stray-after-pixels"],
)
def test_a_cut_or_damaged_data_set_is_no_data_set(raw: bytes) -> None:
    with pytest.raises(BrokenError):
        _read(raw)


@pytest.mark.parametrize(
    ("body", "tail"),
    [
        (explicit(PATIENT, "LO", b"K1"), b"\0" * 37),
        (explicit(PIXELS, "OB", b"abcd"), b"HONG GILDONG 10482213"),
        (explicit(PATIENT, "LO", b"K1"), b"\x08\x00 HONG"),
    ],
    ids=["zeros", "after-pixels", "out-of-order"],
)
def test_bytes_behind_the_data_set_are_not_part_of_it(body: bytes, tail: bytes) -> None:
    elements, end = _read(body + tail)
    assert len(elements) == 1 and end == len(body)


def test_a_length_gone_wrong_in_an_image_is_no_tail() -> None:
    """The value swallows what follows; the next bytes are pixels, not something appended."""
    raw = explicit(0x00280010, "US", b"\x01\0") + explicit(0x00280030, "DS", b"1\\1 ")
    with pytest.raises(BrokenError):
        _read(raw + b"\x01\x00" * 40)


def test_a_blank_vr_is_read_by_the_dictionary() -> None:
    raw = b"\x28\x00\x20\x01  \x02\x00\x07\x00" + explicit(0x00281050, "DS", b"1 ")
    elements, _ = _read(raw)
    assert [element.vr for element in elements] == ["US or SS", "DS"]


def test_nesting_is_bounded() -> None:
    raw = b""
    for _ in range(MAX_DEPTH + 2):
        raw = explicit(REFERENCED, "SQ", item(raw))
    with pytest.raises(DeidRefusal) as caught:
        _read(raw)
    assert caught.value.code is ErrorCode.DICOM_UNREADABLE


def test_the_dictionary_knows_what_it_knows() -> None:
    assert dictionary_vr(MODALITY) == "CS" and dictionary_vr(0x0018FFF2) == "UN"
