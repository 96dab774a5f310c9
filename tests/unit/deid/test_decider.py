from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import pytest

from deid import decider, standard
from deid.actions import Kind
from deid.decider import Decider
from deid.iod import Type
from deid.options import Option
from deid.profile import Profile, parse_profile, shipped_profile
from deid.standard import tags_of_keywords

TAG = tags_of_keywords()
SOURCE = json.loads(standard.read_data("standard/table_E1-1_basic_2026c_options_2024e.json"))
TEXT = {"LO", "SH", "LT", "ST", "UT", "UC"}
DATES = {"DA", "DT", "TM"}
# What each letter of PS3.15 Table E.1-1a allows; a new UID and a keyed pseudonym are stand-ins.
STAND_INS = {Kind.DUMMY, Kind.PATIENT, Kind.RECORD, Kind.UID, Kind.DOCUMENT}
ALLOWED = {
    "X": {Kind.REMOVE},
    "Z": {Kind.EMPTY, Kind.PATIENT, Kind.RECORD},
    "D": STAND_INS,
    "U": {Kind.UID},
    "U*": {Kind.KEEP},
}
# What researchers use, by kind of object.
KEPT = (
    "Modality", "ImageType", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient",
    "ImageOrientationPatient", "SliceThickness", "KVP", "XRayTubeCurrent", "RepetitionTime",
    "EchoTime", "FlipAngle", "ScanningSequence", "SamplesPerPixel", "BitsStored", "RescaleSlope",
    "RescaleIntercept", "WindowCenter", "LossyImageCompression", "LUTDescriptor", "LUTData",
    "RedPaletteColorLookupTableData", "ICCProfile", "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "DimensionIndexSequence",
    "WaveformData", "WaveformSequence", "SpectroscopyData", "ROIContourSequence", "ContourData",
    "BeamSequence", "DVHSequence", "DoseGridScaling", "SegmentSequence",
    "SegmentedPropertyTypeCodeSequence", "AnatomicRegionSequence", "ProcedureCodeSequence",
    "SequenceOfUltrasoundRegions", "Laterality", "RadiopharmaceuticalInformationSequence",
    "RadionuclideTotalDose", "PatientPosition", "NumericValue", "MeasuredValueSequence",
    "ExtendedOffsetTable", "ImagePosition", "SeriesNumber", "InstanceNumber",
)  # fmt: skip
TECHNICAL = (
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel",
    "SequenceName", "BodyPartExamined", "CodeValue", "CodeMeaning", "RescaleType",
    "PositionReferenceIndicator", "StackID", "ReceiveCoilName", "Radiopharmaceutical",
    "ReconstructionMethod", "ApplicatorID", "AlgorithmName",
)  # fmt: skip
# Z and Z/D would allow nothing here; we promise a pseudonym, so that objects still join.
LINKS = {
    TAG["PatientName"]: {Kind.PATIENT},
    TAG["PatientID"]: {Kind.PATIENT},
    TAG["AccessionNumber"]: {Kind.RECORD},
    TAG["StudyID"]: {Kind.RECORD},
}
LATER = 0x00700006  # UnformattedTextValue: see CONFORMANCE.md


def profile_of(*options: Option, references: str = "by-type") -> Profile:
    words = ", ".join(f'"{option.value}"' for option in options)
    text = f'version = 2\nname = "t"\n[dicom]\nreferences = "{references}"\noptions = [{words}]\n'
    return parse_profile(text.encode())


# Code X, yet of Type 1 in every presentation state (PS3.3 C.11.10).
PRESENTATION = (TAG["PresentationCreationDate"], TAG["PresentationCreationTime"])


def basic_kinds(code: str, kind: Type) -> set[Kind]:
    """Recompute, apart from the product, what the Basic Profile's code allows for a type."""
    letters = code.split("/")
    if kind is Type.OPTIONAL or len(letters) == 1:
        allowed = set(ALLOWED[letters[0]])
        chosen = letters[0]
    elif kind is Type.PRESENT:
        chosen = next(letter for letter in letters if letter != "X")
        allowed = set(ALLOWED[chosen])
    else:
        chosen = next((x for x in letters if x not in ("X", "Z")), "Z")
        allowed = set(ALLOWED[chosen])
    if kind is Type.VALUE and chosen == "Z":
        allowed = set(STAND_INS)
    return allowed


def wrong_rows(profile: Profile) -> list[str]:
    """Compare the decision for every published row and type with the row's code and letters."""
    decide = Decider(profile).decide
    wrong = []
    for row in SOURCE:
        key = row["tag"].strip("()").replace(",", "")
        if not all(character in "0123456789ABCDEFabcdef" for character in key):
            continue
        tag, vr = int(key, 16), row["vr"]
        on = {row[o.column] for o in profile.options if o.column and o.column in row}
        for kind in Type:
            basic = LINKS.get(tag) or basic_kinds(row["basicProfile"], kind)
            if tag in PRESENTATION and kind is Type.VALUE:
                basic = {Kind.DUMMY}
            if "C" in on:
                text = {Kind.TECHNICAL} if tag == 0x00080201 else {Kind.CLEAN_TEXT}
                sequence = {Kind.KEEP, Kind.CLEAN_CONTENT, Kind.CLEAN_GRAPHIC}
                allowed = (
                    {Kind.SHIFT_DATE} if vr in DATES
                    else text if vr in TEXT
                    else sequence if vr == "SQ"
                    else basic
                )  # fmt: skip
            elif "K" in on:
                allowed = {Kind.KEEP, Kind.TECHNICAL} if vr in TEXT else {Kind.KEEP}
            else:
                allowed = basic
                if profile.references == "keep" and row["basicProfile"].endswith("U*"):
                    allowed = {Kind.KEEP}
                if tag == LATER and Option.CLEAN_GRAPHICS in profile.options:
                    allowed = {Kind.CLEAN_TEXT}
            if decide(tag, kind).kind not in allowed:
                wrong.append(f"{row['tag']} type {kind}")
    return wrong


def profiles() -> Iterable[Profile]:
    yield from (shipped_profile("basic"), shipped_profile("research"))
    yield from (profile_of(option) for option in Option)
    yield profile_of(*(set(Option) - {Option.RETAIN_FULL_DATES}))
    yield profile_of(*(set(Option) - {Option.RETAIN_MODIFIED_DATES}))


@pytest.mark.parametrize(
    "profile", list(profiles()), ids=lambda p: "+".join(sorted(p.options))[:60]
)
def test_every_row_is_decided_by_its_code_and_the_options_on(profile: Profile) -> None:
    assert wrong_rows(profile) == []


def _other_row(tag: int, code: str) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        row = standard.rows()[tag]
        rows = dict(standard.rows()) | {tag: standard.Row(code, row.letters, True)}
        monkeypatch.setattr(standard, "rows", lambda: rows)

    return patch


@pytest.mark.parametrize(
    "mutation",
    [
        _other_row(0x00100040, "X"),  # PatientSex is Z
        _other_row(0x00080080, "X/D"),  # InstitutionName is X/Z/D
        _other_row(0x00101040, "Z"),  # PatientAddress is X
        lambda m: m.setattr(decider, "_clean", lambda tag, vr: Kind.KEEP),
        lambda m: m.setattr(decider, "_kept", lambda vr, letters: Kind.TECHNICAL),
        lambda m: m.setattr(decider, "_PATIENT_LINKS", frozenset({0x00101040})),
        lambda m: m.setattr(decider, "DATE_VRS", frozenset({"DA"})),
        lambda m: m.setattr(decider, "_treatment", lambda tag, vr, letter: Kind.REMOVE),
    ],
)
def test_a_changed_rule_is_noticed(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    assert any(wrong_rows(p) for p in (shipped_profile("basic"), shipped_profile("research")))


@pytest.mark.parametrize("name", ["basic", "research"])
def test_what_is_unknown_retired_private_or_structure_is_removed(name: str) -> None:
    decide = Decider(shipped_profile(name)).decide
    for tag in (
        0x00091001,  # private
        0x00190010,  # private creator: its block decides
        0x00500410,  # not in the dictionary
        0x00080001,  # group length's neighbour, retired
        0x00100000,  # group length
        0x00020016,  # file meta
        0x00041500,  # directory record
        0x50003000, 0x50002500, 0x501E0005,  # curves
        0x60003000, 0x60001500, 0x601E0022,  # overlays: data, label, description
        0xFFFEE000, 0xFFFCFFFC,  # delimiter, padding
        TAG["StudyStatusID"], TAG["RecognitionCode"], TAG["RequestedProcedureDescriptionTrial"],
        TAG["IconImageSequence"], TAG["OriginalAttributesSequence"], TAG["RetrieveURL"],
        TAG["DigitalSignaturesSequence"], TAG["EncryptedAttributesSequence"],
        TAG["MACParametersSequence"], TAG["DeidentificationMethod"],
    ):  # fmt: skip
        for kind in Type:
            assert decide(tag, kind).kind is Kind.REMOVE, f"{tag:08X}"


@pytest.mark.parametrize("name", ["basic", "research"])
def test_what_research_needs_stays(name: str) -> None:
    decide = Decider(shipped_profile(name)).decide
    assert {k: decide(TAG[k], Type.OPTIONAL).kind for k in KEPT} == dict.fromkeys(KEPT, Kind.KEEP)
    for keyword in TECHNICAL:
        assert decide(TAG[keyword], Type.OPTIONAL).kind is Kind.TECHNICAL, keyword
    for keyword in ("SOPInstanceUID", "ReferencedSOPInstanceUID", "FrameOfReferenceUID"):
        assert decide(TAG[keyword], Type.VALUE).kind is Kind.UID


def test_no_person_name_date_of_birth_or_staff_code_ever_stays() -> None:
    for profile in profiles():
        decide = Decider(profile).decide
        for tag in standard.every_tag():
            found = standard.entry(tag)
            if found is None or found.vr != "PN":
                continue
            for kind in Type:
                outcome = decide(tag, kind).kind
                assert outcome in (Kind.REMOVE, Kind.EMPTY, Kind.DUMMY, Kind.PATIENT)
        for keyword in ("PatientBirthDate", "PatientBirthDateInAlternativeCalendar"):
            assert decide(TAG[keyword], Type.PRESENT).kind is Kind.EMPTY
        for keyword in ("RequestingPhysicianIdentificationSequence", "HumanPerformerCodeSequence"):
            assert decide(TAG[keyword], Type.OPTIONAL).kind is Kind.REMOVE


def test_dates_follow_the_options_by_vr() -> None:
    for option, kind in (
        (None, Kind.REMOVE),
        (Option.RETAIN_MODIFIED_DATES, Kind.SHIFT_DATE),
        (Option.RETAIN_FULL_DATES, Kind.KEEP),
    ):
        decide = Decider(profile_of(*([option] if option else []))).decide
        for keyword in (
            "SeriesDate",
            "DateOfGainCalibration",
            "ContentTime",
        ):  # the second unlisted
            first = decide(TAG[keyword], Type.OPTIONAL).kind
            assert first in ({kind, Kind.EMPTY} if option is None else {kind})


def test_device_and_institution_stay_only_under_their_options() -> None:
    none = Decider(profile_of()).decide
    both = Decider(
        profile_of(Option.RETAIN_DEVICE_IDENTITY, Option.RETAIN_INSTITUTION_IDENTITY)
    ).decide
    for keyword in (
        "DeviceSerialNumber", "StationName", "DateOfLastCalibration", "RadiationMachineName",
        "InstitutionName", "InstitutionAddress", "UniversalEntityID",
    ):  # fmt: skip
        assert none(TAG[keyword], Type.OPTIONAL).kind is Kind.REMOVE
        assert both(TAG[keyword], Type.OPTIONAL).kind is Kind.KEEP
    assert both(TAG["StationAETitle"], Type.OPTIONAL).kind is Kind.REMOVE  # C: not cleanable
    moved = Decider(profile_of(Option.RETAIN_DEVICE_IDENTITY, Option.RETAIN_MODIFIED_DATES))
    assert moved.decide(TAG["DateOfLastCalibration"], Type.OPTIONAL).kind is Kind.SHIFT_DATE


def test_uids_stay_only_under_retain_uids() -> None:
    kept = Decider(profile_of(Option.RETAIN_UIDS)).decide
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "TargetFrameOfReferenceUID"):
        assert kept(TAG[keyword], Type.VALUE).kind is Kind.KEEP
    assert kept(TAG["DigitalSignatureUID"], Type.VALUE).kind is Kind.UID  # no letter in the column
    assert kept(TAG["ReferencedImageSequence"], Type.OPTIONAL).kind is Kind.KEEP


def test_references_to_images_follow_their_type_unless_the_profile_keeps_them() -> None:
    by_type, keep = (Decider(profile_of(references=w)).decide for w in ("by-type", "keep"))
    outcomes = [by_type(TAG["SourceImageSequence"], kind).kind for kind in Type]
    assert outcomes == [Kind.KEEP, Kind.EMPTY, Kind.REMOVE]
    assert {keep(TAG["SourceImageSequence"], kind).kind for kind in Type} == {Kind.KEEP}


def test_text_off_every_list_is_cleaned_or_gone_but_never_missed_by_its_class() -> None:
    cleaning = Decider(profile_of(Option.CLEAN_DESCRIPTORS)).decide
    plain = Decider(profile_of()).decide
    tag = TAG["SegmentLabel"]
    assert {cleaning(tag, kind).kind for kind in Type} == {Kind.CLEAN_TEXT}
    assert [plain(tag, kind).kind for kind in Type] == [Kind.DUMMY, Kind.EMPTY, Kind.REMOVE]


def test_structured_content_is_walked_only_under_its_option() -> None:
    clean = Decider(profile_of(Option.CLEAN_STRUCTURED_CONTENT)).decide
    plain = Decider(profile_of()).decide
    for keyword in ("ContentSequence", "AcquisitionContextSequence"):
        assert clean(TAG[keyword], Type.VALUE).kind is Kind.CLEAN_CONTENT
        assert plain(TAG[keyword], Type.VALUE).kind is Kind.DUMMY
    step = TAG["SpecimenPreparationStepContentItemSequence"]
    assert clean(step, Type.VALUE).kind is Kind.CLEAN_CONTENT
    assert clean(TAG["TextValue"], Type.VALUE).kind is Kind.CLEAN_TEXT
    assert plain(TAG["TextValue"], Type.VALUE).kind is Kind.DUMMY


def test_safe_private_elements_stay_by_creator_and_vr_only() -> None:
    keeping = Decider(profile_of(Option.RETAIN_SAFE_PRIVATE)).decide_private
    for vr in ("IS", "UN"):
        assert keeping("SIEMENS MR HEADER", 0x0019110C, vr).kind is Kind.KEEP
    assert keeping("SIEMENS MR HEADER", 0x0019110C, "LO").kind is Kind.REMOVE
    assert keeping("SIEMENS CSA HEADER", 0x00291010, "OB").kind is Kind.REMOVE
    plain = Decider(profile_of()).decide_private
    assert plain("SIEMENS MR HEADER", 0x0019110C, "IS").kind is Kind.REMOVE


def test_an_override_makes_stricter_and_respects_the_class() -> None:
    text = (
        'version = 2\nname = "t"\n[dicom]\noptions = ["clean-descriptors"]\n[override]\n'
        'Manufacturer = "remove"\nStudyDescription = "empty"\nSoftwareVersions = "clean-text"\n'
        'PatientAddress = "remove"\n'
    )
    decide = Decider(parse_profile(text.encode())).decide
    outcomes = [decide(TAG["Manufacturer"], kind).kind for kind in Type]
    assert outcomes == [Kind.DUMMY, Kind.EMPTY, Kind.REMOVE]
    assert decide(TAG["StudyDescription"], Type.OPTIONAL).kind is Kind.EMPTY
    assert decide(TAG["SoftwareVersions"], Type.OPTIONAL).kind is Kind.CLEAN_TEXT
    assert decide(TAG["PatientAddress"], Type.VALUE).kind is Kind.REMOVE


def test_every_decision_gives_its_rule_and_reason() -> None:
    for profile in (shipped_profile("basic"), shipped_profile("research")):
        decide = Decider(profile).decide
        for tag in standard.every_tag():
            for kind in Type:
                decision = decide(tag, kind)
                assert decision.code and decision.because
                assert type(decision.code) is str
