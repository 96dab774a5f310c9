from __future__ import annotations

import struct
from typing import Any

import pytest
from pydicom.dataset import Dataset

from deid import DeidReport, Pseudonymiser, shipped_profile
from deid.dicom import CleanObject, DicomDeidentifier
from tests.support.forge import SECRET, dicom_bytes
from tests.support.raw_dicom import EXPLICIT, explicit, head, identity, implicit, item

BASIC, RESEARCH = shipped_profile("basic"), shipped_profile("research")
NAMES = Pseudonymiser(SECRET, "cxr")


def _clean(raw: bytes, profile: Any = RESEARCH) -> CleanObject:
    return DicomDeidentifier(profile, NAMES, DeidReport()).clean(raw)


def _with(*elements: bytes, syntax: str = EXPLICIT, charset: bytes = b"ISO_IR 192") -> bytes:
    body = explicit(0x00080005, "CS", charset + b" " * (len(charset) % 2)) + identity()
    return head(syntax) + body + b"".join(elements)


def test_a_standard_attribute_coded_as_unknown_follows_its_own_rule() -> None:
    raw = _with(
        explicit(0x00080060, "UN", b"MR"),
        explicit(0x00101020, "UN", b"1.7 "),
        explicit(0x00101000, "UN", b"HONG "),
    )
    clean = _clean(raw).dataset
    assert clean["Modality"].VR == "CS" and clean.Modality == "MR"
    assert clean.PatientSize == 1.7 and b"HONG" not in _clean(raw).raw


def test_a_sequence_coded_as_unknown_is_walked() -> None:
    content = implicit(0x00080060, b"CT") + implicit(0x00100010, b"Hong^Gildong")
    raw = _with(explicit(0x00081140, "UN", item(content)))
    image = _clean(raw)
    assert b"Gildong" not in image.raw
    assert image.dataset.ReferencedImageSequence[0].Modality == "CT"


def test_an_unknown_value_that_is_no_sequence_where_one_is_due_goes() -> None:
    image = _clean(_with(explicit(0x00081140, "UN", b"Hong Gildong")))
    assert "ReferencedImageSequence" not in image.dataset and b"Hong" not in image.raw


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00280010, "LO", b"Hong Gildong"),
        (0x00080060, "SQ", item(explicit(0x00100010, "PN", b"Hong^Gildong"))),
        (0x00081140, "LO", b"Hong Gildong"),
        (0x00280030, "DS", b"Hong Gildong"),
        (0x00180050, "DS", b"Hong Gildong"),
        (0x00280010, "US", b"Hong Gildong!"),
    ],
    ids=["number-as-text", "code-as-sequence", "sequence-as-text", "ds", "ds2", "odd-length"],
)
def test_a_value_of_another_vr_than_its_tag_s_does_not_pass(
    tag: int, vr: str, value: bytes
) -> None:
    assert b"Gildong" not in _clean(_with(explicit(tag, vr, value))).raw


def test_unknown_and_private_elements_go_at_any_depth() -> None:
    private = explicit(0x00090010, "LO", b"ZETA") + explicit(0x00091001, "LO", b"Room 14B")
    unknown = explicit(0x0018FFF2, "LO", b"Room 14B")
    raw = _with(private, explicit(0x00081140, "SQ", item(private + unknown)), unknown)
    image = _clean(raw)
    assert b"Room" not in image.raw and b"ZETA" not in image.raw
    assert len(image.dataset.ReferencedImageSequence) == 1


def test_a_safe_private_number_stays_with_its_creator() -> None:
    block = explicit(0x00190010, "LO", b"SIEMENS MR HEADER ")
    block += explicit(0x00191008, "LO", b"Hong Gildong") + explicit(0x0019100C, "IS", b"1000")
    image = _clean(_with(block))
    assert image.dataset[0x0019, 0x100C].value == 1000
    assert image.dataset[0x0019, 0x0010].value == "SIEMENS MR HEADER"
    assert b"Gildong" not in image.raw
    assert (0x0019, 0x100C) not in _clean(_with(block), BASIC).dataset


def test_nested_character_sets_are_decoded_and_said_once() -> None:
    words = "흉부".encode("euc_kr")
    inner = explicit(0x00080005, "CS", b"\\ISO 2022 IR 149 ") + explicit(
        0x00081030, "LO", b"\x1b$)C" + words
    )
    raw = _with(explicit(0x00081140, "SQ", item(inner)), charset=b"ISO_IR 100")
    clean = _clean(raw).dataset
    assert clean.SpecificCharacterSet == "ISO_IR 192"
    assert "SpecificCharacterSet" not in clean.ReferencedImageSequence[0]


def test_uids_are_replaced_the_same_wherever_they_stand() -> None:
    ref = Dataset()
    ref.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ref.ReferencedSOPInstanceUID = "1.2.410.200088.7.1.5.5"
    image = _clean(dicom_bytes(SourceImageSequence=[ref]))
    item_ = image.dataset.SourceImageSequence[0]
    assert item_.ReferencedSOPInstanceUID == image.uid == NAMES.uid("1.2.410.200088.7.1.5.5")
    assert item_.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"


def test_another_patient_s_number_inside_gets_that_patient_s_pseudonym() -> None:
    other = Dataset()
    other.PatientID = "K999"
    image = _clean(dicom_bytes(ReferencedStudySequence=[other]))
    nested = image.dataset.get("ReferencedStudySequence")
    assert not nested or nested[0].PatientID == NAMES.patient("K999")


def test_original_attributes_overlays_and_icons_go() -> None:
    inner = Dataset()
    inner.PatientName = "Hong^Gildong"
    image = _clean(dicom_bytes(OriginalAttributesSequence=[inner], IconImageSequence=[Dataset()]))
    assert "OriginalAttributesSequence" not in image.dataset
    assert "IconImageSequence" not in image.dataset


def test_an_embedded_document_is_replaced_by_one_of_its_kind() -> None:
    raw = (
        head()
        + identity("1.2.840.10008.5.1.4.1.1.104.1")
        + b"".join(
            (
                explicit(0x00420010, "ST", b"Report of Hong Gildong"),
                explicit(0x00420011, "OB", b"%PDF-1.4 Hong Gildong 630412-1234567 "),
                explicit(0x00420012, "LO", b"application/pdf "),
                explicit(0x00420015, "UL", struct.pack("<L", 37)),
            )
        )
    )
    clean = _clean(raw).dataset
    assert clean.EncapsulatedDocument.startswith(b"%PDF") and b"Gildong" not in _clean(raw).raw
    assert clean.EncapsulatedDocumentLength == len(clean.EncapsulatedDocument)


def test_big_endian_numbers_are_written_in_their_order() -> None:
    raw = head("1.2.840.10008.1.2.2") + identity(order=">")
    raw += explicit(0x00280010, "US", struct.pack(">H", 3), order=">")
    raw += explicit(0x00281141, "UN", item(implicit(0x00280010, b"\x03\0")), order=">")
    clean = _clean(raw).dataset
    assert clean.Rows == 3 and clean.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.2"


def test_what_cannot_be_read_as_a_date_is_emptied_or_stood_in_for() -> None:
    raw = dicom_bytes().replace(b"20240315", b"HongGild")
    image = _clean(raw)
    assert b"HongGild" not in image.raw and "value-irregular" in image.notes


def test_an_identifier_in_a_device_s_text_is_cleaned_out_of_it() -> None:
    raw = dicom_bytes(ManufacturerModelName="Aquilion Hong Gildong", Manufacturer="TOSHIBA")
    clean = _clean(raw).dataset
    assert "Gildong" not in str(clean.get("ManufacturerModelName"))
    assert clean.Manufacturer == "TOSHIBA"
    assert _clean(dicom_bytes(ManufacturerModelName="Aquilion ONE")).dataset.ManufacturerModelName


def test_a_safe_private_number_stays_in_implicit_coding_too() -> None:
    block = implicit(0x00190010, b"SIEMENS MR HEADER ") + implicit(0x0019100C, b"1000")
    body = implicit(0x00080016, b"1.2.840.10008.5.1.4.1.1.4\0") + implicit(0x00080018, b"1.2.3\0")
    image = _clean(head("1.2.840.10008.1.2") + body + block)
    assert b"1000" in image.raw and "repaired" not in image.notes


def test_a_data_set_not_in_its_syntax_s_coding_is_written_in_it() -> None:
    """JPEG demands explicit VR; some writers leave the data set implicit."""
    inner = item(implicit(0x00080060, b"CT") + implicit(0x00280010, b"\3\0"))
    body = implicit(0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0") + implicit(0x00080018, b"1.2.3\0")
    raw = head("1.2.840.10008.1.2.4.50") + body + implicit(0x00081140, inner)
    clean = _clean(raw).dataset
    assert clean.ReferencedImageSequence[0].Rows == 3


def test_a_colour_profile_stays_only_if_it_is_one() -> None:
    profile = (136).to_bytes(4, "big") + bytes(32) + b"acsp" + bytes(96)
    raw = _with(explicit(0x00282000, "OB", profile + b"Hong Gildong"))
    assert _clean(raw).dataset.ICCProfile == profile and b"Gildong" not in _clean(raw).raw
    assert "ICCProfile" not in _clean(_with(explicit(0x00282000, "OB", b"a note"))).dataset


def test_a_list_of_codes_loses_the_part_that_names_the_patient() -> None:
    raw = dicom_bytes(ImageType=["ORIGINAL", "PRIMARY", "GILDONG"])
    image = _clean(raw)
    assert image.dataset.ImageType == ["ORIGINAL", "PRIMARY"] and "repaired" not in image.notes


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00180050, "DS", b"8005151234567 "),  # a resident registration number
        (0x00200012, "IS", b"01012345678 "),  # a mobile phone
        (0x00200032, "DS", b"1\\8005151234567.0\\2"),
    ],
)
def test_a_number_of_a_person_is_no_measurement(tag: int, vr: str, value: bytes) -> None:
    image = _clean(_with(explicit(tag, vr, value)))
    assert tag in image.dataset and b"12345" not in image.raw


def test_a_picture_inside_an_item_goes() -> None:
    pixels = explicit(0x7FE00010, "OW", b"pixels of a name")
    image = _clean(_with(explicit(0x00082112, "SQ", item(pixels))))
    assert b"of a name" not in image.raw and "SourceImageSequence" in image.dataset
