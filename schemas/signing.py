"""Who signed these bytes, and for which purpose?

Ed25519 (RFC 8032) over ``b"cohortium/v1/" + context + b"\\x00" + payload``. A context contains no
zero byte, so no signature for one purpose is one for another.
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Annotated, Final, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import StringConstraints

from schemas.canonical import Document, HexBytes32, HexBytes64, parse
from schemas.errors import ErrorCode, TrustError

_PREFIX: Final = b"cohortium/v1/"
D = TypeVar("D", bound=Document)


class Context(StrEnum):
    """What a signature is for."""

    CARD = "card"  # a site's identity card, under its own identity key
    ENROLMENT = "enrolment"  # a request for a certificate, under the identity key
    PLAN = "plan"  # a study plan, under the vendor's key
    APPROVAL = "approval"  # a steward's approval, under the site's approval key
    STOP = "stop"  # a steward's stop, under the site's approval key
    READY = "ready"  # readiness for one attempt, under the identity key
    SURVIVORS = "survivors"  # a list of survivors of one attempt, under the identity key
    FINAL = "final"  # the hash of the final model, under the identity key
    RELEASE = "release"  # the released evaluation, under the identity key
    LEDGER = "ledger"  # a head of the privacy ledger, under the identity key
    WITNESS = "witness"  # what the ledger's witness file last saw, under the identity key
    LEDGER_EXPORT = "ledger-export"  # a whole ledger for auditors, under the identity key
    AUDIT = "audit"  # a checkpoint of the audit log, under the identity key
    MANIFEST = "manifest"  # a row of what may leave, under the identity key


def _message(context: Context, payload: bytes) -> bytes:
    return _PREFIX + context.value.encode("ascii") + b"\x00" + payload


def public_hex(private: Ed25519PrivateKey) -> str:
    """Give the public key of a private one, 64 hexadecimal characters."""
    return private.public_key().public_bytes_raw().hex()


def sign(private: Ed25519PrivateKey, context: Context, payload: bytes) -> str:
    """Sign bytes for one purpose.

    Returns:
        The signature, 128 lower-case hexadecimal characters.
    """
    return private.sign(_message(context, payload)).hex()


def is_valid(public_hex: str, context: Context, payload: bytes, signature_hex: str) -> bool:
    """Say whether the signature was made by this key, for this purpose, over these bytes.

    Anything malformed is simply not valid; only lower-case hexadecimal counts, so that one
    signature has one spelling.
    """
    if public_hex != public_hex.lower() or signature_hex != signature_hex.lower():
        return False
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex))
        signature = bytes.fromhex(signature_hex)
        if signature.hex() != signature_hex or public.public_bytes_raw().hex() != public_hex:
            return False
        public.verify(signature, _message(context, payload))
    except (ValueError, InvalidSignature):
        return False
    return True


class SignedDocument(Document):
    """A document with its signature: the payload is carried byte for byte."""

    signer: HexBytes32
    payload: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
    signature: HexBytes64

    def payload_bytes(self) -> bytes:
        """Give the signed bytes, not yet verified.

        Raises:
            TrustError: The payload is not exact base64 (RFC 4648 §3.5).
        """
        try:
            raw = base64.b64decode(self.payload, validate=True)
        except binascii.Error as error:
            raise TrustError(
                ErrorCode.SIGNATURE_INVALID, "A signed document's payload is not base64."
            ) from error
        if base64.b64encode(raw).decode("ascii") != self.payload:
            raise TrustError(
                ErrorCode.SIGNATURE_INVALID, "A signed document's payload has a second spelling."
            )
        return raw


def seal(private: Ed25519PrivateKey, context: Context, document: Document) -> SignedDocument:
    """Sign a document for one purpose and pack both."""
    payload = document.canonical()
    return SignedDocument(
        signer=public_hex(private),
        payload=base64.b64encode(payload).decode("ascii"),
        signature=sign(private, context, payload),
    )


def open_signed(
    signed: SignedDocument,
    context: Context,
    cls: type[D],
    *,
    expected_signer: str | None,
    max_bytes: int,
) -> D:
    """Verify first, then read.

    Args:
        signed: The packed document.
        context: The purpose it must have been signed for.
        cls: The document type expected.
        expected_signer: Public key in hexadecimal; ``None`` only where the caller compares
            ``signed.signer`` with a key inside the document afterwards.
        max_bytes: Limit of the payload in bytes.

    Raises:
        TrustError: Another signer, or a signature that does not fit.
        ProtocolError: The payload is not a canonical document of this type.
    """
    if expected_signer is not None and signed.signer != expected_signer:
        raise TrustError(
            ErrorCode.SIGNER_UNEXPECTED,
            f"A {cls.__name__} document is signed by another key than expected.",
        )
    payload = signed.payload_bytes()
    if not is_valid(signed.signer, context, payload, signed.signature):
        raise TrustError(
            ErrorCode.SIGNATURE_INVALID,
            f"The signature of a {cls.__name__} document is not valid.",
        )
    return parse(cls, payload, max_bytes=max_bytes)
