from __future__ import annotations

from datetime import date

import pytest
from pydicom.uid import UID

from deid.pseudonym import Pseudonymiser
from tests.support.forge import SECRET

OTHER = bytes(32)


def test_the_same_identifier_gets_the_same_pseudonym() -> None:
    assert Pseudonymiser(SECRET, "s").patient("K1") == Pseudonymiser(SECRET, "s").patient(" K1 ")


def test_hangul_forms_are_one_identifier() -> None:
    names = Pseudonymiser(SECRET, "s")
    assert names.patient("각") == names.patient("\u1100\u1161\u11a8")


def test_two_hospitals_are_not_linkable() -> None:
    mine, theirs = Pseudonymiser(SECRET, "s"), Pseudonymiser(OTHER, "s")
    assert mine.patient("K1") != theirs.patient("K1")
    assert mine.record("K1") != theirs.record("K1")
    assert mine.uid("1.2") != theirs.uid("1.2")


def test_two_projects_are_not_linkable() -> None:
    assert Pseudonymiser(SECRET, "a").patient("K1") != Pseudonymiser(SECRET, "b").patient("K1")


def test_purposes_are_kept_apart() -> None:
    names = Pseudonymiser(SECRET, "s")
    assert names.record("K1") not in names.patient("K1")


def test_pseudonyms_fit_their_value_representations() -> None:
    names = Pseudonymiser(SECRET, "s")
    assert len(names.patient("K1")) == 27 and len(names.record("A1")) == 16
    assert UID(names.uid("1.2.3")).is_valid and names.uid("1.2.3").startswith("2.25.")


def test_dates_move_by_one_to_365_days_and_keep_intervals() -> None:
    names = Pseudonymiser(SECRET, "s")
    first, second = date(2024, 3, 1), date(2024, 3, 11)
    for patient in ("K1", "K2", "K3"):
        assert 1 <= names.shift_days(patient) <= 365
        moved = names.shift(first, patient), names.shift(second, patient)
        assert moved[0] < first and (moved[1] - moved[0]).days == 10
    shifts = {names.shift_days(f"K{n}") for n in range(200)}
    assert len(shifts) > 100


def test_a_date_at_the_beginning_of_time_does_not_fail() -> None:
    assert Pseudonymiser(SECRET, "s").shift(date(1, 1, 1), "K1") == date(1, 1, 1)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Pseudonymiser(b"short", "s")


def test_the_secret_is_not_shown() -> None:
    assert SECRET.hex() not in repr(Pseudonymiser(SECRET, "s"))
