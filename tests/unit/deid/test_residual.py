from __future__ import annotations

import unicodedata

import pytest

from deid.residual import NeedleIndex, find_identifiers

NAME = "홍길동"


@pytest.mark.parametrize("encoding", ["utf-8", "cp949", "utf-16-le", "utf-16-be"])
def test_a_name_is_found_in_every_encoding(encoding: str) -> None:
    raw = b"\x00\x01" + f"환자 {NAME}님".encode(encoding) + b"\x02"
    assert find_identifiers(raw, ["nobody else", NAME])[0].needle == 1


def test_decomposed_hangul_is_found() -> None:
    raw = unicodedata.normalize("NFD", f"환자 {NAME}").encode()
    assert find_identifiers(raw, [NAME])[0].encoding == "utf-8-nfd"


@pytest.mark.parametrize(
    "text", ["6304121234567", "630412-1234567", "630412 1234567", "63.04.12/1234567"]
)
def test_separators_between_digits_do_not_hide_a_number(text: str) -> None:
    assert find_identifiers(f"no {text} here".encode(), ["630412-1234567"])


def test_another_number_is_not_a_find() -> None:
    assert not find_identifiers(b"630412-1234568 and 63041212345", ["630412-1234567"])


def test_a_short_number_inside_a_longer_token_is_not_a_find() -> None:
    raw = b"sha256 ab20240315cd 9920240315 0120240315.7"
    assert not find_identifiers(raw, ["20240315"])
    assert find_identifiers(b"on 20240315.", ["20240315"])
    assert not find_identifiers("x20240315".encode("utf-16-le"), ["20240315"])
    assert find_identifiers(" 20240315 ".encode("utf-16-le"), ["20240315"])


def test_needles_that_occur_by_chance_are_not_searched() -> None:
    assert len(NeedleIndex(["63", "Kim", "", "  "])) == 0
    assert not find_identifiers(b"63 Kim", ["63", "Kim"])


def test_smooth_pixels_are_not_korean_names() -> None:
    hanja = "金東洞".encode("cp949")
    assert not find_identifiers(hanja * 3, ["金東洞"])
    hangul = "홍길동".encode("cp949")
    assert not find_identifiers(b"\xd1\xd1" + hangul + b"\xd1\xd2", [NAME])
    assert find_identifiers("환자".encode("cp949") + hangul + b" ", [NAME])


def test_the_large_index_finds_what_the_small_one_finds() -> None:
    filler = [f"Person Number{n:05d}" for n in range(3000)]
    raw = b"x" * 5_000_000 + NAME.encode() + b"y" * 100 + b"630412-1234567" + b" 20240315 "
    needles = [NAME, "6304121234567", "20240315", "absent entry"]
    few = {hit.needle for hit in find_identifiers(raw, needles)}
    many = {hit.needle for hit in NeedleIndex(needles + filler).search(raw)}
    assert few == many == {0, 1, 2}


def test_a_find_across_the_edge_of_two_slices_is_seen() -> None:
    filler = [f"Person Number{n:05d}" for n in range(3000)]
    index = NeedleIndex([NAME, *filler])
    for shift in range(0, 10):
        raw = b"x" * ((1 << 22) - shift) + NAME.encode() + b"tail"
        assert [hit.needle for hit in index.search(raw)] == [0]


def test_a_hit_names_no_value() -> None:
    hit = find_identifiers(NAME.encode(), [NAME])[0]
    assert NAME not in repr(hit) and hit.offset == 0
