from __future__ import annotations

from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from deid.options import BASIC_CODE, Option


def test_codes_and_titles_are_those_of_cid_7050() -> None:
    ours = {option.code: option.title for option in Option} | dict([BASIC_CODE])
    theirs = {}
    for keyword in cid_concepts[7050]["DCM"]:
        for code, (meaning, _) in concepts["DCM"][keyword].items():
            theirs[code] = meaning
    assert ours == theirs


def test_all_but_the_two_pixel_options_have_a_column() -> None:
    without = {option for option in Option if not option.column}
    assert without == {Option.CLEAN_PIXEL_DATA, Option.CLEAN_VISUAL_FEATURES}
    assert len({option.column for option in Option} - {""}) == 10
