from __future__ import annotations

import pickle

import pytest

from deid.actions import Kind
from deid.iod import Type
from deid.profile import shipped_profile
from deid.rules import Rulebook
from deid.standard import tags_of_keywords
from schemas.errors import ConfigError, ErrorCode

TAG = tags_of_keywords()
CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
VOICE = "1.2.840.10008.5.1.4.1.1.9.4.1"
ECG = "1.2.840.10008.5.1.4.1.1.9.1.1"
BASIC = Rulebook(shipped_profile("basic"))
RESEARCH = Rulebook(shipped_profile("research"))


def test_compound_codes_follow_the_objects_class() -> None:
    tag = TAG["DeviceSerialNumber"]  # X/Z/D
    assert BASIC.for_class(CT).decide(tag).kind is Kind.REMOVE
    required = BASIC.for_class(ENHANCED_CT).decide(tag)
    assert required.kind is Kind.RECORD and required.type is Type.VALUE
    assert required.code == "X/Z/D → D"


def test_an_unknown_class_keeps_every_demanded_attribute() -> None:
    assert BASIC.for_class("1.2.3").decide(TAG["DeviceSerialNumber"]).kind is Kind.RECORD


def test_the_enclosing_sequence_counts() -> None:
    rules = BASIC.for_class(CT)
    assert rules.decide(TAG["TextValue"]).kind is Kind.REMOVE
    assert rules.decide(TAG["TextValue"], TAG["ContentSequence"]).kind is Kind.DUMMY


def test_pixels_stay_at_the_top_only_where_they_are_examined() -> None:
    rules = RESEARCH.for_class(CT)
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        assert rules.decide(TAG[keyword]).kind is Kind.PIXELS
        assert rules.decide(TAG[keyword], TAG["SourceImageSequence"]).kind is Kind.REMOVE


def test_answers_are_remembered() -> None:
    rules = RESEARCH.for_class(CT)
    assert rules is RESEARCH.for_class(CT)
    assert rules.decide(TAG["StudyDate"]) is rules.decide(TAG["StudyDate"])


def test_a_voice_never_stays_and_a_cardiogram_does() -> None:
    for book in (BASIC, RESEARCH):
        assert book.for_class(VOICE).decide(TAG["WaveformData"]).kind is Kind.DUMMY
        assert book.for_class(ECG).decide(TAG["WaveformData"]).kind is Kind.KEEP


def test_a_safe_private_element_tells_its_vr() -> None:
    rules = RESEARCH.for_class(CT)
    assert rules.private_vr("SIEMENS MR HEADER", 0x0019100C) == "IS"
    assert rules.private_vr("SIEMENS CSA HEADER", 0x00291010) == ""
    assert rules.decide_private("SIEMENS MR HEADER ", 0x0019100C, "IS", 0).kind is Kind.KEEP


def test_the_dictionarys_vr_is_given_for_un_coded_elements() -> None:
    rules = RESEARCH.for_class(CT)
    assert rules.vr(TAG["PatientName"]) == "PN" and rules.vr(0x00500410) == ""


def test_a_table_profile_has_no_rules_for_objects() -> None:
    with pytest.raises(ConfigError) as caught:
        Rulebook(shipped_profile("ehr-table"))
    assert caught.value.code is ErrorCode.DEID_PROFILE_INVALID


def test_a_decision_can_be_sent_to_a_worker() -> None:
    decision = RESEARCH.for_class(CT).decide(TAG["StudyDate"])
    assert pickle.loads(pickle.dumps(decision)) == decision
