"""Do names, texts and times accept one spelling and refuse the rest?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas import ids


@given(st.datetimes(datetime(1900, 1, 1), datetime(2999, 1, 1)))
def test_a_time_survives_the_round_trip(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC, microsecond=0)
    assert ids.parse_time(ids.format_time(aware)) == aware


def test_a_time_elsewhere_is_written_in_utc() -> None:
    seoul = timezone(timedelta(hours=9))
    assert ids.format_time(datetime(2026, 11, 23, 3, tzinfo=seoul)) == "2026-11-22T18:00:00Z"


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        ids.format_time(datetime(2026, 11, 22))


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T18:00:00+00:00",
        "2026-11-22t18:00:00z",
        "2026-11-22 18:00:00Z",
        "2026-02-30T18:00:00Z",
        "2026-1-2T18:00:00Z",
        "2026-11-22T18:00:00.5Z",
        "2026-11-22T24:00:00Z",
        "",
    ],
)
def test_any_other_form_of_time_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a time is written YYYY-MM-DDThh:mm:ssZ"):
        ids.parse_time(text)


@pytest.mark.parametrize("name", ["site-1", "a", "seoul-national-2"])
def test_site_names_of_lower_case_words_pass(name: str) -> None:
    assert TypeAdapter(ids.SiteId).validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "Site-1", "-site", "site-", "a--b", "1site", "a/b", "..", "site 1", "a\n", "a" * 41],
)
def test_other_site_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ids.SiteId).validate_python(name)


@pytest.mark.parametrize("text", ["서울대학교병원", "Charité – Berlin", "A"])
def test_names_in_any_script_pass(text: str) -> None:
    assert TypeAdapter(ids.Name).validate_python(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Cafe\u0301", "normal form"),
        ("a\u202eb", "invisible"),
        ("a\u200bb", "invisible"),
        ("a\nb", "control"),
        ("\x1b[31m", "control"),
        (" a", "space"),
        ("", "at least 1"),
        ("x" * 121, "at most 120"),
    ],
)
def test_names_that_deceive_the_eye_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TypeAdapter(ids.Name).validate_python(text)


@pytest.mark.parametrize("text", ["ab" * 31, "AB" * 32, "ab" * 33, "0x" + "ab" * 31, "zz" * 32])
def test_a_digest_has_one_spelling(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ids.Digest).validate_python(text)


@pytest.mark.parametrize(
    "url", ["https://user:pw@host/", "ftp://host/", "https://host/?q=1", "https://host/#f", "host"]
)
def test_addresses_with_user_query_or_fragment_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ids.Url).validate_python(url)


@pytest.mark.parametrize("url", ["https://127.0.0.1:8443", "https://[::1]:8443/v1/enrol"])
def test_plain_addresses_pass(url: str) -> None:
    assert TypeAdapter(ids.Url).validate_python(url) == url
