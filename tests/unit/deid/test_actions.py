from __future__ import annotations

from deid.actions import DICOM_ACTIONS, REMOVED, TABLE_ACTIONS, Kind


def test_every_kind_has_an_action_with_letter_and_sentence() -> None:
    assert set(DICOM_ACTIONS) == {kind.value for kind in Kind}
    assert all(action.explain()[0] in "XZDUCK" for action in DICOM_ACTIONS.values())
    assert all(action.explain()[1:3] == ": " for action in DICOM_ACTIONS.values())


def test_a_table_keeps_replaces_or_moves_and_nothing_else() -> None:
    assert set(TABLE_ACTIONS) == {"keep", "patient", "record", "shift-date"}
    assert REMOVED == "remove"
