"""Has a frame exactly one reading, and is everything else refused with the right code?"""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import wire
from schemas.errors import CohortiumError, ErrorCode, ProtocolError
from schemas.signing import SignedDocument
from schemas.wire import (
    Close,
    CohortCall,
    Confirmation,
    Final,
    FinalReply,
    Open,
    ReadyReply,
    Refusal,
    ReleaseReply,
    Result,
    SumTag,
    SurvivorsCall,
    UnmaskCall,
    Unmasking,
    Upload,
    decode,
    encode,
)

DIGEST = "ab" * 32
SIGNED = SignedDocument(signer="cd" * 32, payload="e30=", signature="ef" * 64)
TAG = SumTag(round=1, attempt=0, tag="0123456789abcdef")
MESSAGES = [
    Open(plan_digest=DIGEST, kind="train", round=0, attempt=0, approvals=(SIGNED,)),
    CohortCall(plan_digest=DIGEST, kind="evaluate", round=0, attempt=3, readies=(), previous=TAG),
    Close(plan_digest=DIGEST, approvals=(), last=TAG),
    Result(plan_digest=DIGEST, summed=TAG),
    SurvivorsCall(plan_digest=DIGEST, round=2, attempt=1, uploads={"site-1": DIGEST}),
    UnmaskCall(plan_digest=DIGEST, round=2, attempt=1, confirmations={"site-1": "ef" * 64}),
    Upload(plan_digest=DIGEST, kind="train", round=2, attempt=1, tag="00" * 8),
    Confirmation(plan_digest=DIGEST, round=2, attempt=1, site_id="site-1", signature="ef" * 64),
    Unmasking(
        plan_digest=DIGEST,
        round=2,
        attempt=1,
        site_id="site-1",
        shares={"site-1": DIGEST},
        seeds={"site-2": "01" * 48},
    ),
    FinalReply(final=SIGNED),
    ReleaseReply(site_id="site-1", signature="ef" * 64),
    Refusal(code="plan.stopped"),
]
UPLOAD = next(message for message in MESSAGES if isinstance(message, Upload))
ALL = (
    Open,
    CohortCall,
    SurvivorsCall,
    UnmaskCall,
    Close,
    Result,
    ReadyReply,
    Upload,
    Confirmation,
    Unmasking,
    FinalReply,
    ReleaseReply,
    Refusal,
)


def code_of(raw: bytes, allowed=ALL) -> str:
    with pytest.raises(ProtocolError) as refused:
        decode(raw, allowed=allowed)
    return refused.value.code.value


def test_nonsense_in_a_list_is_refused_at_the_first_of_it() -> None:
    """One finding an entry would take some hundred times the header's size in memory."""
    for name in ("blobs", "readies"):
        fields = {"attempt": "0", "blobs": "[]", "message": '"cohort"', "readies": "[]"}
        fields[name] = "[" + "[]," * 50_000 + "[]]"
        header = "{" + ",".join(f'"{key}":{value}' for key, value in fields.items()) + "}"
        tracemalloc.start()
        assert code_of(framed(header.encode())).startswith("document.")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 * len(header)  # 67 of them for reading any JSON; else 400


def framed(header: bytes, *blobs: bytes) -> bytes:
    return struct.pack(">I", len(header)) + header + b"".join(blobs)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.message)
@given(blobs=st.lists(st.binary(max_size=40), max_size=3))
@settings(max_examples=20, deadline=None, database=None)
def test_every_message_comes_back_as_it_was(message, blobs) -> None:
    frame = decode(encode(message, *blobs), allowed=(type(message),))
    assert frame.blobs == tuple(blobs)
    assert frame.header.model_copy(update={"blobs": ()}) == message


def test_blobs_look_at_the_body_and_copy_nothing() -> None:
    raw = encode(MESSAGES[0], b"abc", b"de")
    frame = decode(raw, allowed=(Open,))
    assert all(type(blob) is memoryview and blob.readonly for blob in frame.blobs)
    assert all(blob.obj is raw for blob in frame.blobs)


def test_a_message_has_one_byte_form() -> None:
    raw = encode(MESSAGES[0], b"abc")
    frame = decode(raw, allowed=(Open,))
    assert encode(frame.header, *frame.blobs) == raw


def test_every_message_type_is_known_by_its_name() -> None:
    assert {cls.model_fields["message"].default for cls in ALL} == set(wire._BY_NAME)
    assert all(wire._BY_NAME[cls.model_fields["message"].default] is cls for cls in ALL)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.message)
def test_a_message_out_of_place_is_refused(message) -> None:
    others = tuple(cls for cls in ALL if not isinstance(message, cls))
    assert code_of(encode(message), others) == ErrorCode.MESSAGE_OUT_OF_ORDER


def test_a_document_that_is_no_message_is_refused() -> None:
    final = Final(
        plan_digest=DIGEST, site_id="site-1", steps=1, model_hash=DIGEST, last_sum_hash=DIGEST
    )
    assert code_of(framed(final.canonical())) == ErrorCode.MESSAGE_UNKNOWN


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_truncated_message_is_refused(cut) -> None:
    raw = encode(UPLOAD, b"12345678")
    assert code_of(raw[:-cut]) == ErrorCode.MESSAGE_MALFORMED


@pytest.mark.parametrize("extra", [b"\x00", b"12345678"])
def test_trailing_bytes_are_refused(extra) -> None:
    assert code_of(encode(UPLOAD, b"12345678") + extra) == ErrorCode.MESSAGE_MALFORMED


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "message.malformed"),
        (b"\x00\x00\x00", "message.malformed"),
        (b"\xff\xff\xff\xff", "message.malformed"),
        (framed(b""), "message.malformed"),
        (framed(b"[]"), "message.malformed"),
        (framed(b"nothing"), "message.malformed"),
        (framed(b"[" * 100_000), "message.malformed"),
        (framed(b'{"message":["refusal"]}'), "message.unknown"),
        (framed(b'{"message":null}'), "message.unknown"),
        (framed(b'{"blobs":[],"code":"a.b","message":"refusal"}'), "document.not_canonical"),
        (framed(b'{"blobs":[],"message":"refusal","version":1}'), "document.field_missing"),
        (
            framed(b'{"blobs":[],"code":"a.b","message":"refusal","version":2}'),
            "document.version_unknown",
        ),
        (
            framed(b'{"blobs":[],"code":"a.b","message":"refusal","text":"x","version":1}'),
            "document.field_unknown",
        ),
        (
            framed(b'{"blobs":[],"code":"a.b","code":"c.d","message":"refusal","version":1}'),
            "document.duplicate_key",
        ),
        (
            framed(b'{"blobs":[],"code":"A sentence.","message":"refusal","version":1}'),
            "document.field_invalid",
        ),
        (
            framed(b'{"blobs":[-1],"code":"a.b","message":"refusal","version":1}'),
            "document.field_invalid",
        ),
        (
            framed(b'{"code":"a.b","blobs":[],"message":"refusal","version":1}'),
            "document.not_canonical",
        ),
        (
            framed(b'{"blobs":[5],"code":"a.b","message":"refusal","version":1}', b"1234"),
            "message.malformed",
        ),
    ],
)
def test_bytes_outside_the_format_are_refused(raw, code) -> None:
    assert code_of(raw) == code


@pytest.mark.parametrize(
    ("message", "old", "new"),
    [
        (SurvivorsCall, b'{"site-1":"' + DIGEST.encode() + b'"}', b"{}"),
        (SurvivorsCall, DIGEST.encode() + b'"}', DIGEST.upper().encode() + b'"}'),
        (UnmaskCall, b'{"site-1":"' + b"ef" * 64 + b'"}', b"{}"),
        (UnmaskCall, b"ef" * 64, b"ef" * 63),
        (Confirmation, b"ef" * 64, b"ef" * 32),
        (Unmasking, b"01" * 48, b"01" * 47),
        (Unmasking, b'{"site-1":"' + DIGEST.encode() + b'"}', b'{"Site 1":"' + b"ab" * 32 + b'"}'),
    ],
)
def test_a_recovery_message_of_another_form_is_refused(message, old, new) -> None:
    raw = next(each for each in MESSAGES if isinstance(each, message)).canonical()
    assert raw.count(old) == 1
    assert code_of(framed(raw.replace(old, new))) == ErrorCode.FIELD_INVALID


def test_an_oversized_message_is_refused_before_it_is_parsed(monkeypatch) -> None:
    raw = encode(MESSAGES[0])
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", len(raw) - 1)
    monkeypatch.setattr(wire, "parse", lambda *_args, **_more: pytest.fail("parsed"))
    assert code_of(raw) == ErrorCode.MESSAGE_OVERSIZED


def test_an_oversized_header_is_refused(monkeypatch) -> None:
    raw = encode(MESSAGES[0])
    monkeypatch.setattr(wire, "MAX_HEADER_BYTES", 10)
    assert code_of(raw) == ErrorCode.MESSAGE_MALFORMED


def test_a_refusal_cannot_carry_text() -> None:
    with pytest.raises(ValueError, match="code"):
        Refusal(code="Kim Minjun 900101-1234567")


@given(raw=st.binary(max_size=400))
@settings(max_examples=200, deadline=None, database=None)
def test_random_bytes_raise_nothing_but_a_refusal(raw) -> None:
    with pytest.raises(CohortiumError):
        decode(raw, allowed=ALL)


@given(
    message=st.sampled_from(MESSAGES),
    position=st.integers(0, 2000),
    value=st.integers(0, 255),
)
@settings(max_examples=300, deadline=None, database=None)
def test_a_changed_byte_is_refused_or_read_as_another_message(message, position, value) -> None:
    raw = bytearray(encode(message, b"12345678"))
    raw[position % len(raw)] = value
    try:
        frame = decode(bytes(raw), allowed=ALL)
    except ProtocolError:
        return
    assert encode(frame.header, *frame.blobs) == bytes(raw)
