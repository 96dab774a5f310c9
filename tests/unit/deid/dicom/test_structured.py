from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from deid import DeidReport, Pseudonymiser, shipped_profile
from deid.actions import Kind
from deid.dicom import DicomDeidentifier
from deid.dicom.container import Writer
from deid.dicom.elements import EXPLICIT_LITTLE, Element
from deid.dicom.structured import Mode, content_stand_in, mode_of_replaced, treat_in
from tests.support.forge import SECRET, dicom_bytes

SR = "1.2.840.10008.5.1.4.1.1.88.11"


def _code(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _content(kind: str, **values: Any) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", kind
    item.ConceptNameCodeSequence = [_code("121071", "Finding")]
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _report() -> bytes:
    measured = Dataset()
    measured.NumericValue = "12.5"
    measured.MeasurementUnitsCodeSequence = [_code("mm", "millimeter", "UCUM")]
    inner = _content("TEXT", TextValue="No fracture. Hong Gildong 010-2345-6789")
    items = [
        _content("CONTAINER", ContinuityOfContent="SEPARATE", ContentSequence=[inner]),
        _content("PNAME", PersonName="Hong^Gildong"),
        _content("DATE", Date="20240315"),
        _content("UIDREF", UID="1.2.410.200088.7.1.5.5"),
        _content("NUM", MeasuredValueSequence=[measured]),
        _content("CODE", ConceptCodeSequence=[_code("T-28000", "Lung", "SRT")]),
    ]
    return dicom_bytes(
        remove=("PixelData", "Rows", "Columns"), SOPClassUID=SR, Modality="SR",
        ValueType="CONTAINER", ContentSequence=items,
    )  # fmt: skip


def _clean(profile: str) -> tuple[bytes, Dataset]:
    names = Pseudonymiser(SECRET, "cxr")
    image = DicomDeidentifier(shipped_profile(profile), names, DeidReport()).clean(_report())
    return image.raw, image.dataset


def test_each_content_item_is_treated_by_its_type() -> None:
    raw, clean = _clean("research")
    container, name, day, reference, number, code = clean.ContentSequence
    assert "fracture" in container.ContentSequence[0].TextValue
    assert b"Gildong" not in raw and b"2345" not in raw
    assert name.PersonName == "REMOVED"
    assert day.Date == clean.StudyDate != "20240315"
    assert clean.SOPInstanceUID == reference.UID
    assert number.MeasuredValueSequence[0].NumericValue == 12.5
    assert code.ConceptCodeSequence[0].CodeMeaning == "Lung"


def test_the_basic_profile_replaces_the_content_as_a_whole() -> None:
    raw, clean = _clean("basic")
    assert len(clean.ContentSequence) == 1 and b"fracture" not in raw
    assert clean.ContentSequence[0].TextValue == "REMOVED"
    assert clean.ContentSequence[0].ConceptNameCodeSequence[0].CodeMeaning == "Finding"


def test_no_treatment_becomes_milder_inside() -> None:
    text, name = (
        Element(tag, vr, 0, 0, b"") for tag, vr in ((0x0040A160, "UT"), (0x0040A123, "PN"))
    )
    for mode in (Mode.CLEAN, Mode.CONTENT, Mode.DUMMY):
        for kind in (Kind.REMOVE, Kind.EMPTY, Kind.DUMMY, Kind.PATIENT, Kind.UID):
            assert treat_in(mode, kind, text) is kind
        assert treat_in(mode, Kind.KEEP, name) is Kind.DUMMY
    assert treat_in(Mode.CLEAN, Kind.KEEP, text) is Kind.CLEAN_TEXT
    assert treat_in(Mode.DUMMY, Kind.KEEP, text) is Kind.DUMMY


def test_parts_of_a_code_are_only_cleaned_of_known_identifiers() -> None:
    meaning = Element(0x00080104, "LO", 0, 0, b"")
    assert treat_in(Mode.CONTENT, Kind.KEEP, meaning) is Kind.TECHNICAL
    assert treat_in(Mode.DUMMY, Kind.TECHNICAL, meaning) is Kind.DUMMY


def test_an_annotation_that_is_replaced_keeps_its_codes_but_staff_s_go() -> None:
    meaning, text = (
        Element(tag, vr, 0, 0, b"") for tag, vr in ((0x00080104, "LO"), (0x0040A160, "UT"))
    )
    hollow, staff = mode_of_replaced(0x0040B020), mode_of_replaced(0x00401101)
    assert treat_in(hollow, Kind.KEEP, meaning) is Kind.TECHNICAL
    assert treat_in(hollow, Kind.CLEAN_TEXT, text) is Kind.DUMMY
    assert treat_in(staff, Kind.KEEP, meaning) is Kind.DUMMY


def test_only_a_report_s_content_has_a_stand_in_of_its_own() -> None:
    assert content_stand_in(0x0040A073, Writer(EXPLICIT_LITTLE)) is None
