"""Which sound files does the fuzzer need that nobody published?

Small objects with what published ones lack: Korean names in their own encodings, values coded UN,
private blocks, deep content, overlays, encapsulated documents, several frames, big endian.
"""

from __future__ import annotations

from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID

from deid.dicom.quiet import silent_pydicom

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED, RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
CT, US, SR = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "6.1", "88.33"))
PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def built_seeds() -> tuple[bytes, ...]:
    """Give the files, always the same."""
    with silent_pydicom:
        return (
            *(_write(_image(CT), syntax) for syntax in (EXPLICIT, IMPLICIT, BIG, DEFLATED)),
            _write(_frames(), RLE),
            _write(_image(US), EXPLICIT),
            _write(_report(), EXPLICIT),
            _write(_report(), IMPLICIT),
            _write(_document(), EXPLICIT),
        )


def _patient(sop_class: str) -> Dataset:
    data = Dataset()
    data.SpecificCharacterSet = ["", "ISO 2022 IR 149"]
    data.SOPClassUID, data.SOPInstanceUID = sop_class, "1.2.410.200001.1.1.1"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.410.200001.1", "1.2.410.200001.1.1"
    data.PatientName = "Hong^Gildong=洪^吉洞=홍^길동"
    data.PatientID, data.AccessionNumber = "MRN-20731", "A2024-00731"
    data.PatientBirthDate, data.PatientAge, data.PatientSex = "19340412", "090Y", "M"
    data.StudyDate, data.StudyTime = "20240315", "101530"
    data.StudyDescription = "Chest CT 홍길동 630412-1234567"
    data.InstitutionName, data.ReferringPhysicianName = "서울가상병원", "Kim^Cheolsu"
    block = data.private_block(0x0029, "ACME FUZZ 1.0", create=True)
    block.add_new(0x01, "LO", "홍길동 MRN-20731")
    block.add_new(0x02, "OB", "홍길동".encode("cp949") + b"  ")
    data.add(DataElement(0x00104000, "UN", b"called 010-1234-5678"))
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "1.2.410.200001.9"
    data.ReferencedImageSequence = Sequence([item])
    previous = Dataset()
    previous.PatientName = "Hong^Gildong"
    original = Dataset()
    original.ModifiedAttributesSequence = Sequence([previous])
    data.OriginalAttributesSequence = Sequence([original])
    return data


def _image(sop_class: str) -> Dataset:
    data = _patient(sop_class)
    data.Modality = "CT" if sop_class == CT else "US"
    data.BodyPartExamined, data.ImageType = "CHEST", ["ORIGINAL", "PRIMARY"]
    data.Rows, data.Columns, data.SamplesPerPixel = 40, 36, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.add(DataElement(0x60000010, "US", 8))
    data.add(DataElement(0x60003000, "OW", bytes(8)))
    data.add(DataElement(0x7FE00010, "OW", bytes((7 * n) & 0xFF for n in range(40 * 36))))
    return data


def _frames() -> Dataset:
    """Two frames of 40 x 36 in RLE: one segment each, runs of 120 (PS3.5 G.3)."""
    data = _image(US)
    data.NumberOfFrames = 2
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    runs = b"".join(bytes((257 - 120, 10 * n)) for n in range(12))
    data.PixelData = encapsulate([header + runs, header + runs])
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    return data


def _report() -> Dataset:
    data = _patient(SR)
    data.Modality = "SR"
    top: list[Dataset] = []
    for kind, keyword, value in (
        ("TEXT", "TextValue", "환자 홍길동, 결절 5 mm"),
        ("PNAME", "PersonName", "Kim^Cheolsu"),
        ("DATE", "Date", "20240315"),
        ("UIDREF", "UID", "1.2.410.200001.1"),
    ):
        item = Dataset()
        item.ValueType, item.RelationshipType = kind, "CONTAINS"
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99FUZZ", "Finding"
        item.ConceptNameCodeSequence = Sequence([code])
        setattr(item, keyword, value)
        top.append(item)
    for _ in range(6):
        container = Dataset()
        container.ValueType, container.RelationshipType = "CONTAINER", "CONTAINS"
        container.ContentSequence = Sequence(top)
        top = [container]
    data.ContentSequence = Sequence(top)
    return data


def _document() -> Dataset:
    data = _patient(PDF)
    data.Modality, data.MIMETypeOfEncapsulatedDocument = "DOC", "application/pdf"
    data.DocumentTitle, data.BurnedInAnnotation = "Letter on Hong Gildong", "NO"
    data.EncapsulatedDocument = b"%PDF-1.4\n(Hong Gildong) Tj\n%%EOF\n" + b"\0"
    return data


def _write(data: Dataset, syntax: str) -> bytes:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.ImplementationClassUID = UID("1.2.410.200001.99")
    buffer = BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()
