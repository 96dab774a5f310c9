from __future__ import annotations

from deid.iod import Type, possible_types, types_for_class
from deid.standard import tags_of_keywords

TAG = tags_of_keywords()
CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def test_types_are_those_of_the_classs_modules() -> None:
    ct, enhanced = types_for_class(CT), types_for_class(ENHANCED_CT)
    assert ct.name == "ct-image"
    assert ct.type_of(TAG["StudyDate"]) is Type.PRESENT  # PS3.3 C.7.2.1
    assert ct.type_of(TAG["DeviceSerialNumber"]) is Type.OPTIONAL  # C.7.5.1
    assert enhanced.type_of(TAG["DeviceSerialNumber"]) is Type.VALUE  # C.7.5.2
    assert enhanced.type_of(TAG["ContentDate"]) is Type.VALUE


def test_a_condition_that_may_hold_counts_as_held() -> None:
    assert types_for_class(ENHANCED_CT).type_of(TAG["AcquisitionDateTime"]) is Type.VALUE  # 1C


def test_what_a_class_does_not_mention_is_optional() -> None:
    assert types_for_class(CT).type_of(TAG["RTPlanDate"]) is Type.OPTIONAL
    assert types_for_class(CT).type_of(0x00091001) is Type.OPTIONAL


def test_the_type_inside_a_sequence_is_that_of_the_sequence() -> None:
    ct = types_for_class(CT)
    assert ct.type_of(TAG["PersonName"], TAG["ContentSequence"]) is Type.VALUE  # C.17.3, 1C
    assert ct.type_of(TAG["SourceImageSequence"], TAG["DerivationImageSequence"]) is Type.PRESENT


def test_an_unknown_class_gets_the_strictest_type_of_all() -> None:
    unknown = types_for_class("1.2.3.4")
    assert unknown.name == ""
    for keyword in ("DeviceSerialNumber", "ContentDate", "RTPlanLabel"):
        assert unknown.type_of(TAG[keyword]) is Type.VALUE


def test_possible_types_bound_every_answer() -> None:
    for keyword in ("DeviceSerialNumber", "StudyDate", "PersonName", "KVP"):
        possible = possible_types(TAG[keyword])
        for uid in (CT, ENHANCED_CT, "1.2.3"):
            for parent in (0, TAG["ContentSequence"], 0x00091001):
                assert types_for_class(uid).type_of(TAG[keyword], parent) in possible
