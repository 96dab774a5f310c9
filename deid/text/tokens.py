"""Is this word clinical, technical or everyday language, and so not a name or a number?

An allow-list: what is not listed, or put together from what is listed, goes. The lists lie in
`deid/data/tokens`, with their sources, and are read on first use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from deid.text.fold import fold_word

_FOLDER = Path(__file__).resolve().parent.parent / "data" / "tokens"
# letters of one script and digits, as the cleaner cuts folded text
WORD = re.compile(
    "[a-z0-9]+|[가-힣ㄱ-ㅎㅏ-ㅣ]+|[\u3400-\u9fff\uf900-\ufaff々]+|[\u30a1-\u30fa\u30fc-\u30ff]+"
    "|[^\\W_a-z0-9가-힣ㄱ-ㅎㅏ-ㅣ\u3400-\u9fff\uf900-\ufaff々\u30a1-\u30fa\u30fc-\u30ff]+"
)
_MAX_WORD = 64  # no word is longer; bounds the work for each
_CAMEL = re.compile("[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PIECE = re.compile("[a-z]+|[0-9]+")
_SPINE = re.compile("(?:[ctls][0-9]{1,2}){1,4}")
_YEAR = re.compile("(?:19|20)[0-9][0-9]")
# endings no surname has: Greek and Latin of disease and surgery, stems of drug names (INN)
_CLINICAL = re.compile(
    "[a-z]{3,20}?(?:itis|ectomy|ostomy|otomy|plasty|scopy|graphy|a?emia|uria|pathy|osis|algia|plegia|paresis|"
    "megaly|penia|cillin|mycin|floxacin|prazole|sartan|statin|azepam|zolam|dipine|tidine|"
    "[zmtlx]i?[mu]mab|tinib|ciclib|parin|lukast|triptan|gliptin|gliflozin|glutide|setron|cyclovir|"
    "tegravir|vudine|fungin|conazole|thiazide|semide|ocaine|curonium|oxetine|ipramine|triptyline|"
    "cardia|ectasis|malacia|sclerosis|stenosis|lysis|centesis|desis|pexy|rrhea|rrhage|phagia|"
    "phasia|pn[oe]?ea|trophy|trophic|cytic|blastoma|carcinoma|sarcoma|adenoma|hydrochloride|"
    "(?:angi|fibr|lip|my|neur|chondr|oste|gli|papill|meningi|thym|lymph|melan|granul|ather|xanth|"
    "terat|hepat|schwann|ependym|germin|pharyngi|cyt|blast)oma(?:ta|tous)?|"
    "graphic|scopic|genic|tomography|ectatic|stenotic|sclerotic|pathic|cellular|ological)s?"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Hold the lists: Latin words, those beside digits, Korean, hanja and kana, names, and cues."""

    english: frozenset[str]
    technical: frozenset[str]
    korean: frozenset[str]
    cjk: frozenset[str]
    names: frozenset[str]
    cues: Mapping[str, frozenset[str]]
    josa: tuple[str, ...]  # the longest first


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """Read the lists once."""
    cues = _sections("cues.txt")
    return Vocabulary(
        english=_words("english.txt"),
        technical=_words("technical.txt"),
        korean=_words("korean.txt"),
        cjk=frozenset(fold_word(word) for word in _words("cjk.txt")),
        names=_words("names.txt"),
        cues=cues,
        josa=tuple(sorted(cues["josa"], key=lambda josa: (-len(josa), josa))),
    )


def cue(kind: str) -> frozenset[str]:
    """Give the words of one use in cues.txt."""
    return vocabulary().cues[kind]


def _lines(name: str) -> list[str]:
    lines = (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def _words(name: str) -> frozenset[str]:
    return frozenset(" ".join(_lines(name)).split())


def _sections(name: str) -> dict[str, frozenset[str]]:
    sections: dict[str, set[str]] = {}
    for line in _lines(name):
        if line.startswith("["):
            kind = line.strip("[]")
            sections[kind] = set()
        else:
            sections[kind].update(line.split())
    return {kind: frozenset(words) for kind, words in sections.items()}


@lru_cache(maxsize=65536)
def word_allowed(word: str) -> bool:
    """Say whether one run of letters and digits (as `WORD` cuts it, in its own case) may stay.

    A run of digits alone may stay here; how long a number may be depends on its surroundings.
    """
    if len(word) > _MAX_WORD:
        return False
    folded = fold_word(word)
    first = folded[:1]
    if first.isascii():
        if folded.isdigit():
            return True
        return _letters(folded, word) if folded.isalpha() else _mixed(folded)
    if "가" <= first <= "힣":
        return _hangul(folded)
    if "\u3400" <= first <= "\u9fff" or "\u30a1" <= first <= "\u30ff" or first == "々":
        return _segmented(folded, vocabulary().cjk)
    return len(folded) == 1 and "α" <= first <= "ω"  # Greek letters of formulas; no other script


def is_weak(folded: str) -> bool:
    """Say whether an allowed word is also somebody's name: it goes beside a title or a name."""
    return folded in vocabulary().names and folded not in cue("never_name")


def _letters(folded: str, word: str) -> bool:
    lists = vocabulary()
    if len(folded) == 1 or folded in lists.english or folded in lists.technical:
        return True
    if folded in lists.names:
        return False
    if _inflected(folded) or (len(folded) >= 7 and _CLINICAL.fullmatch(folded)):
        return True
    for affix in lists.cues["affix"]:
        rest = folded[len(affix) :]
        if folded.startswith(affix) and len(rest) >= 4 and _known(rest):
            return True
    if not word.islower() and not word.isupper():
        parts = _CAMEL.findall(word)
        if len(parts) > 1 and "".join(parts) == word:
            return all(_known(part.lower()) and len(part) > 1 for part in parts)
    return _glued(folded)


def _glued(folded: str) -> bool:
    """Say whether a word is technical words written together: chestlat, sagknee, liverlab."""
    if not 6 <= len(folded) <= 24 or folded in vocabulary().names:
        return False
    technical = vocabulary().technical
    return any(
        (cut > 3 or len(folded) - cut > 3)  # two short ones make too many words
        and folded[:cut] in technical
        and (folded[cut:] in technical or (cut >= 3 and _glued(folded[cut:])))
        for cut in range(3, len(folded) - 2)
    )


def _known(folded: str) -> bool:
    lists = vocabulary()
    return folded in lists.english or folded in lists.technical or _inflected(folded)


def _inflected(folded: str) -> bool:
    english = vocabulary().english
    for ending, instead in (
        ("ies", ("y",)),
        ("ied", ("y",)),
        ("es", ("", "is", "e")),
        ("s", ("",)),
        ("ed", ("", "e")),
        ("ing", ("", "e")),
        ("ly", ("", "le")),
        ("er", ("", "e")),
        ("ness", ("",)),
        ("able", ("", "e")),
        ("ally", ("al", "")),
        ("ically", ("ic",)),
        ("ment", ("",)),
        ("al", ("",)),
        ("ar", ("",)),
        ("ised", ("ized",)),
        ("isation", ("ization",)),
    ):
        if not folded.endswith(ending):
            continue
        stem = folded[: -len(ending)]
        if len(stem) < 3:
            continue
        if any(stem + other in english for other in instead):
            return True
        if len(stem) > 3 and stem[-1] == stem[-2] and stem[:-1] in english:  # scanned, fitting
            return True
    return False


def _mixed(folded: str) -> bool:
    pieces = _PIECE.findall(folded)
    digits = [piece for piece in pieces if piece.isdigit()]
    letters = [piece for piece in pieces if piece.isalpha()]
    if _SPINE.fullmatch(folded):
        return True
    if not digits:  # a sign that folds into brackets and letters, as ㈜ does
        return False
    if max(map(len, digits)) > 4 or len(pieces) > 6:
        return False
    if set(letters) == {"x"}:
        return True
    if sum(map(len, digits)) > 5 or sum(len(piece) == 1 for piece in letters) > 3:
        return False
    return all(
        _beside_digits(piece, pieces[at - 1] if at else "", (pieces[at + 1 :] or [""])[0])
        for at, piece in enumerate(pieces)
        if piece.isalpha()
    )


def _beside_digits(piece: str, before: str, after: str) -> bool:
    lists = vocabulary()
    if len(after) > 2 and piece not in lists.cues["before_number"]:
        return False
    if (
        len(before) > 2
        and piece not in lists.cues["unit"]
        and not (len(before) == 3 and len(piece) == 1)
    ):
        return False
    if (
        len(piece) == 1
        or piece in lists.technical
        or piece in lists.cues["unit"]
        or piece in ("st", "nd", "rd", "th")
    ):
        return True
    return piece in lists.english or _glued(piece)


def _hangul(folded: str) -> bool:
    lists = vocabulary()
    if folded in lists.korean:
        return True
    if len(folded) == 1:
        return False
    if _compound(folded):
        return True
    return any(
        len(folded) > len(josa)
        and folded.endswith(josa)
        and _follows(folded[-len(josa) - 1], josa)
        and _compound(folded[: -len(josa)])
        for josa in lists.josa
    )


def _follows(before: str, josa: str) -> bool:
    """Say whether a particle has the form it takes after this syllable's final sound."""
    final = (ord(before) - 0xAC00) % 28  # 0: a vowel; 8: rieul
    if josa in ("은", "이", "을", "과") or josa.startswith("으로"):
        return final != 0
    if josa in ("는", "가", "를", "와"):
        return final == 0
    return josa != "로" or final in (0, 8)


def _compound(word: str) -> bool:
    """Say whether a Hangul word is listed words of two syllables or more, with listed affixes."""
    lists = vocabulary()
    if len(word) > 16:
        return False
    if word in lists.korean:
        return True
    # a surname and two syllables read like a name, whatever the syllables mean
    named = word[:2] not in lists.korean or word[-1] in lists.cues["name_tail"]
    if len(word) == 3 and word[0] in lists.cues["surname"] and named:
        return False
    reach = [False] * (len(word) + 1)
    reach[0] = True
    longest = [0] * (len(word) + 1)
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - 8), end):
            if not reach[start]:
                continue
            piece = word[start:end]
            if len(piece) == 1:
                fits = (end < len(word) and piece in lists.cues["head"]) or (
                    end == len(word) and piece in lists.cues["tail"]
                )
            else:
                fits = piece in lists.korean
            if fits:
                reach[end] = True
                longest[end] = max(longest[end], longest[start], len(piece))
    return reach[-1] and longest[-1] >= 2


def _segmented(word: str, words: frozenset[str]) -> bool:
    if word in words:
        return True
    if len(word) < 2 or len(word) > 40:
        return False
    reach = [False] * (len(word) + 1)
    reach[0] = True
    longest = [0] * (len(word) + 1)
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - 8), end):
            if reach[start] and word[start:end] in words:
                reach[end] = True
                longest[end] = max(longest[end], longest[start], end - start)
    return reach[-1] and longest[-1] >= 2
