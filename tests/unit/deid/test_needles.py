from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from deid.needles import compile_needles, search

NAME = "홍길동"


def _found(texts: list[str], raw: bytes, **where: object) -> set[str]:
    needles = compile_needles(texts)
    return {needles.texts[hit.needle] for hit in search(needles, raw, **where)}  # type: ignore[arg-type]


def _noise(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


@pytest.mark.parametrize("encoding", ["utf-8", "cp949", "utf-16-le", "utf-16-be", "gb18030"])
def test_a_korean_name_is_found_in_every_encoding(encoding: str) -> None:
    raw = b"\x00\x01" + f"환자 {NAME}님".encode(encoding) + b"\x02"
    assert _found(["nobody else", NAME], raw) == {NAME}


def test_decomposed_hangul_is_found() -> None:
    assert _found([NAME], unicodedata.normalize("NFD", f"환자 {NAME}").encode()) == {NAME}


@pytest.mark.parametrize("encoding", ["ascii", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_letters_are_found_in_any_case(encoding: str) -> None:
    raw = b"\xff\xfe" + "x HONG^GILDONG, y".encode(encoding)
    assert _found(["Hong^Gildong"], raw) == ({"Hong^Gildong"} if "32" not in encoding else set())


def test_the_offset_is_that_of_the_value() -> None:
    raw = b"a" * 10 + "Hong^Gildong".encode("utf-16-le") + b"a" * 5 + b"20240315"
    needles = compile_needles(["20240315", "Hong^Gildong"])
    hits = search(needles, raw, [(0, 10), (10, 34), (39, 47)])
    assert [(hit.needle, hit.encoding, hit.offset) for hit in hits] == [
        (1, "utf-16-le", 10),
        (0, "ascii", 39),
    ]


@pytest.mark.parametrize("shift", range(8))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["20240315", "Hong^Gildong", "1.2.410.200001.7.20240315"])
def test_bulk_is_searched_at_every_offset(text: str, encoding: str, shift: int) -> None:
    planted = text.encode(encoding)
    for size in (0, 1, 2, 3, 5_000):
        raw = b"\x80" * (shift + size) + planted + b"\x81" * shift
        assert _found([text, "absent one"], raw, values=[], bulk=[(0, len(raw))]) == {text}


def test_korean_is_found_in_bulk_too() -> None:
    raw = _noise(4_001, 1) + f"{NAME} 010".encode() + _noise(4_001, 2)
    assert _found([NAME], raw, values=[], bulk=[(0, len(raw))]) == {NAME}


def test_what_lies_across_the_edge_of_bulk_is_no_find() -> None:
    raw = b"\x80" * 64 + b"Hong^Gildong" + b"\x80" * 64
    for edge in range(65, 76):
        assert not _found(["Hong^Gildong"], raw, values=[(0, edge)], bulk=[(edge, len(raw))])


def test_short_values_are_not_looked_for_in_bulk() -> None:
    raw = b"Smith 123456 " + "홍길동".encode("cp949")
    needles = ["Smith", "123456", NAME]
    assert _found(needles, raw) == set(needles)
    assert not _found(needles, raw, values=[], bulk=[(0, len(raw))])


def test_noise_and_ramps_give_no_find() -> None:
    dates = [f"19{year:02}{month:02}15" for year in range(100) for month in range(1, 13)]
    names = [f"{a}{b}{c}" for a in "김이박최정" for b in "민서준하은" for c in "지우현수영"]
    low = np.random.default_rng(3).normal(53, 6, 400_000).clip(0, 255).astype(np.uint8).tobytes()
    wide = np.frombuffer(low, dtype=np.uint8).astype("<u2").tobytes()
    ramp = bytes(range(256)) * 40
    for raw in (_noise(400_000, 4), wide, ramp):
        found = _found([*dates, *names, "0123456789"], raw, values=[], bulk=[(0, len(raw))])
        assert not found


def test_a_number_inside_a_longer_token_is_another_number() -> None:
    assert not _found(["20240315"], b"ab20240315cd 9920240315 0.20240315 2.25.20240315.1")
    assert _found(["20240315"], b"on 20240315.")
    assert _found(["20240315"], b"20240315101530.123")
    assert _found(["20240315"], b"202403151015")
    assert not _found(["20240315"], b"2024031510153012345")
    assert not _found(["1234567"], b"1234567.5")
    assert _found(["1234567"], b"1234567.")


def test_a_short_name_inside_a_longer_word_is_another_word() -> None:
    assert not _found(["Long"], b"Longitudinal")
    assert _found(["Long"], b"Dr. LONG, chest")


@pytest.mark.parametrize(
    "text", ["6304121234567", "630412-1234567", "63.04.12/1234567", "630412 - 1234567"]
)
def test_separators_between_digits_do_not_hide_a_number(text: str) -> None:
    assert _found(["630412-1234567"], f"no {text} here".encode())
    assert not _found(["630412-1234568"], f"no {text} here".encode())


def test_short_words_are_found_as_whole_words_of_a_text() -> None:
    needles = compile_needles(["Kim", "LEE", "김철수"])
    assert needles.texts[needles.find_word("Dr KIM said") or 0] == "Kim"
    assert needles.find_word("Dr Lee") == 1
    assert needles.find_word("Kimono sleeve") is None


def test_what_is_too_short_is_dropped() -> None:
    needles = compile_needles(["", " ", "a", "12", "김", "\0"])
    assert not search(needles, b"a 12 " + "김".encode())
    assert needles.find_word("a 12 김") is None


def test_nothing_is_found_in_nothing() -> None:
    assert search(compile_needles([]), b"abc", None, [(1, 3)]) == ()
    assert search(compile_needles(["Hong^Gildong"]), b"", [], []) == ()


def test_neither_needles_nor_hits_show_a_value() -> None:
    needles = compile_needles([NAME, "Hong^Gildong"])
    assert "Hong" not in repr(needles)
    assert "Hong" not in repr(search(needles, b"Hong^Gildong"))
