"""Do cards, fingerprints and enrolment documents refuse keys and signers that are not right?"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import build, parse, sha256_hex
from schemas.errors import CohortiumError, ConfigError, ErrorCode, TrustError
from schemas.fingerprint_words import WORDS
from schemas.identity import (
    EnrolmentRequest,
    EnrolmentResponse,
    IdentityCard,
    Invite,
    fingerprint,
    fingerprint_words,
    open_card,
    open_enrolment,
    parse_card_file,
    seal_card,
)
from schemas.signing import Context, seal
from tests.support.factories import make_card, make_keys, sealed_card

KEYS = make_keys()
CARD = make_card("site-1", KEYS)
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"
REQUEST = EnrolmentRequest(
    invite_code="abcdefghijklmnop", card=sealed_card("site-1", KEYS), csr_pem=CSR
)
P25519 = 2**255 - 19
Y8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
SIGN_BIT = 2**255


def little(number: int) -> str:
    return number.to_bytes(32, "little").hex()


def changed(**changes: Any) -> IdentityCard:
    return build(IdentityCard, {**CARD.model_dump(mode="json"), **changes})


def test_a_card_survives_the_journey() -> None:
    signed = seal_card(KEYS.identity, CARD)
    assert open_card(signed) == CARD
    assert parse_card_file(signed.canonical() + b"\n") == CARD


def test_a_card_signed_by_another_key_is_refused() -> None:
    with pytest.raises(TrustError) as caught:
        open_card(seal_card(make_keys().identity, CARD))
    assert caught.value.code is ErrorCode.CARD_INVALID


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"x" * 100_000])
def test_a_file_that_is_no_card_is_refused_as_a_card(raw: bytes) -> None:
    with pytest.raises(TrustError) as caught:
        parse_card_file(raw)
    assert caught.value.code is ErrorCode.CARD_INVALID
    assert "export" in caught.value.hint


@pytest.mark.parametrize("field", ["identity_key", "approval_key"])
@pytest.mark.parametrize(
    "y",
    [0, 1, P25519 - 1, P25519, P25519 + 1, Y8, P25519 - Y8, Y8 + SIGN_BIT, 1 + SIGN_BIT],
)
def test_a_signing_key_of_low_order_is_refused(field: str, y: int) -> None:
    with pytest.raises(ConfigError, match="low order"):
        changed(**{field: little(y)})


def test_the_listed_signing_points_are_those_anyone_can_sign_for() -> None:
    # With R = A = identity and s = 0, verification holds for every message: why they are refused.
    identity_point = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(identity_point).verify(
        identity_point + bytes(32), b"anything"
    )


X_LOW = [
    0,
    1,
    P25519 - 1,
    P25519,
    P25519 + 1,
    int.from_bytes(
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"
    ),
    int.from_bytes(
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"
    ),
]


@pytest.mark.parametrize("u", [*X_LOW, X_LOW[1] + SIGN_BIT, 9 + SIGN_BIT])
def test_a_study_key_of_low_order_is_refused(u: int) -> None:
    with pytest.raises(ConfigError, match="low order"):
        changed(study_key=little(u))


@pytest.mark.parametrize("u", X_LOW)
def test_the_listed_study_points_give_everyone_the_same_secret(u: int) -> None:
    with pytest.raises(ValueError, match=r".*"):
        X25519PrivateKey.generate().exchange(
            X25519PublicKey.from_public_bytes(bytes.fromhex(little(u)))
        )


def test_node_keys_on_another_curve_or_of_another_kind_are_refused() -> None:
    def spki(key: Any) -> str:
        return str(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex())

    p256 = ec.generate_private_key(ec.SECP256R1()).public_key()
    for wrong in (spki(p256), spki(Ed25519PrivateKey.generate().public_key())):
        with pytest.raises(ConfigError, match="P-384"):
            changed(node_key=wrong)
    for wrong in ("00", CARD.node_key[:-2], CARD.node_key + "00"):
        with pytest.raises(ConfigError, match=r"DER|shortest"):
            changed(node_key=wrong)


@pytest.mark.parametrize(
    "key",
    ["", "00" * 1183, "00" * 1185, "ff" * 1184, CARD.kem_key.upper(), CARD.kem_key[:-2] + "g0"],
)
def test_an_ml_kem_key_of_wrong_length_or_beyond_the_modulus_is_refused(key: str) -> None:
    """SECAGG-16: the checks of FIPS 203 section 7.2."""
    with pytest.raises(ConfigError) as caught:
        changed(kem_key=key)
    assert caught.value.code is ErrorCode.FIELD_INVALID


def test_a_card_without_an_ml_kem_key_is_refused() -> None:
    values = CARD.model_dump(mode="json")
    del values["kem_key"]
    with pytest.raises(ConfigError) as caught:
        build(IdentityCard, values)
    assert caught.value.code is ErrorCode.FIELD_MISSING


def test_one_key_in_two_roles_is_refused() -> None:
    with pytest.raises(ConfigError, match="three different keys"):
        changed(approval_key=CARD.identity_key)


def test_the_fingerprint_covers_every_field() -> None:
    other = make_keys()
    theirs = make_card("site-1", other)
    variants = [
        changed(name="Another"),
        changed(site_id="site-2"),
        changed(created="2026-11-22T18:00:01Z"),
        changed(identity_key=theirs.identity_key),
        changed(approval_key=theirs.approval_key),
        changed(study_key=theirs.study_key),
        changed(kem_key=theirs.kem_key),
        changed(node_key=theirs.node_key),
    ]
    assert len({fingerprint(card) for card in [CARD, *variants]}) == len(variants) + 1
    assert fingerprint(CARD) == sha256_hex(CARD.canonical())


def test_words_are_256_and_no_two_are_within_one_letter() -> None:
    def near(one: str, other: str) -> bool:
        if len(one) > len(other):
            one, other = other, one
        if len(one) == len(other):
            return sum(a != b for a, b in zip(one, other, strict=True)) <= 1
        return any(other[:i] + other[i + 1 :] == one for i in range(len(other)))

    assert len(WORDS) == 256 and len(set(WORDS)) == 256
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)
    assert not [(a, b) for i, a in enumerate(WORDS) for b in WORDS[i + 1 :] if near(a, b)]


def test_words_are_fixed_for_ever() -> None:
    assert fingerprint_words("00017f80feff" + "00" * 26) == (
        "acorn-amber-" + "-".join(WORDS[i] for i in (0x7F, 0x80, 0xFE, 0xFF))
    )
    assert sha256_hex(" ".join(WORDS).encode()) == (
        "6b958896d222321aea8e7900494a6003c5d65c73621e33985b0127486490f8c0"
    )


@given(st.binary(min_size=32, max_size=32))
def test_words_stand_for_the_first_48_bits(raw: bytes) -> None:
    words = fingerprint_words(raw.hex()).split("-")
    assert bytes(WORDS.index(word) for word in words) == raw[:6]


@pytest.mark.parametrize("text", ["", "ab" * 31, "AB" * 32, "zz" * 32, "ab " * 32])
def test_words_of_something_else_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        fingerprint_words(text)


def test_an_enrolment_request_opens_with_its_card() -> None:
    signed = seal(KEYS.identity, Context.ENROLMENT, REQUEST)
    assert open_enrolment(signed) == (REQUEST, CARD)


def test_an_enrolment_request_with_a_stolen_card_is_refused() -> None:
    with pytest.raises(TrustError) as caught:
        open_enrolment(seal(make_keys().identity, Context.ENROLMENT, REQUEST))
    assert caught.value.code is ErrorCode.ENROLMENT_INVALID


def test_a_signature_for_another_purpose_does_not_enrol() -> None:
    with pytest.raises(CohortiumError) as caught:
        open_enrolment(seal(KEYS.identity, Context.CARD, REQUEST))
    assert caught.value.code is ErrorCode.SIGNATURE_INVALID


def test_invite_and_response_survive_the_round_trip() -> None:
    invite = Invite(
        code="abcdefghijklmnop",
        api_url="https://127.0.0.1:8000",
        gateway_url="https://127.0.0.1:8001",
        ca_sha256="ab" * 32,
        ca_pem=PEM,
        site_id="site-1",
        expires="2026-12-22T18:00:00Z",
    )
    assert parse(Invite, invite.canonical(), max_bytes=10_000) == invite
    response = EnrolmentResponse(
        site_id="site-1", certificate_pem=PEM, ca_pem=PEM, coordinator_name="Centre"
    )
    assert parse(EnrolmentResponse, response.canonical(), max_bytes=10_000) == response
