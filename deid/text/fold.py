"""How is text made comparable, whatever its width, composition, case or accents?

Compatibility forms (full-width digits, half-width kana, jamo) become ordinary ones, Latin
letters lose case and accents, every dash is '-', invisible characters vanish, hiragana reads as
katakana. Each folded character remembers the stretch of the original it stands for, so what is
found in the folded text can be cut out of the original.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d"
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\x00"
_SPECIAL = {
    **dict.fromkeys(_DASHES, "-"),
    **dict.fromkeys(_INVISIBLE, ""),
    **dict.fromkeys("\u2018\u2019\u02bc\u00b4\uff40", "'"),
    **{
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ı": "i",
    },
}
_CLUSTER = re.compile("[\\s\\S][\u0300-\u036f\u1160-\u11ff\u3099\u309a\uff9e\uff9f]*")
_HIRAGANA = re.compile("[\u3041-\u3096]")
# each of these folds to itself or to its small letter; NUL does not
_SIMPLE = re.compile("[\x01-\x7f\u3400-\u4dbf\u4e00-\u9fff\u30a1-\u30fa\u30fc가-힣]*")


@dataclass(frozen=True, slots=True)
class Folded:
    """Hold a folded text and the way back: `span` gives the original's stretch, half open."""

    original: str
    text: str
    starts: tuple[int, ...] | None  # None: one character for one character
    ends: tuple[int, ...] | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Give the original's start and end of a non-empty folded stretch."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """Fold a text, keeping the way back to it."""
    if text.isascii():
        return Folded(text, text.lower().replace("\x00", " "), None, None)
    if _SIMPLE.fullmatch(text):
        return Folded(text, text.lower(), None, None)
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for match in _CLUSTER.finditer(text):
        folded = _fold_cluster(match.group())
        if not folded:  # an invisible character belongs to the one before it
            if ends:
                ends[-1] = match.end()
            continue
        pieces.append(folded)
        starts.extend([match.start()] * len(folded))
        ends.extend([match.end()] * len(folded))
    return Folded(text, "".join(pieces), tuple(starts), tuple(ends))


def fold_word(text: str) -> str:
    """Fold a text without the way back."""
    return text.lower().replace("\x00", " ") if text.isascii() else fold(text).text


def compact(text: str) -> str:
    """Give the folded letters and digits alone, separators dropped."""
    return "".join(filter(str.isalnum, fold_word(text)))


@lru_cache(maxsize=16384)
def _fold_cluster(cluster: str) -> str:
    if cluster.isascii():
        return cluster.lower()
    composed = unicodedata.normalize("NFKC", cluster).lower()
    if composed.isascii():
        return composed
    out: list[str] = []
    for character in composed:
        if character in _SPECIAL:
            out.append(_SPECIAL[character])
        elif _HIRAGANA.match(character):
            out.append(chr(ord(character) + 0x60))
        elif "\u00c0" <= character <= "\u024f" or "\u1e00" <= character <= "\u1eff":
            plain = unicodedata.normalize("NFD", character)
            out.append("".join(c for c in plain if not unicodedata.combining(c)))
        elif unicodedata.combining(character) and "\u0300" <= character <= "\u036f":
            continue
        elif character.isspace():
            out.append(" " if character not in "\r\n" else character)
        elif character.isdigit() and not character.isascii():
            out.append(str(unicodedata.digit(character)))  # Arabic-Indic and other digits
        else:
            out.append(character)
    return "".join(out)
