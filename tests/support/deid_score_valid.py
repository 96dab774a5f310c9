"""Is an output still a valid object? It reads, decodes, and has what its IOD demands."""

from __future__ import annotations

import io

import pydicom
from pydicom.dataset import Dataset

from tests.support.deid_pixels import decode

# Attributes that modules of most composite objects demand (PS3.3 C.7): with a value, or present.
_TYPE_1 = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "FrameOfReferenceUID", "ContentDate",
    "ContentTime", "CompletionFlag", "VerificationFlag", "ValueType",
    "MIMETypeOfEncapsulatedDocument",
    "EncapsulatedDocument", "ContentLabel", "SegmentationType", "RTPlanLabel", "StructureSetLabel",
    "DoseUnits", "DoseType", "DoseSummationType", "PresentationCreationDate",
    "PresentationCreationTime", "AcquisitionDateTime", "NumberOfFrames", "ImageType",
)  # fmt: skip
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "StudyID", "SeriesNumber", "InstanceNumber",
    "ContentCreatorName", "ContentDescription", "DocumentTitle", "Manufacturer",
)  # fmt: skip
# ContentDate is Type 1 in documents and in images of the newer kind, 2C in classic images
_ONLY_IN = {
    "ContentCreatorName": ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.11."),
    "ContentDescription": ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.11."),
    "DocumentTitle": ("1.2.840.10008.5.1.4.1.1.104.",),
    "ContentDate": ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.66.4"),
    "ContentTime": ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.66.4"),
    "AcquisitionDateTime": ("1.2.840.10008.5.1.4.1.1.9.",),
    "ImageType": ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"),
}


def why_invalid(before: Dataset, after: Dataset) -> str:
    """Give what is wrong, or nothing; only what the input had is asked for."""
    meta = after.file_meta
    if meta.get("MediaStorageSOPInstanceUID") != after.get("SOPInstanceUID"):
        return "meta and data set name different instances"
    if meta.get("MediaStorageSOPClassUID") != after.get("SOPClassUID"):
        return "meta and data set name different classes"
    if before.get("SOPClassUID") and before.SOPClassUID != after.get("SOPClassUID"):
        return "another class"
    stream = io.BytesIO()
    try:
        pydicom.dcmwrite(stream, after, enforce_file_format=True)
    except Exception as problem:
        return f"does not write again: {type(problem).__name__}"
    klass = str(before.get("SOPClassUID", ""))
    for keyword in _TYPE_1:
        only = _ONLY_IN.get(keyword)
        if only and not klass.startswith(only):
            continue
        if _has_value(before, keyword) and not _has_value(after, keyword):
            return f"Type 1 {keyword} empty or gone"
    for keyword in _TYPE_2:
        only = _ONLY_IN.get(keyword)
        if only and not klass.startswith(only):
            continue
        if keyword in before and keyword not in after:
            return f"Type 2 {keyword} gone"
    return _why_undecodable(before, after)


def _has_value(dataset: Dataset, keyword: str) -> bool:
    if keyword not in dataset or dataset[keyword].value in (None, "", b""):
        return False
    # what is not a number was no value before either
    return keyword != "NumberOfFrames" or str(dataset[keyword].value).strip().isdigit()


def _why_undecodable(before: Dataset, after: Dataset) -> str:
    if "PixelData" not in before:
        return ""
    try:
        decode(before)
    except Exception:  # nobody can: nothing to compare with
        return ""
    try:
        decode(after)
    except Exception as problem:
        return f"pixels no longer decode: {type(problem).__name__}"
    return ""
