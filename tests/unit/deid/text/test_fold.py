from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deid.text.fold import compact, fold, fold_word


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Müller", "muller"),
        ("９００１０１－１２３４５６７", "900101-1234567"),
        ("ﾔﾏﾀﾞ", "ヤマダ"),
        ("やまだ", "ヤマダ"),
        ("Ho\u200bng", "hong"),
        ("a\u2013b\u00a0c", "a-b c"),
        ("Straße", "strasse"),
    ],
)
def test_spellings_of_one_text_fold_to_one(text: str, folded: str) -> None:
    assert fold_word(text) == folded


def test_decomposed_and_composed_hangul_fold_to_the_same() -> None:
    assert fold_word(unicodedata.normalize("NFD", "홍길동")) == "홍길동"


def test_a_stretch_leads_back_to_the_original() -> None:
    text = "CT " + unicodedata.normalize("NFD", "홍길동") + " Straße"
    folded = fold(text)
    at = folded.text.index("길동")
    start, end = folded.span(at, at + 2)
    assert unicodedata.normalize("NFC", text[start:end]) == "길동"
    at = folded.text.index("strasse")
    start, end = folded.span(at, at + 7)
    assert text[start:end] == "Straße"


@given(st.text(max_size=60))
def test_stretches_are_in_order_and_cover_the_folded_text(text: str) -> None:
    folded = fold(text)
    spans = [folded.span(at, at + 1) for at in range(len(folded.text))]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)


def test_compact_drops_separators() -> None:
    assert compact("A-123 456.7") == "a1234567"
