"""Does a signature hold for one key, one purpose and one byte string only?"""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.canonical import Document, parse
from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TrustError
from schemas.signing import Context, SignedDocument, is_valid, open_signed, public_hex, seal, sign

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
contexts = st.sampled_from(Context)


class Note(Document):
    text: str


NOTE = Note(text="eat more fish")


def opened(signed: SignedDocument, context: Context = Context.PLAN, **more: object) -> Note:
    signer = more.get("signer", public_hex(KEY))
    assert signer is None or isinstance(signer, str)
    return open_signed(signed, context, Note, expected_signer=signer, max_bytes=1000)


def code_of(signed: SignedDocument, context: Context = Context.PLAN, **more: object) -> ErrorCode:
    with pytest.raises(CohortiumError) as caught:
        opened(signed, context, **more)
    return caught.value.code


def test_the_signed_message_is_as_specified() -> None:
    message = b"cohortium/v1/plan\x00payload"
    assert sign(KEY, Context.PLAN, b"payload") == KEY.sign(message).hex()


def test_a_known_signature_stays_valid_for_ever() -> None:
    # Vector: private key 000102...1f; a change here breaks every stored approval.
    assert public_hex(KEY) == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    assert sign(KEY, Context.APPROVAL, NOTE.canonical()) == VECTOR


VECTOR = (
    "eed43f6c38afd5db1f9f0f2c23f49a221e4498cbb8c35272222c3390b871ee87"
    "f8a02cdeee353d5a8daedd711cbeeb1c6afda2b700468bc8fbc7e7d2f012a104"
)


@given(contexts, contexts, st.binary(max_size=50))
def test_a_signature_counts_for_one_purpose(made: Context, asked: Context, payload: bytes) -> None:
    signature = sign(KEY, made, payload)
    assert is_valid(public_hex(KEY), asked, payload, signature) == (made is asked)
    assert not is_valid(public_hex(OTHER), made, payload, signature)
    assert not is_valid(public_hex(KEY), made, payload + b"\x00", signature)


@given(st.integers(0, 63), st.integers(1, 255))
def test_a_changed_signature_is_not_valid(position: int, mask: int) -> None:
    raw = bytearray.fromhex(sign(KEY, Context.PLAN, b"x"))
    raw[position] ^= mask
    assert not is_valid(public_hex(KEY), Context.PLAN, b"x", raw.hex())


def test_a_signature_shifted_by_the_group_order_is_not_valid() -> None:
    raw = bytes.fromhex(sign(KEY, Context.PLAN, b"x"))
    order = 2**252 + 27742317777372353535851937790883648493
    s = (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    assert not is_valid(public_hex(KEY), Context.PLAN, b"x", (raw[:32] + s).hex())


@given(st.text(max_size=130), st.text(max_size=130))
def test_malformed_hexadecimal_is_not_valid_and_does_not_raise(key: str, signature: str) -> None:
    assert not is_valid(key, Context.PLAN, b"x", signature)
    assert not is_valid(public_hex(KEY), Context.PLAN, b"x", signature)


def test_a_second_spelling_is_not_valid() -> None:
    signature = sign(KEY, Context.PLAN, b"x")
    key = public_hex(KEY)
    assert is_valid(key, Context.PLAN, b"x", signature)
    assert not is_valid(key.upper(), Context.PLAN, b"x", signature)
    assert not is_valid(key, Context.PLAN, b"x", signature.upper())
    assert not is_valid(key, Context.PLAN, b"x", " " + signature)


@given(st.text(st.characters(codec="utf-8"), max_size=200), contexts)
def test_a_sealed_document_opens_to_itself(text: str, context: Context) -> None:
    note = Note(text=text)
    signed = seal(KEY, context, note)
    travelled = parse(SignedDocument, signed.canonical(), max_bytes=10_000)
    assert opened(travelled, context) == note
    assert travelled.payload_bytes() == note.canonical()


def test_an_unexpected_signer_is_refused() -> None:
    signed = seal(OTHER, Context.PLAN, NOTE)
    assert code_of(signed) is ErrorCode.SIGNER_UNEXPECTED
    assert opened(signed, signer=None) == NOTE


def test_a_claimed_signer_is_not_enough() -> None:
    signed = seal(OTHER, Context.PLAN, NOTE).model_copy(update={"signer": public_hex(KEY)})
    assert code_of(signed) is ErrorCode.SIGNATURE_INVALID


def test_another_purpose_is_refused() -> None:
    assert code_of(seal(KEY, Context.STOP, NOTE)) is ErrorCode.SIGNATURE_INVALID


def test_a_changed_payload_is_refused_before_it_is_read() -> None:
    payload = base64.b64encode(b"{not json").decode()
    signed = seal(KEY, Context.PLAN, NOTE).model_copy(update={"payload": payload})
    assert code_of(signed) is ErrorCode.SIGNATURE_INVALID


@pytest.mark.parametrize("payload", ["AAA", "AB==", "A", "A="])
def test_inexact_base64_is_refused(payload: str) -> None:
    signature = sign(KEY, Context.PLAN, b"")
    signed = SignedDocument(signer=public_hex(KEY), payload=payload, signature=signature)
    assert code_of(signed) is ErrorCode.SIGNATURE_INVALID


@pytest.mark.parametrize("payload", ["A===", "====", "AA-_", "AA\n", " ", "A=A="])
def test_what_is_not_base64_at_all_is_refused(payload: str) -> None:
    with pytest.raises(ValidationError):
        SignedDocument(signer=public_hex(KEY), payload=payload, signature="0" * 128)


def test_a_signed_document_of_another_type_is_refused() -> None:
    class Letter(Document):
        words: str

    signed = seal(KEY, Context.PLAN, Letter(words="a"))
    with pytest.raises(ProtocolError) as caught:
        opened(signed)
    assert caught.value.code is ErrorCode.FIELD_UNKNOWN


def test_a_signed_payload_over_its_limit_is_refused() -> None:
    assert code_of(seal(KEY, Context.PLAN, Note(text="x" * 1000))) is ErrorCode.DOCUMENT_TOO_LARGE


def test_a_signed_payload_in_another_spelling_is_refused() -> None:
    payload = b'{"text": "a"}'
    signed = SignedDocument(
        signer=public_hex(KEY),
        payload=base64.b64encode(payload).decode(),
        signature=sign(KEY, Context.PLAN, payload),
    )
    assert code_of(signed) is ErrorCode.DOCUMENT_NOT_CANONICAL


def test_refusals_are_matters_of_trust() -> None:
    with pytest.raises(TrustError):
        opened(seal(OTHER, Context.PLAN, NOTE))
