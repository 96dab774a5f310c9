"""Which invented person stands behind each shipped record? Fixed seed; nobody here exists."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta

# (Hangul, hanja, romanised)
_FAMILIES = (
    ("김", "金", "Kim"), ("이", "李", "Lee"), ("박", "朴", "Park"), ("최", "崔", "Choi"),
    ("정", "鄭", "Jeong"), ("강", "姜", "Kang"), ("조", "趙", "Cho"), ("윤", "尹", "Yoon"),
    ("장", "張", "Jang"), ("임", "林", "Lim"), ("한", "韓", "Han"), ("오", "吳", "Oh"),
    ("서", "徐", "Seo"), ("신", "申", "Shin"), ("권", "權", "Kwon"), ("황", "黃", "Hwang"),
    ("안", "安", "Ahn"), ("송", "宋", "Song"), ("홍", "洪", "Hong"), ("유", "柳", "Yoo"),
)  # fmt: skip
_FIRST = (
    ("민", "敏", "Min"), ("서", "瑞", "Seo"), ("지", "智", "Ji"), ("현", "賢", "Hyeon"),
    ("은", "恩", "Eun"), ("도", "道", "Do"), ("수", "秀", "Su"), ("영", "英", "Yeong"),
    ("재", "在", "Jae"), ("성", "成", "Seong"), ("유", "裕", "Yu"), ("태", "泰", "Tae"),
    ("하", "夏", "Ha"), ("동", "東", "Dong"), ("길", "吉", "Gil"), ("선", "善", "Seon"),
)  # fmt: skip
_SECOND = (
    ("준", "俊", "jun"), ("연", "姸", "yeon"), ("우", "佑", "woo"), ("희", "姬", "hee"),
    ("훈", "勳", "hoon"), ("진", "眞", "jin"), ("호", "浩", "ho"), ("경", "慶", "kyeong"),
    ("원", "元", "won"), ("동", "洞", "dong"), ("아", "娥", "ah"), ("석", "錫", "seok"),
    ("미", "美", "mi"), ("철", "哲", "cheol"), ("린", "隣", "rin"), ("환", "煥", "hwan"),
)  # fmt: skip
_ROADS = ("새빛로", "은하수길", "가온대로", "늘푸른로", "한마음길", "솔바람로")
_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Person:
    """Hold one invented patient.

    Attributes:
        hangul, hanja, latin: the name in three scripts, "Family^Given" each.
        rrn: resident registration number, NNNNNN-NNNNNNN.
    """

    hangul: str
    hanja: str
    latin: str
    rrn: str
    chart: str
    phone: str
    address: str
    born: date


class People:
    """Invent people one after another, each with an own chart number.

    Args:
        seed: fixes everything.
    """

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self._charts: set[str] = set()
        self._numbers: set[str] = set()

    def person(self, *, born: date, male: bool, prefix: str) -> Person:
        """Invent one person; `prefix` is the letter the hospital's chart numbers begin with."""
        family, first, second = (
            self.random.choice(_FAMILIES), self.random.choice(_FIRST), self.random.choice(_SECOND)
        )  # fmt: skip
        return Person(
            hangul=f"{family[0]}^{first[0]}{second[0]}",
            hanja=f"{family[1]}^{first[1]}{second[1]}",
            latin=f"{family[2]}^{first[2]}{second[2]}",
            rrn=self._fresh(lambda: self._rrn(born, male)),
            chart=self._fresh(lambda: f"{prefix}{self.random.randrange(10**7, 10**8)}"),
            phone=self._fresh(lambda: f"010-{self._digits(4, 2)}-{self._digits(4, 1)}"),
            address=f"{self.random.choice(_ROADS)} {self.random.randrange(100, 999)}번길 "
            f"{self.random.randrange(10, 99)}-{self.random.randrange(10, 99)}호",
            born=born,
        )

    def day(self, first: date, last: date) -> date:
        """Draw a day; the first of a month is left out, as default dates of software are such."""
        while True:
            day = first + timedelta(days=self.random.randrange((last - first).days + 1))
            if day.day != 1:
                return day

    def _fresh(self, draw: object) -> str:
        assert callable(draw)
        while (text := str(draw())) in self._numbers:
            pass
        self._numbers.add(text)
        return text

    def _digits(self, count: int, first_from: int) -> str:
        return str(self.random.randrange(first_from * 10 ** (count - 1), 10**count))

    def _rrn(self, born: date, male: bool) -> str:
        """Numbers issued from October 2020 have six random last digits, so no check digit."""
        century = (1 if born.year < 2000 else 3) + (0 if male else 1)
        head = f"{born:%y%m%d}{century}"
        if born >= date(2020, 10, 1):
            return f"{head[:6]}-{head[6]}{self._digits(6, 1)}"
        body = head + self._digits(5, 1)
        total = sum(int(c) * w for c, w in zip(body, _WEIGHTS, strict=True))
        return f"{body[:6]}-{body[6:]}{(11 - total % 11) % 10}"
