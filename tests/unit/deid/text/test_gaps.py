from __future__ import annotations

import pytest

from deid.text.gaps import close_gaps


def _without(text: str, *words: str) -> str:
    gone = sorted((text.index(word), text.index(word) + len(word)) for word in words)
    kept: list[tuple[int, int]] = []
    at = 0
    for word in text.replace("_", " ").replace("(", " ").replace(")", " ").split():
        start = text.index(word.strip(",."), at)
        at = start + len(word.strip(",."))
        if (start, at) not in gone:
            kept.append((start, at))
    return close_gaps(text, kept, gone)


@pytest.mark.parametrize(
    ("text", "word", "left"),
    [
        ("CHEST_HONG_PA", "HONG", "CHEST_PA"),
        ("CT (Hong) chest", "Hong", "CT chest"),
        ("seen Hong, today", "Hong", "seen, today"),
        ("saw Hong. Normal", "Hong", "saw. Normal"),
        ("Hong chest", "Hong", "chest"),
        ("chest Hong.", "Hong", "chest."),
        ("one\nHong\ntwo", "Hong", "one\n\ntwo"),
    ],
)
def test_a_hole_closes_to_one_separator(text: str, word: str, left: str) -> None:
    assert _without(text, word) == left


def test_nothing_is_left_of_nothing() -> None:
    assert close_gaps("Hong", [], [(0, 4)]) == ""


def test_spaces_away_from_the_hole_stay() -> None:
    assert _without("a  b  Hong c   d", "Hong") == "a  b c   d"
