"""Does the page say what it must, with a strict policy and nothing of another origin?"""

from __future__ import annotations

import re

import httpx
import pytest

from coordinator.web.app import CONTENT_SECURITY_POLICY

PATHS = [
    "/",
    "/studies/heart",
    "/studies/cxr",
    "/studies/heart-pilot",
    "/studies/heart-followup",
    "/nothing",
    "/static/page.css",
    "/static/page.js",
    "/favicon.ico",
]


def _get(page: str, path: str, **headers: str) -> httpx.Response:
    with httpx.Client(base_url=page, trust_env=False) as client:
        return client.get(path, headers=headers)


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_strict_policy(page: str, path: str) -> None:
    answer = _get(page, path)
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_policy_allows_nothing_inline_or_foreign() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert "http:" not in CONTENT_SECURITY_POLICY and "*" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("path", PATHS[:6])
def test_pages_hold_no_inline_style_script_or_foreign_address(page: str, path: str) -> None:
    text = _get(page, path).text
    assert " style=" not in text and "<style" not in text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"\bon[a-z]+=", text)
    assert not re.search(r"(?:src|href)=\"(?!/|#)", text)


def test_the_list_shows_every_study_and_its_state(page: str) -> None:
    text = _get(page, "/").text
    for words in ("Waiting for the hospitals&#39; answers", "Training", "Done", "Ended early"):
        assert words in text
    assert "Its data steward has not answered the plan yet." in text
    assert "VA Medical Center Long Beach" in text


@pytest.mark.parametrize("path", PATHS[:5])
def test_epsilon_never_stands_alone(page: str, path: str) -> None:
    text = _get(page, path).text
    pieces = re.findall(r'<p class="epsilon">(.*?)</p>', text, flags=re.DOTALL)
    assert pieces
    for piece in pieces:
        for part in ("δ =", "per patient", "add-remove", "t = 1", "attempts", "hospital per"):
            assert part in piece


def test_the_result_comes_with_interval_method_and_signers(page: str) -> None:
    text = _get(page, "/studies/heart").text
    for part in (
        "DeLong on binned scores",
        "certified",
        "Wilson, 95 %",
        "Co-signed by",
        "site-1, site-2, site-3, site-4",
        'class="roc"',
        "Outside ε",
        "the test-set metrics",
        "3 retries",
    ):
        assert part in text, part


def test_what_left_each_site_is_listed_by_kind_and_bytes(page: str) -> None:
    text = _get(page, "/studies/heart").text
    for kind in ("masked update", "masked evaluation", "signed model hash", "signed result"):
        assert text.count(kind) >= 4, kind
    assert "12 × masked update" in text


def test_reasons_are_shown(page: str) -> None:
    assert (
        "2 of 4 hospitals have not answered the plan yet."
        in _get(page, "/studies/heart-followup").text
    )
    early = _get(page, "/studies/heart-pilot").text
    assert "Fewer sites are ready than the plan needs." in early
    assert "Its data steward stopped the study." in early
    running = _get(page, "/studies/cxr").text
    assert "The site did not answer." in running


def test_only_pages_that_can_change_refresh(page: str) -> None:
    assert 'data-live="yes"' in _get(page, "/studies/cxr").text
    assert 'data-live="no"' in _get(page, "/studies/heart").text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:1"])
def test_a_foreign_name_for_this_machine_is_refused(page: str, host: str) -> None:
    assert _get(page, "/", host=host).status_code == 403


@pytest.mark.parametrize(
    "path", ["/studies/nothing", "/studies/..%2f..%2f", "/static/app.py", "/static/..%2fapp.py"]
)
def test_unknown_pages_are_missing_without_any_text_of_errors(page: str, path: str) -> None:
    answer = _get(page, path)
    assert answer.status_code == 404
    assert "Traceback" not in answer.text and "Error" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_the_page_can_only_be_read(page: str, method: str) -> None:
    with httpx.Client(base_url=page, trust_env=False) as client:
        assert client.request(method, "/studies/heart").status_code in {404, 405}
