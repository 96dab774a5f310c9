"""Does the authority certify exactly what it should, under the name it knows?"""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator import pki
from schemas.errors import ErrorCode, TrustError

NOW = dt.datetime(2026, 11, 22, 18, 0, tzinfo=dt.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> pki.Authority:
    return pki.make_authority(tmp_path / "ca", name="Cohortium test", now=NOW)


def csr(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, name: str = "x") -> str:
    algorithm = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    signed = builder.sign(key, algorithm)  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def test_a_site_certificate_carries_our_name_for_the_site(authority: pki.Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = pki.issue_site(authority, csr(key, "coordinator"), "site-3", now=NOW)
    made = x509.load_pem_x509_certificate(pem.encode())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.ca_path.read_bytes()))
    assert made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "site-3"
    assert made.public_key() == key.public_key()
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    basic = made.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not basic.ca
    assert made.not_valid_after_utc - NOW == dt.timedelta(days=90)
    assert pki.certificate_fingerprint(pem) == made.fingerprint(hashes.SHA256()).hex()


def test_a_server_certificate_cannot_act_as_a_client(
    authority: pki.Authority, tmp_path: Path
) -> None:
    pki.issue_server(
        authority,
        certificate_path=tmp_path / "s.crt",
        key_path=tmp_path / "s.key",
        hosts=("gateway.example", "127.0.0.1"),
        now=NOW,
    )
    made = x509.load_pem_x509_certificate((tmp_path / "s.crt").read_bytes())
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.example"]
    assert stat.S_IMODE((tmp_path / "s.key").stat().st_mode) == 0o600


def test_the_authority_is_made_once(authority: pki.Authority) -> None:
    before = authority.key_path.read_bytes()
    again = pki.make_authority(authority.folder, name="other", now=NOW)
    assert again.key_path.read_bytes() == before
    assert stat.S_IMODE(authority.key_path.stat().st_mode) == 0o600
    assert len(authority.ca_sha256()) == 64


@pytest.mark.parametrize(
    "request_pem",
    [
        "",
        "not a request",
        "x" * 10_000,
        csr(ec.generate_private_key(ec.SECP384R1())),
        csr(ed25519.Ed25519PrivateKey.generate()),
    ],
    ids=["empty", "text", "too long", "another curve", "another algorithm"],
)
def test_a_bad_request_is_refused(authority: pki.Authority, request_pem: str) -> None:
    with pytest.raises(TrustError) as refused:
        pki.issue_site(authority, request_pem, "site-1", now=NOW)
    assert refused.value.code is ErrorCode.ENROLMENT_REQUEST_CERTIFICATE_INVALID


def test_a_request_signed_by_another_key_is_refused(authority: pki.Authority) -> None:
    request = csr(ec.generate_private_key(ec.SECP256R1()))
    lines = request.splitlines()
    body = "".join(lines[1:-1])
    import base64

    raw = bytearray(base64.b64decode(body))
    raw[-1] ^= 1
    text = base64.b64encode(bytes(raw)).decode()
    altered = "\n".join([lines[0], *[text[i : i + 64] for i in range(0, len(text), 64)], lines[-1]])
    with pytest.raises(TrustError):
        pki.issue_site(authority, altered, "site-1", now=NOW)
