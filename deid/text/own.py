"""What is known about one object's people, and where does it stand in a text?

Names, numbers and phrases from the object's own attributes. Free text loses even a common surname
that is the patient's own; a search of raw bytes takes distinctive forms only.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

from deid.text.fold import compact, fold
from deid.text.names import is_cjk, name_forms
from deid.text.tokens import cue, vocabulary, word_allowed

_RUN = re.compile(
    "[a-z]+|[0-9]+|[가-힣]+|[\u3400-\u9fff\uf900-\ufaff々]+|[\u30a1-\u30fa\u30fc-\u30ff]+"
    "|[^\\W_a-z0-9가-힣\u3400-\u9fff\uf900-\ufaff々\u30a1-\u30fa\u30fc-\u30ff]+"
)
_JOINT = "\x1f"  # between needles; a core holds letters only, so it never reaches across
_MAX_GAP = 3  # separators that may stand inside one value: "HONG^ GILDONG", "12 - 34"
_MIN_NUMBER = 4  # a shorter number is a slice count as often as an identifier
_MIN_NEEDLE_NUMBER = 6  # a shorter one is met by chance in bytes and in object identifiers
_MIN_NEEDLE_WORD = 5
_MIN_OWN_WORD = 3  # of a technical text: Kim, Lee, Yoo
_MIN_ANYWHERE = 8  # a form this long counts inside a longer word too


class OwnValues:
    """Collect the known identifiers of one object and find them in text."""

    def __init__(self) -> None:
        self._values: set[tuple[str, str]] = set()
        self._words: set[str] = set()  # single parts: whole words of free text
        self._forms: set[str] = set()  # identifying forms, compact
        self._needles: set[str] = set()
        self._anywhere: tuple[str, ...] | None = None
        self._held: dict[str, bool] = {}  # codes and units recur within one object
        self._heads: frozenset[str] = frozenset()
        self._reach = 0
        self._cjk: tuple[str, ...] = ()

    def add_name(self, value: str) -> None:
        """Take a PN value (any groups) or a name written in any other way."""
        if not self._is_new("name", value):
            return
        forms = name_forms(value)
        self._words |= forms.words
        self._forms |= {form for form in forms.joined if len(form) >= (3 if is_cjk(form) else 4)}
        # a whole name of two syllables goes even where it is a word, too: 이수, 정상
        self._words |= {form for form in forms.joined if len(form) == 2 and is_cjk(form)}
        self._needles |= forms.needles

    def add_identifier(self, value: str) -> None:
        """Take a number or other identifier: with and without its separators."""
        value = value.strip()
        if not self._is_new("identifier", value):
            return
        form = compact(value)
        if len(form) < _MIN_NUMBER or form in cue("no_value") or _is_word(form):
            return
        self._forms.add(form)
        stripped = form.lstrip("0")
        if form.isdigit() and len(stripped) >= 5:
            self._forms.add(stripped)
        if len(form) >= _MIN_NEEDLE_NUMBER:
            self._needles.update((value, value.upper(), value.lower()))
            if not _is_uid(value):
                plain = "".join(character for character in value if character.isalnum())
                self._needles.update((plain, plain.upper(), plain.lower()))

    def add_phrase(self, value: str) -> None:
        """Take an institution, address or label: whole, and by its distinctive words."""
        value = value.strip()
        if not self._is_new("phrase", value):
            return
        words = _RUN.findall(fold(value).text)
        distinctive = [word for word in words if not word.isdigit() and not word_allowed(word)]
        if not distinctive and sum(word.isdigit() and len(word) > 4 for word in words) == 0:
            return  # every word is everybody's
        form = compact(value)
        if len(form) >= _MIN_NUMBER:
            self._forms.add(form)
            self._needles.update((value, value.upper(), value.lower(), value.title()))
        for word in distinctive:
            if len(word) >= (3 if is_cjk(word) else _MIN_NEEDLE_WORD):
                self._words.add(word)
                self._needles.update((word, word.upper(), word.title()))

    def spellings(self) -> frozenset[str]:
        """Give every form to look for in raw bytes: distinctive ones, in the cases met."""
        cores: list[str] = []
        others: list[str] = []
        for needle in self._needles:
            use = _use(needle)
            if use is not None:
                (cores if use else others).append(needle)
        # what contains another Latin needle is found with it
        needles = {*cores, *others}
        joined = _JOINT.join(others) + _JOINT
        ends = list(accumulate(len(needle) + 1 for needle in others))
        for core in cores:
            at = joined.find(core)
            while at >= 0:
                other = bisect_right(ends, at)
                needles.discard(others[other])
                at = joined.find(core, ends[other])
        return frozenset(needles)

    def holds(self, folded_text: str) -> bool:
        """Say whether an identifying form stands in a folded text (for technical attributes)."""
        self._prepare()
        found = self._held.get(folded_text)
        if found is None:
            found = self._held[folded_text] = self._holds(folded_text)
        return found

    def _holds(self, folded_text: str) -> bool:
        if not self._forms and not self._words:
            return False
        runs = _RUN.findall(folded_text)
        if not runs:
            return False
        joined = "".join(runs)
        for form in self._anywhere or ():
            if form in joined:
                return True
        if not joined.isascii() and any(form in joined for form in self._cjk):
            return True
        for at, run in enumerate(runs):
            if run in self._words and len(run) >= _MIN_OWN_WORD and not word_allowed(run):
                return True
            if run[:2] in self._heads and self._match_runs(runs, at):
                return True
        return False

    def spans(self, folded_text: str) -> list[tuple[int, int]]:
        """Give the stretches of own values in a folded text, single name parts included."""
        self._prepare()
        if not self._forms and not self._words:
            return []
        found: list[tuple[int, int]] = []
        matches = list(_RUN.finditer(folded_text))
        runs = [match.group() for match in matches]
        for at, run in enumerate(runs):
            start = matches[at].start()
            if run in self._words:
                found.append((start, matches[at].end()))
            if run[:2] in self._heads:
                count = self._match_runs(
                    runs,
                    at,
                    [match.start() for match in matches[at : at + 12]],
                    [match.end() for match in matches[at : at + 12]],
                )
                if count:
                    found.append((start, matches[at + count - 1].end()))
            if not run.isascii():
                for form in self._cjk:
                    begin = run.find(form)
                    while begin >= 0:
                        found.append((start + begin, start + begin + len(form)))
                        begin = run.find(form, begin + 1)
        return found

    def _match_runs(
        self,
        runs: list[str],
        at: int,
        starts: list[int] | None = None,
        ends: list[int] | None = None,
    ) -> int:
        """Give how many runs from `at` together are a known form (the most), or 0."""
        text, best = "", 0
        for count, run in enumerate(runs[at : at + 12]):
            if starts and ends and count and starts[count] - ends[count - 1] > _MAX_GAP:
                break
            text += run
            if len(text) > self._reach:
                break
            if text in self._forms:
                best = count + 1
        return best

    def _is_new(self, kind: str, value: str) -> bool:
        if not value or (kind, value) in self._values:
            return False
        self._values.add((kind, value))
        self._anywhere = None
        self._held.clear()
        return True

    def _prepare(self) -> None:
        if self._anywhere is not None:
            return
        # compact() keeps hiragana and accents as fold() does: the forms compare with folded text
        self._anywhere = tuple(form for form in self._forms if len(form) >= _MIN_ANYWHERE)
        self._heads = frozenset(head for form in self._forms for head in (form[:2], form[:1]))
        self._reach = max(map(len, self._forms), default=0)
        self._cjk = tuple(
            form for form in self._forms | self._words if len(form) >= 2 and is_cjk(form)
        )


def _is_word(form: str) -> bool:
    return form.isalpha() and word_allowed(form) and form not in vocabulary().names


def _is_uid(value: str) -> bool:
    return value.count(".") >= 3 and value.replace(".", "").isdigit()


@lru_cache(maxsize=16384)
def _use(needle: str) -> bool | None:
    """Say whether a needle is a Latin word that stands for what contains it; None: no use."""
    if not _distinctive(needle):
        return None
    return len(needle) >= 6 and needle.isalpha() and not is_cjk(needle)


def _distinctive(needle: str) -> bool:
    """Say whether a needle is too long or strange to stand in clean text by chance."""
    letters = "".join(filter(str.isalnum, needle))
    if is_cjk(needle):
        return len(letters) >= 2 and not word_allowed(letters)
    if letters.isdigit():
        return len(letters) >= _MIN_NEEDLE_NUMBER
    if len(letters) < _MIN_NEEDLE_WORD:
        return False
    return not word_allowed(letters)
