"""What does a hospital's chest radiograph look like as DICOM, identity and all? Invented people."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

from scripts.synthetic_people import People, Person

if TYPE_CHECKING:
    from scripts.make_data import Planted

_CR = "1.2.840.10008.5.1.4.1.1.1"
_ROOT = "1.2.410.200088.7"  # an invented branch; only ever used for invented objects
_INSTITUTIONS = (
    "한빛누리대학교의료원 Hanbitnuri Medical Center",
    "푸른솔어린이병원 Pureunsol Children's",
    "가온새롬병원 Gaonsaerom Hospital",
    "다솜마루의료원 Dasommaru Clinic",
)
_PHYSICIANS = ("Moon^Haesol=文^海率=문^해솔", "Pyo^Daon=表^多溫=표^다온")


class DicomWriter:
    """Write one hospital's radiographs with all the identity that hospital objects carry.

    Args:
        site: the site's name.
        number: the site's number, part of its UIDs and accession numbers.
        people: the site's generator.
        planted: takes note of everything planted.
    """

    def __init__(self, site: str, number: int, people: People, planted: Planted) -> None:
        self._site, self._number = site, number
        self._people, self._planted = people, planted
        self._serial = 0
        planted.add(site, "cxr", "institution", _INSTITUTIONS[number - 1])
        planted.add(site, "cxr", "staff", *(g for name in _PHYSICIANS for g in name.split("=")))

    def image(self, person: Person, pixels: np.ndarray) -> tuple[str, bytes]:
        """Write one 8-bit image as a DICOM file; gives its accession number and bytes."""
        self._serial += 1
        accession = f"RX{self._number}{self._people.random.randrange(10**7, 10**8)}"
        study = f"{_ROOT}.{self._number}.{self._people.random.randrange(10**11, 10**12)}"
        series, instance = f"{study}.1", f"{study}.1.{self._serial}"
        day = self._people.day(date(2024, 3, 2), date(2025, 9, 30))
        comment = f"{person.hangul.replace('^', '')} 환아, 보호자 연락처 {person.phone}"
        self._note(person, accession, study, series, instance, day, comment)
        dataset = self._dataset(person, accession, (study, series, instance), day, comment)
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelData = pixels.tobytes()
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = _CR
        meta.MediaStorageSOPInstanceUID = instance
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.SourceApplicationEntityTitle = f"ER_{person.chart}"
        preamble = person.latin.encode("ascii")[:64].ljust(128, b"\x00")
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        buffer.write(preamble + b"DICM")
        write_file_meta_info(buffer, meta, enforce_standard=True)
        write_dataset(buffer, dataset)
        return accession, buffer.getvalue()

    def _note(
        self, person: Person, accession: str, study: str, series: str, instance: str, day: date,
        comment: str,
    ) -> None:  # fmt: skip
        add = self._planted.add
        add(self._site, "cxr", "accession", accession)
        add(self._site, "cxr", "uid", study, series, instance)
        self._planted.add_day(self._site, "cxr", day)
        add(self._site, "cxr", "note", comment)
        add(self._site, "cxr", "address", person.address)

    def _dataset(
        self, person: Person, accession: str, uids: tuple[str, str, str], day: date, comment: str
    ) -> Dataset:
        ds = Dataset()
        # Some objects use the older Korean coding, the others UTF-8.
        korean = self._serial % 3 == 0
        ds.SpecificCharacterSet = ["", "ISO 2022 IR 149"] if korean else "ISO_IR 192"
        name = f"{person.latin}={person.hanja}={person.hangul}"
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.SOPClassUID = _CR
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = uids
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = f"{day:%Y%m%d}"
        ds.StudyTime = f"{self._people.random.randrange(8, 18):02d}3015"
        ds.AccessionNumber = accession
        ds.Modality = "CR"
        ds.Manufacturer = "Invented Imaging"
        ds.InstitutionName = _INSTITUTIONS[self._number - 1]
        ds.ReferringPhysicianName = _PHYSICIANS[self._serial % 2]
        ds.StudyDescription = "Chest AP"
        ds.PatientName = name
        ds.PatientID = person.chart
        ds.PatientBirthDate = f"{person.born:%Y%m%d}"
        ds.PatientSex = "O"
        ds.OtherPatientIDs = person.rrn
        ds.PatientAddress = person.address
        ds.PatientTelephoneNumbers = person.phone
        ds.PatientComments = comment
        ds.BodyPartExamined = "CHEST"
        ds.ViewPosition = "AP"
        ds.StudyID = str(self._serial)
        ds.SeriesNumber, ds.InstanceNumber = 1, 1
        ds.BurnedInAnnotation = "NO"
        request = Dataset()
        request.RequestedProcedureDescription = f"{person.latin} {accession}"
        request.RequestedProcedureID = accession
        other = Dataset()
        other.PatientID, other.IssuerOfPatientID = person.rrn, "RRN"
        request.OtherPatientIDsSequence = [other]
        ds.RequestAttributesSequence = [request]
        block = ds.private_block(0x0009, "INVENTED ER 1.0", create=True)
        block.add_new(0x01, "LO", person.hangul.replace("^", ""))
        block.add_new(0x02, "OB", person.rrn.encode("ascii") + b"\x00" * 2)
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit, ds.PixelRepresentation = 7, 0
        return ds
