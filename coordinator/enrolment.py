"""Who belongs to the consortium? Single-use invites, signed enrolment requests, pinned sites."""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import TypeAdapter, ValidationError

from coordinator.clock import stamp
from coordinator.db import Database, Event
from schemas.canonical import parse
from schemas.entropy import Entropy
from schemas.errors import ConfigError, ErrorCode, PolicyDenied, TrustError
from schemas.identity import (
    EnrolmentResponse,
    IdentityCard,
    Invite,
    fingerprint,
    open_card,
    open_enrolment,
)
from schemas.ids import SiteId
from schemas.limits import MAX_ENROLMENT_BYTES
from schemas.signing import SignedDocument

_SITE_ID: Final[TypeAdapter[str]] = TypeAdapter(SiteId)
_CODE_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # no 0/O, 1/I/L, U
_CODE_LENGTH: Final = 20  # 20 letters of 30: 98 bits

Role = Literal["vendor", "researcher"]
IssueCertificate = Callable[[str, str], str]  # (certificate request, site id) -> certificate
RegisterNode = Callable[[str, str], int]  # (node key, site id) -> the transport's number


@dataclass(frozen=True, slots=True)
class Site:
    """One enrolled hospital as the coordinator knows it."""

    site_id: str
    name: str
    card: SignedDocument
    fingerprint: str
    node_key: str
    certificate_sha256: str
    node_id: int | None
    enrolled_at: str
    last_seen: str | None


@dataclass(frozen=True, slots=True)
class Authority:
    """What an invite and an enrolment answer say about the coordinator itself."""

    name: str
    api_url: str
    gateway_url: str
    ca_pem: str


class Enrolment:
    """Invites, access tokens and enrolled sites, over the coordinator's database."""

    def __init__(self, database: Database, *, entropy: Entropy = os.urandom) -> None:
        self._db = database
        self._entropy = entropy

    def invite(self, site_id: str, authority: Authority, *, valid_hours: int) -> Invite:
        """Make a single-use invite for one site; only the code's hash is kept.

        Raises:
            ConfigError: the site id is not lowercase letters, digits and hyphens.
        """
        try:
            _SITE_ID.validate_python(site_id)
        except ValidationError:
            raise ConfigError(
                ErrorCode.CONFIG_INVALID,
                "A site id is lower-case words and numbers joined by hyphens, 40 characters long"
                " at most.",
            ) from None
        code = self._code()
        expires = stamp(self._db.clock() + timedelta(hours=valid_hours))
        with self._db.write(Event("site.invited", "", {"site_id": site_id})) as connection:
            connection.execute(
                "INSERT INTO invites VALUES (?, ?, ?, ?, NULL)",
                (_hash(_plain(code)), site_id, self._db.now(), expires),
            )
        ca = x509.load_pem_x509_certificate(authority.ca_pem.encode("ascii"))
        return Invite(
            version=1,
            code=code,
            api_url=authority.api_url,
            gateway_url=authority.gateway_url,
            ca_sha256=ca.fingerprint(SHA256()).hex(),
            ca_pem=authority.ca_pem,
            site_id=site_id,
            expires=expires,
        )

    def accept(
        self,
        raw: bytes,
        authority: Authority,
        *,
        issue: IssueCertificate,
        register: RegisterNode,
    ) -> EnrolmentResponse:
        """Enrol one site from its signed request.

        Args:
            raw: canonical bytes of the sealed `EnrolmentRequest` (context enrolment).
            authority: what the answer says about the coordinator.
            issue: signs the certificate request.
            register: makes the site's node key known to the transport.

        Raises:
            TrustError: the code is unknown, used, expired or for another site; a signature does
                not hold; the card is not the signer's; another site holds one of the keys.
            ProtocolError: the request is not strict canonical JSON, or too large.
        """
        signed = parse(SignedDocument, raw, max_bytes=MAX_ENROLMENT_BYTES)
        request, card = open_enrolment(signed)
        code_hash = _hash(_plain(request.invite_code))
        self._check_invite(code_hash, card.site_id)
        self._check_not_substituted(card)
        certificate = issue(request.csr_pem, card.site_id)
        pinned = x509.load_pem_x509_certificate(certificate.encode("ascii"))
        node_id = register(card.node_key, card.site_id)
        event = Event(
            "site.enrolled",
            "",
            {"site_id": card.site_id, "fingerprint": fingerprint(card)},
        )
        with self._db.write(event) as connection:
            self._use_invite(connection, code_hash)
            try:
                connection.execute(
                    "INSERT INTO sites (site_id, name, card, identity_key, node_key,"
                    " certificate_sha256, certificate_pem, node_id, enrolled_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (site_id) DO UPDATE SET name = excluded.name,"
                    " card = excluded.card, node_key = excluded.node_key,"
                    " certificate_sha256 = excluded.certificate_sha256,"
                    " certificate_pem = excluded.certificate_pem, node_id = excluded.node_id",
                    (
                        card.site_id,
                        card.name,
                        request.card.canonical(),
                        card.identity_key,
                        card.node_key,
                        pinned.fingerprint(SHA256()).hex(),
                        certificate,
                        str(node_id),
                        self._db.now(),
                    ),
                )
            except sqlite3.IntegrityError:
                raise _key_taken() from None
        return EnrolmentResponse(
            site_id=card.site_id,
            certificate_pem=certificate,
            ca_pem=authority.ca_pem,
            coordinator_name=authority.name,
        )

    def sites(self) -> list[Site]:
        """Return every enrolled site, by id."""
        with self._db.read() as connection:
            rows = connection.execute("SELECT * FROM sites ORDER BY site_id").fetchall()
        return [_site(row) for row in rows]

    def pinned_certificates(self) -> dict[str, str]:
        """Return certificate fingerprint -> site id, for the gateway's border check."""
        return {site.certificate_sha256: site.site_id for site in self.sites()}

    def node_keys(self) -> dict[str, str]:
        """Return site id -> node key (P-384 SPKI DER, hex)."""
        return {site.site_id: site.node_key for site in self.sites()}

    def set_node_id(self, site_id: str, node_id: int | None) -> None:
        """Store the number under which the transport knows this site now."""
        event = Event("site.registered", "", {"site_id": site_id})
        with self._db.write(event) as connection:
            connection.execute(
                "UPDATE sites SET node_id = ? WHERE site_id = ?",
                (None if node_id is None else str(node_id), site_id),
            )

    def grant(self, holder: str, role: Role) -> str:
        """Make an access token, shown once; only its hash is kept."""
        token = "coh_" + self._entropy(32).hex()
        event = Event("access.granted", "", {"holder": holder, "role": role})
        with self._db.write(event) as connection:
            connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, NULL)",
                (_hash(token), holder, role, self._db.now()),
            )
        return token

    def role_of(self, token: str) -> Role:
        """Return what the token's holder may do; every stored hash is compared, in constant time.

        Raises:
            TrustError: no live token has this value (code ``transport.token_invalid``).
        """
        presented = _hash(token)
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT token_sha256, role FROM tokens WHERE revoked_at IS NULL"
            ).fetchall()
        found: Role | None = None
        for row in rows:
            if hmac.compare_digest(str(row["token_sha256"]), presented):
                found = row["role"]
        if found is None:
            raise TrustError(
                ErrorCode.TOKEN_INVALID,
                "This request carries no valid access token.",
                hint="Ask the operator for an access file: cohortium-coordinator grant NAME",
            )
        return found

    def check_may_write(self, token: str) -> None:
        """Refuse anyone but a vendor.

        Raises:
            TrustError: the token is not valid.
            PolicyDenied: it is a researcher's, who may only read (code ``transport.token_role``).
        """
        if self.role_of(token) != "vendor":
            raise PolicyDenied(
                ErrorCode.TOKEN_ROLE, "This access token may read, but not send studies."
            )

    def _code(self) -> str:
        letters = ""
        while len(letters) < _CODE_LENGTH:
            value = self._entropy(1)[0]
            if value < 240:  # 8 * 30: every letter equally likely
                letters += _CODE_ALPHABET[value % 30]
        return "-".join(letters[i : i + 5] for i in range(0, _CODE_LENGTH, 5))

    def _check_invite(self, code_hash: str, site_id: str) -> None:
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT * FROM invites WHERE code_sha256 = ?", (code_hash,)
            ).fetchone()
        if row is None:
            raise TrustError(
                ErrorCode.INVITE_UNKNOWN,
                "This invite code is not known.",
                hint="Ask the operator for a new invite: cohortium-coordinator invite SITE",
            )
        if row["site_id"] != site_id:
            raise TrustError(
                ErrorCode.INVITE_OTHER_SITE, "This invite code was made for another site."
            )
        if row["used_at"] is not None:
            raise _invite_used()
        if row["expires"] <= self._db.now():
            raise TrustError(
                ErrorCode.INVITE_EXPIRED,
                "This invite code has expired.",
                hint="Ask the operator for a new invite: cohortium-coordinator invite SITE",
            )

    def _use_invite(self, connection: sqlite3.Connection, code_hash: str) -> None:
        used = connection.execute(
            "UPDATE invites SET used_at = ? WHERE code_sha256 = ? AND used_at IS NULL",
            (self._db.now(), code_hash),
        )
        if used.rowcount != 1:  # someone else used it between the check and here
            raise _invite_used()

    def _check_not_substituted(self, card: IdentityCard) -> None:
        with self._db.read() as connection:
            rows = connection.execute("SELECT site_id, identity_key, node_key FROM sites")
            for row in rows:
                same_site = row["site_id"] == card.site_id
                if same_site and row["identity_key"] != card.identity_key:
                    raise TrustError(
                        ErrorCode.ENROLMENT_KEY_SUBSTITUTED,
                        "This site is enrolled with another identity key.",
                        hint="A lost identity cannot be replaced; enrol under a new site id.",
                    )
                if not same_site and (
                    row["identity_key"] == card.identity_key or row["node_key"] == card.node_key
                ):
                    raise _key_taken()


def _site(row: sqlite3.Row) -> Site:
    card = parse(SignedDocument, row["card"], max_bytes=MAX_ENROLMENT_BYTES)
    return Site(
        site_id=row["site_id"],
        name=row["name"],
        card=card,
        fingerprint=fingerprint(open_card(card)),
        node_key=row["node_key"],
        certificate_sha256=row["certificate_sha256"],
        node_id=None if row["node_id"] is None else int(row["node_id"]),
        enrolled_at=row["enrolled_at"],
        last_seen=row["last_seen"],
    )


def _plain(code: str) -> str:
    return code.replace("-", "").replace(" ", "").upper()


def _hash(secret: str) -> str:
    # Codes and tokens carry 98 and 256 random bits, so a plain hash cannot be guessed back.
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()


def _invite_used() -> TrustError:
    return TrustError(
        ErrorCode.INVITE_USED,
        "This invite code has been used.",
        hint="Ask the operator for a new invite: cohortium-coordinator invite SITE",
    )


def _key_taken() -> TrustError:
    return TrustError(
        ErrorCode.ENROLMENT_KEY_TAKEN, "Another site is enrolled with one of these keys."
    )
