"""Who may speak to this coordinator over TLS, and with which certificates?

One small authority per coordinator: EC P-256, certificates of 90 days. It certifies the
coordinator's own listeners and the sites' gateways; it says nothing about studies, whose
trust comes from keys that the hospitals confirm among themselves.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import ErrorCode, TrustError

CERTIFICATE_DAYS = 90
AUTHORITY_DAYS = 3650
_BACKDATE = dt.timedelta(minutes=5)  # a site's clock may run a little behind ours
_MAX_CSR_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Authority:
    """The coordinator's certificate authority, as two files in one folder."""

    folder: Path

    @property
    def ca_path(self) -> Path:
        """The CA certificate, PEM; public."""
        return self.folder / "ca.crt"

    @property
    def key_path(self) -> Path:
        """The CA's private key, PEM, mode 0600."""
        return self.folder / "ca.key"

    def ca_pem(self) -> str:
        """Return the CA certificate as PEM text."""
        return self.ca_path.read_text(encoding="ascii")

    def ca_sha256(self) -> str:
        """Return the SHA-256 (hex) of the CA certificate's DER form."""
        return certificate_fingerprint(self.ca_pem())


def make_authority(folder: Path, *, name: str, now: dt.datetime) -> Authority:
    """Create the authority in ``folder``, or return the one that is already there.

    Args:
        folder: where ``ca.crt`` and ``ca.key`` live.
        name: common name of the authority.
        now: current time, aware, UTC.
    """
    authority = Authority(folder)
    if authority.ca_path.exists() and authority.key_path.exists():
        return authority
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private_key(authority.key_path, key)
    authority.ca_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def issue_server(
    authority: Authority,
    *,
    certificate_path: Path,
    key_path: Path,
    hosts: Sequence[str] = ("localhost", "127.0.0.1"),
    now: dt.datetime,
) -> None:
    """Create a key and certificate for one of the coordinator's own listeners.

    Args:
        authority: the signing authority.
        certificate_path: where the PEM certificate goes.
        key_path: where the PEM key goes, mode 0600.
        hosts: DNS names and IP addresses the listener answers to.
        now: current time, aware, UTC.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    certificate = _sign(
        authority,
        _name(hosts[0]),
        key.public_key(),
        now,
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        names=names,
    )
    write_private_key(key_path, key)
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def issue_site(authority: Authority, csr_pem: str, site_id: str, *, now: dt.datetime) -> str:
    """Sign a site's certificate request and return the PEM certificate.

    Only the public key is taken from the request; the subject is the site's id as the
    coordinator knows it, so a request cannot choose another name.

    Raises:
        TrustError: the request is not readable, its signature is wrong, or its key is
            not EC P-256.
    """
    if len(csr_pem) > _MAX_CSR_BYTES:
        raise _bad_request()
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode("ascii"))
    except ValueError as error:
        raise _bad_request() from error
    public = request.public_key()
    if (
        not request.is_signature_valid
        or not isinstance(public, ec.EllipticCurvePublicKey)
        or not isinstance(public.curve, ec.SECP256R1)
    ):
        raise _bad_request()
    certificate = _sign(
        authority,
        _name(site_id),
        public,
        now,
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        names=[x509.DNSName(site_id)],
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def certificate_fingerprint(certificate_pem: str) -> str:
    """Return the SHA-256 (hex) of a PEM certificate's DER form, as the gateway pins it."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
    return certificate.fingerprint(hashes.SHA256()).hex()


def write_private_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key as PEM that only its owner can read."""
    raw = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(raw)


def _bad_request() -> TrustError:
    return TrustError(
        ErrorCode.ENROLMENT_REQUEST_CERTIFICATE_INVALID,
        "The certificate request is not valid.",
        hint="Create the request again with the site's own command and enrol once more.",
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _sign(
    authority: Authority,
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    *,
    usage: x509.ObjectIdentifier,
    names: Sequence[x509.GeneralName],
) -> x509.Certificate:
    ca = x509.load_pem_x509_certificate(authority.ca_path.read_bytes())
    key = serialization.load_pem_private_key(authority.key_path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TrustError(
            ErrorCode.ENROLMENT_REQUEST_CERTIFICATE_INVALID,
            "The coordinator's authority key is not an EC key.",
            hint="Restore the authority's folder from its backup.",
        )
    return (
        _builder(subject, ca.subject, public, now, CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
