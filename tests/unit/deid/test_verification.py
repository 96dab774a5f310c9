from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from deid.marking import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from deid.profile import Profile, shipped_profile
from deid.rules import Rulebook
from deid.verification import Fault, compile_needles, verify_output

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
RESEARCH = shipped_profile("research")
Edit = Callable[[Dataset], object]


def _object(profile: Profile = RESEARCH) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CT, "2.25.1"
    data.StudyInstanceUID, data.SeriesInstanceUID = "2.25.2", "2.25.3"
    data.Modality = "CT"
    data.PatientID = data.PatientName = "P0123456789"
    data.PatientIdentityRemoved = "YES"
    words = {"remove": "REMOVED", "modify": "MODIFIED", "keep": "UNMODIFIED"}
    data.LongitudinalTemporalInformationModified = words[profile.dates]
    data.DeidentificationMethodCodeSequence = Sequence([])
    for code, meaning in profile.method_codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", meaning
        data.DeidentificationMethodCodeSequence.append(item)
    data.Rows = data.Columns = 64
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.add(DataElement(0x7FE00010, "OW", bytes(range(256)) * 32))
    return data


def _write(data: Dataset, syntax: str = EXPLICIT, preamble: bytes = bytes(128)) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID(CT)
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    data.file_meta = meta
    data.preamble = preamble
    buffer = BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def _verify(
    raw: bytes, needles: tuple[str, ...] = (), profile: Profile = RESEARCH
) -> tuple[Fault, ...]:
    rules = Rulebook(profile).for_class(CT)
    return verify_output(raw, rules, profile, compile_needles(needles))


def _set(keyword: str, value: object) -> Edit:
    return lambda data: setattr(data, keyword, value)


def _add(tag: int, vr: str, value: object) -> Edit:
    return lambda data: data.add(DataElement(tag, vr, value))


def _nested(edit: Edit) -> Edit:
    def apply(data: Dataset) -> None:
        item = Dataset()
        edit(item)
        data.ReferencedStudySequence = Sequence([item])

    return apply


@pytest.mark.parametrize("name", ["basic", "research"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
def test_a_file_that_keeps_its_promises_has_no_fault(name: str, syntax: str) -> None:
    profile = shipped_profile(name)
    raw = _write(_object(profile), syntax)
    assert _verify(raw, ("홍길동", "Hong^Gildong", "20240315"), profile) == ()


@pytest.mark.parametrize(
    ("tag", "edit"),
    [
        pytest.param(0x00081048, _set("PhysiciansOfRecord", "DOE^J"), id="attribute to remove"),
        pytest.param(
            0x00081155, _nested(_set("ReferencedSOPInstanceUID", "1.2.3.4")), id="old UID"
        ),
        pytest.param(
            0x00081155, _set("ReferencedSOPInstanceUID", "2.25.9\\1.2.3"), id="one of two"
        ),
        pytest.param(0x04000561, _set("OriginalAttributesSequence", Sequence([])), id="originals"),
        pytest.param(0x00090010, _add(0x00090010, "LO", "ACME"), id="creator without a block"),
        pytest.param(0x00091001, _add(0x00091001, "LO", "x"), id="private without a creator"),
        pytest.param(0x60003000, _add(0x60003000, "OW", b"\0\0"), id="overlay"),
        pytest.param(0x00180008, _add(0x00180008, "LO", "x"), id="unknown attribute"),
        pytest.param(0x00101010, _set("PatientAge", "093Y"), id="age above the cap"),
        pytest.param(0x00080060, _add(0x00080060, "LO", "HONG GILDONG"), id="text for a term"),
        pytest.param(0x00200013, _add(0x00200013, "OB", b"12"), id="bytes for a number"),
        pytest.param(
            0x00080005, _set("SpecificCharacterSet", "ISO 2022 IR 149"), id="character set"
        ),
    ],
)
def test_what_the_rules_do_not_allow_is_a_fault(tag: int, edit: Edit) -> None:
    data = _object()
    edit(data)
    assert ("rule", tag) in {(fault.kind, fault.tag) for fault in _verify(_write(data))}


def test_text_is_utf_8_and_says_so() -> None:
    data = _object()
    data.SpecificCharacterSet, data.ImageType = "ISO_IR 192", ["ORIGINAL", "PRIMARY"]
    data.BodyPartExamined = "CHEST"
    data.StudyDescription = "흉부"
    assert _verify(_write(data)) == ()
    other = _write(data).replace(b"ISO_IR 192", b"ISO_IR 100")
    assert [(fault.kind, fault.tag) for fault in _verify(other)] == [("rule", 0x00080005)]
    data.SpecificCharacterSet = "ISO 2022 IR 149"
    korean = _write(data)
    assert {fault.tag for fault in _verify(korean)} == {0x00080005, 0x00081030}


@pytest.mark.parametrize(
    ("tag", "edit"),
    [
        (0x00120062, lambda d: d.pop("PatientIdentityRemoved")),
        (0x00120062, _set("PatientIdentityRemoved", "NO")),
        (0x00280303, _set("LongitudinalTemporalInformationModified", "UNMODIFIED")),
        (0x00120064, lambda d: d.DeidentificationMethodCodeSequence.pop()),
        (0x00280301, _set("BurnedInAnnotation", "YES")),
    ],
)
def test_missing_marking_is_a_fault(tag: int, edit: Edit) -> None:
    data = _object()
    edit(data)
    assert [(fault.kind, fault.tag) for fault in _verify(_write(data))] == [("marking", tag)]


def test_stale_preamble_and_meta_are_faults() -> None:
    data = _object()
    assert {f.kind for f in _verify(_write(data, preamble=b"II*\0" + bytes(124)))} == {"meta"}
    raw = _write(data)
    foreign = raw.replace(IMPLEMENTATION_UID.encode(), b"1.2" + IMPLEMENTATION_UID[3:].encode())
    assert [(f.kind, f.tag) for f in _verify(foreign)] == [("meta", 0x00020012)]
    other = raw.replace(b"2.25.1", b"2.25.7", 1)
    assert [(f.kind, f.tag) for f in _verify(other)] == [("meta", 0x00020003)]
    data = _object()
    _write(data)
    data.file_meta.SourceApplicationEntityTitle = "HOSPITAL"
    buffer = BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    assert [(f.kind, f.tag) for f in _verify(buffer.getvalue())] == [("meta", 0x00020016)]


def test_a_broken_file_is_a_fault_and_no_error() -> None:
    raw = _write(_object())
    for broken in (b"", raw[:100], raw[:-1], raw + b"\0\0", raw.replace(b"OW", b"ZZ")):
        assert [fault.kind for fault in _verify(broken)] == ["unreadable"]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("text", ["Hong^Gildong", "홍길동", "20240315", "Kim"])
def test_a_removed_value_is_traced_to_its_element(text: str, syntax: str) -> None:
    data = _object()
    data.SpecificCharacterSet = "ISO_IR 192"
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "1", "99X"
    item.CodeMeaning = f"x {text.lower()} y"
    data.AnatomicRegionSequence = Sequence([item])
    faults = _verify(_write(data, syntax), ("Not^There", text))
    assert [(fault.kind, fault.tag) for fault in faults] == [("identifier", 0x00080104)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "cp949"])
def test_a_removed_value_among_the_pixels_is_found(encoding: str) -> None:
    data = _object()
    pixels = bytearray(data.PixelData)
    name = "남궁길동선".encode(encoding)
    pixels[1001 : 1001 + len(name)] = name
    data.PixelData = bytes(pixels)
    faults = _verify(_write(data), ("남궁길동선",))
    assert [(fault.kind, fault.tag) for fault in faults] == [("identifier", 0x7FE00010)]


def test_a_time_or_a_count_is_not_a_short_number() -> None:
    data = _object()
    data.ContentTime, data.InstanceNumber = "101530", "1234567"
    assert _verify(_write(data), ("101530", "1234567")) == ()
    data.StudyDescription = "case 1234567"
    assert [f.tag for f in _verify(_write(data), ("101530", "1234567"))] == [0x00081030]


def test_a_measured_value_is_no_identifier() -> None:
    data = _object()
    data.SliceThickness, data.SliceLocation = "0.000000", "12345678"
    assert [f.tag for f in _verify(_write(data), ("0.000000", "12345678"))] == [0x00201041]


def test_a_fault_quotes_nothing() -> None:
    data = _object()
    data.StudyDescription = "Hong^Gildong"
    faults = _verify(_write(data), ("Hong^Gildong",))
    assert faults
    assert "Hong" not in repr(faults)
