from __future__ import annotations

from deid import shipped_profile
from deid.actions import Kind
from deid.dicom.collect import Collected, collect, needles_of, top_values
from deid.dicom.container import read
from deid.dicom.quiet import silent_pydicom
from deid.rules import Rulebook
from tests.support.forge import CR_IMAGE, dicom_bytes
from tests.support.raw_dicom import explicit, head, identity, item

RULES = Rulebook(shipped_profile("basic")).for_class(CR_IMAGE)


def _collected(raw: bytes) -> Collected:
    with silent_pydicom:
        source = read(raw)
        return collect(source, RULES, top_values(source))


def test_names_are_found_in_every_group_and_at_every_depth() -> None:
    nested = explicit(0x00081140, "SQ", item(explicit(0x00081050, "PN", b"Kim^Cheolsu ")))
    found = _collected(head() + identity() + nested)
    assert "Kim^Cheolsu" in found.names
    assert "Hong^Gildong=洪^吉洞=홍^길동" in _collected(dicom_bytes()).names


def test_numbers_phrases_uids_and_days_are_sorted_by_what_they_are() -> None:
    found = _collected(dicom_bytes(StudyDescription="zyxwvutic round"))
    assert {"K10482213", "630412-1234567", "한빛누리의료원"} <= found.strong
    assert "1.2.410.200088.7.1.5" in found.uids and CR_IMAGE not in found.uids
    assert {"19630412", "20240315"} <= found.days
    assert "zyxwvutic round" in found.weak and "zyxwvutic round" not in found.strong


def test_preamble_meta_and_private_text_are_searched_for() -> None:
    assert {"Hong Gildong", "ER_K10482213"} <= _collected(dicom_bytes()).weak


def test_every_element_is_decided() -> None:
    with silent_pydicom:
        source = read(dicom_bytes())
        collect(source, RULES, {})
    decided = {e.tag: e.decision for e in source.elements}
    assert decided[0x00100010] is not None and decided[0x00100010].kind is Kind.PATIENT
    assert decided[0x00090010] is None  # a private creator stays or goes with its block


def test_a_weak_value_is_not_looked_for_where_it_may_stand() -> None:
    found = Collected()
    found.weak = {"t2_tse_zyxw", "ZYXWVUTIC LABEL"}
    found.kept = {"T2_TSE_ZYXW"}
    assert needles_of(found, set()) == {"ZYXWVUTIC LABEL"}


def test_a_day_on_which_another_date_fell_is_not_looked_for() -> None:
    found = Collected()
    found.days = {"20240315", "20240401", "19000101"}
    assert needles_of(found, {"20240401"}) == {"20240315"}


def test_our_own_words_are_not_looked_for() -> None:
    found = Collected()
    found.strong = {"REMOVED", "Anonymous"}
    found.uids = {"1.2.840.10008.1.5.7", "1.2.3.4"}
    assert needles_of(found, set()) == {"1.2.3.4"}


def test_the_attributes_needed_first_are_decoded() -> None:
    top = top_values(read(dicom_bytes(PatientID=" K1 ")))
    assert top[0x00100020] == "K1" and top[0x00080016] == CR_IMAGE
