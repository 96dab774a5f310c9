"""How does this hospital get its certificate? One invite file, one signed request, one answer."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from pydantic import Field

from schemas.canonical import Document, HexBytes32, parse
from schemas.errors import CohortiumError, ErrorCode, TransportError, TrustError
from schemas.identity import EnrolmentRequest, EnrolmentResponse, IdentityCard, Invite, seal_card
from schemas.ids import Name, Url, format_time, parse_time
from schemas.limits import MAX_ENROLMENT_BYTES, MAX_INVITE_BYTES
from schemas.signing import Context, SignedDocument, public_hex, seal
from site_node.config import write_atomically
from site_node.governance.audit import AuditWord, Recording

if TYPE_CHECKING:
    from site_node.context import SiteContext

_TIMEOUT_SECONDS: Final = 30.0
CERTIFICATE, AUTHORITY, CARD = "site.crt", "coordinator-ca.crt", "card.json"


class EnrolmentRecord(Document):
    """Where the coordinator is and who it said it is; kept in ``state/enrolment.json``."""

    version: int = Field(default=1, ge=1, le=1)
    coordinator_name: Name
    api_url: Url
    gateway_url: Url
    ca_sha256: HexBytes32
    enrolled_at: str


def own_card(site: SiteContext) -> SignedDocument:
    """Give this hospital's signed identity card; made once, so that its fingerprint stays."""
    path = site.folders.keys / CARD
    if path.exists():
        return parse(SignedDocument, path.read_bytes(), max_bytes=MAX_ENROLMENT_BYTES)
    keys = site.keys
    card = IdentityCard(
        site_id=site.config.site_id,
        name=site.config.name,
        identity_key=public_hex(keys.identity),
        approval_key=public_hex(keys.approval),
        study_key=keys.study.public_key().public_bytes_raw().hex(),
        kem_key=keys.kem.public_key().public_bytes_raw().hex(),
        node_key=keys.node_public_der_hex,
        created=format_time(site.clock()),
    )
    sealed = seal_card(keys.identity, card)
    write_atomically(path, sealed.canonical(), mode=0o644)
    return sealed


def read_enrolment(site: SiteContext) -> EnrolmentRecord:
    """Read what enrolment left.

    Raises:
        TrustError: ENROLMENT_MISSING.
    """
    try:
        raw = site.folders.enrolment.read_bytes()
    except OSError:
        raise TrustError(
            ErrorCode.ENROLMENT_MISSING,
            "This site is not enrolled yet.",
            hint="Ask the operator for an invite file, then `cohortium-site enrol --invite FILE`.",
        ) from None
    return parse(EnrolmentRecord, raw, max_bytes=MAX_INVITE_BYTES)


def read_invite(site: SiteContext, raw: bytes) -> Invite:
    """Read an invite file and check that it is meant for this site and consistent.

    Raises:
        TrustError: INVITE_INVALID, INVITE_OTHER_SITE or INVITE_EXPIRED.
    """
    try:
        invite = parse(Invite, raw.strip(), max_bytes=MAX_INVITE_BYTES)
        authority = x509.load_pem_x509_certificate(invite.ca_pem.encode("ascii"))
    except (CohortiumError, ValueError):
        raise TrustError(
            ErrorCode.INVITE_INVALID,
            "This is not a whole invite file.",
            hint="Ask the operator for a new one.",
        ) from None
    if authority.fingerprint(hashes.SHA256()).hex() != invite.ca_sha256:
        raise TrustError(
            ErrorCode.INVITE_INVALID,
            "The invite's certificate authority does not have the hash the invite names.",
            hint="Do not use this file; ask the operator for a new one by another way.",
        )
    if invite.site_id != site.config.site_id:
        raise TrustError(
            ErrorCode.INVITE_OTHER_SITE,
            f"The invite is for {invite.site_id}, this site is {site.config.site_id}.",
            hint="Ask the operator for an invite with this site's id.",
        )
    if site.clock() >= parse_time(invite.expires):
        raise TrustError(
            ErrorCode.INVITE_EXPIRED, "The invite has expired.", hint="Ask for a new one."
        )
    return invite


def enrol(site: SiteContext, raw_invite: bytes) -> tuple[EnrolmentRecord, Recording]:
    """Send the signed request and keep the certificate that comes back.

    Raises:
        TrustError: the invite or the answer is not what it must be; the coordinator refused.
        TransportError: it cannot be reached.
    """
    if site.folders.enrolment.exists():
        raise TrustError(
            ErrorCode.ENROLMENT_EXISTS,
            "This site is enrolled already.",
            hint="`cohortium-site status` shows with whom.",
        )
    invite = read_invite(site, raw_invite)
    request = EnrolmentRequest(
        invite_code=invite.code,
        card=own_card(site),
        csr_pem=site.keys.path("tls.csr").read_text("ascii"),
    )
    answer = _post(invite, seal(site.keys.identity, Context.ENROLMENT, request).canonical())
    response = _checked(site, invite, answer)
    record = EnrolmentRecord(
        coordinator_name=response.coordinator_name,
        api_url=invite.api_url,
        gateway_url=invite.gateway_url,
        ca_sha256=invite.ca_sha256,
        enrolled_at=format_time(site.clock()),
    )
    keys = site.folders.keys
    with site.audit.recording(
        AuditWord.ENROLLED, coordinator=response.coordinator_name, ca=invite.ca_sha256
    ) as recording:
        write_atomically(keys / CERTIFICATE, response.certificate_pem.encode("ascii"), mode=0o644)
        write_atomically(keys / AUTHORITY, invite.ca_pem.encode("ascii"), mode=0o644)
        write_atomically(site.folders.enrolment, record.canonical())
    return record, recording


def _post(invite: Invite, body: bytes) -> bytes:
    import httpx

    context = ssl.create_default_context(cadata=invite.ca_pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        with httpx.Client(verify=context, timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            answer = client.post(
                invite.api_url.rstrip("/") + "/v1/enrol",
                content=body,
                headers={"content-type": "application/json"},
            )
    except httpx.HTTPError as error:
        raise TransportError(
            ErrorCode.TRANSPORT_UNREACHABLE,
            "The coordinator cannot be reached, or its certificate is not the invite's.",
            hint=f"Check that this machine may connect to {invite.api_url} (outbound only).",
            detail=type(error).__name__,
        ) from None
    if answer.status_code >= 400:
        raise _refusal(answer.content)
    return answer.content


def _refusal(body: bytes) -> TrustError:
    """Turn the coordinator's problem document into our own error of the same code."""
    try:
        code = ErrorCode(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        code = ErrorCode.ENROLMENT_RESPONSE_INVALID
    return TrustError(
        code,
        f"The coordinator refused the enrolment. {code.meaning}",
        hint="Ask the operator for a new invite.",
    )


def _checked(site: SiteContext, invite: Invite, raw: bytes) -> EnrolmentResponse:
    wrong = TrustError(
        ErrorCode.ENROLMENT_RESPONSE_INVALID,
        "The coordinator's answer does not fit the request.",
        hint="Nothing was kept. Ask the operator.",
    )
    try:
        response = parse(EnrolmentResponse, raw, max_bytes=MAX_ENROLMENT_BYTES)
        certificate = x509.load_pem_x509_certificate(response.certificate_pem.encode("ascii"))
        authority = x509.load_pem_x509_certificate(invite.ca_pem.encode("ascii"))
        certificate.verify_directly_issued_by(authority)
    except (CohortiumError, ValueError, TypeError, InvalidSignature):
        raise wrong from None
    mine = serialization.load_pem_private_key(site.keys.read_secret("tls.key"), password=None)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    der = serialization.Encoding.DER
    same_key = certificate.public_key().public_bytes(der, spki) == (
        mine.public_key().public_bytes(der, spki)
    )
    same_authority = x509.load_pem_x509_certificate(response.ca_pem.encode("ascii")) == authority
    if not (same_key and same_authority and response.site_id == site.config.site_id):
        raise wrong
    return response
