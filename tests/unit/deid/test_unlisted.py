from __future__ import annotations

import pytest

from deid import standard, unlisted
from deid.decider import TEXT_VRS
from deid.unlisted import Verdict, verdicts


def test_the_review_names_no_attribute_of_the_table() -> None:
    assert not set(verdicts()) & set(standard.rows())


def test_only_the_retired_part_names_retired_attributes() -> None:
    for tag, reviewed in verdicts().items():
        found = standard.entry(tag)
        assert found is not None and reviewed.why
        assert found.retired == (reviewed.verdict is Verdict.RETIRED)


def test_each_part_names_attributes_of_its_vrs() -> None:
    for tag, reviewed in verdicts().items():
        vr = standard.entry(tag).vr  # type: ignore[union-attr]
        if reviewed.verdict is Verdict.TECHNICAL:
            assert vr in TEXT_VRS | {"CS", "UR"}
        if reviewed.verdict is Verdict.BULK:
            assert vr.startswith("O") or vr == "US or OW"
        if reviewed.verdict is Verdict.RETIRED:
            assert vr not in TEXT_VRS | {"PN", "UI", "DA", "DT", "TM", "OB"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[[technical]]\nwhy = "w"\nattributes = ["Nobody"]', KeyError),
        ('[[technical]]\nwhy = "w"\nattributes = ["KVP", "KVP"]', ValueError),
        ('[[guess]]\nwhy = "w"\nattributes = ["KVP"]', ValueError),
    ],
)
def test_a_bad_review_is_refused(
    text: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlisted, "read_data", lambda _: text.encode())
    with pytest.raises(error):
        verdicts.__wrapped__()
