"""Which removed values still stand in one written file, in whatever encoding?

Made for one file and its own hundred or so removed values, at once and cheaply; for many files and
one long list there is `deid.residual`. What counts where, and how often chance finds a value, is
said in `deid.encoded`. Finding nothing proves that the known values are gone, not that nothing is
left.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deid.encoded import TAIL, Forms, Pattern, forms_of
from deid.residual import Hit

_HASH_BITS = 18
_TAIL, _WIDE_TAIL = 7, 11  # bytes of a pattern's end that cover a fourth offset, or two, whole
_MULTIPLIER = np.uint32(0x9E3779B1)  # 2^32 / golden ratio: spreads neighbours (Knuth 6.4)
_SHIFT = np.uint32(32 - _HASH_BITS)
_BLOCK = 1 << 16  # words
_Entry = TypeVar("_Entry", np.bool_, np.uint8)
_JOINT = b"\x1f"  # between values: no text holds it
_SEPARATORS = b"-./ "
_SMALL_BULK = 32_768  # bytes, where looking for each pattern by itself costs less
_MAX_HITS = 1_000  # a file with more is refused whatever the rest
_ALNUM = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset(b"0123456789")
_TIME = re.compile(rb"[0-9]{4}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?(?![0-9])")  # as in a DT value
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Needles:
    """Hold compiled needles; indices are those of `texts`.

    Attributes:
        texts: what is looked for; `repr` does not show it.
        words: short ones by their casefolded form, to be compared with whole words of a text.
    """

    texts: tuple[str, ...]
    words: dict[str, int]
    forms: tuple[Forms, ...]

    def __repr__(self) -> str:
        return f"Needles({len(self.texts)})"

    def find_word(self, text: str) -> int | None:
        """Give the needle that stands in a text as a whole word, if any does."""
        if not self.words:
            return None
        for word in _WORD.findall(unicodedata.normalize("NFC", text).casefold()):
            if word in self.words:
                return self.words[word]
        return None

    @cached_property
    def values(self) -> _ValueIndex:
        return _ValueIndex(self.forms)

    @cached_property
    def bulk(self) -> _BulkIndex:
        return _BulkIndex(self.forms)


def compile_needles(texts: Iterable[str]) -> Needles:
    """Prepare the removed values of one file for `search`.

    Args:
        texts: values as text, each spelling on its own; blanks around them do not count.
    """
    kept = tuple(dict.fromkeys(stripped for text in texts if (stripped := text.strip(" \0"))))
    forms = tuple(forms_of(text) for text in kept)
    words = {form.word: index for index, form in enumerate(forms) if form.word}
    return Needles(kept, words, forms)


def search(
    needles: Needles,
    raw: bytes,
    values: Sequence[tuple[int, int]] | None = None,
    bulk: Sequence[tuple[int, int]] = (),
) -> tuple[Hit, ...]:
    """Give every place where a needle stands in the bytes, in order of offset, up to 1,000.

    Args:
        needles: from `compile_needles`.
        raw: the bytes.
        values: [start, end) of each value, ascending; None takes everything outside bulk as one.
            No needle lies across the edge of a value, and what stands beyond it is no neighbour.
        bulk: [start, end) of stretches that hold samples or code streams; only needles of eight
            characters and more count there.
    """
    spans = _outside(len(raw), bulk) if values is None else values
    places = chain(_search_values(needles, raw, spans), _in_bulk(needles, raw, bulk))
    hits = {Hit(*place) for place in islice(places, _MAX_HITS)}
    return tuple(sorted(hits, key=lambda hit: (hit.offset, hit.needle, hit.encoding)))


class _ValueIndex:
    """Find patterns at every offset of a short text, by their last four bytes."""

    def __init__(self, forms: Sequence[Forms]) -> None:
        self._forms = forms
        self._by_tail: dict[bytes, list[tuple[int, Pattern]]] = {}
        self._tails = {tail for form in forms for tail in form.tails}
        self.digits = [(index, form.digits) for index, form in enumerate(forms) if form.digits]
        self.table = np.zeros(1 << _HASH_BITS, dtype=np.bool_)
        if self._tails:
            self.table[_hash(np.frombuffer(b"".join(self._tails), dtype="<u4"))] = True

    def _ending(self, tail: bytes) -> list[tuple[int, Pattern]]:
        """Give the patterns with this end; few ends are met in a file, so there is no table."""
        found = self._by_tail.get(tail)
        if found is None:
            found = self._by_tail[tail] = [
                (index, pattern)
                for index, form in enumerate(self._forms)
                if tail in form.tails
                for pattern in form.values
                if pattern.raw.endswith(tail)
            ]
        return found

    def find(self, text: bytes) -> Iterable[tuple[int, Pattern, int]]:
        """Give needle, pattern and offset of all that stands alone in `text` (lower case)."""
        for end in self.ends(text):
            for index, pattern in self._ending(text[end - TAIL : end]):
                start = end - len(pattern.raw)
                if text.endswith(pattern.raw, max(start, 0), end) and _alone(
                    text, start, end, pattern
                ):
                    yield index, pattern, start

    def ends(self, text: bytes) -> Iterable[int]:
        """Give where the last four bytes of some pattern end in `text` (lower case)."""
        for quarter in range(4):
            words = (len(text) - quarter) // TAIL
            if words <= 0:
                return
            windows = np.frombuffer(text, dtype="<u4", count=words, offset=quarter)
            for word in _look_up(self.table, windows).nonzero()[0].tolist():
                end = quarter + TAIL * word + TAIL
                if text[end - TAIL : end] in self._tails:
                    yield end


class _BulkIndex:
    """Find long patterns in megabytes, looking at every fourth offset only.

    A pattern of seven bytes or more covers one of those offsets with four whole bytes, wherever it
    begins: its last seven bytes are entered in each of their four positions. ASCII in UTF-16 has
    sixteen bytes or more and covers two of them; there both must fit, for two characters alone
    stand everywhere in the dark of a 16-bit image.
    """

    def __init__(self, forms: Sequence[Forms]) -> None:
        self._forms = forms
        self._narrow = [pattern for form in forms for pattern in form.bulk]
        self._wide = [n for n, pattern in enumerate(self._narrow) if pattern.encoding == "ascii"]
        quads = _quads(_rows([pattern.raw[-_TAIL:] for pattern in self._narrow], _TAIL))
        letters = _rows([self._narrow[n].raw[-_WIDE_TAIL // 2 :] for n in self._wide], 6)
        zeros = np.zeros_like(letters)
        little = np.stack([letters, zeros], axis=2).reshape(-1, 12)[:, 1:]
        big = np.stack([zeros, letters], axis=2).reshape(-1, 12)[:, 1:]
        tails = np.concatenate([little, big])
        first, second = _quads(tails[:, :_TAIL]), _quads(tails[:, 4:])
        self._table = np.zeros(1 << _HASH_BITS, dtype=np.uint8)
        self._table[_hash(first)] = 2
        self._table[_hash(quads)] |= 1
        self._pairs = np.zeros(1 << _HASH_BITS, dtype=np.bool_)
        self._pairs[_hash_pair(first, second)] = True
        self._order = quads.argsort()
        self._quads = quads[self._order]
        keys = first.astype(np.uint64) << np.uint64(32) | second
        self._wide_order = keys.argsort()
        self._keys = keys[self._wide_order]

    def find(self, raw: bytes, start: int, end: int) -> Iterable[tuple[int, Pattern, int]]:
        """Give needle, pattern and offset of what stands in `raw[start:end]`."""
        words = (end - start) // 4
        if words <= 0 or not self._narrow:
            return
        windows = np.frombuffer(raw, dtype="<u4", count=words, offset=start)
        flags = _look_up(self._table, windows)
        places = flags.nonzero()[0]
        kinds = flags[places]
        single = places[kinds & 1 > 0]
        for place, entry in _entries(single, windows[single], self._quads, self._order):
            position, number = divmod(entry, len(self._narrow))
            behind = start + 4 * place + _TAIL - position
            yield from self._checked(raw, start, behind, end, number, self._narrow[number])
        places = places[kinds > 1]
        places = places[places + 1 < words]
        first, second = windows[places], windows[places + 1]
        sure = self._pairs[_hash_pair(first, second)]
        keys = first[sure].astype(np.uint64) << np.uint64(32) | second[sure]
        for place, entry in _entries(places[sure], keys, self._keys, self._wide_order):
            position, row = divmod(entry, 2 * len(self._wide))
            order, row = divmod(row, len(self._wide))
            number = self._wide[row]
            pattern = _wide(self._narrow[number], ("utf-16-le", "utf-16-be")[order])
            behind = start + 4 * place + _WIDE_TAIL - position
            yield from self._checked(raw, start, behind, end, number, pattern)

    def _checked(
        self, raw: bytes, start: int, behind: int, end: int, number: int, pattern: Pattern
    ) -> Iterable[tuple[int, Pattern, int]]:
        at = behind - len(pattern.raw)
        stands = at >= start and raw.startswith(pattern.raw, at, end)
        if stands and _alone(raw, at, behind, pattern):
            yield self._owners[number], pattern, at

    @cached_property
    def _owners(self) -> list[int]:
        """Give the needle of each pattern; asked for where one stands in the bulk, so rarely."""
        return [index for index, form in enumerate(self._forms) for _ in form.bulk]


def _entries(
    places: NDArray[np.intp],
    found: NDArray[np.unsignedinteger],
    known: NDArray[np.unsignedinteger],
    order: NDArray[np.intp],
) -> Iterable[tuple[int, int]]:
    """Pair each place with every entry whose bytes stand there."""
    left = np.searchsorted(known, found, side="left")
    right = np.searchsorted(known, found, side="right")
    sure = left < right
    for place, low, high in zip(
        places[sure].tolist(), left[sure].tolist(), right[sure].tolist(), strict=True
    ):
        for entry in order[low:high].tolist():
            yield place, entry


def _quads(rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Give the four little-endian words in each row of seven bytes, position by position."""
    w = rows.astype(np.uint32)
    return np.concatenate(
        [w[:, p] | w[:, p + 1] << 8 | w[:, p + 2] << 16 | w[:, p + 3] << 24 for p in range(4)]
    )


def _rows(tails: list[bytes], width: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(tails), dtype=np.uint8).reshape(-1, width)


def _wide(pattern: Pattern, encoding: str) -> Pattern:
    raw = pattern.raw.decode("ascii").encode(encoding)
    return Pattern(raw, encoding, pattern.bounded, 2)


def _hash(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (words * _MULTIPLIER) >> _SHIFT


def _look_up(table: NDArray[_Entry], words: NDArray[np.uint32]) -> NDArray[_Entry]:
    """Give each word's entry; in blocks that stay in the cache, and by `take`, thrice as fast.

    No hash lies outside the table, so nothing is ever clipped: that mode spares the check.
    """
    found = np.empty(len(words), dtype=table.dtype)
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        table.take(_hash(block), out=found[start : start + _BLOCK], mode="clip")
    return found


def _hash_pair(first: NDArray[np.uint32], second: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return _hash(first * np.uint32(0x85EBCA6B) ^ second)


def _outside(size: int, bulk: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    edges = [0, *(edge for span in bulk for edge in span), size]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _search_values(
    needles: Needles, raw: bytes, spans: Sequence[tuple[int, int]]
) -> Iterable[tuple[int, str, int]]:
    text = _JOINT.join([raw[start:end] for start, end in spans]).lower()
    index = needles.values
    found = [(needle, pattern.encoding, at) for needle, pattern, at in index.find(text)]
    if b"\x00" in text:  # without its zero bytes, UTF-16 of either order reads as ASCII
        for needle, pattern, _ in index.find(text.translate(None, b"\x00")):
            if pattern.encoding == "ascii":
                found += [(needle, code, at) for code, at in _find_wide(text, pattern)]
    if index.digits:
        joined = text.translate(None, _SEPARATORS)
        for needle, digits in index.digits:
            if digits in joined:
                found += [(needle, "digits", at) for at in _find_loose(text, digits)]
    if found:
        ends = list(accumulate(end - start + 1 for start, end in spans))
        for needle, encoding, at in found:
            piece = bisect_right(ends, at)
            yield needle, encoding, spans[piece][1] - (ends[piece] - 1 - at)


def _in_bulk(
    needles: Needles, raw: bytes, bulk: Sequence[tuple[int, int]]
) -> Iterable[tuple[int, str, int]]:
    for start, end in bulk:
        if end - start <= _SMALL_BULK and not _may_hold(needles, raw[start:end]):
            continue
        for needle, pattern, at in needles.bulk.find(raw, start, end):
            yield needle, pattern.encoding, at


def _may_hold(needles: Needles, data: bytes) -> bool:
    """Tell a small image that holds no pattern: the tables for large ones would cost more.

    What is looked for in bulk is looked for in values too, in small letters. ASCII in UTF-16 reads
    as ASCII in every second byte.
    """
    lower = data.lower()
    return any(True for text in (lower, lower[::2], lower[1::2]) for _ in needles.values.ends(text))


def _find_wide(text: bytes, pattern: Pattern) -> Iterable[tuple[str, int]]:
    for encoding in ("utf-16-le", "utf-16-be"):
        wide = _wide(pattern, encoding)
        at = text.find(wide.raw)
        while at >= 0:
            if _alone(text, at, at + len(wide.raw), wide):
                yield encoding, at
            at = text.find(wide.raw, at + 1)


def _find_loose(text: bytes, digits: bytes) -> Iterable[int]:
    spaced = rb"[-./ ]{0,3}".join([digits[i : i + 1] for i in range(len(digits))])
    for match in re.finditer(rb"(?<![0-9])" + spaced + rb"(?![0-9])", text):
        yield match.start()


def _alone(raw: bytes, start: int, end: int, pattern: Pattern) -> bool:
    """Tell a whole word or number from a part of a longer one."""
    if not pattern.bounded:
        return True
    stride = pattern.stride
    before, after = raw[max(0, start - stride) : start], raw[end : end + stride]
    if any(c in _ALNUM for c in before):
        return False
    if pattern.bounded == "date" and _TIME.match(raw[end : end + 15 * stride].replace(b"\0", b"")):
        return True
    if any(c in _ALNUM for c in after):
        return False
    if pattern.bounded == "word":
        return True
    # "0.123456" and "123456.5" are other numbers, and so are the components of a UID.
    return not (
        (b"." in before and any(c in _DIGITS for c in raw[max(0, start - 2 * stride) : start - 1]))
        or (b"." in after and any(c in _DIGITS for c in raw[end + stride : end + 2 * stride]))
    )
