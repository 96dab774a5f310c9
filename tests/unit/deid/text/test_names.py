from __future__ import annotations

import unicodedata

import pytest

from deid.text.names import half_width, name_forms


def test_every_group_and_order_is_spelled() -> None:
    forms = name_forms("HONG^GILDONG=洪^吉洞=홍^길동")
    assert {
        "honggildong",
        "gildonghong",
        "홍길동",
        "길동홍",
        "洪吉洞",
        "hongg",
        "ghong",
    } <= forms.joined
    assert {"HONG^GILDONG", "Gildong Hong", "honggildong", "홍 길동", "홍길동"} <= forms.needles
    assert {"hong", "gildong", "홍", "길동", "吉洞"} <= forms.words


@pytest.mark.parametrize(
    ("value", "surname", "given"),
    [
        ("홍길동", "홍", "길동"),
        ("남궁민수", "남궁", "민수"),
        ("선우 진", "선우", "진"),
        ("김 철수", "김", "철수"),
    ],
)
def test_an_undivided_korean_name_is_divided(value: str, surname: str, given: str) -> None:
    assert {surname, given} <= name_forms(value).words


def test_hyphenations_are_one_name() -> None:
    assert "gildong" in name_forms("Hong^Gil-dong").words
    assert "gildong" in name_forms("Hong^Gil dong").words
    assert "GILDONG" in name_forms("Hong^Gil-dong").needles


def test_umlauts_are_spelled_out_as_well() -> None:
    assert {"muller", "mueller"} <= name_forms("Müller^Jörg").words


def test_prefixes_suffixes_and_stand_ins_name_nobody() -> None:
    assert not {"dr", "md", "jr"} & name_forms("Smith^John^^Dr^MD").words
    assert name_forms("Anonymous^Patient").words == frozenset()


def test_kana_is_looked_for_in_half_width_too() -> None:
    assert half_width("ヤマダ") == "ﾔﾏﾀﾞ"
    assert "ﾔﾏﾀﾞ" in name_forms("Yamada^Taro=山田^太郎=やまだ^たろう").needles
    assert "ヤマダ" in name_forms("Yamada^Taro=山田^太郎=やまだ^たろう").needles


def test_decomposed_names_are_the_same_name() -> None:
    assert name_forms(unicodedata.normalize("NFD", "홍^길동")) == name_forms("홍^길동")
