"""What a header states about the part of the body, in words, codes, English and Korean."""

from __future__ import annotations

import time
from io import BytesIO

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from deid.pixels.faces import face_verdict

ROOT = "1.2.840.10008.5.1.4.1.1."
CT, MR, PET = ROOT + "2", ROOT + "4", ROOT + "128"


def scan(sop_class: str = CT, modality: str = "CT", **values: object) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.Modality = sop_class, modality
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value: str, meaning: str = "x") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


@pytest.mark.parametrize(
    "words",
    [
        "HEAD",
        "BRAIN",
        "HEADNECK",
        "SKULL",
        "NECK",
        "JAW",
        "CSPINE",
        "C-SPINE",
        "WHOLEBODY",
        "TOTAL BODY",
        "PET WB",
        "Paranasal Sinuses",
        "Orbits w/o contrast",
        "CT facial bones",
        "sagittal FLAIR",
        "뇌 MRI",
        "두부 CT",
        "부비동",
        "안면부 3D",
        "경추 MRI",
        "전신 PET-CT",
        "chest and neck",
    ],
)
@pytest.mark.parametrize("keyword", ["SeriesDescription", "StudyDescription", "ProtocolName"])
def test_a_word_of_the_head_makes_a_head(words: str, keyword: str) -> None:
    assert face_verdict(scan(**{keyword: words})).verdict == "head"


@pytest.mark.parametrize(
    "words",
    [
        "CHEST",
        "ABDOMEN",
        "KNEE",
        "PELVIS",
        "LSPINE",
        "L-spine",
        "HAND",
        "흉부 CT",
        "복부",
        "무릎 MRI",
    ],
)
def test_only_another_part_lets_it_pass(words: str) -> None:
    assert face_verdict(scan(StudyDescription=words)).verdict == "other"


def test_the_body_part_alone_decides_both_ways() -> None:
    assert face_verdict(scan(BodyPartExamined="CSPINE")).verdict == "head"
    assert face_verdict(scan(BodyPartExamined="EXTREMITY")).verdict == "other"


@pytest.mark.parametrize("words", ["", "AX T2", "routine", "surface coil", "interface", "표준"])
def test_what_is_not_stated_is_not_assumed(words: str) -> None:
    found = face_verdict(scan(StudyDescription=words))
    assert (found.verdict, found.because) == ("unstated", "nothing-stated")


def test_a_head_word_outweighs_any_other_part() -> None:
    dataset = scan(BodyPartExamined="CHEST", SeriesDescription="skull base to thigh")
    assert face_verdict(dataset).verdict == "head"


def test_region_codes_are_known_whatever_their_meaning_says() -> None:
    dataset = scan(MR, "MR")
    dataset.AnatomicRegionSequence = [code("69536005")]
    assert face_verdict(dataset).because == "codes"
    dataset.AnatomicRegionSequence = [code("72696002")]
    assert face_verdict(dataset).verdict == "other"


@pytest.mark.parametrize("groups", ["Shared", "PerFrame"])
def test_the_frames_of_an_enhanced_object_are_asked_too(groups: str) -> None:
    anatomy, group = Dataset(), Dataset()
    anatomy.AnatomicRegionSequence = [code("T-D1100", "Cabeca")]
    group.FrameAnatomySequence = [anatomy]
    dataset = scan(ROOT + "2.1")
    setattr(dataset, f"{groups}FunctionalGroupsSequence", [group])
    assert face_verdict(dataset).verdict == "head"


def test_other_classes_are_not_judged_but_captures_that_name_a_head_are() -> None:
    assert face_verdict(scan(ROOT + "6.1", "US")).verdict == "not-applicable"
    capture = scan(ROOT + "7", "CT")
    assert face_verdict(capture).verdict == "not-applicable"
    capture.SeriesDescription = "VRT face"
    assert face_verdict(capture).verdict == "head"


def test_photographs_and_craniofacial_volumes_are_judged() -> None:
    assert face_verdict(scan(ROOT + "77.1.4", "XC")).verdict == "unstated"
    assert face_verdict(scan(ROOT + "13.1.2", "DX")).verdict == "head"


@pytest.mark.parametrize("charset", [["", "ISO 2022 IR 149"], "ISO_IR 192"])
def test_korean_read_from_a_file_is_understood(charset: str | list[str]) -> None:
    dataset = scan(SpecificCharacterSet=charset, StudyDescription="뇌 검사")
    file = BytesIO()
    pydicom.dcmwrite(file, dataset, implicit_vr=False, little_endian=True)
    file.seek(0)
    assert face_verdict(pydicom.dcmread(file, force=True)).verdict == "head"


def test_a_wrong_character_set_hides_no_word() -> None:
    dataset = scan()
    dataset._dict[Tag(0x00081030)] = RawDataElement(
        Tag(0x00081030), "LO", 4, "두부".encode("euc-kr"), 0, False, True
    )
    assert face_verdict(dataset).verdict == "head"


def test_real_files_and_their_cost() -> None:
    path = get_testdata_file("examples_overlay.dcm", download=False)
    assert face_verdict(pydicom.dcmread(path)).verdict == "other"
    path = get_testdata_file("CT_small.dcm", download=False)
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for _ in range(20)]
    started = time.process_time()
    assert {face_verdict(dataset).verdict for dataset in datasets} == {"unstated"}
    assert (time.process_time() - started) / len(datasets) < 0.002
