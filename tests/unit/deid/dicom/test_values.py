from __future__ import annotations

import time
from datetime import date, timedelta

import pytest

from deid.dicom.values import (
    cap_age,
    encode,
    full_days,
    in_repertoire,
    is_standard_uid,
    long_numbers,
    map_uids,
    shift_dates,
    shifter,
    spellings_of_day,
    stand_in,
)


def _back(day: date) -> date:
    return day - timedelta(days=10)


@pytest.mark.parametrize(
    ("vr", "text", "moved"),
    [
        ("DA", "20240301", "20240220"),
        ("DA", "20240229", "20240219"),
        ("DA", "2024.03.01", "20240220"),
        ("DA", "2024-03-01", "20240220"),
        ("DA", "20240301-20240311", "20240220-20240301"),
        ("DA", "20240301-", "20240220-"),
        ("DA", "-20240301", "-20240220"),
        ("DA", "20240301\\20240311", "20240220\\20240301"),
        ("DA", "20230229", ""),
        ("DA", "1.3.2024", ""),
        ("DA", "HONG", ""),
        ("DA", "202403", ""),
        ("DA", "00000000", ""),
        ("DT", "20240301101500.123456+0900", "20240220101500.123456+0900"),
        ("DT", "20240301-0500", "20240220-0500"),
        ("DT", "202403", "202402"),
        ("DT", "2024", "2023"),
        ("DT", "2024.03.01", "20240220"),
        ("DT", "20240301 HONG", ""),
    ],
)
def test_dates_move_and_what_is_no_date_goes(vr: str, text: str, moved: str) -> None:
    assert shift_dates(vr, text, _back) == moved


def test_the_first_day_of_the_calendar_bounds_the_shift() -> None:
    assert shift_dates("DA", "00010101", shifter(365)) == "00010101"


@pytest.mark.parametrize(
    ("vr", "value", "fits"),
    [
        ("CS", b"HEAD\\NECK ", True),
        ("CS", b"Hong Gildong", False),
        ("DS", b"1.5\\-2e3\\ .5 ", True),
        ("DS", b"HONG", False),
        ("IS", b" 12 ", True),
        ("IS", b"010-2345-6789", False),
        ("TM", b"101500.5", True),
        ("TM", b"010-1234-5678", False),
        ("AS", b"045Y", True),
        ("AS", b"45 years", False),
        ("AE", b"STORE_SCP", True),
        ("AE", "홍길동".encode(), False),
        ("UI", b"1.2.3\0", True),
        ("UI", b"HONG", False),
        ("US", b"ab", True),
        ("US", b"abc", False),
        ("LO", "홍길동".encode(), True),
        ("DS", b"", True),
    ],
)
def test_values_are_held_against_their_vr(vr: str, value: bytes, fits: bool) -> None:
    assert in_repertoire(vr, value) is fits


@pytest.mark.parametrize("vr", ["DS", "IS", "CS", "AE", "DA", "DT", "TM", "AS", "UI"])
def test_a_long_hostile_value_is_judged_in_linear_time(vr: str) -> None:
    began = time.process_time()
    for filler in (b" ", b"1", b"1 \\ ", b"\\"):
        in_repertoire(vr, filler * 50_000 + b"\x01")
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize(
    "vr", ["AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "IS", "LO", "PN", "SS", "TM", "UL", "UT"]
)
def test_a_stand_in_is_a_value_of_its_vr(vr: str) -> None:
    assert stand_in(vr) and in_repertoire(vr, stand_in(vr))


def test_only_the_standard_s_own_uids_stay() -> None:
    kept = "1.2.840.10008.5.1.4.1.1.2"
    assert map_uids(f"{kept}\\1.2.3 ", lambda uid: "new:" + uid) == f"{kept}\\new:1.2.3"
    assert is_standard_uid(kept) and not is_standard_uid("1.2.840.10008.5.10482213.1")
    assert map_uids("", str.upper) == ""


@pytest.mark.parametrize(
    ("age", "capped"),
    [
        (b"045Y", b"045Y"),
        (b"089Y", b"089Y"),
        (b"090Y", b"090Y"),
        (b"101Y", b"090Y"),
        (b"999M", b"999M"),
        (b"999W", b"999W"),
        (b"old ", b"old "),
    ],
)
def test_high_ages_become_one(age: bytes, capped: bytes) -> None:
    assert cap_age(age, 89) == capped


def test_days_are_found_in_dates_and_date_times() -> None:
    assert full_days("20240301-20240311") == ("20240301", "20240311")
    assert full_days("20240301101500-0500") == ("20240301",)
    assert full_days("unknown") == ()


def test_a_day_is_spelt_in_the_usual_ways() -> None:
    assert {"1963-04-12", "04/12/1963", "1963년 4월 12일"} <= set(spellings_of_day("19630412"))
    assert spellings_of_day("19631340") == ()


def test_numbers_and_text_are_encoded_in_the_file_s_order() -> None:
    assert encode("US", [1, 2], True) == b"\x01\0\x02\0" and encode("US", 1, False) == b"\0\x01"
    assert encode("CS", "RGB", True) == b"RGB" and encode("FD", 0.5, True)[-1:] == b"\x3f"
    with pytest.raises(ValueError, match="no encoding"):
        encode("SQ", None, True)


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (b"7731942 ", ["7731942"]),
        (b"77319425.0", ["77319425"]),
        (b"1\\+77319425.000\\0.1234567", ["77319425"]),
        (b"0.7421875\\1234567.5\\123456e5\\12345", []),
        (b"", []),
    ],
)
def test_whole_numbers_long_enough_to_be_somebody_s_are_found(
    value: bytes, numbers: list[str]
) -> None:
    assert long_numbers(value) == numbers


@pytest.mark.parametrize("text", ["800515", "80:05:15", "236060", "126100", "101061"])
def test_a_day_is_no_time_of_day(text: str) -> None:
    assert not in_repertoire("TM", text.encode("ascii"))
    assert shift_dates("DT", "20210304" + text.replace(":", ""), lambda day: day) == "20210304"


@pytest.mark.parametrize("text", ["24", "2359", "235960", "10:11:12.123", "000000.000001"])
def test_a_time_of_day_stays(text: str) -> None:
    assert in_repertoire("TM", text.encode("ascii"))
    whole = "20210304" + text.replace(":", "") + "+0900"
    assert shift_dates("DT", whole, lambda day: day) == whole


def test_a_zone_that_is_none_goes() -> None:
    assert shift_dates("DT", "202103041011-9915", lambda day: day) == "202103041011"


@pytest.mark.parametrize(
    ("uid", "standard"),
    [
        ("1.2.840.10008.1.20.1.1", True),  # a well-known instance
        ("1.2.840.10008.5.1.4.1.1.999.2", True),  # a class of a later edition
        ("1.2.840.10008.6.1.1999", True),
        ("1.2.840.10008.1980.515.12345", False),
        ("1.2.840.10008.80051.51234.567", False),
        ("1.2.840.10008.5.1.4.8005.15", False),
    ],
)
def test_only_what_the_standard_assigns_under_its_root_is_its_own(uid: str, standard: bool) -> None:
    assert is_standard_uid(uid) is standard


@pytest.mark.parametrize("vr", ["FD", "FL", "SL", "UV", "US"])
def test_text_in_a_number_s_place_is_no_number(vr: str) -> None:
    assert not in_repertoire(vr, b"Zyxx Bartholomew")
    assert in_repertoire(vr, bytes(16)) and in_repertoire(vr, b"Zyxx Bar")
