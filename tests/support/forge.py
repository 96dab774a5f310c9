"""Which raw DICOM objects and extracts do the tests feed in? Invented, small, full of identity."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from schemas.governance.study import Column, DataTerms

CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
SECRET = bytes(range(32))
STORE_KEY = bytes(range(100, 132))
PLANTED = (
    "홍길동", "洪吉洞", "Hong Gildong", "630412-1234567", "K10482213", "010-2345-6789",
    "1.2.410.200088.7.1.5.5", "RX1000200", "19630412", "20240315", "은하수길 12-3", "INVENTED9",
)  # fmt: skip


def dicom_bytes(remove: tuple[str, ...] = (), **changes: Any) -> bytes:
    """Give a chest radiograph that carries identity everywhere; `changes` set attributes."""
    ds = Dataset()
    ds.SpecificCharacterSet = changes.pop("SpecificCharacterSet", "ISO_IR 192")
    ds.SOPClassUID = CR_IMAGE
    ds.StudyInstanceUID = "1.2.410.200088.7.1.5"
    ds.SeriesInstanceUID = "1.2.410.200088.7.1.5.1"
    ds.SOPInstanceUID = "1.2.410.200088.7.1.5.5"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.StudyDate, ds.StudyTime, ds.Modality = "20240315", "101530", "CR"
    ds.AccessionNumber = "RX1000200"
    ds.InstitutionName = "한빛누리의료원"
    ds.PatientName = "Hong^Gildong=洪^吉洞=홍^길동"
    ds.PatientID = "K10482213"
    ds.PatientBirthDate = "19630412"
    ds.OtherPatientIDs = "630412-1234567"
    ds.PatientAddress = "은하수길 12-3"
    ds.PatientTelephoneNumbers = "010-2345-6789"
    ds.PatientComments = "홍길동 환자, 연락처 010 2345 6789"
    ds.BodyPartExamined, ds.BurnedInAnnotation = "CHEST", "NO"
    inner, outer = Dataset(), Dataset()
    inner.PatientID, inner.PatientName = "630412-1234567", "Hong^Gildong"
    outer.OtherPatientIDsSequence = [inner]
    ds.RequestAttributesSequence = [outer]
    block = ds.private_block(0x0009, "INVENTED9", create=True)
    block.add_new(0x01, "LO", "홍길동")
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 4, 4, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = bytes(range(16))
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    for keyword in remove:
        delattr(ds, keyword)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CR_IMAGE)
    meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.SourceApplicationEntityTitle = "ER_K10482213"
    out = FileDataset("", ds, file_meta=meta, preamble=b"Hong Gildong".ljust(128, b"\x00"))
    buffer = BytesIO()
    out.save_as(buffer, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def table_terms(**changes: Any) -> DataTerms:
    """Give a small contract for a table."""
    terms: dict[str, Any] = {
        "source": "table",
        "patient_column": "chart_no",
        "columns": (
            Column(name="age", kind="integer", minimum=0.0, maximum=120.0),
            Column(name="sex", kind="category", codes=("0", "1")),
            Column(name="chol", kind="number", suspicious=(0.0,)),
            Column(name="ca", kind="number", required=False),
            Column(name="num", kind="category", codes=("0", "1", "2", "3", "4")),
        ),
        "label": "num",
        "label_positive": ("1", "2", "3", "4"),
        "split_column": "split",
        "minimum_class_count_in_test": 1,
    }
    return DataTerms(**{**terms, **changes})


def image_terms(**changes: Any) -> DataTerms:
    """Give a small contract for 4 x 4 images."""
    terms: dict[str, Any] = {
        "source": "dicom",
        "patient_column": "PatientID",
        "columns": (Column(name="finding", kind="category", codes=("normal", "pneumonia")),),
        "label": "finding",
        "label_positive": ("pneumonia",),
        "split_column": "split",
        "minimum_class_count_in_test": 1,
        "image_rows": 4,
        "image_columns": 4,
    }
    return DataTerms(**{**terms, **changes})
