from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deid import standard
from deid.options import Option


def test_the_table_has_every_row_of_both_sources() -> None:
    newest = json.loads(standard.read_data("standard/table_E1-1_basic_2026c_options_2024e.json"))
    assert len(standard.rows()) + len(standard.patterns()) == len(newest) == 656
    assert set(standard.patterns()) == {"50XXXXXX", "60XX3000", "60XX4000", "odd"}
    assert sum(not row.options_known for row in standard.rows().values()) == 35
    older = json.loads(standard.read_data("standard/table_E1-1_2024e.json"))
    for published in older:
        key = published["id"].upper()
        if len(published["tag"]) != 11 or "X" in published["tag"].upper():
            continue
        row = standard.rows()[int(key, 16)]
        assert row.code == published["basicProfile"]
        assert {option.column: letter for option, letter in row.letters.items()} == {
            option.column: published[option.column]
            for option in Option
            if option.column in published
        }


def test_the_dictionary_names_tags() -> None:
    found = standard.entry(0x00100010)
    assert found == standard.Entry("PN", "PatientName", False)
    assert standard.entry(0x00200030) == standard.Entry("DS", "ImagePosition", True)
    assert standard.entry(0x00500410) is None
    assert standard.show_tag(0x00080050) == "(0008,0050)"
    assert standard.tags_of_keywords()["PatientID"] == 0x00100020


@pytest.mark.parametrize("module", ["deid", "deid.profile", "deid.rules"])
def test_importing_the_rules_reads_no_table_and_no_dictionary(module: str) -> None:
    program = f"import sys, {module}; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
