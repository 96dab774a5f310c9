"""Are codes stable words with a meaning, and do errors keep local detail local?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas import errors
from schemas.errors import CohortiumError, ErrorCode

CLASSES = {
    errors.ConfigError: 2,
    errors.TrustError: 3,
    errors.PolicyDenied: 4,
    errors.DataRejected: 5,
    errors.BudgetExceeded: 6,
    errors.ProtocolError: 7,
    errors.TransportError: 8,
    errors.InternalError: 9,
}


def test_each_class_has_its_exit_code() -> None:
    assert {cls: cls.exit_code for cls in CLASSES} == CLASSES
    assert set(CohortiumError.__subclasses__()) >= set(CLASSES)


def test_every_code_is_a_dotted_word_that_fits_the_wire() -> None:
    for code in ErrorCode:
        assert re.fullmatch(r"[a-z]+(\.[a-z0-9_]+)+", code.value), code
        assert 3 <= len(code.value) <= 64


def test_every_code_has_one_sentence_of_meaning() -> None:
    for code in ErrorCode:
        assert re.fullmatch(r"[A-Z][^\n]+\.", code.meaning), code


def test_no_two_codes_share_a_value() -> None:
    # An alias would be missing from iteration but present among the members.
    assert len(list(ErrorCode)) == len(ErrorCode.__members__)


def test_a_code_is_found_by_its_value_alone() -> None:
    assert ErrorCode("plan.tampered") is ErrorCode.PLAN_TAMPERED
    assert str(ErrorCode.PLAN_TAMPERED) == "plan.tampered"
    with pytest.raises(ValueError, match=r"not a valid ErrorCode"):
        ErrorCode("plan.unheard_of")


def test_text_of_an_error_holds_sentence_hint_and_code_but_not_detail() -> None:
    error = errors.TrustError(
        ErrorCode.PLAN_TAMPERED, "The plan was changed.", hint="Ask again.", detail="SECRET"
    )
    assert str(error) == "The plan was changed. Ask again. [plan.tampered]"
    assert "SECRET" not in repr(error) + str(error) + str(error.args)
    assert error.detail == "SECRET"


def test_every_code_is_raised_somewhere() -> None:
    """A code that nothing raises is a promise nobody keeps; it is deleted, not kept in store."""
    root = Path(__file__).resolve().parents[3]
    sources = [
        path.read_text()
        for folder in ("schemas", "deid", "site_node", "coordinator", "scripts")
        for path in sorted((root / folder).rglob("*.py"))
        if path != root / "schemas" / "codes.py"
    ]
    words = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", "\n".join(sources)))
    assert {code.name for code in ErrorCode} - words == set()
    assert "RETRY_CAP_REACHED" not in words  # so that the search can fail
