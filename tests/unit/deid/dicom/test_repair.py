from __future__ import annotations

from deid import shipped_profile
from deid.dicom.container import Out
from deid.dicom.elements import EXPLICIT_LITTLE
from deid.dicom.repair import repair
from deid.rules import Rulebook
from deid.text import OwnValues, TextCleaner
from deid.verification import compile_needles
from tests.support.raw_dicom import CT, explicit, item

RULES = Rulebook(shipped_profile("research")).for_class(CT)
NAME = "Gildongius"


def _repaired(body: bytes, *places: bytes) -> list[Out] | None:
    own = OwnValues()
    own.add_name(NAME)
    offsets = [body.index(place) for place in places]
    needles = compile_needles([NAME])
    return repair(body, EXPLICIT_LITTLE, offsets, needles, RULES, TextCleaner(own))


def test_a_text_keeps_its_other_words() -> None:
    body = explicit(0x0008103E, "LO", b"chest Gildongius ")
    outs = _repaired(body, b"Gildong")
    assert outs is not None and b"chest" in outs[0].value and b"Gildong" not in outs[0].value


def test_a_nested_value_is_cleaned_in_its_place() -> None:
    inner = item(explicit(0x0008103E, "LO", b"Gildongius"))
    outs = _repaired(explicit(0x00081140, "SQ", inner), b"Gildong")
    assert outs is not None and [out.tag for out in outs] == [0x00081140]
    assert b"Gildong" not in outs[0].value


def test_a_list_of_codes_loses_the_one_part() -> None:
    body = explicit(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\GILDONGIUS")
    outs = _repaired(body, b"ORIGINAL")
    assert outs == [Out(0x00080008, "CS", b"ORIGINAL\\PRIMARY")]


def test_private_and_optional_binary_values_go_and_codes_are_emptied() -> None:
    body = explicit(0x00180015, "CS", b"GILDONGIUS") + explicit(0x00191001, "LO", b"XGildongX ")
    assert _repaired(body, b"GILDONG", b"XGil") == [Out(0x00180015, "CS", b"")]


def test_what_the_object_is_known_by_and_its_pixels_cannot_be_repaired() -> None:
    assert _repaired(explicit(0x00080018, "UI", b"1.2.34"), b"1.2.34") is None
    assert _repaired(explicit(0x7FE00010, "OB", b"Gildong " * 200), b"Gildong") is None


def test_bytes_that_are_no_data_set_cannot_be_repaired() -> None:
    assert _repaired(b"Gildong", b"Gil") is None
