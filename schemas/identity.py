"""Which keys belong to a hospital, and how do people compare them?

Identity cards travel between hospitals outside the coordinator. A steward compares the
fingerprint with a colleague at the other hospital, by words over the telephone or by hexadecimal.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from pydantic import AfterValidator, StringConstraints, model_validator

from schemas import limits
from schemas.canonical import Document, HexBytes32, parse
from schemas.errors import CohortiumError, ErrorCode, TrustError
from schemas.fingerprint_words import WORDS
from schemas.ids import Name, Pem, SiteId, Timestamp, Url
from schemas.signing import Context, SignedDocument, open_signed, seal

_N_WORDS: Final = 6
_P25519: Final = 2**255 - 19
KEM_KEY_BYTES: Final = 1184  # FIPS 203, table 3: ML-KEM-768
KEM_CIPHERTEXT_BYTES: Final = 1088

# y of the points whose order divides 8 (RFC 8032 §5.1); anyone can sign for such a key.
_LOW_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _P25519 - 1,
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            "little",
        ),
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
            "little",
        ),
    }
)
# u of the points of low order on the curve and its twist (RFC 7748 §6.1, cr.yp.to/ecdh.html).
_LOW_ORDER_U: Final = frozenset(
    {
        0,
        1,
        _P25519 - 1,
        int.from_bytes(
            bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
            "little",
        ),
        int.from_bytes(
            bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
            "little",
        ),
    }
)


def _usable_ed25519(key: str) -> str:
    y = int.from_bytes(bytes.fromhex(key), "little") & (2**255 - 1)
    if y >= _P25519 or y in _LOW_ORDER_Y:
        raise ValueError("an Ed25519 key is malformed or of low order")
    return key


def _usable_x25519(key: str) -> str:
    u = int.from_bytes(bytes.fromhex(key), "little")
    if u >= _P25519 or u in _LOW_ORDER_U:
        raise ValueError("an X25519 key is malformed or of low order")
    return key


def _usable_node_key(key: str) -> str:
    try:
        public = load_der_public_key(bytes.fromhex(key))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("a node key is not a public key in DER") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(
        public.curve, ec.SECP384R1
    ):
        raise ValueError("a node key is not on the curve P-384")
    if public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex() != key:
        raise ValueError("a node key is not in its shortest form")
    return key


def _usable_kem_key(key: str) -> str:
    # The modulus check of FIPS 203 §7.2; how a key was made cannot be seen from the key.
    try:
        MLKEM768PublicKey.from_public_bytes(bytes.fromhex(key))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("an ML-KEM-768 key is malformed") from error
    return key


Ed25519Key = Annotated[HexBytes32, AfterValidator(_usable_ed25519)]
"""Ed25519 public key, hexadecimal, not of low order."""

X25519Key = Annotated[HexBytes32, AfterValidator(_usable_x25519)]
"""X25519 public key, hexadecimal, not of low order."""

KemKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9a-f]+$", min_length=2 * KEM_KEY_BYTES, max_length=2 * KEM_KEY_BYTES
    ),
    AfterValidator(_usable_kem_key),
]
"""ML-KEM-768 encapsulation key (FIPS 203), hexadecimal."""

KemCiphertext = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9a-f]+$",
        min_length=2 * KEM_CIPHERTEXT_BYTES,
        max_length=2 * KEM_CIPHERTEXT_BYTES,
    ),
]
"""ML-KEM-768 ciphertext (FIPS 203), hexadecimal."""

NodeKey = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9a-f]{2})+$", max_length=400),
    AfterValidator(_usable_node_key),
]
"""P-384 public key, SubjectPublicKeyInfo DER (RFC 5480), hexadecimal."""


class IdentityCard(Document):
    """The public keys of one hospital."""

    version: Literal[1] = 1
    site_id: SiteId
    name: Name
    identity_key: Ed25519Key  # signs cards, READYs, releases
    approval_key: Ed25519Key  # the steward's: approvals and stops only
    study_key: X25519Key  # long-lived half of every pair secret
    kem_key: KemKey  # for the second half of a pair secret, in plans that ask for one
    node_key: NodeKey  # the transport's
    created: Timestamp

    @model_validator(mode="after")
    def _roles_apart(self) -> IdentityCard:
        if len({self.identity_key, self.approval_key, self.study_key}) != 3:
            raise ValueError("identity, approval and study key must be three different keys")
        return self


def seal_card(identity: Ed25519PrivateKey, card: IdentityCard) -> SignedDocument:
    """Sign a card by its own identity key: the form in which it is handed over."""
    return seal(identity, Context.CARD, card)


def open_card(signed: SignedDocument) -> IdentityCard:
    """Read an exported card.

    This proves only that the holder of the identity key wrote the card. Whose key it is, people
    say by comparing the fingerprint.

    Raises:
        TrustError: The signature is not valid, or not by the card's own identity key.
        ProtocolError: The payload is not a card.
    """
    card = open_signed(
        signed,
        Context.CARD,
        IdentityCard,
        expected_signer=None,
        max_bytes=limits.MAX_CARD_BYTES,
    )
    if card.identity_key != signed.signer:
        raise TrustError(
            ErrorCode.CARD_INVALID,
            "The identity card is not signed by its own identity key.",
            hint="Ask the hospital to export its card again.",
        )
    return card


def fingerprint(card: IdentityCard) -> str:
    """Give the SHA-256 of the canonical card, 64 hexadecimal characters."""
    return card.digest()


def fingerprint_words(fp: str) -> str:
    """Give six words for the first 48 bits of a fingerprint.

    Words are for the telephone; 48 bits alone can be searched for by someone who can afford
    2**48 keys, so a screen always shows the hexadecimal form beside them.

    Args:
        fp: 64 lower-case hexadecimal characters.

    Raises:
        ValueError: ``fp`` is not 32 bytes in lower-case hexadecimal.
    """
    raw = bytes.fromhex(fp)
    if len(raw) != 32 or raw.hex() != fp:
        raise ValueError("a fingerprint is 64 lower-case hexadecimal characters")
    return "-".join(WORDS[byte] for byte in raw[:_N_WORDS])


class EnrolmentRequest(Document):
    """What a hospital sends once; sealed with ``Context.ENROLMENT`` by its identity key."""

    version: Literal[1] = 1
    invite_code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,100}$")]
    card: SignedDocument
    csr_pem: Pem


def open_enrolment(signed: SignedDocument) -> tuple[EnrolmentRequest, IdentityCard]:
    """Read an enrolment request and its card; both must be signed by one identity key.

    Raises:
        TrustError: A signature is not valid, or the two signers differ.
        ProtocolError: The payload is not an enrolment request, or its card is not a card.
    """
    request = open_signed(
        signed,
        Context.ENROLMENT,
        EnrolmentRequest,
        expected_signer=None,
        max_bytes=limits.MAX_ENROLMENT_BYTES,
    )
    card = open_card(request.card)
    if card.identity_key != signed.signer:
        raise TrustError(
            ErrorCode.ENROLMENT_INVALID,
            "The enrolment request is not signed by the identity key on its card.",
        )
    return request, card


class EnrolmentResponse(Document):
    """What the coordinator answers: a certificate for the transport."""

    version: Literal[1] = 1
    site_id: SiteId
    certificate_pem: Pem
    ca_pem: Pem
    coordinator_name: Name


class Invite(Document):
    """The file an operator hands to a hospital: where to go and whom to expect there."""

    version: Literal[1] = 1
    code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,100}$")]
    api_url: Url
    gateway_url: Url
    ca_sha256: HexBytes32  # of the CA certificate's DER
    ca_pem: Pem
    site_id: SiteId
    expires: Timestamp


def parse_card_file(raw: bytes) -> IdentityCard:
    """Read the file a hospital hands over: a sealed card.

    Raises:
        TrustError: The file is not a card signed by its own identity key.
    """
    try:
        return open_card(parse(SignedDocument, raw.strip(), max_bytes=limits.MAX_CARD_BYTES))
    except CohortiumError as error:
        raise TrustError(
            ErrorCode.CARD_INVALID,
            "The file is not a valid identity card.",
            hint="Ask the hospital to export its card again.",
            detail=str(error),
        ) from error
