from __future__ import annotations

import unicodedata

import pytest

from deid.encoded import BULK_CHARACTERS, forms_of


def _values(text: str) -> dict[bytes, str]:
    return {pattern.raw: pattern.encoding for pattern in forms_of(text).values}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("홍길동", "cp949"),
        ("홍길동", "utf-16-be"),
        ("홍길동", "gb18030"),
        ("洪吉洞", "cp949"),
        ("山田太郎", "cp932"),
        ("山田太郎", "euc_jp"),
        ("王小东", "gb18030"),
        ("Müller", "latin-1"),
        ("Люкceмбypг", "iso8859-5"),
        ("Διονυσιος", "iso8859-7"),
        ("قباني", "iso8859-6"),
        ("שרון", "iso8859-8"),
        ("ﾔﾏﾀﾞ", "cp932"),
    ],
)
def test_a_text_is_given_in_the_encodings_of_its_script(text: str, encoding: str) -> None:
    assert text.encode(encoding).lower() in _values(text)
    assert text.encode("utf-8").lower() in _values(text)


def test_jis_in_seven_bits_is_looked_for_with_its_escape() -> None:
    raw = "山田".encode("iso2022_jp")
    assert raw.removesuffix(b"\x1b(B").lower() in _values("山田")


def test_composed_and_decomposed_forms_are_both_given() -> None:
    for text in ("홍길동", unicodedata.normalize("NFD", "홍길동")):
        found = _values(text)
        for form in ("NFC", "NFD"):
            assert unicodedata.normalize(form, text).encode("utf-8").lower() in found


def test_bytes_taken_for_latin_1_and_written_as_utf_8_are_given() -> None:
    wrong = "홍길동".encode("cp949").decode("latin-1")
    assert wrong.encode("utf-8").lower() in _values("홍길동")
    double = "홍길동".encode().decode("latin-1")
    assert double.encode("utf-8").lower() in _values("홍길동")


def test_other_cases_of_letters_beyond_ascii_are_given() -> None:
    assert "MÜLLER".encode("latin-1").lower() in _values("Müller")


def test_short_words_are_compared_as_words_only() -> None:
    assert forms_of("Kim").word == "kim"
    assert not forms_of("Kim").values
    assert forms_of("2024").word == "2024"
    assert forms_of("12") == forms_of("") == forms_of("김")


def test_only_long_and_rough_text_is_looked_for_in_bulk() -> None:
    assert not forms_of("x" * (BULK_CHARACTERS - 1)).bulk
    assert forms_of("20240315").bulk
    for smooth in ("00000000", "0123456789", "9876543210", "aaaaaaaaab"):
        assert not forms_of(smooth).bulk
        assert forms_of(smooth).values
    assert not [p for p in forms_of("홍길동").bulk if len(p.raw) < 8]


def test_long_numbers_are_given_without_separators() -> None:
    assert forms_of("630412-1234567").digits == b"6304121234567"
    assert forms_of("1.2.840.113619.2.55").digits == b""
    assert forms_of("0000000000").digits == b""
