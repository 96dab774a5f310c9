from __future__ import annotations

import logging
from dataclasses import replace
from io import BytesIO
from types import MappingProxyType

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from deid import DeidRefusal, DeidReport, Pseudonymiser, shipped_profile
from deid.actions import DICOM_ACTIONS, Kind
from deid.dicom import DicomDeidentifier, pixel_plane, removed_values
from deid.residual import find_identifiers
from schemas.errors import ErrorCode
from tests.support.forge import PLANTED, SECRET, dicom_bytes

PROFILE = shipped_profile("dicom-image")


def _cleaner(report: DeidReport | None = None) -> DicomDeidentifier:
    return DicomDeidentifier(PROFILE, Pseudonymiser(SECRET, "cxr"), report or DeidReport())


def _refused(raw: bytes) -> ErrorCode:
    report = DeidReport()
    with pytest.raises(DeidRefusal) as caught:
        _cleaner(report).clean(raw)
    assert report.refused == {caught.value.code: 1} and report.records == 0
    assert not any(planted in str(caught.value) for planted in PLANTED)
    return caught.value.code


@pytest.mark.parametrize("charset", ["ISO_IR 192", ["", "ISO 2022 IR 149"]])
def test_nothing_planted_is_left_in_the_written_file(charset: str | list[str]) -> None:
    raw = dicom_bytes(SpecificCharacterSet=charset)
    assert len({hit.needle for hit in find_identifiers(raw, PLANTED)}) > 8  # positive control
    image = _cleaner().clean(raw)
    assert find_identifiers(image.raw, PLANTED) == ()


def test_the_output_is_valid_marked_and_fresh() -> None:
    image = _cleaner().clean(dicom_bytes())
    clean = pydicom.dcmread(BytesIO(image.raw))
    assert clean.preamble == b"\x00" * 128
    assert clean.file_meta.MediaStorageSOPInstanceUID == clean.SOPInstanceUID == image.uid
    assert "SourceApplicationEntityTitle" not in clean.file_meta
    assert clean.PatientIdentityRemoved == "YES"
    assert clean.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [i.CodeValue for i in clean.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    assert clean.PatientID == clean.PatientName == image.patient
    assert clean.PatientBirthDate == "" and clean.PixelData == bytes(range(16))


def test_only_listed_attributes_remain() -> None:
    image = _cleaner().clean(dicom_bytes(PatientWeight="61", SmokingStatus="NO"))
    marks = {0x00080005, 0x00120062, 0x00120064, 0x00280303}
    assert {int(e.tag) for e in image.dataset} <= set(PROFILE.dicom) | marks


def test_an_unlisted_name_hidden_in_a_kept_attribute_is_refused() -> None:
    assert _refused(dicom_bytes(BodyPartExamined="HONG GILDONG", PatientName="HONG^GILDONG")) == (
        ErrorCode.IDENTIFIER_LEFT
    )


def test_a_number_hidden_in_a_kept_attribute_is_refused() -> None:
    assert _refused(dicom_bytes(PatientID="10482213", InstanceNumber="10482213")) == (
        ErrorCode.IDENTIFIER_LEFT
    )


def test_a_removed_description_may_share_a_defined_term_with_a_kept_attribute() -> None:
    image = _cleaner().clean(dicom_bytes(SeriesDescription="ORIGINAL"))
    assert image.dataset.ImageType == ["ORIGINAL", "PRIMARY"]


def test_the_shipped_list_keeps_no_attribute_that_can_hold_free_text() -> None:
    kept = [tag for tag, action in PROFILE.dicom.items() if action.kind is Kind.KEEP]
    kinds = {dictionary_VR(tag) for tag in kept} - {"CS", "IS", "DS", "US", "OB or OW"}
    assert kinds == {"UI"}  # SOP Class UID, which is on the profile's own list


def test_a_listed_sequence_is_walked_by_the_same_list() -> None:
    actions = {**PROFILE.dicom, 0x00400275: DICOM_ACTIONS[Kind.KEEP]}
    profile = replace(PROFILE, dicom=MappingProxyType(actions))
    item = Dataset()
    item.PatientComments, item.StudyInstanceUID = "홍길동 메모", "1.2.410.200088.7.1.5"
    names = Pseudonymiser(SECRET, "cxr")
    image = DicomDeidentifier(profile, names, DeidReport()).clean(
        dicom_bytes(RequestAttributesSequence=[item])
    )
    kept = image.dataset.RequestAttributesSequence[0]
    assert "PatientComments" not in kept
    assert kept.StudyInstanceUID == names.uid("1.2.410.200088.7.1.5")


def test_references_stay_consistent_and_a_repeat_gives_the_same_bytes() -> None:
    first, second = _cleaner().clean(dicom_bytes()), _cleaner().clean(dicom_bytes())
    assert first.raw == second.raw
    other = _cleaner().clean(dicom_bytes(SOPInstanceUID="1.2.410.200088.7.1.5.6"))
    assert other.uid != first.uid
    assert other.dataset.StudyInstanceUID == first.dataset.StudyInstanceUID


def test_a_malformed_date_does_not_pass() -> None:
    with_name = _cleaner().clean(dicom_bytes(StudyDate=""))
    assert with_name.dataset.StudyDate == ""


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ErrorCode.FILE_NOT_DICOM),
        (b"PK\x03\x04" * 100, ErrorCode.FILE_NOT_DICOM),
        (dicom_bytes(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"), ErrorCode.DICOM_CLASS_UNKNOWN),
        (dicom_bytes(PatientID=""), ErrorCode.PATIENT_MISSING),
        (dicom_bytes(remove=("PatientID",)), ErrorCode.PATIENT_MISSING),
        (dicom_bytes(BurnedInAnnotation="YES"), ErrorCode.DICOM_BURNED_IN),
        (dicom_bytes(remove=("PixelData",)), ErrorCode.DICOM_PIXELS_UNSUPPORTED),
        (
            dicom_bytes().replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.4\x00"),
            ErrorCode.DICOM_PIXELS_UNSUPPORTED,
        ),
    ],
    ids=[
        "empty",
        "zip",
        "class",
        "no-patient",
        "absent-patient",
        "burned-in",
        "no-pixels",
        "compressed",
    ],
)
def test_what_cannot_be_used_is_refused(raw: bytes, code: ErrorCode) -> None:
    assert _refused(raw) is code


def test_a_deflated_file_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patient's CD may hold half a megabyte that inflates to half a gigabyte."""
    dataset = pydicom.dcmread(BytesIO(dicom_bytes()))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = BytesIO()
    dataset.save_as(out)

    def inflate(*_arguments: object) -> bytes:
        pytest.fail("the file was inflated")

    monkeypatch.setattr(pydicom.filereader.zlib, "decompress", inflate)
    assert _refused(out.getvalue()) is ErrorCode.DICOM_PIXELS_UNSUPPORTED


def test_every_truncation_ends_in_a_clean_image_or_a_code() -> None:
    raw = dicom_bytes()
    for end in range(0, len(raw), 7):
        try:
            image = _cleaner().clean(raw[:end])
        except DeidRefusal:
            continue
        assert find_identifiers(image.raw, PLANTED) == ()


def test_damaged_bytes_end_in_a_clean_image_or_a_code() -> None:
    raw = dicom_bytes()
    clean = refused = 0
    for at in range(128, len(raw), 5):
        broken = raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :]
        try:
            pixel_plane(_cleaner().clean(broken), 4, 4)
            clean += 1
        except DeidRefusal:
            refused += 1
    assert clean > 0
    assert refused > 0


def test_pydicom_neither_logs_nor_warns_a_value(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    raw = dicom_bytes().replace(b"19630412", b"HongGild").replace(b"CHEST ", b"chest!")
    with caplog.at_level(logging.DEBUG):
        _cleaner().clean(raw)
    assert caplog.records == [] and len(recwarn) == 0


def test_pixels_are_given_as_one_plane() -> None:
    image = _cleaner().clean(dicom_bytes())
    assert pixel_plane(image, 4, 4) == bytes(range(16))
    odd = _cleaner().clean(dicom_bytes(Rows=3, Columns=5, PixelData=bytes(16)))
    assert pixel_plane(odd, 3, 5) == bytes(15)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Rows": 2, "Columns": 8}, ErrorCode.DICOM_SHAPE),
        ({"PhotometricInterpretation": "MONOCHROME1"}, ErrorCode.DICOM_PIXELS_UNSUPPORTED),
        ({"BitsStored": 7}, ErrorCode.DICOM_PIXELS_UNSUPPORTED),
        ({"NumberOfFrames": "2"}, ErrorCode.DICOM_PIXELS_UNSUPPORTED),
        ({"NumberOfFrames": ["1", "1"]}, ErrorCode.DICOM_PIXELS_UNSUPPORTED),
        ({"PixelData": bytes(10)}, ErrorCode.DICOM_PIXELS_UNSUPPORTED),
    ],
    ids=["shape", "inverted", "bits", "frames", "frames-twice", "short"],
)
def test_other_pixels_are_refused(changes: dict[str, object], code: ErrorCode) -> None:
    image = _cleaner().clean(dicom_bytes(**changes))
    with pytest.raises(DeidRefusal) as caught:
        pixel_plane(image, 4, 4)
    assert caught.value.code is code


def test_removed_values_lists_what_must_be_gone() -> None:
    values = removed_values(PROFILE, dicom_bytes())
    assert {"630412-1234567", "K10482213", "010-2345-6789", "홍 길동"} <= values
    assert removed_values(PROFILE, b"no dicom") == set()
