"""What is left of a DICOM object once everything off the keep-list is removed?

Walks the dataset and its nested sequences, builds a new object from kept attributes only, writes
it with a fresh preamble and file meta (PS3.15 E.1.1), and searches the written bytes for every
value that was removed. What cannot be read, or fails that search, is refused with a code.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from io import BytesIO

import pydicom
from pydicom import config as pydicom_config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from deid.actions import REMOVED, Action, Kind
from deid.errors import DeidRefusal
from deid.profile import Profile
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport
from deid.residual import find_identifiers
from schemas.errors import ErrorCode

MAX_FILE_BYTES = 512 * 1024 * 1024  # a radiograph is under 50 MiB; more is not one
IMPLEMENTATION_UID = UID("2.25.302741917428853906190237443071398519205")
IMPLEMENTATION_NAME = "COHORTIUM_1"
_METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
_TEXT_VRS = frozenset(["PN", "LO", "SH", "LT", "ST", "UT", "UC", "DA", "DT", "UI", "UR", "AE"])
# PS3.3 terms that a removed description may share with a kept attribute; they name nobody.
_DEFINED_TERMS = frozenset(
    ["ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "MONOCHROME2", "ABDOMEN", "PELVIS", "EXTREMITY"]
)
_PRINTABLE = re.compile(rb"[\x20-\x7e\x80-\xff]{6,}")
_MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class CleanImage:
    """Hold one de-identified object.

    Attributes:
        patient: the patient's pseudonym.
        record: the pseudonym of the accession number; empty where the object had none.
        uid: the new SOP Instance UID.
        dataset: the clean dataset.
        raw: the clean object as a complete DICOM file.
    """

    patient: str
    record: str
    uid: str
    dataset: Dataset
    raw: bytes


@dataclass(slots=True)
class _Walk:
    """Carry what one object's walk needs and gathers."""

    patient: str
    removed: set[str] = field(default_factory=set)


class DicomDeidentifier:
    """De-identify DICOM objects of one hospital for one project.

    Args:
        profile: the keep-list.
        pseudonymiser: the hospital's keyed pseudonyms.
        report: counts are added here.
    """

    def __init__(self, profile: Profile, pseudonymiser: Pseudonymiser, report: DeidReport) -> None:
        self._profile = profile
        self._pseudonyms = pseudonymiser
        self._report = report

    def clean(self, raw: bytes) -> CleanImage:
        """De-identify one complete DICOM file.

        Raises:
            DeidRefusal: the object cannot be read, is of an unknown class or coding, declares
                burned-in identity, lacks patient, UID or pixels, or kept a removed value.
        """
        try:
            with _silent_pydicom():
                return self._clean(raw)
        except DeidRefusal as refusal:
            self._report.refused[refusal.code] += 1
            raise
        except Exception:  # noqa: BLE001 - the record's edge: see the docstring of `_unreadable`
            self._report.refused[ErrorCode.DICOM_UNREADABLE] += 1
            raise _unreadable() from None

    def _clean(self, raw: bytes) -> CleanImage:
        try:
            source = _read(raw)
        except InvalidDicomError:
            raise DeidRefusal(ErrorCode.FILE_NOT_DICOM) from None
        self._check(source)
        patient_id = str(source.get("PatientID") or "").strip()
        if not patient_id:
            raise DeidRefusal(ErrorCode.PATIENT_MISSING)
        walk = _Walk(patient_id)
        clean = self.walk(source, walk, 0)
        _mark(clean)
        written = _write(clean)
        self._check_residual(source, raw, written, walk)
        self._report.records += 1
        return CleanImage(
            patient=str(clean.PatientID),
            record=str(clean.get("AccessionNumber") or ""),
            uid=str(clean.SOPInstanceUID),
            dataset=clean,
            raw=written,
        )

    def _check(self, source: FileDataset) -> None:
        if str(source.get("SOPClassUID") or "") not in self._profile.sop_classes:
            raise DeidRefusal(ErrorCode.DICOM_CLASS_UNKNOWN)
        syntax = str(source.file_meta.get("TransferSyntaxUID") or "")
        if syntax not in self._profile.transfer_syntaxes:
            raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)
        if not str(source.get("SOPInstanceUID") or ""):
            raise DeidRefusal(ErrorCode.DICOM_UNREADABLE)
        if str(source.get("BurnedInAnnotation") or "NO").strip().upper() != "NO":
            raise DeidRefusal(ErrorCode.DICOM_BURNED_IN)
        if "PixelData" not in source or not source["PixelData"].value:
            raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)

    def walk(self, source: Dataset, walk: _Walk, depth: int) -> Dataset:
        """Give a dataset's kept part; `walk` gathers what was removed."""
        if depth > _MAX_DEPTH:
            raise DeidRefusal(ErrorCode.DICOM_UNREADABLE)
        clean = Dataset()
        actions, counts = self._profile.dicom, self._report.actions
        for element in source:
            action = actions.get(int(element.tag))
            if action is None or element.tag.is_private:
                counts[REMOVED] += 1
                _gather(element, walk.removed, 0)
                continue
            counts[action.kind] += 1
            new = self._apply(action, element, walk, depth)
            if new is not None:
                clean[element.tag] = new
        return clean

    def _apply(
        self, action: Action, element: DataElement, walk: _Walk, depth: int
    ) -> DataElement | None:
        tag, vr, value = element.tag, element.VR, element.value
        if vr == "SQ":
            if action.kind is not Kind.KEEP:
                _gather(element, walk.removed, 0)
                return None
            items = [self.walk(item, walk, depth + 1) for item in value]
            return DataElement(tag, vr, DicomSequence(items))
        match action.kind:
            case Kind.KEEP:
                return DataElement(tag, vr, value)
            case Kind.EMPTY:
                new: object = ""
            case Kind.PATIENT:
                new = self._pseudonyms.patient(walk.patient)
            case Kind.RECORD:
                text = str(value or "").strip()
                new = self._pseudonyms.record(text) if text else ""
            case Kind.UID:
                uids = [self._pseudonyms.uid(text) for text in _texts(value)]
                new = uids[0] if len(uids) == 1 else uids
            case Kind.SHIFT_DATE:
                new = self._shift(str(value or ""), walk.patient)
        _gather(element, walk.removed, 0)
        return DataElement(tag, vr, new)

    def _shift(self, text: str, patient: str) -> str:
        try:
            day = date.fromisoformat(text.strip().replace(".", "-"))
        except ValueError:
            return ""  # not a date: it must not pass as one
        return self._pseudonyms.shift(day, patient).strftime("%Y%m%d")

    def _check_residual(self, source: FileDataset, raw: bytes, written: bytes, walk: _Walk) -> None:
        if find_identifiers(written, sorted(_needles(source, raw, walk))):
            raise DeidRefusal(ErrorCode.IDENTIFIER_LEFT)


def _read(raw: bytes) -> FileDataset:
    """Parse a file, unless that would inflate it: 500 KiB deflated can be 500 MiB (PS3.5 A.5)."""
    if DeflatedExplicitVRLittleEndian.encode("ascii") in raw:
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)
    return pydicom.dcmread(BytesIO(raw))


def removed_values(profile: Profile, raw: bytes) -> set[str]:
    """Give what must be gone from one file's clean copy; empty for a file that cannot be read."""
    cleaner = DicomDeidentifier(profile, Pseudonymiser(bytes(32), ""), DeidReport())
    try:
        with _silent_pydicom():
            source = _read(raw)
            walk = _Walk(str(source.get("PatientID") or ""))
            cleaner.walk(source, walk, 0)
            return _needles(source, raw, walk)
    except Exception:  # noqa: BLE001 - as in `clean`
        return set()


def _unreadable() -> DeidRefusal:
    """Stand for whatever the DICOM library raised on a damaged or hostile file.

    It raises many kinds, some of them its own, and their text quotes the file's bytes. Here, at the
    record's edge, all end as one code, so that the file is quarantined and the rest goes on.
    """
    return DeidRefusal(ErrorCode.DICOM_UNREADABLE)


def _needles(source: FileDataset, raw: bytes, walk: _Walk) -> set[str]:
    """Give a file's removed values in the forms they may be written in, preamble and meta too."""
    needles = {needle for text in walk.removed for needle in _variants(text)}
    for element in source.file_meta:
        if element.keyword not in ("TransferSyntaxUID", "MediaStorageSOPClassUID"):
            _gather(element, needles, 0)
    needles |= {match.group().decode("latin-1") for match in _PRINTABLE.finditer(raw[:128])}
    return {n for n in needles - _DEFINED_TERMS if not n.startswith("1.2.840.10008.")}


def _variants(text: str) -> Iterator[str]:
    yield text
    if "^" in text or "=" in text:  # person names: each group, joined and parted
        for group in text.split("="):
            parts = [part for part in group.split("^") if part]
            yield from (group, " ".join(parts), "".join(parts), ",".join(parts))
            yield " ".join(reversed(parts))
            yield from (part for part in parts if len(part) > 3)


def _texts(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        return [text for part in value for text in _texts(part)]
    return [str(value).strip()]


def _gather(element: DataElement, into: set[str], depth: int) -> None:
    """Remember a removed element's values, for the search of what was written."""
    if depth > _MAX_DEPTH:
        raise DeidRefusal(ErrorCode.DICOM_UNREADABLE)
    if element.VR == "SQ":
        for item in element.value:
            for nested in item:
                _gather(nested, into, depth + 1)
    elif isinstance(element.value, bytes):
        for match in _PRINTABLE.finditer(element.value[:65_536]):
            into.add(match.group().decode("utf-8", "replace").strip())
    elif element.VR in _TEXT_VRS:
        into.update(_texts(element.value))


def _mark(clean: Dataset) -> None:
    """Say in the object that and how it was de-identified (PS3.15 E.1.1, CID 7050)."""
    clean.SpecificCharacterSet = "ISO_IR 192"
    clean.PatientIdentityRemoved = "YES"
    clean.LongitudinalTemporalInformationModified = "MODIFIED"
    items: list[Dataset] = []
    for code, meaning in _METHODS:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", meaning
        items.append(item)
    clean.DeidentificationMethodCodeSequence = items


def _write(clean: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = clean.SOPClassUID
    meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    buffer.write(b"\x00" * 128 + b"DICM")
    write_file_meta_info(buffer, meta, enforce_standard=True)
    write_dataset(buffer, clean)
    return buffer.getvalue()


@contextmanager
def _silent_pydicom() -> Iterator[None]:
    """Keep pydicom from logging or warning: its messages quote the offending value."""
    settings = pydicom_config.settings
    reading, writing = settings.reading_validation_mode, settings.writing_validation_mode
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    settings.reading_validation_mode = pydicom_config.IGNORE
    settings.writing_validation_mode = pydicom_config.IGNORE
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = reading, writing
        logger.disabled = disabled


def pixel_plane(image: CleanImage, rows: int, columns: int) -> bytes:
    """Give an image's pixels as rows x columns bytes (uint8, row by row).

    Raises:
        DeidRefusal: not one 8-bit MONOCHROME2 plane (DICOM_PIXELS_UNSUPPORTED), or of another
            size (DICOM_SHAPE).
    """
    dataset = image.dataset
    form = tuple(
        str(dataset.get(keyword) or default)
        for keyword, default in (
            ("SamplesPerPixel", ""),
            ("PhotometricInterpretation", ""),
            ("BitsAllocated", ""),
            ("BitsStored", ""),
            ("PixelRepresentation", "0"),
            ("NumberOfFrames", "1"),
        )
    )
    pixels = dataset.get("PixelData")
    if form != ("1", "MONOCHROME2", "8", "8", "0", "1") or not isinstance(pixels, bytes):
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)
    if (dataset.get("Rows"), dataset.get("Columns")) != (rows, columns):
        raise DeidRefusal(ErrorCode.DICOM_SHAPE)
    size = rows * columns
    if len(pixels) != size + size % 2:
        raise DeidRefusal(ErrorCode.DICOM_PIXELS_UNSUPPORTED)
    return pixels[:size]
