from __future__ import annotations

import unicodedata

import pytest

from deid.text import OwnValues
from deid.text.fold import fold, fold_word


def _own() -> OwnValues:
    own = OwnValues()
    own.add_name("HONG^GILDONG=洪^吉洞=홍^길동")
    own.add_name("Kim^Min")
    own.add_identifier("A-123-456")
    own.add_identifier("1.2.826.0.1.3680043.8.498.7")
    own.add_phrase("Seoul Grace Hospital")
    return own


@pytest.mark.parametrize(
    "text",
    [
        "HONG, GILDONG",
        "gildong hong",
        "HongGildong",
        "Hong Gil-dong",
        "hong_gil dong",
        "홍길동",
        "홍 길동",
        "길동 홍",
        unicodedata.normalize("NFD", "홍길동"),
        "洪吉洞",
        "Kim, Min",
        "MINKIM",
        "A123456",
        "a 123-456",
        "xA123456x"[1:-1],
        "at Seoul Grace Hospital today",
        "1.2.826.0.1.3680043.8.498.7",
    ],
)
def test_own_values_are_found_in_any_spelling(text: str) -> None:
    assert _own().holds(fold_word(text))
    assert _own().spans(fold_word(text))


@pytest.mark.parametrize(
    "text", ["CT CHEST", "min 3 mm", "A123", "VB17A", "hospital", "1.2.826.0.1"]
)
def test_what_is_not_distinctive_does_not_count_in_technical_text(text: str) -> None:
    assert not _own().holds(fold_word(text))


def test_free_text_loses_even_a_short_own_surname() -> None:
    assert _own().spans("kim chest") == [(0, 3)]


def test_spellings_hold_no_word_that_clean_text_may_hold() -> None:
    own = OwnValues()
    own.add_name("Head^Hand")
    own.add_name("Long^Young")
    own.add_identifier("1234")
    own.add_identifier("CHEST")
    own.add_phrase("CT Chest")
    for needle in own.spellings():
        assert needle.lower() not in {"head", "hand", "long", "young", "1234", "chest", "ct chest"}


def test_spellings_find_the_usual_ways_of_writing() -> None:
    spellings = _own().spellings()
    for text in (
        "HONG^GILDONG",
        "Gildong Hong",
        "홍길동",
        "洪^吉洞",
        "KIM^MIN",
        "Min Kim",
        "A-123-456",
        "A123456",
        "SEOUL GRACE HOSPITAL",
        "1.2.826.0.1.3680043.8.498.7",
    ):
        assert any(needle.lower() in text.lower() for needle in spellings), text


def test_a_common_label_is_nobodys() -> None:
    own = OwnValues()
    own.add_phrase("Chest routine")
    own.add_identifier("UNKNOWN")
    assert own.spellings() == frozenset()
    assert own.spans("chest routine unknown") == []


def test_values_may_be_added_after_a_search() -> None:
    own = OwnValues()
    assert own.spans("gildong") == []
    own.add_name("Hong^Gildong")
    assert own.spans("gildong") == [(0, 7)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Kim", "KIM"),
        ("Lee^", "for Lee"),
        ("Li^Na", "LINA"),
        ("이^수", "이수 복부"),  # a word, too
        ("허준", "허준"),
    ],
)
def test_a_short_name_is_found_in_technical_text(name: str, text: str) -> None:
    own = OwnValues()
    own.add_name(name)
    assert own.holds(fold(text).text) and own.spans(fold(text).text)
