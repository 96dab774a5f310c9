"""Which stretches of a text have the form of an identifier, whoever's it is?

Korean and US numbers, addresses, dates, ages over 89, network addresses. A form is enough: the
check digit of a resident registration number is never asked, since the last six digits are random
from October 2020 on. Every quantifier is bounded or possessive, so the time is linear in the text.

The kinds follow HIPAA 45 CFR 164.514(b)(2) and the Korean numbers of common use; formats of
insurance cards and chart numbers differ by site and are found by the word before them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from deid.text.fold import Folded, fold

_SIDO = (
    "서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충청북|충청남|충북|충남|전라북|전라남|"
    "전북|전남|경상북|경상남|경북|경남|제주"
)
_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    "sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_STATES = (
    "a[klrz]|c[aot]|d[ce]|fl|ga|hi|i[adln]|k[sy]|la|m[adeinost]|n[cdehjmvy]|o[hkr]|pa|ri|s[cd]|"
    "t[nx]|ut|v[at]|w[aivy]|alabama|alaska|arizona|arkansas|california|colorado|connecticut|"
    "delaware|florida|georgia|hawaii|idaho|illinois|indiana|iowa|kansas|kentucky|louisiana|maine|"
    "maryland|massachusetts|michigan|minnesota|mississippi|missouri|montana|nebraska|nevada|"
    "hampshire|jersey|mexico|york|carolina|dakota|ohio|oklahoma|oregon|pennsylvania|"
    "tennessee|texas|utah|vermont|virginia|washington|wisconsin|wyoming"
)
_STREET = (
    "street|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|court|way|place|square|terrace|"
    "parkway|pkwy|highway|hwy|circle|trail|alley|crescent|st\\.|dr\\.|ct\\.|pl\\."
)
_KR_CUE = (
    "(?:병원)?등록\\s?(?:번호|no)|차트\\s?(?:번호|no)|환자\\s?(?:번호|id|no)|병록\\s?번호|"
    "수진자\\s?번호|접수\\s?번호|검사\\s?번호|검체\\s?번호|판독\\s?번호|처방\\s?번호|주민(?:등록)?\\s?번호|"
    "(?:건강)?보험증?\\s?번호|증번호|여권\\s?번호|면허\\s?번호|계좌\\s?번호|카드\\s?번호|사번|"
    "외국인(?:등록)?\\s?번호|전화\\s?(?:번호)?|연락처|휴대폰|핸드폰|팩스|우편\\s?번호|생년월일|병실|호실"
)
_US_CUE = (
    "mrn|m\\.r\\.n\\.?|medical record|med rec|record (?=no|num|#|id)|chart (?=no|num|#|id)|"
    "patient (?=no|num|#|id)|pat(?:ient)?\\s?id|pt\\s?id|pid|acc(?:ession)?(?=\\s?(?:no|num|#|:))|"
    "accession|acct|account|ssn|social security|dob|d\\.o\\.b\\.?|born|date of birth|birth ?date|"
    "policy|member id|subscriber|insurance (?=no|num|#|id)|medicare|medicaid|licen[cs]e|"
    "passport|driver'?s? licen[cs]e|phone|telephone|tel|fax|mobile|cell(?= ?(?:no|#|:))|pager|"
    "beeper|zip|postal code|visit (?=no|num|#|id)|encounter (?=no|num|#|id)|"
    "case (?=no|num|#|id)|hospital (?=no|num|#|id)|unit (?=no|num|#)|badge|room|order (?=no|num|#)"
)


@dataclass(frozen=True, slots=True)
class Match:
    """Name the kind of identifier and its stretch of the text, half open; never the value."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: str
    needs: str  # what must be there at all: "digit", "@", "." or one of the hint words
    regex: re.Pattern[str]
    strong: bool  # counts in technical attributes too, where versions and dates are fine


def _rule(kind: str, regex: str, needs: str = "6", strong: bool = False) -> _Rule:
    return _Rule(kind, needs, re.compile(regex), strong)


_D, _E = r"(?<![0-9])", r"(?![0-9])"  # no digit before, none after
# the same, but neither part of a dotted object identifier: technical attributes hold those
_DD, _EE = r"(?<![0-9])(?<![0-9]\.)", r"(?!\.?[0-9])"
_GAP = r"[-. )/_~]{0,3}"
_RULES: tuple[_Rule, ...] = (
    _rule(
        "kr-rrn",
        rf"{_DD}[0-9]{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])\s{{0,2}}[-./_~]?\s{{0,2}}"
        rf"[0-9](?:[0-9]{{6}}{_EE}|[*x●○]{{2,6}})",
        strong=True,
    ),
    _rule("kr-rrn", rf"{_D}[0-9](?: ?[0-9]){{5}} ?[-~] ?[0-9](?: ?[0-9]){{6}}{_E}"),
    _rule("kr-rrn", rf"{_D}[0-9](?: [0-9]){{12}}{_E}"),
    _rule(
        "kr-mobile",
        rf"{_DD}(?:\+?82{_GAP}\(?0?\)?|\(?0)1[016789]{_GAP}[0-9]{{3,4}}{_GAP}[0-9]{{4}}{_EE}",
        strong=True,
    ),
    _rule(
        "kr-phone",
        rf"{_DD}(?:\+?82[-. ]?\(?0?\)?|\(?0)(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|50[0-9]?|80)"
        rf"[-. )]{{1,3}}[0-9]{{3,4}}[-. ]{{1,3}}[0-9]{{4}}{_EE}",
        strong=True,
    ),
    _rule("kr-phone", rf"{_D}0(?:2|[3-6][1-5]|70|50[0-9]?|80)[-.) ]{{0,3}}[0-9]{{7,8}}{_E}"),
    _rule("kr-phone", rf"{_D}1[568][0-9]{{2}}-[0-9]{{4}}{_E}"),
    _rule(
        "kr-licence",
        rf"{_DD}(?:[1-9][0-9]|(?:{_SIDO}) ?)[- ]?[0-9]{{2}}[- ][0-9]{{6}}[- ][0-9]{{2}}{_EE}",
        strong=True,
    ),
    _rule(
        "kr-passport",
        r"(?<![a-z0-9])[msrodg](?: ?[0-9]{8}|[0-9]{3}[a-z][0-9]{4})(?![a-z0-9])",
        strong=True,
    ),
    _rule("kr-business", rf"{_DD}[0-9]{{3}}-[0-9]{{2}}-[0-9]{{5}}{_EE}", strong=True),
    _rule(  # "주" with a gap is weeks: 32주 1500 g
        "kr-plate",
        rf"{_D}[0-9]{{2,3}}(?: ?[가나다라마거너더러머버서어저고노도로모보소오조구누두루무부우"
        rf"바사아자배하허호]|주(?! )) ?[0-9]{{4}}{_E}(?! ?(?:g|kg|ml|cc|mg))",
    ),
    _rule("pathology", rf"(?<![a-z0-9])[a-z]{{1,2}}[0-9]{{2}}-[0-9]{{4,7}}{_E}"),
    _rule("us-ssn", rf"{_DD}[0-9]{{3}}[- ][0-9]{{2}}[- ][0-9]{{4}}{_EE}", strong=True),
    _rule(
        "phone",
        rf"{_DD}(?:\+?1[-. ]?)?(?:\([0-9]{{3}}\) ?|[0-9]{{3}}[-. ])[0-9]{{3}}[-. ][0-9]{{4}}{_EE}"
        r"(?: ?(?:x|ext)\.? ?[0-9]{1,6})?",
        strong=True,
    ),
    _rule("phone", rf"\+[0-9]{{1,3}}(?:[-. ()]{{1,2}}[0-9]{{1,4}}){{2,5}}{_E}", strong=True),
    _rule("phone", rf"{_D}[0-9]{{3}}[-.][0-9]{{4}}(?: ?(?:x|ext)\.? ?[0-9]{{1,6}})?{_E}"),
    _rule("phone", rf"(?<![a-z])(?:ext|내선)[.:]? ?#?[0-9]{{3,6}}{_E}", needs="3"),
    _rule(
        "email",
        r"(?<![a-z0-9._%+-])[a-z0-9._%+-]{1,64}+ ?@ ?[a-z0-9.-]{1,190}",
        needs="@",
        strong=True,
    ),
    _rule("url", r"(?:https?|ftp|file|dicom)://[^\s]++|(?<![a-z0-9])www\.[^\s]++", needs="."),
    _rule(
        "url",
        r"(?<![a-z0-9.-])(?:[a-z0-9-]{1,63}\.){1,6}(?:com|net|org|edu|gov|kr|jp|cn|uk|de)"
        r"(?![a-z0-9])(?:/[^\s]*+)?",
        needs=".",
    ),
    _rule(
        "ip",
        r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:(?:/|:)[0-9]{1,5})?(?!\.?[0-9])",
        needs=".",
    ),
    _rule("ip", r"(?<![0-9a-f:])(?:[0-9a-f]{0,4}:){4,7}[0-9a-f]{1,4}(?![0-9a-f:])", needs=":"),
    _rule("mac", r"(?<![0-9a-f])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![0-9a-f])", needs=":-"),
    _rule(
        "date",
        rf"{_D}(?:1[89]|20)[0-9]{{2}}(?:[-./_ ]{{1,2}}(?:0?[1-9]|1[0-2])[-./_ ]{{1,2}}"
        rf"(?:0?[1-9]|[12][0-9]|3[01])|(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])){_E}\.?"
        r"(?:[t _-]{0,2}[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?:\.[0-9]{1,6})?)?",
    ),
    _rule(
        "date",
        rf"{_D}(?:1[89]|20)[0-9]{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
        rf"[0-9]{{4,6}}(?:\.[0-9]{{1,6}})?(?:[+-][0-9]{{4}})?{_E}",
    ),
    _rule("date", rf"{_D}(?:1[89]|20)[0-9]{{2}}[-./](?:0?[1-9]|1[0-2]){_E}", needs="5"),
    _rule("date", rf"{_D}(?:0?[1-9]|1[0-2])[-/](?:1[89]|20)[0-9]{{2}}{_E}", needs="5"),
    _rule(
        "date",
        rf"{_D}(?<![0-9][-./])(?:0?[1-9]|[12][0-9]|3[01])(?:([-./_]) ?(?:0?[1-9]|1[0-2])\1 ?"
        rf"(?:(?:1[89]|20)[0-9]{{2}}|[0-9]{{2}})| (?:0?[1-9]|1[0-2]) (?:19|20)[0-9]{{2}})"
        rf"{_E}(?![-./][0-9])",
        needs="3",
    ),
    _rule(
        "date",
        rf"{_D}(?<![0-9][-./])(?:0?[1-9]|1[0-2])(?:([-./_]) ?(?:0?[1-9]|[12][0-9]|3[01])\1 ?"
        rf"(?:(?:1[89]|20)[0-9]{{2}}|[0-9]{{2}})| (?:0?[1-9]|[12][0-9]|3[01]) (?:19|20)[0-9]{{2}})"
        rf"{_E}(?![-./][0-9])",
        needs="3",
    ),
    _rule(
        "date",
        rf"{_D}(?<![0-9][-./])[0-9]{{2}}([-./])(?:0?[1-9]|1[0-2])\1"
        rf"(?:0?[1-9]|[12][0-9]|3[01]){_E}(?![-./][0-9])",
        needs="3",
    ),
    _rule(
        "date",
        r"(?<![0-9])(?:1[89]|20)[0-9]{2}\s?년(?:\s?[0-9]{1,2}\s?월(?:\s?[0-9]{1,2}\s?일)?)?|"
        r"(?<![0-9])[0-9]{2}\s?년\s?[0-9]{1,2}\s?월(?:\s?[0-9]{1,2}\s?일)?|"
        r"(?<![0-9])[0-9]{1,2}\s?월\s?[0-9]{1,2}\s?일|(?<![0-9])(?:0?[1-9]|1[0-2])월(?! ?간)",
        needs="년월",
    ),
    _rule(
        "date",
        rf"(?<![0-9a-z])[0-9]{{1,2}}(?:st|nd|rd|th)?[-./, _]{{0,2}}(?:of )?(?:{_MONTHS})"
        r"(?!(?<=may) [a-z])(?:[-./, _']{0,3}(?:(?:1[89]|20)[0-9]{2}|[0-9]{2}))?(?![0-9a-z])",
        needs="month",
    ),
    _rule(
        "date",
        rf"(?<![a-z])(?:{_MONTHS})[-./, _]{{0,3}}(?:[0-9]{{1,2}}(?:st|nd|rd|th)?(?![0-9a-z])"
        r"(?:[-./, _']{0,3}(?:1[89]|20)[0-9]{2}(?![0-9]))?|'?(?:1[89]|20)[0-9]{2}(?![0-9]))",
        needs="month",
    ),
    _rule(
        "age",
        rf"{_D}0?(?:9[0-9]|1[0-4][0-9])[- ]?(?:세|살|y\.?/?o\.?(?![a-z])|"
        r"ye?a?rs?(?:[- ]old)?(?![a-z])|y(?![a-z]))",
        needs="2",
    ),
    _rule(
        "age",
        r"(?<![a-z])(?:aged?|나이|연령|만)[:=\s]{0,3}0?(?:9[0-9]|1[0-4][0-9])(?![0-9])",
        needs="2",
    ),
    _rule(
        "kr-address",
        rf"(?:{_SIDO})(?:특별자치시|특별자치도|특별시|광역시|도|시)?\s{{1,2}}"
        r"(?:[가-힣0-9]{1,10}(?:시|군|구|읍|면|동|리|가|로|길)[\s,]{0,2}){1,5}"
        r"(?:[0-9]{1,5}(?:-[0-9]{1,4})?(?:번지|번길|길)?[\s,]{0,2}){0,3}"
        r"(?:[가-힣a-z0-9]{1,15}(?:아파트|빌라|맨션|오피스텔|빌딩|타워)\s?)?"
        r"(?:[0-9]{1,4}동\s?)?(?:[0-9]{1,4}층\s?)?(?:[0-9]{1,5}호)?",
        needs="시도",
    ),
    _rule(
        "kr-address",
        r"[가-힣]{1,8}(?:시|군|구)\s{1,2}(?:[가-힣0-9]{1,10}(?:동|로|길|읍|면|리|가)\s{0,2}){1,3}"
        r"[0-9]{1,5}(?:-[0-9]{1,4})?(?:번지|번길|길|호)?",
        needs="시도",
    ),
    _rule(
        "kr-address",
        r"[가-힣0-9]{1,10}(?<!으)(?:로|길|번길)\s?[0-9]{1,4}(?:-[0-9]{1,4})?(?:번길|길|번지)"
        r"(?:\s?[0-9]{1,4}(?:-[0-9]{1,4})?)?|[가-힣]{2,10}(?:대로|길)\s[0-9]{1,4}(?![0-9.a-z])",
        needs="시도",
    ),
    _rule(
        "kr-address",
        r"[가-힣a-z0-9]{1,15}(?:아파트|빌라|맨션|오피스텔|래미안|자이|푸르지오|힐스테이트|롯데캐슬)"
        r"\s?(?:[0-9]{1,4}동\s?)?(?:[0-9]{1,5}호)?|(?<![0-9])[0-9]{1,4}동\s?[0-9]{1,5}호",
        needs="시도",
    ),
    _rule(
        "us-address",
        r"(?<![a-z0-9.])[0-9]{2,6}[a-z]? (?!mm|cm|ml|mg|kg|ms|view|slice)"
        r"(?:[nsew]\.? |north |south |east |west )?"
        rf"(?:[a-z0-9'.]{{2,20}} ){{1,3}}(?:{_STREET})(?![a-z])"
        r"(?:,? (?:apt|apartment|unit|suite|ste|#|no)\.? ?[a-z0-9-]{1,8})?",
        needs="1",
    ),
    _rule("us-address", r"(?<![a-z])p\.? ?o\.? box ?[0-9]{1,7}", needs="1"),
    _rule("us-zip", rf"(?<![a-z])(?:{_STATES})\.?,? [0-9]{{5}}(?:-[0-9]{{4}})?{_E}", needs="5"),
    _rule("us-zip", rf"{_DD}[0-9]{{5}}-[0-9]{{4}}{_EE}"),
    _rule(
        "kr-number",
        rf"(?:{_KR_CUE})(?:는|은|이)?[\s:#=.()\[\]]{{0,4}}[a-z]{{0,4}}[-.]?[0-9][a-z0-9]*+"
        r"(?:[-/.][a-z0-9]+)*+",
        needs="1",
        strong=True,
    ),
    _rule(
        "number",
        rf"(?<![a-z])(?:{_US_CUE})s?\.?(?: ?(?:no|num|number|id|#|nr)\b\.?)?(?: is| was)?"
        r"[\s:#=()\[\]_-]{0,4}[a-z]{0,5}[-.]?[0-9][a-z0-9]*+(?:[-/.][a-z0-9]+)*+",
        needs="1",
    ),
    _rule(
        "number",
        r"(?<![a-z])(?:mrn|ssn|dob|patient id|chart no\.?)[\s:#=]{1,3}[a-z]{0,3}-?[0-9]{3}[0-9-]*+",
        needs="3",
        strong=True,
    ),
    _rule("number", r"(?<![a-z0-9])[a-z]{1,4}[-_ ]?[0-9]{6,}(?![0-9])"),
    _rule("phone", rf"{_D}0[0-9]{{1,3}}(?:[-. /][0-9]{{2,4}}){{2,4}}+{_E}"),
    _rule("phone", rf"\([0-9]{{2,4}}\) ?[0-9]{{3,4}}[-. ][0-9]{{3,4}}{_E}"),
    _rule("long-number", r"[0-9]{7,}"),
    _rule("long-number", rf"{_D}[0-9]{{3,}}(?: [0-9]{{3,}}){{2,}}+"),
)
_DIGIT = re.compile("[0-9]")
_HINT_KR_ADDRESS = re.compile("[시군구읍면동리로길도호트]")
_HINT_MONTH = re.compile("jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec")


def find_patterns(text: str) -> tuple[Match, ...]:
    """Give every stretch with the form of an identifier, by start; stretches may overlap."""
    return find_folded(fold(text))


def find_folded(folded: Folded, *, strong: bool = False) -> tuple[Match, ...]:
    """Give the same for a folded text, in the original's offsets; `strong`: the sure forms only."""
    found = [
        Match(rule.kind, *folded.span(match.start(), match.end()))
        for rule, match in _matches(folded.text, strong=strong)
    ]
    found.sort(key=lambda match: (match.start, match.end))
    return tuple(found)


def pattern_spans(folded_text: str) -> list[tuple[int, int]]:
    """Give the stretches in a folded text's own offsets."""
    return [match.span() for _, match in _matches(folded_text, strong=False)]


def has_strong_pattern(folded_text: str) -> bool:
    """Say whether a sure form is in a folded text: dates, versions and bare digits are not."""
    return any(True for _ in _matches(folded_text, strong=True))


def _matches(text: str, *, strong: bool) -> list[tuple[_Rule, re.Match[str]]]:
    digits = sum(map(text.count, "0123456789"))
    hints = "".join([mark for mark in _MARKS if mark in text])
    if not text.isascii() and _HINT_KR_ADDRESS.search(text) is not None:
        hints += "시"
    if digits and _HINT_MONTH.search(text) is not None:
        hints += "m"
    return [
        (rule, match)
        for rule in _possible(min(digits, _MOST_DIGITS), hints, strong)
        for match in rule.regex.finditer(text)
    ]


@lru_cache(maxsize=4096)
def _possible(digits: int, hints: str, strong: bool) -> tuple[_Rule, ...]:
    """Give the rules that can match a text of so many digits, with these marks and hint words."""

    def can(needs: str) -> bool:
        if needs.isdigit():
            return digits >= int(needs)
        if needs == "month":
            return "m" in hints
        if needs == "시도":
            return "시" in hints
        if needs == "년월":
            return digits >= 1 and ("년" in hints or "월" in hints)
        return any(character in hints for character in needs)

    return tuple(rule for rule in _RULES if (rule.strong or not strong) and can(rule.needs))


_MARKS = "@.:-년월"  # what `needs` may name by itself
_MOST_DIGITS = max(int(rule.needs) for rule in _RULES if rule.needs.isdigit())
