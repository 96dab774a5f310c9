"""What of a free text may stay?

Words of an allow-list and short numbers. The object's own values, identifiers by their form, dates,
ages over 89, names behind titles and every unlisted word go. A text in which everything may stay
comes back as it was, to the last blank.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from deid.text.fold import Folded, fold
from deid.text.gaps import close_gaps
from deid.text.own import OwnValues
from deid.text.patterns import has_strong_pattern, pattern_spans
from deid.text.tokens import WORD, cue, is_weak, vocabulary, word_allowed

_MAX_PASSES = 8  # what was apart may read as a number once joined; each pass only takes away
_CACHED_LENGTH = 256
_SHORTEST_NAME, _SURE_NAME = 3, 5  # letters of a listed name in a technical text
_NUMBERS = re.compile(r"[0-9]+(?:[-_.:][0-9]+)*+")
_YEAR = re.compile("(?:19|20)[0-9][0-9]")
_WORD_BEFORE = re.compile(r"(?<![a-z])([a-z]+)[ =:]{0,3}$")
_UNIT_AFTER = re.compile(r"\s?([a-z]+|%|°)")
_NEAR = re.compile(r"[ ,^_\-]{1,3}")
_AFTER_CUE = re.compile(r"[ :,^_\-]{1,4}")
_AFTER_TITLE = re.compile(r"[ .:,^_\-]{1,4}")


@dataclass(slots=True)
class _Token:
    start: int
    end: int
    text: str  # folded
    kept: bool
    capital: bool  # begins with a capital in the original
    shouted: bool  # all capitals in the original


class TextCleaner:
    """Clean texts of one object, whose own values are known.

    Args:
        own: the object's own values; may still grow between calls.
    """

    def __init__(self, own: OwnValues) -> None:
        self._own = own

    def clean(self, text: str) -> str:
        """Give the text without what may identify, or "" if no word is left.

        Cleaning twice gives the same. Line breaks stay; gaps close; a text that loses nothing comes
        back unchanged.
        """
        folded = fold(text)
        spans = self._own.spans(folded.text)
        if not spans and len(text) <= _CACHED_LENGTH:
            cleaned = _clean_common(text)
        else:
            cleaned = _clean_once(folded, spans)
        for _ in range(_MAX_PASSES):
            if cleaned == text:
                return text
            text = cleaned
            folded = fold(text)
            spans = self._own.spans(folded.text)
            if not spans and len(text) <= _CACHED_LENGTH:
                cleaned = _clean_common(text)
            else:
                cleaned = _clean_once(folded, spans)
        return cleaned if cleaned == text else ""

    def holds_identifier(self, text: str) -> bool:
        """Say whether a technical text holds an own value, a sure form of identifier or a name.

        Versions, object identifiers and dates of software do not count.
        """
        if len(text) <= _CACHED_LENGTH:
            lower, sure = _technical(text)
        else:
            lower = fold(text).text
            sure = has_strong_pattern(lower) or _names_somebody(lower)
        return sure or self._own.holds(lower)


def is_common(text: str) -> bool:
    """Say whether every word is everybody's: such a value identifies nobody, wherever it stands."""
    if len(text) > _CACHED_LENGTH:
        return _clean_once(fold(text), ()) == text
    return _is_common(text)


@lru_cache(maxsize=16384)
def _is_common(text: str) -> bool:
    """Say so of a short text; most that are not show it in their first word, without patterns."""
    folded = fold(text)
    if folded.starts is not None and len(set(folded.starts)) < len(folded.starts):
        return _clean_common(text) == text  # one character reads as several, in several words
    for match in WORD.finditer(folded.text):
        word = match.group()
        if word_allowed(word) or word in cue("josa"):
            continue
        first, last = folded.span(*match.span())
        if last - first != len(word) or not word_allowed(folded.original[first:last]):
            return False  # it goes, and nothing that closes its gap is as long as it was
    return not _long_numbers(folded.text) and _clean_common(text) == text


@lru_cache(maxsize=8192)
def _technical(text: str) -> tuple[str, bool]:
    lower = text.lower() if text.isascii() else fold(text).text
    return lower, has_strong_pattern(lower) or _names_somebody(lower)


def _names_somebody(folded: str) -> bool:
    """Say whether a technical text names a person: a listed name, or a word in an unlisted script.

    A short Latin name counts only beside an unlisted word or a name: LIN and ANN are codes, too.
    """
    return any(_is_named(WORD.findall(part)) for part in folded.split("\\"))


def _is_named(words: list[str]) -> bool:
    unlisted = [not word_allowed(word) and not word.isdigit() for word in words]
    for at, word in enumerate(words):
        if not unlisted[at]:
            continue
        if not word.isascii():  # another script, or letters of one amid another's
            return True
        if len(word) < _SHORTEST_NAME or not is_weak(word):
            continue
        beside = [other for other in (at - 1, at + 1) if 0 <= other < len(words)]
        if len(word) >= _SURE_NAME or any(unlisted[o] or is_weak(words[o]) for o in beside):
            return True
    return False


@lru_cache(maxsize=16384)
def _clean_common(text: str) -> str:
    return _clean_once(fold(text), ())


def _clean_once(folded: Folded, own: Sequence[tuple[int, int]]) -> str:
    text = folded.text
    spans = [*own, *(pattern_spans(text) if len(text) > 2 else ()), *_long_numbers(text)]
    if not spans:
        words = WORD.findall(text)
        if (
            all(map(word_allowed, words))
            and cue("title").isdisjoint(words)
            and cue("honorific").isdisjoint(words)
        ):
            return folded.original
    removed = bytearray(len(text))
    for start, end in spans:
        removed[start:end] = b"\x01" * (end - start)
    tokens = _tokens(folded, removed)
    _drop_names(text, tokens)
    if not spans and all(token.kept for token in tokens):
        return folded.original
    return close_gaps(
        folded.original,
        [folded.span(token.start, token.end) for token in tokens if token.kept],
        [folded.span(token.start, token.end) for token in tokens if not token.kept],
    )


def _tokens(folded: Folded, removed: bytearray) -> list[_Token]:
    tokens: list[_Token] = []
    for match in WORD.finditer(folded.text):
        start, end = match.span()
        if removed.find(1, start, end) < 0:
            token = _token(folded, start, end)
            tokens.append(token)
            if not token.kept and len(tokens) > 1 and token.text in cue("josa"):
                before = tokens[-2]  # a particle behind a unit or an abbreviation: "mm로", "CT상"
                token.kept = before.kept and before.end == start and before.text.isascii()
            continue
        if match.group().isascii() or removed.find(0, start, end) < 0:
            tokens.append(_token(folded, start, end, kept=False))
            continue
        at = start
        while at < end:  # what is left of a Hangul word beside an own name or a number
            stop = at
            while stop < end and removed[stop] == removed[at]:
                stop += 1
            if removed[at]:
                tokens.append(_token(folded, at, stop, kept=False))
            else:
                tokens.append(_token(folded, at, stop))
            at = stop
    return tokens


def _token(folded: Folded, start: int, end: int, *, kept: bool | None = None) -> _Token:
    first, last = folded.span(start, end)
    original = folded.original[first:last]
    word = original if len(original) == end - start else folded.text[start:end]
    return _Token(
        start,
        end,
        folded.text[start:end],
        word_allowed(word) if kept is None else kept,
        original[:1].isupper(),
        len(original) > 1 and original.isupper(),
    )


def _long_numbers(text: str) -> list[tuple[int, int]]:
    """Give the numbers too long, or too much like a year, to be a measurement."""
    found: list[tuple[int, int]] = []
    for match in _NUMBERS.finditer(text):
        start, end = match.span()
        if start and text[start - 1].isascii() and text[start - 1].isalpha() and end - start <= 5:
            continue  # one word with its letters: the allow-list knows
        if _number_goes(match.group(), text, start, end):
            found.append((start, end))
    return found


def _number_goes(number: str, text: str, start: int, end: int) -> bool:
    groups = re.split("[-_.:]", number)
    total = sum(map(len, groups))
    if total <= 3:
        return False
    after = _UNIT_AFTER.match(text, end)
    measured = after is not None and (after.group(1) in cue("unit") or after.group(1) in "%°")
    years = any(_YEAR.fullmatch(group) for group in groups)
    if len(groups) == 1:
        crossed = (start > 1 and text[start - 1] in "x×") or text[end : end + 1] in ("x", "×")
        if total > 4:
            return not (measured and total == 5)
        if not years or measured or crossed:
            return False
        before = _WORD_BEFORE.search(text, max(0, start - 12), start)
        if before is not None and before.group(1) in cue("before_year"):
            return False  # TR 2000, JPEG 2000
        return not (start and text[start - 1] in "+-" and text[start - 2 : start - 1] in ("", " "))
    if "." in number and len(groups) == 2:
        return total > 7 and not (len(groups[0]) <= 2 and len(groups[1]) <= 6)
    if measured and len(groups) == 2:
        return total > 8
    if "." in number and len(groups) > 2 and "-" not in number and ":" not in number:
        return total >= 5
    if "." in number and len(groups) <= 4:  # ranges of decimals: 1.5-2.5
        return total > 8 or years
    return total >= 7 or years


def _drop_names(text: str, tokens: list[_Token]) -> None:
    """Drop listed words that are names here: behind a title, or beside a name that goes."""
    titles, honorifics = cue("title"), cue("honorific")
    for at, token in enumerate(tokens):
        if token.text in titles:
            _drop_behind_title(text, tokens, at)
        elif token.text in honorifics and at:
            _drop_before_honorific(text, tokens, at)
    if all(token.kept for token in tokens):
        return
    size = len(tokens)
    for order in (range(size), range(size - 1, -1, -1), range(size)):  # along, back, along again
        for at in order:
            token = tokens[at]
            if not token.kept:
                continue
            before = tokens[at - 1] if at else token
            after = tokens[at + 1] if at + 1 < size else token
            if (not before.kept and _beside_name(text, token, before, True)) or (
                not after.kept and _beside_name(text, token, after, False)
            ):
                token.kept = False


def _drop_behind_title(text: str, tokens: list[_Token], at: int) -> None:
    title = tokens[at]
    address = title.text in cue("address")  # Dr. Kim, not "read by"
    dotted = text[title.end : title.end + 1] == "."
    if title.shouted and len(title.text) == 2 and not dotted:
        return  # MR, DR, MS in capitals: modalities
    strict = title.text in cue("strict_title") or (title.text == "dr" and dotted)
    previous, near = title, _AFTER_TITLE if address else _AFTER_CUE
    for other in tokens[at + 1 : at + 4]:
        if not near.fullmatch(text[previous.end : other.start]):
            return
        if other.kept:
            named = is_weak(other.text) and (other.capital or not other.text.isascii())
            if not named and not (strict and other.capital and other.text.isalpha()):
                return
            if previous is not title and _is_heading(other, previous):
                return
            other.kept = False
        if address:
            title.kept = False
        previous = other
        near = _AFTER_TITLE if len(other.text) == 1 else _NEAR


def _is_heading(token: _Token, name: _Token) -> bool:
    """Say whether clinical words in capitals begin behind a name that is not: Abernathy BRAIN."""
    return (
        token.shouted
        and name.capital
        and not name.shouted
        and len(name.text) > 1
        and token.text in vocabulary().technical
    )


def _drop_before_honorific(text: str, tokens: list[_Token], at: int) -> None:
    before, honorific = tokens[at - 1], tokens[at]
    if not before.kept or before.text in cue("role") or before.text[0] not in cue("surname"):
        return
    if text[before.end : honorific.start].strip(" ") or not 1 <= len(before.text) <= 4:
        return
    if honorific.text in cue("mild_honorific") and len(before.text) > 1:
        return  # "정상 환자": what patients are like stands there more often than who they are
    before.kept = False


def _beside_name(text: str, token: _Token, other: _Token, other_first: bool) -> bool:
    """Say whether a kept token goes with its neighbour that went."""
    gap = text[other.end : token.start] if other_first else text[token.end : other.start]
    if len(token.text) == 1 and token.text.isascii():
        if token.text == "s" and other_first and gap == "'":
            return True
        return (  # an initial: J. Smith, Smith J.
            token.text.isalpha()
            and token.capital
            and other.text.isalpha()
            and _AFTER_TITLE.fullmatch(gap) is not None
            and (text[token.end : token.end + 1] == "." or is_weak(other.text))
        )
    if gap and not _NEAR.fullmatch(gap):
        return False
    if len(token.text) == 1:  # a surname and a given name apart; "이 환자" stays
        return (
            not other_first
            and token.text in cue("surname")
            and gap == " "
            and len(other.text) <= 3
            and "가" <= other.text[0] <= "힣"
        )
    return (
        token.capital
        and len(token.text) > 2
        and token.text.isalpha()
        and is_weak(token.text)
        and is_weak(other.text)
        and not (other_first and _is_heading(token, other))
    )
