from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset

from deid import DeidRefusal, DeidReport, Pseudonymiser, shipped_profile
from deid.dicom import DicomDeidentifier, removed_values
from deid.dicom.clean import is_storage
from deid.profile import parse_profile
from deid.residual import find_identifiers
from schemas.errors import ErrorCode
from tests.support.forge import PLANTED, SECRET, dicom_bytes
from tests.support.raw_dicom import CT, explicit, head, identity

BASIC, RESEARCH = shipped_profile("basic"), shipped_profile("research")


def _cleaner(
    report: DeidReport | None = None, profile: Any = RESEARCH, **options: Any
) -> DicomDeidentifier:
    names = Pseudonymiser(SECRET, "cxr")
    return DicomDeidentifier(profile, names, report or DeidReport(), **options)


def _refused(raw: bytes, **options: Any) -> ErrorCode:
    report = DeidReport()
    with pytest.raises(DeidRefusal) as caught:
        _cleaner(report, **options).clean(raw)
    assert report.refused == {caught.value.code: 1} and report.records == 0
    assert not any(planted in str(caught.value) for planted in PLANTED)
    return caught.value.code


def _wheel(name: str) -> bytes:
    path = get_testdata_file(name, download=False) or get_charset_files(name)[0]
    return Path(str(path)).read_bytes()


@pytest.mark.parametrize("profile", [BASIC, RESEARCH], ids=["basic", "research"])
@pytest.mark.parametrize("charset", ["ISO_IR 192", ["", "ISO 2022 IR 149"]])
def test_nothing_planted_is_left_in_the_written_file(charset: Any, profile: Any) -> None:
    raw = dicom_bytes(SpecificCharacterSet=charset)
    assert len({hit.needle for hit in find_identifiers(raw, PLANTED)}) > 8  # positive control
    image = _cleaner(profile=profile).clean(raw)
    assert find_identifiers(image.raw, PLANTED) == ()


def test_the_output_is_valid_marked_and_fresh() -> None:
    image = _cleaner().clean(dicom_bytes())
    clean = pydicom.dcmread(BytesIO(image.raw))
    assert clean.preamble == b"\x00" * 128
    assert clean.file_meta.MediaStorageSOPInstanceUID == clean.SOPInstanceUID == image.uid
    assert "SourceApplicationEntityTitle" not in clean.file_meta
    assert clean.PatientIdentityRemoved == "YES"
    assert clean.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [item.CodeValue for item in clean.DeidentificationMethodCodeSequence]
    claimed = [
        code for code, _ in RESEARCH.method_codes if code != "113101"
    ]  # 4 x 4: not looked at
    assert codes == claimed and codes[0] == "113100"
    assert clean.PatientID == clean.PatientName == image.patient
    assert clean.PatientBirthDate == "" and clean.PixelData == bytes(range(16))
    assert (image.study, image.modality) == (clean.StudyInstanceUID, "CR")


def test_dates_move_by_the_patient_s_days_or_go() -> None:
    moved = _cleaner().clean(dicom_bytes(SeriesDate="20240325")).dataset
    days = pydicom.valuerep.DA(moved.SeriesDate) - pydicom.valuerep.DA(moved.StudyDate)
    assert days.days == 10 and moved.StudyDate != "20240315"
    gone = _cleaner(profile=BASIC).clean(dicom_bytes()).dataset
    assert not gone.StudyDate and gone.LongitudinalTemporalInformationModified == "REMOVED"


def test_a_name_hidden_in_a_kept_attribute_is_taken_out() -> None:
    raw = dicom_bytes(BodyPartExamined="HONG GILDONG", PatientName="HONG^GILDONG")
    image = _cleaner().clean(raw)
    assert b"GILDONG" not in image.raw and image.dataset.Modality == "CR"


def test_a_number_hidden_in_a_kept_attribute_is_taken_out() -> None:
    image = _cleaner().clean(dicom_bytes(PatientID="10482213", InstanceNumber="10482213"))
    assert b"10482213" not in image.raw


def test_a_removed_description_may_share_a_defined_term_with_a_kept_attribute() -> None:
    image = _cleaner(profile=BASIC).clean(dicom_bytes(SeriesDescription="ORIGINAL"))
    assert image.dataset.ImageType == ["ORIGINAL", "PRIMARY"]


def test_a_clinical_description_stays_without_what_identifies() -> None:
    raw = dicom_bytes(StudyDescription="CT CHEST Hong Gildong 630412-1234567")
    text = _cleaner().clean(raw).dataset.StudyDescription
    assert "CHEST" in text and "Gildong" not in text and "630412" not in text
    assert "StudyDescription" not in _cleaner(profile=BASIC).clean(raw).dataset


def test_hangul_survives_where_it_may_stay() -> None:
    raw = dicom_bytes(SpecificCharacterSet=["", "ISO 2022 IR 149"], StudyDescription="흉부 홍길동")
    clean = _cleaner().clean(raw).dataset
    assert clean.SpecificCharacterSet == "ISO_IR 192"
    assert "흉부" in clean.StudyDescription and "홍길동" not in clean.StudyDescription


def test_references_stay_consistent_and_a_repeat_gives_the_same_bytes() -> None:
    first, second = _cleaner().clean(dicom_bytes()), _cleaner().clean(dicom_bytes())
    assert first.raw == second.raw
    other = _cleaner().clean(dicom_bytes(SOPInstanceUID="1.2.410.200088.7.1.5.6"))
    assert other.uid != first.uid
    assert other.dataset.StudyInstanceUID == first.dataset.StudyInstanceUID


def test_two_hospitals_share_no_pseudonym() -> None:
    mine = _cleaner().clean(dicom_bytes())
    theirs = DicomDeidentifier(RESEARCH, Pseudonymiser(bytes(32), "cxr"), DeidReport())
    other = theirs.clean(dicom_bytes())
    assert not {mine.patient, mine.record, mine.uid, mine.study} & {
        other.patient, other.record, other.uid, other.study,
    }  # fmt: skip


@pytest.mark.parametrize("remove", [True, False], ids=["absent", "empty"])
def test_without_a_patient_number_the_study_stands_for_the_patient(remove: bool) -> None:
    raw = dicom_bytes(remove=("PatientID",)) if remove else dicom_bytes(PatientID="")
    other = dicom_bytes(PatientID="", SOPInstanceUID="1.2.410.200088.7.1.5.6")
    image = _cleaner().clean(raw)
    assert "patient-unstated" in image.notes and image.dataset.PatientID == image.patient
    assert (
        _cleaner().clean(other).patient == image.patient != _cleaner().clean(dicom_bytes()).patient
    )
    assert _refused(raw, require_patient=True) is ErrorCode.PATIENT_MISSING


def test_an_object_without_study_and_instance_still_gets_names() -> None:
    raw = (
        head() + explicit(0x00080016, "UI", CT.encode() + b"\0") + explicit(0x00080060, "CS", b"CT")
    )
    image = _cleaner().clean(raw)
    assert image.study.startswith("2.25.") and image.uid.startswith("2.25.")
    assert image.uid == _cleaner().clean(raw).uid


def test_an_age_over_89_is_capped_and_noted() -> None:
    image = _cleaner().clean(dicom_bytes(PatientAge="093Y"))
    assert image.dataset.PatientAge == "090Y" and "age-capped" in image.notes
    assert _cleaner().clean(dicom_bytes(PatientAge="057Y")).dataset.PatientAge == "057Y"


def test_an_earlier_method_stays_by_its_code_alone() -> None:
    method, foreign = Dataset(), Dataset()
    method.CodeValue, method.CodingSchemeDesignator = "113112", "DCM"
    method.CodeMeaning = "by Hong Gildong"
    foreign.CodeValue, foreign.CodingSchemeDesignator = "HONG", "99HANBIT"
    raw = dicom_bytes(DeidentificationMethodCodeSequence=[method, foreign])
    items = _cleaner().clean(raw).dataset.DeidentificationMethodCodeSequence
    assert [item.CodeValue for item in items][-1] == "113112"
    assert items[-1].CodeMeaning == "Retain Institution Identity Option"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ErrorCode.FILE_EMPTY),
        (b"PK\x03\x04" * 100, ErrorCode.FILE_NOT_DICOM),
        (head() + explicit(0x00100020, "LO", b"K1"), ErrorCode.DICOM_CLASS_MISSING),
        (head() + identity("1.3.12.2.1107.5.9.1"), ErrorCode.DICOM_CLASS_PRIVATE),
        (head() + identity("1.2.840.10008.1.3.10"), ErrorCode.DICOM_DIRECTORY),
        (head() + identity("1.2.840.10008.1.1"), ErrorCode.DICOM_CLASS_UNKNOWN),
        (head("1.2.840.10008.1.2.4.111") + identity(), ErrorCode.DICOM_SYNTAX_UNKNOWN),
        (dicom_bytes()[:590], ErrorCode.DICOM_UNREADABLE),
        (
            dicom_bytes().replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.6\x00"),
            ErrorCode.DICOM_SYNTAX_UNKNOWN,
        ),
    ],
    ids=["empty", "zip", "no-class", "private", "directory", "verification", "syntax", "cut", "6"],
)
def test_what_cannot_be_used_is_refused(raw: bytes, code: ErrorCode) -> None:
    assert _refused(raw) is code


def test_a_declared_burned_in_annotation_is_refused_where_pixels_are_not_cleaned() -> None:
    raw = dicom_bytes(BurnedInAnnotation="YES")
    assert _refused(raw, profile=BASIC) is ErrorCode.DICOM_BURNED_IN


def test_a_class_of_a_later_edition_is_treated_most_strictly() -> None:
    assert is_storage("1.2.840.10008.5.1.4.1.1.999.9")
    assert not is_storage("1.2.840.10008.1.20.1")  # Storage Commitment
    image = _cleaner().clean(head() + identity("1.2.840.10008.5.1.4.1.1.999.9"))
    assert image.dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.999.9"


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm",
        "JPEG2000.dcm", "rtplan.dcm", "rtdose.dcm", "test-SR.dcm", "liver_1frame.dcm",
        "waveform_ecg.dcm", "chrH31.dcm", "chrI2.dcm", "SC_rgb_rle.dcm", "UN_sequence.dcm",
        "priv_SQ.dcm", "SC_rgb_jpeg_gdcm.dcm",
    ],
)  # fmt: skip
def test_real_files_of_every_kind_are_released_in_their_own_syntax(name: str) -> None:
    raw = _wheel(name)
    before = pydicom.dcmread(BytesIO(raw))
    image = _cleaner(profile=BASIC, accept_faces="test").clean(raw)
    stated = before.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2")
    assert image.dataset.file_meta.TransferSyntaxUID == stated
    stated = before.file_meta.get("MediaStorageSOPClassUID")
    assert image.dataset.SOPClassUID == before.get("SOPClassUID", stated)
    assert image.dataset.get("Modality") == before.get("Modality")


def test_heads_are_held_back_unless_accepted_in_writing() -> None:
    raw = dicom_bytes(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR", BodyPartExamined="BRAIN",
        Rows=64, Columns=64, PixelData=bytes(4096),
    )  # fmt: skip
    assert _refused(raw) in (ErrorCode.DICOM_FACE_HEAD, ErrorCode.DICOM_FACE_UNSTATED)
    assert "face-accepted" in _cleaner(accept_faces="phantom").clean(raw).notes


def test_the_report_counts_and_quotes_nothing() -> None:
    report = DeidReport()
    _cleaner(report).clean(dicom_bytes())
    shown = str(report.as_mapping())
    assert report.records == 1 and report.actions["patient"] >= 2 and report.actions["remove"] > 3
    assert not any(planted in shown for planted in PLANTED)


def test_an_object_shows_no_bytes_of_its_file() -> None:
    assert "raw" not in repr(_cleaner().clean(dicom_bytes()))


def test_every_truncation_ends_in_a_clean_object_or_a_code() -> None:
    raw = dicom_bytes()
    for end in range(0, len(raw), 7):
        try:
            image = _cleaner().clean(raw[:end])
        except DeidRefusal:
            continue
        assert find_identifiers(image.raw, PLANTED) == ()


def test_damaged_bytes_end_in_a_clean_object_or_a_code() -> None:
    raw = dicom_bytes()
    cleaner = _cleaner()
    for at in range(140, len(raw), 11):
        for value in (0x00, 0xFF):
            damaged = raw[:at] + bytes([value]) + raw[at + 1 :]
            try:
                image = cleaner.clean(damaged)
            except DeidRefusal:
                continue
            assert find_identifiers(image.raw, ("K10482213", "630412-1234567")) == ()


def test_pydicom_neither_logs_nor_warns_a_value(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    raw = dicom_bytes().replace(b"19630412", b"HongGild").replace(b"CHEST ", b"chest!")
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        _cleaner().clean(raw)
    assert caplog.records == [] and len(recwarn) == 0


def test_removed_values_lists_what_must_be_gone() -> None:
    values = removed_values(BASIC, dicom_bytes())
    assert {"630412-1234567", "K10482213", "1.2.410.200088.7.1.5.5"} <= values
    assert any("길동" in value for value in values)
    assert removed_values(BASIC, b"no dicom") == frozenset()


def test_a_kept_uid_may_hold_a_removed_day() -> None:
    profile = parse_profile(b'version = 2\nname = "t"\n[dicom]\noptions = ["retain-uids"]\n')
    source = pydicom.dcmread(BytesIO(_wheel("JPEG2000.dcm")))
    source.StudyDate = "20040826"  # as in its UIDs
    written = BytesIO()
    source.save_as(written)
    cleaner = DicomDeidentifier(profile, Pseudonymiser(SECRET), DeidReport())
    clean = cleaner.clean(written.getvalue()).dataset
    assert source.StudyDate in source.SOPInstanceUID
    assert clean.SOPInstanceUID == clean.file_meta.MediaStorageSOPInstanceUID
    assert clean.SOPInstanceUID == source.SOPInstanceUID
    assert clean.StudyInstanceUID == source.StudyInstanceUID
    assert not clean.StudyDate


@pytest.mark.parametrize(
    "text",
    ["born 1980-05-15", "15.05.1980", "5/15/1980", "v2 800515", "1980년 5월 15일", "D19800515"],
)
def test_a_date_of_birth_leaves_technical_text_however_it_is_written(text: str) -> None:
    raw = dicom_bytes(PatientBirthDate="19800515", SoftwareVersions=text, SliceThickness="19800515")
    image = _cleaner().clean(raw)
    for form in ("1980", "800515", "5월"):
        assert form.encode() not in image.raw
