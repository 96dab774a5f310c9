"""Does a removed value still stand somewhere in these bytes, in any encoding?

Searched in UTF-8 (composed and decomposed Hangul), EUC-KR, UTF-16 in both orders, and, for long
numbers, with separators between digits ignored. A hit names which needle and where, never the
value. Finding nothing proves that the known values are gone; it does not prove that nothing is
left.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_PATTERN_BYTES = 6  # shorter byte strings occur by chance in pixels and ciphertext
_MIN_LOOSE_DIGITS = 9  # a number this long is also searched with separators between its digits
_BOUNDED_DIGITS = 12  # shorter numbers count only where no letter or digit stands beside them
_FEW = 400  # patterns up to which one search each is quicker than the shared table
_MIN_EUC_KR_BYTES = 8  # smooth pixel rows look like hanja: three of them (6 bytes) are too few
_TABLE_BITS = 24
_DIGIT_RUN = re.compile(rb"[0-9](?:[-./ ]?[0-9]){8,}")
_NUMBER_LIKE = re.compile(r"[0-9][0-9\-./ ]*")
_HANJA = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_ALNUM = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Hit:
    """Say which needle (its index) was found, in which encoding, at which byte offset."""

    needle: int
    encoding: str
    offset: int


@dataclass(frozen=True, slots=True)
class _Pattern:
    needle: int
    encoding: str
    stride: int  # bytes a character, for the look at the neighbours
    bounded: bool


class NeedleIndex:
    """Search many byte strings at once for many known identifiers.

    Args:
        needles: the identifiers as text; those under 6 bytes in an encoding are not searched in it.
    """

    def __init__(self, needles: Sequence[str]) -> None:
        self._patterns: dict[bytes, _Pattern] = {}
        self._digits: dict[bytes, int] = {}
        for index, needle in enumerate(needles):
            self._add(index, needle.strip())
        self._table: NDArray[np.bool_] | None = None
        self._lengths: dict[bytes, tuple[int, ...]] = {}
        if len(self._patterns) > _FEW:
            self._build_table()

    def __len__(self) -> int:
        return len(self._patterns)

    def search(self, raw: bytes) -> tuple[Hit, ...]:
        """Give every needle found in the bytes, once each per encoding, in order of offset."""
        found: dict[tuple[int, str], int] = {}
        hits = self._scan_few(raw) if self._table is None else self._scan_many(raw)
        for pattern, offset in hits:
            found.setdefault((pattern.needle, pattern.encoding), offset)
        for needle, offset in self._scan_digits(raw):
            found.setdefault((needle, "digits"), offset)
        return tuple(
            Hit(needle, encoding, offset)
            for (needle, encoding), offset in sorted(found.items(), key=lambda item: item[1])
        )

    def _add(self, index: int, needle: str) -> None:
        numeric = _NUMBER_LIKE.fullmatch(needle) is not None
        digits = "".join(c for c in needle if c in "0123456789") if numeric else ""
        bounded = numeric and len(digits) < _BOUNDED_DIGITS
        for encoding, stride, pattern in _encodings(needle):
            if len(pattern) >= MIN_PATTERN_BYTES * (stride if needle.isascii() else 1):
                entry = _Pattern(index, encoding, stride, bounded)
                self._patterns.setdefault(pattern, entry)
        if len(digits) >= _MIN_LOOSE_DIGITS:
            self._digits.setdefault(digits.encode("ascii"), index)

    def _scan_few(self, raw: bytes) -> Iterable[tuple[_Pattern, int]]:
        for pattern, entry in self._patterns.items():
            offset = raw.find(pattern)
            while offset >= 0:
                if _stands_alone(raw, offset, len(pattern), entry):
                    yield entry, offset
                    break
                offset = raw.find(pattern, offset + 1)

    def _build_table(self) -> None:
        table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        lengths: dict[bytes, set[int]] = {}
        for pattern in self._patterns:
            prefix = pattern[:MIN_PATTERN_BYTES]
            lengths.setdefault(prefix, set()).add(len(pattern))
        heads = np.frombuffer(b"".join(lengths), dtype=np.uint8).reshape(-1, MIN_PATTERN_BYTES)
        table[_fold(heads)] = True
        self._table = table
        self._lengths = {prefix: tuple(sorted(sizes)) for prefix, sizes in lengths.items()}

    def _scan_many(self, raw: bytes) -> Iterable[tuple[_Pattern, int]]:
        assert self._table is not None
        step = 1 << 22  # bytes a slice: bounds the memory of the windows
        for start in range(0, max(0, len(raw) - MIN_PATTERN_BYTES + 1), step):
            piece = np.frombuffer(raw, dtype=np.uint8)[start : start + step + MIN_PATTERN_BYTES - 1]
            windows = np.lib.stride_tricks.sliding_window_view(piece, MIN_PATTERN_BYTES)
            for at in np.flatnonzero(self._table[_fold(windows)]).tolist():
                offset = start + at
                for size in self._lengths.get(raw[offset : offset + MIN_PATTERN_BYTES], ()):
                    entry = self._patterns.get(raw[offset : offset + size])
                    if entry is not None and _stands_alone(raw, offset, size, entry):
                        yield entry, offset

    def _scan_digits(self, raw: bytes) -> Iterable[tuple[int, int]]:
        if not self._digits:
            return
        sizes = sorted({len(digits) for digits in self._digits})
        for run in _DIGIT_RUN.finditer(raw):
            digits = bytes(c for c in run.group() if c in b"0123456789")
            for size in sizes:
                exact_only = size < _BOUNDED_DIGITS
                for at in range(len(digits) - size + 1):
                    needle = self._digits.get(digits[at : at + size])
                    if needle is not None and (not exact_only or len(digits) == size):
                        yield needle, run.start()


def find_identifiers(raw: bytes, needles: Sequence[str]) -> tuple[Hit, ...]:
    """Search bytes for a few known identifiers; see `NeedleIndex` for many."""
    return NeedleIndex(needles).search(raw)


def _encodings(text: str) -> Iterable[tuple[str, int, bytes]]:
    forms = {unicodedata.normalize("NFC", text): "", unicodedata.normalize("NFD", text): "-nfd"}
    for form, suffix in forms.items():
        yield "utf-8" + suffix, 1, form.encode("utf-8", "surrogatepass")
        yield "utf-16-le" + suffix, 2, form.encode("utf-16-le", "surrogatepass")
        yield "utf-16-be" + suffix, 2, form.encode("utf-16-be", "surrogatepass")
    if not text.isascii():
        try:
            raw = unicodedata.normalize("NFC", text).encode("cp949")
        except UnicodeEncodeError:
            return  # a syllable or hanja outside the set cannot occur in that encoding
        if len(raw) >= _MIN_EUC_KR_BYTES or not _HANJA.search(text):
            yield "euc-kr", 1, raw


def _fold(windows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    folded = np.zeros(windows.shape[0], dtype=np.uint32)
    for column in range(MIN_PATTERN_BYTES):
        folded = folded * np.uint32(0x01000193) ^ windows[:, column]
    return (folded ^ (folded >> np.uint32(_TABLE_BITS))) & np.uint32((1 << _TABLE_BITS) - 1)


def _stands_alone(raw: bytes, offset: int, size: int, entry: _Pattern) -> bool:
    """A short number inside a longer token (a digest, another number) is not that identifier."""
    if entry.encoding == "euc-kr" and size < _MIN_EUC_KR_BYTES:
        return _is_korean(raw[max(0, offset - 2) : offset]) and _is_korean(
            raw[offset + size : offset + size + 2]
        )
    if not entry.bounded:
        return True
    before = raw[max(0, offset - entry.stride) : offset]
    after = raw[offset + size : offset + size + entry.stride]
    return not any(c in _ALNUM for c in before) and not any(c in _ALNUM for c in after)


def _is_korean(pair: bytes) -> bool:
    """Tell whether what stands beside a short EUC-KR name can be text: Hangul or plain ASCII."""
    if len(pair) == 2 and pair[0] >= 0xB0 and pair[1] >= 0xA1:
        return pair[0] <= 0xC8  # the rows of Hangul; what follows them is hanja
    return True
