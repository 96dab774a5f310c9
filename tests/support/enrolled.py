"""How does a test hospital get enrolled without a coordinator's process?"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from schemas.canonical import parse
from schemas.identity import EnrolmentResponse, Invite, open_enrolment
from schemas.signing import SignedDocument
from site_node import enrol
from site_node.context import SiteContext
from tests.support.sites import START

PEM = serialization.Encoding.PEM


class Authority:
    """A coordinator's certificate authority."""

    def __init__(self, name: str = "test authority") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self.sign(self.name, self.key.public_key())

    def sign(self, subject: x509.Name, public: Any) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(START - dt.timedelta(days=1))
            .not_valid_after(START + dt.timedelta(days=90))
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(PEM).decode()

    def invite(self, **changed: Any) -> bytes:
        values: dict[str, Any] = {
            "code": "ABCDEFGHJKLMNPQRSTUV",
            "api_url": "https://127.0.0.1:1",
            "gateway_url": "https://127.0.0.1:2",
            "ca_sha256": self.certificate.fingerprint(hashes.SHA256()).hex(),
            "ca_pem": self.pem,
            "site_id": "site-1",
            "expires": "2026-11-29T18:00:00Z",
        }
        return Invite(**{**values, **changed}).canonical()

    def answer(self, csr_pem: str, **changed: Any) -> bytes:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        certificate = self.sign(request.subject, request.public_key())
        values: dict[str, Any] = {
            "site_id": "site-1",
            "certificate_pem": certificate.public_bytes(PEM).decode(),
            "ca_pem": self.pem,
            "coordinator_name": "Consortium desk",
        }
        return EnrolmentResponse(**{**values, **changed}).canonical()


def answering(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], bytes]
) -> list[SignedDocument]:
    """Put a scripted coordinator in the place of the HTTPS call."""
    seen: list[SignedDocument] = []

    def post(_invite: Invite, body: bytes) -> bytes:
        signed = parse(SignedDocument, body, max_bytes=100_000)
        seen.append(signed)
        return answer(open_enrolment(signed)[0].csr_pem)

    monkeypatch.setattr(enrol, "_post", post)
    return seen


def enrolled(site: SiteContext, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """Enrol a hospital with a fresh authority."""
    authority = Authority()
    answering(monkeypatch, authority.answer)
    enrol.enrol(site, authority.invite(**changed))
