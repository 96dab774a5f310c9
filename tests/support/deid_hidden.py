"""Where else can identity hide in a data set? Private, unknown, overlays, icons, meta, padding."""

from __future__ import annotations

import random
import struct

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from tests.support.deid_ledger import Ledger
from tests.support.deid_people import Person
from tests.support.deid_places import tag
from tests.support.deid_streams import expected_length

_CREATOR = "VENDOR ZETA 4.2"
_GROUP = 0x0077


def plant_hidden(
    dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random, *, share: float
) -> None:
    """Plant in every kind of hiding place, each with the probability ``share``."""
    for place in (
        _private_text, _private_bytes, _private_sequence, _un_coded, _unknown_tags, _wrong_charset,
        _overlay, _unused_bits, _icon, _graphic, _curve, _signature, _safe_private, _staff_codes,
    ):  # fmt: skip
        if rng.random() < share:
            place(dataset, who, ledger, rng)
    _container(dataset, who, ledger, rng)


def _raw(dataset: Dataset, number: int, vr: str, value: bytes) -> None:
    """Set an element that is written as it stands, whatever the dictionary says of its tag."""
    implicit, little = dataset.original_encoding
    raw = RawDataElement(Tag(number), vr, len(value), value, 0, bool(implicit), bool(little), True)
    dataset[Tag(number)] = raw


def _private_text(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    block = dataset.private_block(_GROUP, _CREATOR, create=True)
    block.add_new(0x01, "LO", f"{who.given} {who.family}")
    block.add_new(0x02, "SH", who.mrn)
    block.add_new(0x03, "PN", who.pn)
    block.add_new(0x04, "DA", f"{who.birth:%Y%m%d}")
    block.add_new(0x05, "LT", f"{who.full_hangul or who.given} {who.rrn} {who.mobile}")
    for offset, gone in ((1, who.given), (2, who.mrn), (3, who.given), (5, who.rrn)):
        ledger.plant("private/text", (block.get_tag(offset),), [gone])


def _private_bytes(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    block = dataset.private_block(_GROUP, _CREATOR, create=True)
    local = who.full_hangul or f"{who.given} {who.family}"
    encoded = {
        0x11: ("OB", local.encode("euc-kr", "ignore") + b" " + who.rrn.encode()),
        0x12: ("UN", f"{who.family}^{who.given} {who.mrn}".encode("latin-1", "ignore")),
        0x13: ("OB", f"{who.given} {local}".encode("utf-16-le")),
        0x14: ("OB", f"ホン・ギルドン {who.full_hanja or who.given}".encode("shift-jis", "ignore")),
        0x15: ("UN", f"{local} {who.address}".encode()),
    }
    for offset, (vr, value) in encoded.items():
        value += b"\0" * (len(value) % 2)
        block.add_new(offset, vr, value)
        ledger.plant("private/bytes", (block.get_tag(offset),), [who.mrn, who.rrn, local])


def _private_sequence(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    block = dataset.private_block(_GROUP, _CREATOR, create=True)
    item = Dataset()
    item.PatientName, item.PatientID = who.pn, who.mrn
    inner = item.private_block(_GROUP, _CREATOR, create=True)
    inner.add_new(0x01, "LO", f"{who.given} {who.rrn}")
    block.add_new(0x21, "SQ", Sequence([item]))
    path = (block.get_tag(0x21), tag("PatientName"))
    ledger.plant("private/sequence", path, [who.given])
    ledger.plant("private/sequence", (block.get_tag(0x21), inner.get_tag(0x01)), [who.given])


def _safe_private(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    """A vendor's b-value, which research needs; beside it a name under the same creator."""
    if str(dataset.get("Modality")) != "MR" or (0x0019, 0x0010) in dataset:
        return
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x08, "LO", f"{who.given} {who.family}")
    ledger.plant("private/safe", (block.get_tag(0x0C),), (), ["1000"], "option")
    ledger.plant("private/beside-safe", (block.get_tag(0x08),), [who.given])


def _un_coded(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    """Standard attributes written as UN: VR-based rules never see them."""
    local = (who.full_hangul or who.given).encode()
    for keyword, value in (
        ("PatientReligiousPreference", local + b" temple"),
        ("PatientBirthName", who.pn.encode()),
        ("CountryOfResidence", who.address.encode()),
        ("PatientBirthTime", who.mobile.encode()),
    ):
        value += b" " * (len(value) % 2)
        _raw(dataset, tag(keyword), "UN", value)
        gone = [who.mobile] if keyword == "PatientBirthTime" else [who.given]
        ledger.plant("un-coded/text", (tag(keyword),), gone)
    name = f"{who.given}^{who.family}".encode("ascii", "ignore")
    name += b" " * (len(name) % 2)
    element = struct.pack("<HHI", 0x0010, 0x0010, len(name)) + name
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(element)) + element
    number = tag("ReferencedPatientSequence")
    _raw(dataset, number, "UN", item)
    ledger.plant("un-coded/sequence", (number, tag("PatientName")), [who.given])


def _unknown_tags(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    for number, vr in (
        (0x0018FFF2, "LO"),
        (0x00420FF2, "UT"),
        (0x0088FFF0, "SH"),
        (0x20FF0010, "LO"),
    ):
        dataset[number] = DataElement(number, vr, f"{who.given} {who.mrn}"[:16])
        ledger.plant("unknown/even-group", (number,), [who.given])
    for keyword in ("ModifyingDeviceManufacturer", "StudyIDIssuer", "SourceOfPreviousValues"):
        number = tag(keyword)
        dataset[number] = DataElement(number, "LO", f"{who.given} {who.family}")
        ledger.plant("retired/text", (number,), [who.given])


def _wrong_charset(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    """EUC-KR and Shift-JIS bytes under another character set: no decoder sees them."""
    if who.country != "KR":
        return
    for keyword, encoding in (
        ("MedicalAlerts", "euc-kr"), ("ReasonForVisit", "cp949"), ("EthnicGroup", "shift-jis"),
    ):  # fmt: skip
        text = who.full_hanja if encoding == "shift-jis" else who.full_hangul
        value = b"CHEST " + text.encode(encoding, "ignore")
        value += b" " * (len(value) % 2)
        _raw(dataset, tag(keyword), "LO", value)
        ledger.plant("wrong-charset", (tag(keyword),), [text])


def _rendered(text: str, rows: int, columns: int, size: int) -> np.ndarray:
    from tests.support.deid_burn import render

    ink = render(text, size) > 127
    plane = np.zeros((rows, columns), bool)
    h, w = min(rows, ink.shape[0]), min(columns, ink.shape[1])
    plane[:h, :w] = ink[:h, :w]
    return plane


def _overlay(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    rows, columns = 64, 256
    plane = _rendered(f"{who.given} {who.family}", rows, columns, 24)
    group = rng.choice([0x6000, 0x6002, 0x601E])
    packed = np.packbits(plane.ravel(), bitorder="little").tobytes()
    for number, vr, value in (
        (0x0010, "US", rows), (0x0011, "US", columns), (0x0040, "CS", "G"), (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1), (0x0102, "US", 0), (0x0022, "LO", f"Overlay {who.given}"),
        (0x1500, "LO", f"{who.given} {who.mrn}"), (0x4000, "LT", f"{who.rrn} {who.family}"),
    ):  # fmt: skip
        dataset[Tag(group, number)] = DataElement(Tag(group, number), vr, value)
    dataset[Tag(group, 0x3000)] = DataElement(Tag(group, 0x3000), "OW", packed)
    ledger.plant("overlay/plane", (Tag(group, 0x3000),))
    for number, gone in ((0x0022, who.given), (0x1500, who.mrn), (0x4000, who.rrn)):
        ledger.plant("overlay/text", (Tag(group, number),), [gone])


def _unused_bits(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    """Before 2004, overlays lived in the bits of native pixels that the image does not use."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if "PixelData" not in dataset or syntax not in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
        return
    size = expected_length(dataset)
    stored, rows, columns = (dataset.get(k) or 0 for k in ("BitsStored", "Rows", "Columns"))
    if not size or len(dataset.PixelData) != size or min(rows, columns) < 64:
        return
    if dataset.BitsAllocated != 16 or not 0 < stored < 16 or dataset.SamplesPerPixel != 1:
        return
    if dataset.get("HighBit") != stored - 1 or dataset.get("PixelRepresentation"):
        return
    words = np.frombuffer(dataset.PixelData, "<u2").reshape(-1, rows, columns)
    if (words >> 15).any():
        return  # something is there already
    plane = _rendered(f"{who.given} {who.mrn}", rows, columns, 20)
    dataset["PixelData"]._value = (words | (plane.astype("<u2") << 15)).astype("<u2").tobytes()
    group = 0x6010
    for number, vr, value in (
        (0x0010, "US", dataset.Rows), (0x0011, "US", dataset.Columns), (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]), (0x0100, "US", 16), (0x0102, "US", 15),
    ):  # fmt: skip
        dataset[Tag(group, number)] = DataElement(Tag(group, number), vr, value)
    ledger.plant("overlay/in-pixels")


def _icon(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    icon = Dataset()
    icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
    icon.Rows, icon.Columns, icon.BitsAllocated, icon.BitsStored, icon.HighBit = 32, 64, 8, 8, 7
    icon.PixelRepresentation = 0
    pixels = _rendered(who.given, 32, 64, 14)
    icon.add_new(tag("PixelData"), "OB", (pixels * np.uint8(255)).astype(np.uint8).tobytes())
    dataset.IconImageSequence = Sequence([icon])
    ledger.plant("icon", (tag("IconImageSequence"),))


def _graphic(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    text = Dataset()
    text.UnformattedTextValue = f"{who.given} {who.family} {who.mrn}"
    annotation = Dataset()
    annotation.GraphicLayer = "LAYER1"
    annotation.TextObjectSequence = Sequence([text])
    dataset.GraphicAnnotationSequence = Sequence([annotation])
    path = tag("GraphicAnnotationSequence"), tag("TextObjectSequence")
    ledger.plant("graphics/text", (*path, tag("UnformattedTextValue")), [who.given, who.mrn])


def _curve(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    value = f"{who.given}^{who.mrn}".encode("ascii", "ignore")
    value += b"\0" * (len(value) % 2)
    dataset[0x50003000] = DataElement(0x50003000, "OB", value)
    dataset[0x50000022] = DataElement(0x50000022, "LO", f"curve {who.given}")
    ledger.plant("curve", (0x50003000,), [who.given])
    ledger.plant("curve", (0x50000022,), [who.given])


def _signature(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    item = Dataset()
    item.DigitalSignatureUID = f"1.2.410.200088.32.{rng.randrange(10**9)}.1234567.1"
    item.CertificateType, item.MACIDNumber = "X509_1993_SIG", 1
    item.CertificateOfSigner = f"CN={who.physician[1]} {who.hospital}".encode() + b" "
    dataset.DigitalSignaturesSequence = Sequence([item])
    path = tag("DigitalSignaturesSequence"), tag("CertificateOfSigner")
    ledger.plant("signature", path, [who.physician[1]])


def _staff_codes(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    item = Dataset()
    item.InstitutionName, item.InstitutionAddress = who.hospital, who.address
    item.Manufacturer, item.StationName = "Zeta", f"ST{who.mrn}"
    item.OperatorsName = who.physician_pn
    item.ContributionDescription = f"sent by {who.physician[1]}"
    dataset.ContributingEquipmentSequence = Sequence([item])
    top = tag("ContributingEquipmentSequence")
    for keyword, gone in (
        ("InstitutionName", who.hospital), ("StationName", who.mrn),
        ("OperatorsName", who.physician[1]), ("ContributionDescription", who.physician[1]),
    ):  # fmt: skip
        ledger.plant("nested/ContributingEquipment", (top, tag(keyword)), [gone])


def _container(dataset: Dataset, who: Person, ledger: Ledger, rng: random.Random) -> None:
    """Preamble, file meta, trailing padding."""
    if getattr(dataset, "preamble", None):
        note = f"{who.given} {who.rrn} ".encode("ascii", "ignore")
        note += who.full_hangul.encode("euc-kr", "ignore")
        dataset.preamble = note.ljust(128, b"\0")[:128]
        ledger.plant("container/preamble", (), [who.given, who.rrn])
    meta = dataset.file_meta
    if "TransferSyntaxUID" in meta:
        meta.SourceApplicationEntityTitle = f"{who.given[:8].upper()}_AE"
        meta.SendingApplicationEntityTitle = f"{who.mrn}AE"
        meta.ReceivingApplicationEntityTitle = f"{who.given[:8].upper()}_RX"
        meta.ImplementationVersionName = f"{who.given[:10].upper()}_V1"
        meta.PrivateInformationCreatorUID = "1.2.410.200088.33.1"
        private = f"{who.given} {who.mrn} {who.rrn}".encode("ascii", "ignore")
        meta.PrivateInformation = private + b"\0" * (len(private) % 2)
        ledger.plant("container/file-meta", (), [who.given, who.mrn])
    padding = f"{who.given} {who.rrn}".encode("ascii", "ignore")
    dataset[0xFFFCFFFC] = DataElement(0xFFFCFFFC, "OB", padding + b"\0" * (len(padding) % 2))
    ledger.plant("container/trailing-padding", (0xFFFCFFFC,), [who.given])
