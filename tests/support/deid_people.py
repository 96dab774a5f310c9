"""Whose identity is planted in a real file? Invented Korean and American patients, by seed."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta

# family: Latin, hanja, Hangul; given: Latin in two syllables, hanja, Hangul. Invented combinations.
_FAMILIES = [
    ("Namgung", "南宮", "남궁"), ("Hwangbo", "皇甫", "황보"), ("Dokgo", "獨孤", "독고"),
    ("Hong", "洪", "홍"), ("Gwak", "郭", "곽"), ("Pyo", "表", "표"), ("Tak", "卓", "탁"),
    ("Maeng", "孟", "맹"), ("Bong", "奉", "봉"), ("Seonu", "鮮于", "선우"),
]  # fmt: skip
_GIVENS = [
    ("Gil", "dong", "吉洞", "길동"), ("Min", "seo", "旼序", "민서"),
    ("Ha", "yun", "河潤", "하윤"), ("Dae", "hyeon", "大鉉", "대현"),
    ("Bo", "reum", "寶凜", "보름"), ("Chan", "wook", "燦旭", "찬욱"),
    ("Seul", "gi", "瑟琪", "슬기"), ("Jeong", "ran", "貞蘭", "정란"),
    ("Kyu", "hyun", "圭賢", "규현"), ("Na", "rae", "娜來", "나래"),
    ("Tae", "sik", "泰植", "태식"), ("Eun", "byeol", "銀星", "은별"),
]  # fmt: skip
# names that are words of reports too, and names beyond ASCII, among them
_US_FAMILIES = [
    "Abernathy", "Kowalczyk", "Oyelaran", "Thistlewood", "Zubiria", "O'Flannery", "Frost",
    "Grünewald", "Long",
]  # fmt: skip
_US_GIVENS = [
    "Quentin", "Rosalind", "Thaddeus", "Imogene", "Cornelius", "Philippa", "Violet", "Jürgen",
    "Heather",
]  # fmt: skip
_JP_FAMILIES = [("Yamanouchi", "山之内", "やまのうち"), ("Kisaragi", "如月", "きさらぎ")]
_JP_GIVENS = [("Shintarou", "真太郎", "しんたろう"), ("Misaki", "美咲", "みさき")]
_STRANGERS = ("Bartholomew", "Wilhelmina", "Ignatius", "김순자", "최덕수", "박말숙")
_KR_ROADS = [("Dasomgil", "다솜길"), ("Haetsalro", "햇살로"), ("Byeolbitro", "별빛로")]
_US_ROADS = ["Wisteria", "Larkspur", "Quailridge"]
_HOSPITALS = [
    ("Hanbitnuri Medical Center", "한빛누리병원"),
    ("Pureunsol Hospital", "푸른솔병원"),
    ("Gaonsaerom University Hospital", "가온새롬대학교병원"),
]
_US_HOSPITALS = ["Thornbury Valley Hospital", "Saint Eulalia Infirmary"]


@dataclass(frozen=True, slots=True)
class Person:
    """One invented patient and the people and places around."""

    country: str  # "KR", "US" or "JP"
    family: str
    given: str
    given_spaced: str  # "Gil-dong"
    hanja: tuple[str, str]  # family, given; empty for US
    hangul: tuple[str, str]
    mrn: str
    other_id: str
    rrn: str  # resident registration number or SSN
    foreigner: str
    insurance: str
    mobile: str
    landline: str
    email: str
    address: str
    road: str
    hospital: str
    hospital_local: str
    physician: tuple[str, str]
    physician_hangul: str
    accession: str
    study_id: str
    birth: date
    study_date: date
    sex: str
    stranger: str  # someone no attribute names: a relative, a nurse

    @property
    def pn(self) -> str:
        """The Person Name value with all groups this person has."""
        latin = f"{self.family}^{self.given}"
        if self.country == "US":
            return latin
        return f"{latin}={'^'.join(self.hanja)}={'^'.join(self.hangul)}"

    @property
    def physician_pn(self) -> str:
        """The physician's Person Name value."""
        latin = "^".join(self.physician)
        return f"{latin}=={self.physician_hangul}" if self.physician_hangul else latin

    @property
    def full_hangul(self) -> str:
        """Family and given name as they stand in Korean text."""
        return "".join(self.hangul)

    @property
    def full_hanja(self) -> str:
        """The same in hanja."""
        return "".join(self.hanja)

    def spellings(self) -> tuple[str, ...]:
        """Names as different writers put them into running text."""
        f, g = self.family, self.given
        forms = [f"{f} {g}", f"{g} {f}", f"{f}, {g}", f"{f}{g}".upper(), f"{g} {f}".lower()]
        if self.country == "JP":
            forms += [self.full_hanja, self.full_hangul, f"{self.full_hanja}様"]
        if self.country == "KR":
            forms += [f"{f.upper()} {self.given_spaced.upper()}", self.full_hangul, self.full_hanja]
            forms += [unicodedata.normalize("NFD", self.full_hangul), " ".join(self.hangul)]
        return tuple(forms)

    def secrets(self) -> tuple[str, ...]:
        """Strings that may stand nowhere in an output; too long to arise by chance."""
        found = [self.given, self.given_spaced, self.mrn, self.other_id, self.rrn, self.foreigner]
        found += [self.insurance, self.mobile, self.landline, self.email, self.road, self.hospital]
        found += [self.accession, self.study_id, self.physician[1], *self.spellings()]
        found += [self.rrn.replace("-", ""), self.mobile.replace("-", "")]
        if len(self.family) > 4:
            found.append(self.family)
        if self.country == "KR":
            found += [self.hospital_local, self.physician_hangul.replace("^", "")]
        return tuple(dict.fromkeys(text for text in found if len(text) >= 3))


def person(seed: str) -> Person:
    """Give the person of a seed: the same text, the same person."""
    rng = random.Random(f"person {seed}")
    digits = lambda n: "".join(rng.choice("0123456789") for _ in range(n))  # noqa: E731
    birth = date(1931, 1, 1) + timedelta(days=rng.randrange(29_000))
    study = date(2019, 1, 1) + timedelta(days=rng.randrange(2_000))
    sex = rng.choice("MF")
    common = {
        "mrn": f"{rng.choice('HPK')}{digits(7)}", "other_id": f"CHT-{digits(6)}",
        "insurance": digits(11), "accession": f"ACC{digits(8)}", "study_id": f"ST{digits(6)}",
        "birth": birth, "study_date": study, "sex": sex, "stranger": rng.choice(_STRANGERS),
    }  # fmt: skip
    if rng.random() < 0.65:
        family, one, (dr_family, _, dr_hangul) = (
            rng.choice(_FAMILIES), rng.choice(_GIVENS), rng.choice(_FAMILIES),
        )  # fmt: skip
        other = rng.choice([each for each in _GIVENS if each is not one])
        road = rng.choice(_KR_ROADS)
        hospital = rng.choice(_HOSPITALS)
        first = f"{birth:%y%m%d}"
        given = one[0] + one[1]
        return Person(
            country="KR", family=family[0], given=given, given_spaced=f"{one[0]}-{one[1]}",
            hanja=(family[1], one[2]), hangul=(family[2], one[3]),
            rrn=f"{first}-{rng.choice('1234')}{digits(6)}",
            foreigner=f"{first}-{rng.choice('5678')}{digits(6)}",
            mobile=f"010-{digits(4)}-{digits(4)}", landline=f"02-{digits(3)}-{digits(4)}",
            email=f"{given.lower()}{digits(2)}@nurimail.kr",
            address=f"서울특별시 가온구 {road[1]} {digits(3)}번길 {digits(2)}", road=road[1],
            hospital=hospital[0], hospital_local=hospital[1],
            physician=(dr_family, other[0] + other[1]), physician_hangul=f"{dr_hangul}^{other[3]}",
            **common,
        )  # fmt: skip
    japanese = rng.random() < 0.3
    family_jp, given_jp = rng.choice(_JP_FAMILIES), rng.choice(_JP_GIVENS)
    road = rng.choice(_US_ROADS)
    hospital = rng.choice(_US_HOSPITALS)
    given, family = rng.choice(_US_GIVENS), rng.choice(_US_FAMILIES)
    if japanese:
        given, family = given_jp[0], family_jp[0]
    dr_given = rng.choice([each for each in _US_GIVENS if each != given])
    return Person(
        country="JP" if japanese else "US", family=family, given=given, given_spaced=given,
        hanja=(family_jp[1], given_jp[1]) if japanese else ("", ""),
        hangul=(family_jp[2], given_jp[2]) if japanese else ("", ""),
        rrn=f"{rng.randrange(101, 665)}-{digits(2)}-{digits(3)}7",
        foreigner=f"9{digits(2)}-7{digits(1)}-{digits(4)}", mobile=f"(617) 555-{digits(4)}",
        landline=f"617-555-{digits(4)}", email=f"{given.lower()}.{digits(3)}@larkmail.example",
        address=f"{digits(3)} {road} Lane, Boston, MA 021{digits(2)}", road=road,
        hospital=hospital, hospital_local=hospital,
        physician=(rng.choice(_US_FAMILIES), dr_given), physician_hangul="", **common,
    )  # fmt: skip
