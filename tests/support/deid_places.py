"""Which attributes carry identity, alone or mixed with clinical words? Planted here."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.support.deid_ledger import Ledger
from tests.support.deid_people import Person

# keyword -> which of the person's values; the attribute's whole content is identity
_IDS: dict[str, Callable[[Person], str]] = {
    "PatientID": lambda p: p.mrn,
    "OtherPatientIDs": lambda p: f"{p.other_id}\\{p.rrn}",
    "IssuerOfPatientID": lambda p: p.hospital,
    "AccessionNumber": lambda p: p.accession,
    "StudyID": lambda p: p.study_id,
    "AdmissionID": lambda p: f"ADM{p.mrn}",
    "ServiceEpisodeID": lambda p: f"EP{p.mrn}",
    "MedicalRecordLocator": lambda p: f"SHELF {p.mrn}",
    "RequestedProcedureID": lambda p: f"RP{p.accession}"[:16],
    "PerformedProcedureStepID": lambda p: f"P{p.accession}"[:16],
    "FillerOrderNumberImagingServiceRequest": lambda p: f"F{p.accession}",
    "PlacerOrderNumberImagingServiceRequest": lambda p: f"O{p.accession}",
    "InsurancePlanIdentification": lambda p: p.insurance,
    "PatientAddress": lambda p: p.address,
    "PatientTelephoneNumbers": lambda p: f"{p.mobile}\\{p.landline}",
    "InstitutionName": lambda p: p.hospital_local,
    "InstitutionAddress": lambda p: p.address,
    "InstitutionalDepartmentName": lambda p: f"{p.hospital} Ward {p.mrn[-3:]}",
    "ReferringPhysicianAddress": lambda p: p.address,
    "ReferringPhysicianTelephoneNumbers": lambda p: p.landline,
    "StationName": lambda p: f"ST{p.mrn}",
    "DeviceSerialNumber": lambda p: f"SN{p.other_id}",
    "CurrentPatientLocation": lambda p: p.hospital,
    "PatientInstitutionResidence": lambda p: p.address,
    "RequestingService": lambda p: p.hospital,
    "ScheduledStudyLocation": lambda p: p.hospital,
    "IssueDateOfImagingServiceRequest": lambda p: "20180203",
    "MilitaryRank": lambda p: f"Sergeant {p.family}",
    "CountryOfResidence": lambda p: p.address,
    "RegionOfResidence": lambda p: p.address,
    "DistributionAddress": lambda p: p.email,
}
_PNS = (
    "PatientBirthName", "OtherPatientNames", "PatientMotherBirthName", "ResponsiblePerson",
)  # fmt: skip
_PHYSICIANS = (
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "RequestingPhysician", "ScheduledPerformingPhysicianName",
    "ConsultingPhysicianName", "ReviewerName", "NamesOfIntendedRecipientsOfResults",
    "HumanPerformerName", "VerifyingObserverName", "ContentCreatorName",
)  # fmt: skip
# running text: clinical words stay where descriptions are cleaned; all of General Study, Series,
# Image, so that every image may have them
_TEXTS = (
    "StudyDescription", "SeriesDescription", "ImageComments", "AdditionalPatientHistory",
    "ProtocolName", "DerivationDescription", "RequestedProcedureDescription",
    "PerformedProcedureStepDescription", "PatientComments", "AdmittingDiagnosesDescription",
    "CommentsOnThePerformedProcedureStep", "AcquisitionProtocolDescription",
)  # fmt: skip
# text that no storage object has, retired or of other services: may simply go
_STRAY_TEXTS = (
    "StudyComments", "VisitComments", "ReasonForStudy", "InterpretationText", "Impressions",
    "ResultsComments", "AcquisitionComments", "FrameComments", "ReasonForTheRequestedProcedure",
    "RequestedProcedureComments", "PatientState", "SpecialNeeds", "Allergies", "MedicalAlerts",
    "AcquisitionDeviceProcessingDescription", "TreatmentMachineName", "Occupation",
    "CommentsOnRadiationDose", "TextString", "ImagePresentationComments", "IdentifyingComments",
    "DecompositionDescription", "InterpretationDiagnosisDescription",
)  # fmt: skip
_TECHNICAL = (
    "SequenceName", "ConvolutionKernel", "SoftwareVersions", "ManufacturerModelName", "FilterType",
    "TransducerData", "ReceiveCoilName", "Grid", "PositionReferenceIndicator", "DetectorID",
    "PulseSequenceName", "ScanOptions", "BodyPartExamined", "AnodeTargetMaterial",
    "ImageType", "Manufacturer", "ViewName", "PlateType",
)  # fmt: skip
_DATES = (
    "SeriesDate", "AcquisitionDate", "ContentDate", "InstanceCreationDate",
    "PerformedProcedureStepStartDate", "DateOfSecondaryCapture", "LastMenstrualDate",
    "AdmittingDate", "DateOfLastCalibration", "CurveDate", "ScheduledStudyStartDate",
)  # fmt: skip
_ENGLISH = (
    "CT CHEST WITH CONTRAST {x}", "{x} BRAIN AXIAL", "abdomen and pelvis, {x}, liver lesion",
    "Right lung pneumonia. {x}. No fracture", "LEFT KIDNEY {x} ULTRASOUND",
)  # fmt: skip
_KOREAN = ("흉부 {x} 소견", "{x} 환자 폐렴 정상", "복부 조영 {x}")
_WORDS = {
    "CHEST", "CONTRAST", "BRAIN", "AXIAL", "ABDOMEN", "PELVIS", "LIVER", "LESION", "LUNG",
    "PNEUMONIA", "FRACTURE", "KIDNEY", "ULTRASOUND", "RIGHT", "LEFT", "흉부", "소견", "폐렴",
    "복부", "조영", "정상",
}  # fmt: skip


def tag(keyword: str) -> int:
    """Give the tag of a keyword that exists."""
    found = tag_for_keyword(keyword)
    assert found is not None, keyword
    return found


def mixed(who: Person, rng: random.Random) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Give text that mixes clinical words with identity: text, what must go, what must stay."""
    secrets = [
        f"MRN {who.mrn}", who.rrn, who.mobile, who.email, f"Acc# {who.accession}", who.address,
        f"at {who.hospital}", f"Dr. {who.physician[1]} {who.physician[0]}", who.landline,
        f"DOB {who.birth:%Y-%m-%d}", who.foreigner, *who.spellings(),
        f"mother {who.stranger}", f"nurse {who.stranger}", who.stranger,
    ]  # fmt: skip
    if who.country == "KR":
        secrets += [f"{who.full_hangul}님", f"{who.full_hangul}({who.rrn})", who.hospital_local]
        secrets += [f"판독의 {who.physician_hangul.replace('^', '')}", f"차트번호 {who.mrn}"]
    one = rng.choice(secrets)
    templates = _ENGLISH + (_KOREAN if who.country == "KR" else ())
    template = rng.choice(templates)
    text = template.format(x=one)
    known = (*who.secrets(), f"{who.birth:%Y-%m-%d}", who.stranger)
    gone = tuple(each for each in known if each.casefold() in one.casefold())
    kept = tuple(word for word in _WORDS if word.casefold() in template.casefold())
    return text, gone or (one,), kept


def plant_header(
    dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random, *, days: int, share: float
) -> None:
    """Set identifying attributes at the top and inside the usual sequences."""
    _set_charset(dataset, who, rng)
    for keyword, value in _IDS.items():
        needed = keyword in ("PatientID", "AccessionNumber")
        if value(who) and (needed or rng.random() < share):
            given = value(who).split("\\")
            setattr(dataset, keyword, given if len(given) > 1 else given[0])
            gone = () if keyword.startswith("IssueDate") else given
            ledger.plant(f"header/{keyword}", (tag(keyword),), gone)
    dataset.PatientName = who.pn
    groups = [part.replace("^", "") for part in who.pn.split("=")]
    ledger.plant("header/PatientName", (tag("PatientName"),), [who.given, *groups[1:]])
    for keyword in _PNS:
        if rng.random() < share:
            setattr(dataset, keyword, who.pn)
            ledger.plant(f"header/{keyword}", (tag(keyword),), [who.given, *groups[1:]])
    for keyword in _PHYSICIANS:
        if rng.random() < share:
            setattr(dataset, keyword, who.physician_pn)
            ledger.plant(f"header/{keyword}", (tag(keyword),), [who.physician[1]])
    has_image = "Rows" in dataset
    for keyword in _TEXTS + _STRAY_TEXTS:
        if rng.random() < share:
            text, gone, kept = mixed(who, rng)
            text = text[:60] if dictionary_VR(tag(keyword)) in ("LO", "SH") else text
            kept = tuple(word for word in kept if word.casefold() in text.casefold())
            gone = tuple(each for each in gone if each.casefold() in text.casefold())
            setattr(dataset, keyword, text)
            stays = keyword in _TEXTS[:2] or (has_image and keyword in _TEXTS[:6])
            ledger.plant(f"text/{keyword}", (tag(keyword),), gone)
            if stays:
                ledger.plant(f"text/{keyword}", (tag(keyword),), (), kept, "option")
    _plant_technical(dataset, who, ledger, rng, share)
    _plant_dates(dataset, who, rng, days, share)
    _plant_sequences(dataset, who, ledger, rng, days, share)
    dataset.PatientSex = who.sex
    dataset.PatientAge = "093Y" if rng.random() < 0.1 else "057Y"
    dataset.PatientWeight, dataset.PatientSize = "68.5", "1.71"
    if dataset.PatientAge == "093Y":
        ledger.plant("header/PatientAge", (tag("PatientAge"),), ["093Y"])
        ledger.secrets.remove("093Y")  # four characters may arise by chance
    else:
        ledger.plant("header/PatientAge", (tag("PatientAge"),), (), ["057Y"], "option")
    ledger.plant("header/PatientSex", (tag("PatientSex"),), (), [who.sex], "option")
    ledger.plant("header/PatientWeight", (tag("PatientWeight"),), (), ["68.5"], "option")


def _set_charset(dataset: Dataset, who: Person, rng: random.Random) -> None:
    old = dataset.get("SpecificCharacterSet")
    foreign = old not in (None, "", "ISO_IR 100", "ISO_IR 6", "ISO_IR 192")
    latin1 = old not in (None, "", "ISO_IR 6") or who.pn.isascii()
    if who.country == "US" and not foreign:
        if not latin1 or not who.physician_pn.isascii():
            dataset.SpecificCharacterSet = rng.choice(["ISO_IR 100", "ISO_IR 192"])
        return
    if who.country == "JP" and not foreign and rng.random() < 0.7:
        dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        return
    two = not foreign and rng.random() < 0.5
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 149"] if two else "ISO_IR 192"


def _plant_technical(
    dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random, share: float
) -> None:
    """Technical strings with a name in them, in any case and order."""
    for keyword in _TECHNICAL:
        number = tag_for_keyword(keyword)
        if number is None or rng.random() > share / 3:
            continue
        upper = dictionary_VR(number) == "CS"
        name = rng.choice(
            [f"{who.given} {who.family}", f"{who.family}_{who.given}", who.given.lower()]
        )
        text = (f"{name.upper().replace(chr(39), '')}" if upper else f"AXIAL {name}")[:16]
        if who.given.casefold() not in text.casefold():
            text = who.given.upper()[:16]
        if keyword == "ImageType":
            dataset.ImageType = ["ORIGINAL", "PRIMARY", text]
        else:
            setattr(dataset, keyword, text)
        ledger.plant(f"technical/{keyword}", (number,), [who.given])


def _plant_dates(
    dataset: Dataset, who: Person, rng: random.Random, days: int, share: float
) -> None:
    study = who.study_date + timedelta(days=days)
    dataset.StudyDate = f"{study:%Y%m%d}"
    dataset.StudyTime = "101112.123"
    dataset.PatientBirthDate = f"{who.birth:%Y%m%d}"
    for keyword in _DATES:
        if keyword in dataset or rng.random() < share / 2:
            setattr(dataset, keyword, f"{study + timedelta(days=rng.randrange(3)):%Y%m%d}")
    for keyword in ("AcquisitionDateTime", "FrameReferenceDateTime", "ObservationDateTime"):
        if rng.random() < share / 2:
            zone = rng.choice(["", "+0900", "-0500"])
            setattr(dataset, keyword, f"{study:%Y%m%d}093015.125000{zone}")


def _plant_sequences(
    dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random, days: int, share: float
) -> None:
    """Identity one to four levels down."""
    study = who.study_date + timedelta(days=days)
    top = tag("RequestAttributesSequence")
    if rng.random() < share:
        request = Dataset()
        text, gone, _ = mixed(who, rng)
        request.RequestedProcedureDescription = text[:64]
        request.ScheduledProcedureStepDescription = f"CHEST {who.given}"
        request.AccessionNumber = who.accession
        request.RequestedProcedureID = who.mrn
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "36643-5", "LN", "Chest"
        request.RequestedProcedureCodeSequence = Sequence([code])
        request.ScheduledProcedureStepStartDate = f"{study:%Y%m%d}"
        dataset.RequestAttributesSequence = Sequence([request])
        gone = tuple(each for each in gone if each in text[:64])
        ledger.plant("nested/RequestedProcedureDescription",
                     (top, tag("RequestedProcedureDescription")), gone)  # fmt: skip
        ledger.plant("nested/ScheduledProcedureStepDescription",
                     (top, tag("ScheduledProcedureStepDescription")), [who.given])  # fmt: skip
        ledger.plant("nested/AccessionNumber", (top, tag("AccessionNumber")), [who.accession])
        ledger.plant("nested/RequestedProcedureID", (top, tag("RequestedProcedureID")), [who.mrn])
    if rng.random() < share:
        other = Dataset()
        other.PatientID, other.IssuerOfPatientID = who.other_id, who.hospital
        other.TypeOfPatientID = "TEXT"
        dataset.OtherPatientIDsSequence = Sequence([other])
        path = tag("OtherPatientIDsSequence"), tag("PatientID")
        ledger.plant("nested/OtherPatientIDsSequence", path, [who.other_id])
    if rng.random() < share:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = who.physician[1][:16], "99HOSP"
        code.CodeMeaning = f"{who.physician[1]} {who.physician[0]}"
        staff = Dataset()
        staff.PersonIdentificationCodeSequence = Sequence([code])
        staff.PersonTelephoneNumbers, staff.PersonAddress = who.landline, who.address
        staff.InstitutionName = who.hospital
        dataset.OperatorIdentificationSequence = Sequence([staff])
        path = tag("OperatorIdentificationSequence"), tag("PersonIdentificationCodeSequence")
        ledger.plant("nested/OperatorIdentification", (*path, tag("CodeMeaning")),
                     [who.physician[1]])  # fmt: skip
    if rng.random() < share:
        deep = Dataset()
        deep.PatientName, deep.PatientID = who.pn, who.mrn
        deep.PatientComments = f"{who.given} {who.rrn}"
        for keyword in ("ModifiedAttributesSequence", "OriginalAttributesSequence"):
            shell = Dataset()
            setattr(shell, keyword, Sequence([deep]))
            if keyword == "OriginalAttributesSequence":
                deep.ModifyingSystem, deep.SourceOfPreviousValues = who.hospital, who.hospital
                deep.AttributeModificationDateTime = f"{study:%Y%m%d}101010"
                dataset.OriginalAttributesSequence = shell.OriginalAttributesSequence
            deep = shell
        path = tag("OriginalAttributesSequence"), tag("ModifiedAttributesSequence")
        ledger.plant("nested/OriginalAttributes", (*path, tag("PatientName")), [who.given])
        ledger.plant("nested/OriginalAttributes", (*path, tag("PatientID")), [who.mrn])
    if rng.random() < share:
        item = Dataset()
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        item.ReferencedSOPInstanceUID = f"1.2.410.200088.31.{rng.randrange(10**9)}.7.{days}.1234567"
        inner = Dataset()
        inner.ContentCreatorName = who.physician_pn
        inner.PurposeOfReferenceCodeSequence = Sequence([])
        item.PurposeOfReferenceCodeSequence = Sequence([])
        item.ContributingEquipmentSequence = Sequence([inner])
        dataset.SourceImageSequence = Sequence([item])
        path = tag("SourceImageSequence"), tag("ContributingEquipmentSequence")
        ledger.plant("nested/ContentCreatorName", (*path, tag("ContentCreatorName")),
                     [who.physician[1]])  # fmt: skip
