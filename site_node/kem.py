"""How does this site agree an ML-KEM-768 secret with each other site of a hybrid plan?

The site whose name sorts first encapsulates when its steward approves: the ciphertext goes into the
signed approval, the secret into this site's database in the same transaction, sealed under a key
that only this site's ``kem.key`` gives. Whoever copies the database, or can break X25519, has
gained nothing. The other site decapsulates what the approval carries, whenever it needs to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.errors import CohortiumError, ErrorCode, TrustError
from schemas.governance.approval import Approval, open_approval
from schemas.secagg.kem import kem_secret, own_kem_secret
from schemas.secagg.keys import derive, frame

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from schemas.signing import SignedDocument
    from site_node.context import SiteContext

_SINGLE_USE_NONCE: Final = bytes(12)  # the key is bound to one ciphertext, which has one secret


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """What one peer gets, and what this site keeps.

    Attributes:
        peer: the site it is for.
        ciphertext: 1088 bytes in hexadecimal, public.
        sealed: the 32-byte secret and a 16-byte tag, readable with this site's ``kem.key`` only.
    """

    peer: str
    ciphertext: str
    sealed: bytes


def encapsulate(
    plan: StudyPlan, own_id: str, private: MLKEM768PrivateKey
) -> tuple[Encapsulation, ...]:
    """Agree a fresh secret with every peer for whom this site's approval carries a ciphertext.

    The randomness is OpenSSL's, seeded by the operating system: ``cryptography`` takes no other.
    In a plain plan there is nothing to do, and nothing is given.
    """
    digest, made = plan.digest(), []
    for peer in plan.encapsulated_for(own_id):
        public = plan.site(peer).kem_key
        assert public is not None  # the plan says so: hybrid plans pin every site's key
        shared, ciphertext = MLKEM768PublicKey.from_public_bytes(
            bytes.fromhex(public)
        ).encapsulate()
        secret = kem_secret(shared, ciphertext, plan_digest=digest, sender=own_id, receiver=peer)
        key, bound = _storage_key(private, digest, peer, ciphertext)
        sealed = AESGCM(key).encrypt(_SINGLE_USE_NONCE, secret, bound)
        made.append(Encapsulation(peer, ciphertext.hex(), sealed))
    return tuple(made)


def keep_within(
    connection: sqlite3.Connection, plan_digest: str, made: Iterable[Encapsulation]
) -> None:
    """Keep sealed secrets, in the transaction that keeps the approval with their ciphertexts."""
    connection.executemany(
        "INSERT INTO kem_secrets VALUES (?, ?, ?, ?)",
        [(plan_digest, each.peer, each.ciphertext, each.sealed) for each in made],
    )


def kem_secrets(
    site: SiteContext, plan: StudyPlan, approvals: Sequence[SignedDocument]
) -> Mapping[str, bytes]:
    """Return the ML-KEM-768 half of this site's pair roots, as far as they can be known now.

    With a later site it is known once this site has approved; with an earlier one once that
    site's approval is at hand; with itself always. An approval that does not count for the plan
    is passed over, as `schemas.governance.approval.check_approvals` does: its site is no member
    of any cohort either. The same after a restart, from disk and the approvals alone.

    Args:
        site: this site.
        plan: the plan it approved.
        approvals: every site's signed approval as far as known, this site's own or not.

    Returns:
        Site → 32 bytes; empty for a plan without a hybrid pair root.

    Raises:
        TrustError: OWN_KEY_WRONG, the plan pins another key than ``kem.key``;
            KEM_SECRET_UNREADABLE, a row of the database was changed; KEM_APPROVAL_FOREIGN, the
            others hold an approval of this site with ciphertexts of which it has no secrets.
    """
    if not plan.is_hybrid:
        return {}
    own_id, private, digest = site.config.site_id, site.keys.kem, plan.digest()
    if plan.site(own_id).kem_key != private.public_key().public_bytes_raw().hex():
        raise TrustError(
            ErrorCode.OWN_KEY_WRONG,
            "The plan does not hold this site's own ML-KEM-768 key.",
            hint="Restore keys/kem.key from the backup; else stop the study and ask the vendor "
            "for a new plan.",
        )
    kept = _kept(site, private, digest)
    secrets = {peer: secret for peer, (_, secret) in kept.items()}
    secrets[own_id] = own_kem_secret(
        private.private_bytes_raw(), plan_digest=digest, site_id=own_id
    )
    for approval in _valid(plan, approvals):
        if approval.site_id == own_id:
            _check_remembered(approval, {peer: text for peer, (text, _) in kept.items()})
        elif own_id in approval.encapsulations:
            ciphertext = bytes.fromhex(approval.encapsulations[own_id])
            secrets[approval.site_id] = kem_secret(
                private.decapsulate(ciphertext),
                ciphertext,
                plan_digest=digest,
                sender=approval.site_id,
                receiver=own_id,
            )
    return secrets


def _valid(plan: StudyPlan, approvals: Sequence[SignedDocument]) -> list[Approval]:
    found = []
    for signed in approvals:
        try:
            found.append(open_approval(plan, signed))
        except CohortiumError:
            continue
    return found


def _kept(
    site: SiteContext, private: MLKEM768PrivateKey, digest: str
) -> dict[str, tuple[str, bytes]]:
    """Read back peer → (ciphertext, secret)."""
    found = {}
    for row in site.db.rows("SELECT * FROM kem_secrets WHERE plan_digest = ?", digest):
        ciphertext = str(row["ciphertext"])
        key, bound = _storage_key(private, digest, row["peer"], bytes.fromhex(ciphertext))
        try:
            secret = AESGCM(key).decrypt(_SINGLE_USE_NONCE, bytes(row["sealed"]), bound)
        except (InvalidTag, ValueError):
            raise TrustError(
                ErrorCode.KEM_SECRET_UNREADABLE,
                "A stored ML-KEM-768 secret cannot be read with this site's key.",
                hint="Run `cohortium-site doctor`; if the database is damaged, stop the study and "
                "ask the vendor for a new plan.",
                detail=row["peer"],
            ) from None
        found[row["peer"]] = (ciphertext, secret)
    return found


def _check_remembered(approval: Approval, kept: Mapping[str, str]) -> None:
    """Refuse to go on with ciphertexts of ours that the others hold and we have no secrets of."""
    if dict(approval.encapsulations) != dict(kept):
        raise TrustError(
            ErrorCode.KEM_APPROVAL_FOREIGN,
            "The approval of this site that is in circulation carries other ML-KEM-768 "
            "ciphertexts than this site remembers.",
            hint="The database was probably restored from a copy older than the approval, and the "
            "plan approved again. Stop the study and ask the vendor for a new plan.",
        )


def _storage_key(
    private: MLKEM768PrivateKey, digest: str, peer: str, ciphertext: bytes
) -> tuple[bytes, bytes]:
    bound = frame((bytes.fromhex(digest), peer.encode(), ciphertext))
    seed = private.private_bytes_raw()
    return derive(seed, b"kem-at-rest", bound, salt=b"", n_bytes=32), bound
