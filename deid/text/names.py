"""In which spellings does one person's name stand in text, when only its PN value is known?

A PN value has up to three groups (alphabetic, ideographic, phonetic; PS3.5 section 6.2.1), each
with family name, given name, middle name, prefix and suffix. Text joins and orders them freely.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

from deid.text.fold import compact
from deid.text.tokens import cue

_COMPOUND_SURNAMES = (
    "남궁",
    "황보",
    "제갈",
    "사공",
    "선우",
    "서문",
    "독고",
    "동방",
    "南宮",
    "皇甫",
    "諸葛",
)
_PARTS = re.compile(r"[^\s^=,.\-_/()'’‐-―]+")
_GERMAN = (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("å", "aa"), ("ø", "oe"), ("æ", "ae"))
_JOINS_LATIN = ("^", " ", ", ", ",", "", "_", "-", ".")
_JOINS_CJK = ("", " ", "^")
_CJK = re.compile("[\u3040-\ud7a3\uf900-\ufaff\uff66-\uff9f]")
_MAX_PARTS = 6  # a name has few parts; more would make orders explode


@dataclass(frozen=True, slots=True)
class NameForms:
    """Hold the compact folded forms of one name, and what to search for in raw bytes.

    Attributes:
        words: folded single parts: each goes as a whole word in free text.
        joined: folded forms of several parts together, without separators: these identify.
        needles: texts as they may be written, long enough to identify.
    """

    words: frozenset[str]
    joined: frozenset[str]
    needles: frozenset[str]


@lru_cache(maxsize=4096)  # a patient's names come back with each of their files
def name_forms(value: str) -> NameForms:
    """Give every spelling of a PN value, or of a name written in any other way."""
    words: set[str] = set()
    joined: set[str] = set()
    needles: set[str] = set()
    for group in unicodedata.normalize("NFC", value).split("="):
        for variant in _umlaut_variants(group.strip()):
            _add_group(variant, words, joined, needles)
    return NameForms(frozenset(words), frozenset(joined), frozenset(needles))


def is_cjk(text: str) -> bool:
    """Say whether the text is written in Hangul, hanja or kana."""
    return _CJK.search(text) is not None


def half_width(text: str) -> str:
    """Give katakana in its half-width form (JIS X 0201), other characters as they are."""
    table = _half_width_table()
    decomposed = "".join(
        unicodedata.normalize("NFD", character)
        if character in table or _voiced(character)
        else character
        for character in text
    )
    return "".join(table.get(character, character) for character in decomposed)


def _voiced(character: str) -> bool:
    return "\u30a1" <= character <= "\u30ff" and len(unicodedata.normalize("NFD", character)) > 1


@lru_cache(maxsize=1)
def _half_width_table() -> dict[str, str]:
    table = {unicodedata.normalize("NFKC", chr(code)): chr(code) for code in range(0xFF66, 0xFFA0)}
    return {**table, "\u3099": "\uff9e", "\u309a": "\uff9f"}


def _umlaut_variants(group: str) -> tuple[str, ...]:
    lower = group.lower()
    if not any(letter in lower for letter, _ in _GERMAN):
        return (group,)
    spelled = group
    for letter, pair in _GERMAN:
        spelled = spelled.replace(letter, pair).replace(letter.upper(), pair.capitalize())
    return (group, spelled)


def _add_group(group: str, words: set[str], joined: set[str], needles: set[str]) -> None:
    components = [part.strip() for part in re.split(r"[\^,]", group) if part.strip()]
    if len(components) == 1:  # not in PN's own form: spaces part it
        components = components[0].split()
    full = len(components) == 2 and compact(components[1]) == "na"  # Li^Na is a name
    known = frozenset() if full else cue("not_name")
    components = [part for part in components if compact(part) not in known][:_MAX_PARTS]
    if not components:
        return
    if is_cjk(group):
        _add_cjk(components, words, joined, needles)
    else:
        _add_latin(components, words, joined, needles)


def _add_cjk(components: list[str], words: set[str], joined: set[str], needles: set[str]) -> None:
    plain = [unicodedata.normalize("NFKC", part).replace(" ", "") for part in components]
    if len(plain) == 1:
        cut = 2 if plain[0].startswith(_COMPOUND_SURNAMES) else 1
        name = plain[0]
        hangul_or_hanja = not any("\u3041" <= character <= "\u30ff" for character in name)
        if hangul_or_hanja and cut < len(name) <= cut + 3:
            plain = [name[:cut], name[cut:]]
    words.update(compact(part) for part in plain)
    for order in permutations(plain[:3], min(2, len(plain))):
        joined.add(compact("".join(order)))
    joined.add(compact("".join(plain)))
    for order_tuple in (tuple(plain), tuple(reversed(plain))):
        for join in _JOINS_CJK:
            _add_needle(join.join(order_tuple), needles)
    if len(plain) > 1:
        for part in plain:
            if len(part) >= 2:
                _add_needle(part, needles)


def _add_needle(text: str, needles: set[str]) -> None:
    needles.add(text)
    katakana = "".join(
        chr(ord(character) + 0x60) if "\u3041" <= character <= "\u3096" else character
        for character in text
    )
    if katakana != text or any("\u30a1" <= character <= "\u30ff" for character in text):
        needles.update((katakana, half_width(katakana)))


def _add_latin(components: list[str], words: set[str], joined: set[str], needles: set[str]) -> None:
    parts = [_PARTS.findall(component) for component in components]
    whole = [compact(component) for component in components]
    for component, name in zip(parts, whole, strict=True):
        words.update(compact(part) for part in component if len(compact(part)) >= 3)
        if len(name) >= 2:
            words.add(name)
    words.difference_update(cue("not_name"))
    for count in range(2, min(len(whole), 4) + 1):
        for order in permutations(whole[:4], count):
            joined.add("".join(order))
    for family, given in permutations(whole[:3], 2):  # H. Gildong, GHong, honggd
        if family and given and not family.isdigit():
            joined.update((given[0] + family, family + given[0]))
    for component in parts:
        for join in {" ", "-", ""} if len(component) > 1 else {""}:
            spelled = join.join(component)
            if len(compact(spelled)) >= 5:
                needles.update(_cases(spelled))
    for order in permutations(components[:3], min(2, len(components))):
        for join in _JOINS_LATIN:
            needles.update(_cases(join.join(order)))


def _cases(text: str) -> tuple[str, str, str, str]:
    return text, text.upper(), text.lower(), text.title()
