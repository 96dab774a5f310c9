from __future__ import annotations

import pytest

from deid.dicom.elements import Element
from deid.dicom.trust import agreed_vr, due_vr, is_code, is_known_code

ROWS, NAME, SLOPE, LUT, SEQUENCE = 0x00280010, 0x00100010, 0x00281053, 0x00283006, 0x00081140


@pytest.mark.parametrize(
    ("tag", "coded", "value", "written"),
    [
        (ROWS, "US", b"\1\0", "US"),
        (ROWS, "UL", b"\1\0\0\0", "UL"),
        (ROWS, "LO", b"Hong", None),
        (ROWS, "SQ", b"", None),
        (NAME, "LO", b"Hong", "PN"),
        (NAME, "OB", b"Hong", "PN"),
        (NAME, "UN", b"Hong", "PN"),
        (NAME, "US", b"\1\0", None),
        (SLOPE, "UN", b"1 ", "DS"),
        (SEQUENCE, "UN", b"Hong", None),
        (0x00280106, "SS", b"\1\0", "SS"),
        (0x00280106, "US or SS", b"\1\0", "US"),
        (0x00280106, "LO", b"Hong", None),
        (LUT, "US or OW", bytes(512), "OW"),
        (LUT, "OB", bytes(512), "OB"),
        (LUT, "UN", bytes(512), "OW"),
        (0x0018FFF2, "LO", b"Hong", "LO"),
    ],
)
def test_coding_and_dictionary_must_both_be(
    tag: int, coded: str, value: bytes, written: str | None
) -> None:
    assert agreed_vr(Element(tag, coded, 0, len(value), value)) == written


def test_what_replaces_a_value_has_the_dictionary_s_vr() -> None:
    assert due_vr(Element(NAME, "UN", 0, 0, b"")) == "PN"
    assert due_vr(Element(0x00191008, "LO", 0, 0, b"")) == "LO"


def test_a_code_is_of_its_vr_or_of_ordinary_words() -> None:
    assert (
        is_code("HEAD_NECK") and is_code("head") and not is_code("Zyxwvutic") and not is_code("뇌")
    )


def test_a_known_code_is_of_ordinary_words_alone() -> None:
    assert is_known_code(b"ORIGINAL\\PRIMARY") and not is_known_code(b"ORIGINAL\\ZYXWVUTIC")
    assert not is_known_code("뇌".encode())
