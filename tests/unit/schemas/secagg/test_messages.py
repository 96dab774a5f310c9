"""SECAGG-3, -13: what sites sign is strict, and a transcript changes with any of its bits."""

from __future__ import annotations

import pytest
import rfc8785

from schemas.canonical import parse
from schemas.errors import ErrorCode, ProtocolError
from schemas.limits import MAX_HEADER_BYTES, MAX_SITES
from schemas.secagg.messages import (
    Ready,
    SignedReady,
    SurvivorList,
    roster_hash,
    transcript_hash,
)
from tests.support.secure_sum import Consortium


@pytest.fixture(scope="module")
def issued() -> list[SignedReady]:
    consortium = Consortium.of(4)
    return [signed for signed, _ in consortium.issue_all().values()]


def test_ready_survives_the_wire(issued: list[SignedReady]) -> None:
    raw = issued[0].canonical()
    assert parse(SignedReady, raw, max_bytes=MAX_HEADER_BYTES) == issued[0]


def test_a_recoverable_ready_survives_the_wire() -> None:
    signed = Consortium.recoverable(4).issue("site-1")[0]
    assert len(signed.ready.mask_shares) == 4
    assert parse(SignedReady, signed.canonical(), max_bytes=MAX_HEADER_BYTES) == signed


def test_the_header_is_the_ready_without_its_shares(issued: list[SignedReady]) -> None:
    ready = issued[0].ready
    assert ready.header().model_dump() == ready.model_dump(exclude={"group_shares", "mask_shares"})


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"round":3', b'"round":3,"sample_count":12', ErrorCode.FIELD_UNKNOWN),
        (b'"round":3', b'"round":-1', ErrorCode.FIELD_INVALID),
        (b'"round":3', b'"round":"3"', ErrorCode.FIELD_INVALID),
        (b'"kind":"train"', b'"kind":"tune"', ErrorCode.FIELD_INVALID),
        (b'"version":2', b'"version":1', ErrorCode.VERSION_UNKNOWN),
        (b'"ledger_head":"ef', b'"ledger_head":"EF', ErrorCode.FIELD_INVALID),
        (b'"mask_shares":{}', b'"mask_shares":{"site-1":"00"}', ErrorCode.FIELD_INVALID),
        (b'"mask_shares":{},', b"", ErrorCode.FIELD_MISSING),
        (b',"version":2', b"", ErrorCode.FIELD_MISSING),
        (b'"self_mask_commitment":"' + b"0" * 64 + b'",', b"", ErrorCode.FIELD_MISSING),
        (b'"self_mask_commitment":"00', b'"self_mask_commitment":"', ErrorCode.FIELD_INVALID),
    ],
)
def test_bad_fields_are_refused(
    issued: list[SignedReady], old: bytes, new: bytes, code: ErrorCode
) -> None:
    """SECAGG-3: one defect, one code."""
    raw = issued[0].canonical()
    assert raw.count(old) == 1
    raw = raw.replace(old, new)
    with pytest.raises(ProtocolError) as refused:
        parse(SignedReady, raw, max_bytes=MAX_HEADER_BYTES)
    assert refused.value.code is code


def test_no_field_of_a_ready_may_be_left_out(issued: list[SignedReady]) -> None:
    """SECAGG-3: every field is written, those without a meaning in this mode included."""
    signed = issued[0].model_dump(mode="json")
    assert not any(field.default_factory for field in Ready.model_fields.values())
    for name in Ready.model_fields:
        ready = {field: value for field, value in signed["ready"].items() if field != name}
        raw = rfc8785.dumps({**signed, "ready": ready})
        with pytest.raises(ProtocolError) as refused:
            parse(SignedReady, raw, max_bytes=MAX_HEADER_BYTES)
        assert refused.value.code is ErrorCode.FIELD_MISSING, name


@pytest.mark.parametrize("kind", ["group_shares", "mask_shares"])
def test_more_shares_than_sites_are_refused(issued: list[SignedReady], kind: str) -> None:
    shares = {f"site-{i}": "00" * 48 for i in range(MAX_SITES + 1)}
    with pytest.raises(ValueError, match="at most"):
        Ready(**(issued[0].ready.model_dump() | {kind: shares}))


SURVIVORS = SurvivorList(
    plan_digest="0a" * 32,
    round=3,
    attempt=1,
    transcript_hash="0b" * 32,
    uploads={"site-2": "0c" * 32, "site-1": "0d" * 32},
)


def test_a_list_of_survivors_has_one_form_whatever_the_order() -> None:
    turned = SURVIVORS.model_copy(update={"uploads": dict(reversed(SURVIVORS.uploads.items()))})
    assert turned.canonical() == SURVIVORS.canonical()
    assert parse(SurvivorList, SURVIVORS.canonical(), max_bytes=2000) == SURVIVORS


@pytest.mark.parametrize(
    "change",
    [
        {"plan_digest": "0f" * 32},
        {"round": 4},
        {"attempt": 2},
        {"transcript_hash": "0f" * 32},
        {"uploads": {"site-2": "0c" * 32, "site-1": "0f" * 32}},
        {"uploads": {"site-2": "0c" * 32}},
        {"uploads": {"site-2": "0c" * 32, "site-3": "0d" * 32}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_signature_covers_every_part_of_the_list(change: dict[str, object]) -> None:
    assert SURVIVORS.model_copy(update=change).canonical() != SURVIVORS.canonical()


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"version":2', b'"version":1', ErrorCode.VERSION_UNKNOWN),
        (b'"0d' + b"0d" * 31 + b'"', b'"0d"', ErrorCode.FIELD_INVALID),
        (b'"site-1"', b'"Site 1"', ErrorCode.FIELD_INVALID),
        (b'"attempt":1', b'"attempt":-1', ErrorCode.FIELD_INVALID),
    ],
)
def test_a_list_of_another_form_is_refused(old: bytes, new: bytes, code: ErrorCode) -> None:
    raw = SURVIVORS.canonical()
    assert raw.count(old) == 1
    with pytest.raises(ProtocolError) as refused:
        parse(SurvivorList, raw.replace(old, new), max_bytes=2000)
    assert refused.value.code is code


def test_transcript_does_not_depend_on_order(issued: list[SignedReady]) -> None:
    assert transcript_hash(issued) == transcript_hash(issued[::-1])


def test_transcript_changes_with_every_member_and_signature(issued: list[SignedReady]) -> None:
    whole = transcript_hash(issued)
    assert transcript_hash(issued[:3]) != whole
    forged = issued[0].model_copy(update={"signature": "00" * 64})
    assert transcript_hash([forged, *issued[1:]]) != whole


def test_roster_hash_stands_for_a_set() -> None:
    assert roster_hash(["site-2", "site-1"]) == roster_hash(["site-1", "site-2"])
    assert roster_hash(["site-1"]) != roster_hash(["site-1", "site-2"])
    assert roster_hash(["ab", "c"]) != roster_hash(["a", "bc"])
