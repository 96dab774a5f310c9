from __future__ import annotations

import pytest
from pydicom._private_dict import private_dictionaries

from deid import private
from deid.private import safe_element, safe_elements

NUMBERS = {"DS", "FD", "FL", "IS", "SL", "SS", "UL", "US"}


def test_every_listed_element_is_a_number_of_the_vendors_dictionary() -> None:
    for (creator, group, element), safe in safe_elements().items():
        known = private_dictionaries[creator][f"{group:04X}xx{element:02X}"]
        assert known[0] == safe.vr and safe.vr in NUMBERS
        assert not any(word in known[2].lower() for word in ("date", "patient", "user_usage"))


def test_the_creator_decides_and_not_the_block() -> None:
    for block in (0x10, 0x11, 0xFF):
        found = safe_element("SIEMENS MR HEADER", 0x00190000 | block << 8 | 0x0C)
        assert found is not None and found.vr == "IS"
    assert safe_element("SIEMENS MR HEADER \x00", 0x0019100C) is not None
    for creator in ("siemens mr header", "SIEMENS CSA HEADER", "GEMS_PARM_01", ""):
        assert safe_element(creator, 0x0019100C) is None


def test_creators_themselves_and_standard_tags_are_not_elements() -> None:
    assert safe_element("SIEMENS MR HEADER", 0x0019000C) is None
    assert safe_element("SIEMENS MR HEADER", 0x0018100C) is None


def test_an_element_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    block = '[[block]]\ncreator = "A"\ngroup = "0019"\nwhy = "w"\nelements = { 0C = "IS" }\n'
    monkeypatch.setattr(private, "read_data", lambda _: (block * 2).encode())
    with pytest.raises(ValueError, match="twice"):
        safe_elements.__wrapped__()
