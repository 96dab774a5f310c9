from __future__ import annotations

from pathlib import Path

import pytest

import deid
from deid import conformance, standard
from deid.decider import Decider
from deid.profile import shipped_profile
from deid.standard import tags_of_keywords

TAG = tags_of_keywords()


def test_the_page_is_what_the_rules_give() -> None:
    page = Path(deid.__file__).with_name("CONFORMANCE.md").read_text("utf-8")
    assert page == conformance.markdown(), "run: python -m scripts.make_deid_tables conformance"


def test_a_changed_rule_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = conformance.markdown()
    rows = dict(standard.rows())
    rows[TAG["PatientSex"]] = standard.Row("X", {}, True)
    monkeypatch.setattr(standard, "rows", lambda: rows)
    assert conformance.markdown() != before


def test_every_attribute_has_one_line_and_every_name_is_on_the_page() -> None:
    page = conformance.markdown()
    for name in conformance.PROFILES:
        found = conformance.lines(shipped_profile(name))
        tags = [line.tag for line in found]
        assert len(set(tags)) >= len(tags) - 5  # two makers may use one private number
        for tag in standard.every_tag():
            if tag >> 16 < 0x0008:
                continue
            assert standard.show_tag(tag) in tags
            known = standard.entry(tag)
            assert (known and known.keyword in page) or standard.show_tag(tag) in page


def test_compound_codes_are_shown_by_type() -> None:
    line = conformance.line_of(Decider(shipped_profile("basic")), TAG["InstitutionName"])
    assert line.short == "1: dummy, 2: empty, 3: remove"
    assert "Type 1: replaced" in str(line) and "Table E.1-1, Basic Profile" in str(line)
    line = conformance.line_of(Decider(shipped_profile("research")), TAG["StudyDate"])
    assert line.short == "shift-date"


def test_the_page_names_editions_and_what_is_not_claimed() -> None:
    page = conformance.markdown()
    assert "edition **2026c**" in page and "edition **2024e**" in page
    assert (
        "| 113102 | Clean Recognizable Visual Features Option | `clean-visual-features` | – | – |"
        in page
    )
    for words in ("is never claimed", "not Table E.3.10-1", "handwriting", "pseudonymised"):
        assert words in page
    assert "{{" not in page
