"""Which documents are made by hand to carry identity? Reports, presentation states, PDF and CDA."""

from __future__ import annotations

import io
import zlib
from datetime import timedelta

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from tests.support.deid_ledger import Ledger
from tests.support.deid_people import Person
from tests.support.deid_places import tag

_CLASS = {
    "sr": "1.2.840.10008.5.1.4.1.1.88.11",
    "pdf": "1.2.840.10008.5.1.4.1.1.104.1",
    "cda": "1.2.840.10008.5.1.4.1.1.104.2",
    "gsps": "1.2.840.10008.5.1.4.1.1.11.1",
}
KINDS = tuple(_CLASS)


def make(kind: str, who: Person, patient: str, number: int, days: int = 0) -> tuple[bytes, Ledger]:
    """Give a document of one kind about one person, and what was planted."""
    ledger = Ledger(patient)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = _CLASS[kind]
    root = f"1.2.410.200088.40.{abs(number)}.{days}"
    meta.MediaStorageSOPInstanceUID = f"{root}.3.1234567"
    meta.ImplementationClassUID = "1.2.410.200088.1"
    meta.SourceApplicationEntityTitle = f"{who.given[:8].upper()}_AE"
    ledger.plant("container/file-meta", (), [])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = _CLASS[kind], meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{root}.1.1234567", f"{root}.2.1234567"
    study = who.study_date + timedelta(days=days)
    dataset.PatientName, dataset.PatientID = who.pn, who.mrn
    dataset.PatientBirthDate, dataset.PatientSex = f"{who.birth:%Y%m%d}", who.sex
    dataset.StudyDate = dataset.ContentDate = f"{study:%Y%m%d}"
    dataset.StudyTime = dataset.ContentTime = "101112"
    dataset.AccessionNumber, dataset.StudyID = who.accession, who.study_id
    dataset.ReferringPhysicianName = who.physician_pn
    dataset.SeriesNumber, dataset.InstanceNumber = "1", "1"
    dataset.Manufacturer = "Zeta"
    dataset.StudyDescription = f"CHEST {who.given} {who.mrn}"
    ledger.plant("text/StudyDescription", (tag("StudyDescription"),), [who.given, who.mrn])
    ledger.plant("text/StudyDescription", (tag("StudyDescription"),), (), ["CHEST"], "option")
    ledger.plant("header/PatientName", (tag("PatientName"),), [who.given])
    ledger.plant("header/PatientID", (tag("PatientID"),), [who.mrn])
    {"sr": _sr, "pdf": _pdf, "cda": _cda, "gsps": _gsps}[kind](dataset, who, ledger, root)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    ledger.secrets = list(dict.fromkeys([*ledger.secrets, *who.secrets()]))
    return stream.getvalue(), ledger


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def _item(kind: str, relation: str, value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relation, kind
    item.ConceptNameCodeSequence = _code(value, scheme, meaning)
    return item


def _sr(dataset: Dataset, who: Person, ledger: Ledger, root: str) -> None:
    dataset.Modality = "SR"
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "VERIFIED"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = _code("18748-4", "LN", "Diagnostic imaging report")
    observer = Dataset()
    observer.VerifyingObserverName, observer.VerifyingOrganization = who.physician_pn, who.hospital
    observer.VerificationDateTime = f"{who.study_date:%Y%m%d}120000"
    observer.VerifyingObserverIdentificationCodeSequence = Sequence([])
    dataset.VerifyingObserverSequence = Sequence([observer])
    local = who.full_hangul or f"{who.given} {who.family}"
    finding = _item("TEXT", "CONTAINS", "121071", "DCM", "Finding")
    finding.TextValue = (
        f"{local} 환자 흉부 폐렴 소견. Chest pneumonia in {who.given} {who.family}, "
        f"RRN {who.rrn}, tel {who.mobile}. No fracture. 주소 {who.address}"
    )
    person = _item("PNAME", "HAS OBS CONTEXT", "121008", "DCM", "Person Observer Name")
    person.PersonName = who.physician_pn
    subject = _item("PNAME", "HAS OBS CONTEXT", "121029", "DCM", "Subject Name")
    subject.PersonName = who.pn
    day = _item("DATE", "HAS OBS CONTEXT", "121031", "DCM", "Subject Birth Date")
    day.Date = f"{who.birth:%Y%m%d}"
    moment = _item("DATETIME", "HAS ACQ CONTEXT", "111526", "DCM", "DateTime Started")
    moment.DateTime = f"{who.study_date:%Y%m%d}101010"
    uid = _item("UIDREF", "HAS OBS CONTEXT", "121018", "DCM", "Procedure Study Instance UID")
    uid.UID = f"{root}.1.1234567"
    number = _item("NUM", "CONTAINS", "118565006", "SCT", "Volume")
    measured = Dataset()
    measured.NumericValue = "12.5"
    measured.MeasurementUnitsCodeSequence = _code("ml", "UCUM", "milliliter")
    number.MeasuredValueSequence = Sequence([measured])
    section = _item("CONTAINER", "CONTAINS", "121070", "DCM", "Findings")
    section.ContinuityOfContent = "SEPARATE"
    section.ContentSequence = Sequence([finding, number])
    dataset.ContentSequence = Sequence([person, subject, day, moment, uid, section])
    top = tag("ContentSequence")
    inside = (top, top, tag("TextValue"))
    ledger.plant("sr/TEXT", inside, [who.given, local, who.rrn, who.mobile, who.road])
    words = ("Chest", "pneumonia", "fracture", "흉부", "폐렴")
    ledger.plant("sr/TEXT", inside, (), words, "option")
    ledger.plant("sr/PNAME", (top, tag("PersonName")), [who.given, who.physician[1]])
    ledger.plant("sr/DATE", (top, tag("Date")), [f"{who.birth:%Y%m%d}"])
    ledger.plant("sr/verifier", (tag("VerifyingObserverSequence"),), [who.physician[1]])
    path = (top, top, tag("MeasuredValueSequence"), tag("NumericValue"))
    ledger.plant("sr/NUM", path, (), ["12.5"], "option")
    concept = (top, top, tag("ConceptNameCodeSequence"), tag("CodeMeaning"))
    ledger.plant("sr/CodeMeaning", concept, (), ["Finding", "Volume"], "option")


def _pdf(dataset: Dataset, who: Person, ledger: Ledger, root: str) -> None:
    text = f"BT /F1 12 Tf 72 700 Td ({who.given} {who.family} {who.rrn}) Tj ET".encode("latin-1")
    packed = zlib.compress(f"({who.given} {who.mrn} {who.mobile})".encode())
    body = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    body += b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    body += b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R>>endobj\n"
    body += b"4 0 obj<</Length %d>>stream\n%s\nendstream endobj\n" % (len(text), text)
    body += b"5 0 obj<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream endobj\n" % (
        len(packed), packed,
    )  # fmt: skip
    author = who.full_hangul or who.given
    body += b"6 0 obj<</Author(%s)>>endobj\n" % author.encode("utf-16-be")
    body += b"trailer<</Root 1 0 R/Info 6 0 R>>\n%%EOF\n"
    dataset.Modality, dataset.MIMETypeOfEncapsulatedDocument = "DOC", "application/pdf"
    _document(dataset, who, ledger, body)


def _cda(dataset: Dataset, who: Person, ledger: Ledger, root: str) -> None:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3">'
        f'<recordTarget><patientRole><id extension="{who.mrn}"/><addr>{who.address}</addr>'
        f"<telecom value='tel:{who.mobile}'/><patient><name><given>{who.given}</given>"
        f"<family>{who.family}</family></name></patient></patientRole></recordTarget>"
        f"<text>{who.full_hangul} {who.rrn} CHEST</text></ClinicalDocument>"
    ).encode()
    dataset.Modality, dataset.MIMETypeOfEncapsulatedDocument = "DOC", "text/XML"
    dataset.HL7InstanceIdentifier = f"1.2.410.200088.41^{who.mrn}"
    ledger.plant("document/HL7InstanceIdentifier", (tag("HL7InstanceIdentifier"),), [who.mrn])
    _document(dataset, who, ledger, body)


def _document(dataset: Dataset, who: Person, ledger: Ledger, body: bytes) -> None:
    dataset.ConversionType, dataset.BurnedInAnnotation = "WSD", "YES"
    dataset.DocumentTitle = f"Report of {who.given} {who.family}"
    dataset.AcquisitionDateTime = f"{who.study_date:%Y%m%d}101010"
    dataset.ConceptNameCodeSequence = _code("18748-4", "LN", "Diagnostic imaging report")
    dataset.EncapsulatedDocument = body + b"\0" * (len(body) % 2)
    ledger.says_burned_in = True
    ledger.plant("document/bytes", (tag("EncapsulatedDocument"),), [who.given, who.mrn, who.rrn])
    ledger.plant("document/DocumentTitle", (tag("DocumentTitle"),), [who.given])


def _gsps(dataset: Dataset, who: Person, ledger: Ledger, root: str) -> None:
    dataset.Modality = "PR"
    dataset.ContentLabel, dataset.ContentDescription = "NOTES", f"notes on {who.given}"
    dataset.ContentCreatorName = who.physician_pn
    dataset.PresentationCreationDate = f"{who.study_date:%Y%m%d}"
    dataset.PresentationCreationTime = "101112"
    image = Dataset()
    image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    image.ReferencedSOPInstanceUID = f"{root}.9.1234567"
    series = Dataset()
    series.SeriesInstanceUID = f"{root}.8.1234567"
    series.ReferencedImageSequence = Sequence([image])
    dataset.ReferencedSeriesSequence = Sequence([series])
    text = Dataset()
    text.BoundingBoxAnnotationUnits = "PIXEL"
    text.BoundingBoxTopLeftHandCorner, text.BoundingBoxBottomRightHandCorner = (
        [1.0, 1.0],
        [9.0, 9.0],
    )
    text.BoundingBoxTextHorizontalJustification = "LEFT"
    text.UnformattedTextValue = f"liver lesion {who.given} {who.family} {who.rrn}"
    line = Dataset()
    line.GraphicAnnotationUnits, line.GraphicDimensions = "PIXEL", 2
    line.NumberOfGraphicPoints, line.GraphicType, line.GraphicFilled = 2, "POLYLINE", "N"
    line.GraphicData = [1.0, 1.0, 5.0, 5.0]
    annotation = Dataset()
    annotation.GraphicLayer = "LAYER1"
    annotation.TextObjectSequence = Sequence([text])
    annotation.GraphicObjectSequence = Sequence([line])
    dataset.GraphicAnnotationSequence = Sequence([annotation])
    layer = Dataset()
    layer.GraphicLayer, layer.GraphicLayerOrder = "LAYER1", 1
    layer.GraphicLayerDescription = f"layer of {who.physician[1]}"
    dataset.GraphicLayerSequence = Sequence([layer])
    top = tag("GraphicAnnotationSequence")
    path = (top, tag("TextObjectSequence"), tag("UnformattedTextValue"))
    ledger.plant("graphics/text", path, [who.given, who.rrn])
    ledger.plant("graphics/text", path, (), ["liver", "lesion"], "option")
    points = (top, tag("GraphicObjectSequence"), tag("GraphicData"))
    ledger.plant("graphics/points", points, (), ["5.0"], "option")
    path = (tag("GraphicLayerSequence"), tag("GraphicLayerDescription"))
    ledger.plant("graphics/layer", path, [who.physician[1]])
    ledger.plant("graphics/ContentDescription", (tag("ContentDescription"),), [who.given])
