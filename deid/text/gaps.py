"""How does a text read once words are taken out of it?

Separators around a hole become one: line breaks stay, else the mark before what follows, else a
blank. Brackets that lose their partner go. Where nothing was taken, nothing changes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SENTENCE_MARKS = ".;:!?。"
_NOT_ALONE = "([{<)]}>'\""  # these join nothing
_NEWLINE = re.compile(r"\r\n|[\n\r\f\v]")


def close_gaps(
    original: str, kept: Sequence[tuple[int, int]], gone: Sequence[tuple[int, int]]
) -> str:
    """Give the text of the kept stretches, gaps closed; "" if nothing is kept.

    Args:
        original: the text.
        kept: stretches that stay, half open, in order; what lies between two of them stays too
            unless something between them goes.
        gone: stretches that go, in order, apart from the kept ones.
    """
    if not kept:
        return ""
    out: list[str] = []
    hole = 0
    position = 0
    for at, (start, end) in enumerate([*kept, (len(original), len(original))]):
        separators = []
        begin = position
        while hole < len(gone) and gone[hole][0] < start:
            separators.append(original[begin : gone[hole][0]])
            begin = gone[hole][1]
            hole += 1
        separators.append(original[begin:start])
        if len(separators) == 1:
            out.append(separators[0])
        elif at == len(kept):
            out.append(_ending(separators[-1]))
        elif at > 0:
            out.append(_joint(separators))
        out.append(original[start:end])
        position = end
    return _balanced("".join(out))


def _joint(separators: Sequence[str]) -> str:
    """Choose one separator for a gap."""
    first, last = separators[0], separators[-1]
    breaks = [found.group() for text in separators for found in _NEWLINE.finditer(text)]
    if breaks:
        mark = first[0] if first and first[0] in _SENTENCE_MARKS + "," else ""
        indent = str(re.split(r"[\n\r\f\v]", last)[-1]) if _NEWLINE.search(last) else ""
        return mark + "".join(breaks) + indent
    for separator in (last, first):
        for mark in _SENTENCE_MARKS + ",":
            if separator[separator.find(mark) + 1 :][:1].isspace() and mark in separator:
                return mark + " "
    if any(character.isspace() for separator in separators for character in separator):
        return " "
    plain = [character for character in first + last if character not in _NOT_ALONE]
    return plain[0] if plain else " "


def _ending(last: str) -> str:
    """Give what ends the text: a full stop if one was there, and its line breaks."""
    stop = "." if last.lstrip(" )]")[:1] == "." else ""
    return stop + "".join(found.group() for found in _NEWLINE.finditer(last))


def _balanced(text: str) -> str:
    waiting: list[int] = []
    drop: set[int] = set()
    for at, character in enumerate(text):
        if character in "([{":
            waiting.append(at)
        elif character in ")]}":
            if waiting and "([{".index(text[waiting[-1]]) == ")]}".index(character):
                waiting.pop()
            else:
                drop.add(at)
    drop.update(waiting)
    if not drop:
        return text
    return "".join(character for at, character in enumerate(text) if at not in drop)
