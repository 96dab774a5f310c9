from __future__ import annotations

import time

import pytest

from deid.text.fold import fold_word
from deid.text.patterns import find_patterns, has_strong_pattern, pattern_spans

IDENTIFIERS = {
    "kr-rrn": (
        "900101-1234567",  # its check digit is wrong, and proves nothing
        "9001011234567",
        "900101 1234567",
        "９００１０１－１２３４５６７",
        "900101-5234567",
        "9 0 0 1 0 1 - 1 2 3 4 5 6 7",
        "900101-1******",
    ),
    "kr-mobile": ("010-1234-5678", "01012345678", "+82-10-1234-5678", "+82 (0)10 1234 5678"),
    "kr-phone": ("02-123-4567", "031)123-4567", "0212345678", "1588-1234"),
    "kr-licence": ("11-12-123456-78", "서울 12-123456-12"),
    "kr-passport": ("M12345678", "M123A4567"),
    "kr-business": ("123-45-67890",),
    "kr-number": ("등록번호: 1234", "차트번호 A1234", "환자번호는 00123", "병록번호#12-34"),
    "kr-address": (
        "서울특별시 종로구 세종대로 209",
        "경기도 성남시 분당구 정자동 178-1",
        "강남구 역삼동 123",
        "래미안아파트 101동 1203호",
    ),
    "email": ("hong.gd@hospital.example",),
    "url": ("https://pacs.example/study?id=1", "www.hospital.co.kr"),
    "ip": ("192.168.0.12",),
    "us-ssn": ("123-45-6789",),
    "phone": ("(555) 123-4567", "555.123.4567", "555-1234", "0688 872 49 99"),
    "us-zip": ("CA 94305",),
    "us-address": ("1234 Elm Street Apt 5",),
    "number": ("MRN: 00123", "PID 4321", "Accession Number: 7766", "MRN00123"),
    "age": ("92세", "92-year-old", "age 93", "103 yo"),
    "date": (
        "2024-03-02",
        "20240302",
        "2024.03.02",
        "2024. 3. 2.",
        "2024년 3월 2일",
        "3월 2일",
        "02-Mar-2024",
        "02MAR2024",
        "3/2/24",
        "24.3.2",
        "March 2, 2024",
        "2 March 2024",
        "Mar 2024",
        "20240302143012",
    ),
}


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in IDENTIFIERS.items() for value in values]
)
@pytest.mark.parametrize("frame", ["{}", "폐 {}입니다", "see {} chest"])
def test_an_identifier_is_found_whole(kind: str, value: str, frame: str) -> None:
    text = frame.format(value)
    start = text.index(value)
    covered = {
        at
        for match in find_patterns(text)
        if match.kind == kind
        for at in range(match.start, match.end)
    }
    digits = {start + at for at, character in enumerate(value) if character.isdigit()}
    assert digits <= covered


@pytest.mark.parametrize(
    "text",
    [
        "3년 전 수술",
        "2년간 추적",
        "6개월",
        "경도 지방간으로 12 mm",
        "C5-6",
        "L4/5",
        "512x512",
        "1.5 T",
        "TR 2000 ms",
        "120/80 mmHg",
        "2.0 x 3.1 cm",
        "크기로 12mm",
        "may be 2 mm",
        "5 mm",
        "89 yo",
        "60 year old",
        "11:23:11",
        "1-2-3",
    ],
)
def test_measurements_are_not_identifiers(text: str) -> None:
    assert find_patterns(text) == ()


@pytest.mark.parametrize(
    "text", ["1.2.840.113619.2", "VB17A", "syngo MR E11", "20100512", "LightSpeed VCT", "10.0.1.22"]
)
def test_versions_are_no_sure_form(text: str) -> None:
    assert not has_strong_pattern(fold_word(text))


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "1 ",
        "1-",
        "가",
        "가시 ",
        "가로1",
        "a",
        "a.",
        "a@",
        " ",
        "1 ab ",
        "1 may ",
        "a:",
        "mrn ",
        "서울 가동 ",
        "+1-1",
        "서울시 가구1 ",
        "010-",
        "(",
        "0 ",
    ],
)
def test_time_grows_no_faster_than_the_text(unit: str) -> None:
    """A quadratic pattern takes minutes on 100 kB; a linear one well under a second."""
    text = unit * (100_000 // len(unit))
    begun = time.process_time()
    pattern_spans(text)
    assert time.process_time() - begun < 3


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("12가 3456", "kr-plate"),
        ("123나4567", "kr-plate"),
        ("H21-0042", "pathology"),
        ("slide S21-12345", "pathology"),
        ("ext. 5512", "phone"),
        ("내선 3321", "phone"),
    ],
)
def test_plates_slides_and_extensions_are_found(text: str, kind: str) -> None:
    assert kind in {match.kind for match in find_patterns(text)}


@pytest.mark.parametrize("text", ["32주 1500 g", "C5-6 T12", "ext rot 30", "12주 정상"])
def test_weeks_and_vertebrae_are_no_plates(text: str) -> None:
    assert not {"kr-plate", "pathology", "phone"} & {match.kind for match in find_patterns(text)}
