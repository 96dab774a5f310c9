"""Which key protects what, and what is each key bound to?

X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), AES-256-GCM. One tree per pair, one per cohort:

    pair root R_ij   X25519(study_i, study_j),           plan, both sites     lives with the plan
                     with ML-KEM-768 in a hybrid plan
      share keys     R_ij                                READY header, i → j  one share of a kind
      pair masks     X25519(e_i, e_j), salt R_ij         the whole attempt    one upload
    self-mask        s_i, in Shamir shares at the sites  READY header         one upload
    group secret G   every member's contribution         the whole attempt    one attempt
      tag secret, blinding streams                       G, purpose, site     one use each

"The whole attempt" is plan, kind, round, attempt, new model and the hash of every signed READY.
Two sites that were shown different cohorts therefore hold unrelated masks, and their uploads add
up to noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.field import residue
from schemas.secagg.streams import KEY_BYTES

CONTRIBUTION_BYTES: Final = 32
SHARE_BYTES: Final = CONTRIBUTION_BYTES + 16  # with the AES-GCM tag
GROUP_SHARE: Final = b"group-share"
MASK_SHARE: Final = b"mask-share"
_LABEL: Final = b"cohortium/v2/secagg/"
_TAG_MASK_BYTES: Final = 16
_SINGLE_USE_NONCE: Final = bytes(12)  # the key itself is never used twice (SECAGG-3)
_SEED_BYTES: Final = KEY_BYTES + _TAG_MASK_BYTES


def frame(parts: Iterable[bytes]) -> bytes:
    """Join ``parts`` unambiguously: each is preceded by its length in four bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def derive(secret: bytes, purpose: bytes, *context: bytes, salt: bytes, n_bytes: int) -> bytes:
    """Return HKDF-SHA256 of ``secret`` for one purpose and one context."""
    info = frame((_LABEL + purpose, *context))
    return HKDF(SHA256(), length=n_bytes, salt=salt, info=info).derive(secret)


def agree(private: X25519PrivateKey, peer_public_hex: str) -> bytes:
    """Return the X25519 shared secret.

    Raises:
        ProtocolError: the peer's key is a point of low order, whose shared secret anyone knows
            (RFC 7748 §6.1), or is not a key at all.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(peer_public_hex)))
    except ValueError:
        raise ProtocolError(
            ErrorCode.COHORT_KEY_INVALID,
            "A site's key-agreement key is not one that can keep a secret.",
            hint="Ask that hospital to check its node; refuse the plan if the key stands in it.",
        ) from None


def pair_root(
    study_private: X25519PrivateKey,
    peer_study_key: str,
    plan_digest: str,
    own_id: str,
    peer_id: str,
    kem_secret: bytes = b"",
) -> bytes:
    """Return R_ij, the 32-byte secret two sites share under one plan (SECAGG-2).

    Args:
        study_private: this site's study key.
        peer_study_key: the peer's, 64 hex digits, as pinned in the plan.
        plan_digest: 64 hex digits; it pins both public keys as well.
        own_id: this site.
        peer_id: the other site; both get the same root. A site's root with itself is known to
            it alone: so it can read back what it sealed before a restart.
        kem_secret: 32 bytes of the pair's ML-KEM-768 secret in a hybrid plan, else nothing.

    Raises:
        ProtocolError: the peer's key is of low order.
    """
    first, second = sorted((own_id, peer_id))
    return derive(
        agree(study_private, peer_study_key) + kem_secret,
        b"pair-root",
        first.encode(),
        second.encode(),
        salt=bytes.fromhex(plan_digest),
        n_bytes=KEY_BYTES,
    )


def seal_share(
    root: bytes,
    share: bytes,
    *,
    header: bytes,
    sender: str,
    to: str,
    purpose: bytes = GROUP_SHARE,
) -> str:
    """Encrypt one share for one peer; return it in hex (SECAGG-3, -12).

    Args:
        root: the pair root of sender and receiver.
        share: 32 bytes: a contribution to the group secret, or a share of the self-mask.
        header: canonical bytes of the READY's header. It holds the fresh ephemeral key, so the
            key derived here is used once.
        sender: site that gives the share.
        to: site that may read it.
        purpose: `GROUP_SHARE` or `MASK_SHARE`; the keys of the two are unrelated.
    """
    key, bound = _share_key(root, purpose, header, sender, to)
    return AESGCM(key).encrypt(_SINGLE_USE_NONCE, share, bound).hex()


def open_share(
    root: bytes,
    share: str,
    *,
    header: bytes,
    sender: str,
    to: str,
    purpose: bytes = GROUP_SHARE,
) -> bytes:
    """Decrypt a share (32 bytes).

    Raises:
        ProtocolError: it was changed, or was made for another purpose, header, sender or
            receiver.
    """
    key, bound = _share_key(root, purpose, header, sender, to)
    try:
        return AESGCM(key).decrypt(_SINGLE_USE_NONCE, bytes.fromhex(share), bound)
    except (InvalidTag, ValueError):
        raise ProtocolError(
            ErrorCode.COHORT_SHARE_INVALID,
            "A site's share, sealed for this site, cannot be read.",
            hint="The attempt is void. If it happens again, compare the two sites' plan digests.",
            detail=sender,
        ) from None


def _share_key(
    root: bytes, purpose: bytes, header: bytes, sender: str, to: str
) -> tuple[bytes, bytes]:
    bound = frame((sender.encode(), to.encode(), header))
    return derive(root, purpose, bound, salt=b"", n_bytes=KEY_BYTES), bound


@dataclass(frozen=True, slots=True)
class Attempt:
    """Everything one attempt's secrets are bound to."""

    plan_digest: str
    kind: str
    round: int
    attempt: int
    new_model_hash: str
    transcript_hash: str

    def info(self) -> bytes:
        """Return the unambiguous bytes that go into every derivation of this attempt."""
        return frame(
            (
                bytes.fromhex(self.plan_digest),
                self.kind.encode(),
                self.round.to_bytes(8, "big"),
                self.attempt.to_bytes(8, "big"),
                bytes.fromhex(self.new_model_hash),
                bytes.fromhex(self.transcript_hash),
            )
        )


@dataclass(frozen=True, slots=True, repr=False)
class PairMask:
    """What one pair adds at one end and subtracts at the other: a word stream and a tag mask.

    A self-mask has the same form; its owner adds it, and the coordinator takes it off.
    """

    sign: int
    stream_key: bytes
    tag_mask: int

    @classmethod
    def of(cls, seed: bytes, sign: int) -> PairMask:
        """Read the seed of a pair mask or self-mask, 48 bytes."""
        if len(seed) != _SEED_BYTES:
            raise ValueError("a mask's seed has 48 bytes")
        return cls(sign, seed[:KEY_BYTES], residue(seed[KEY_BYTES:]))


def pair_sign(own_id: str, peer_id: str) -> int:
    """Return 1 for the site that adds the pair's mask, the one whose name sorts first, else -1."""
    return 1 if own_id < peer_id else -1


def pair_seed(
    ephemeral: X25519PrivateKey,
    peer_ephemeral: str,
    root: bytes,
    attempt: Attempt,
    own_id: str,
    peer_id: str,
) -> bytes:
    """Derive the seed of one pair's mask for one attempt, 48 bytes, the same at both (SECAGG-5).

    Raises:
        ProtocolError: the peer's ephemeral key is of low order.
    """
    first, second = sorted((own_id, peer_id))
    return derive(
        agree(ephemeral, peer_ephemeral),
        b"pair-mask",
        attempt.info(),
        first.encode(),
        second.encode(),
        salt=root,
        n_bytes=_SEED_BYTES,
    )


def self_mask_seed(secret: bytes, header: bytes) -> bytes:
    """Derive the seed of a site's self-mask, 48 bytes (SECAGG-12).

    Args:
        secret: s_i, 32 bytes.
        header: canonical bytes of its READY's header, which commits to the secret.
    """
    return derive(secret, b"self-mask", header, salt=b"", n_bytes=_SEED_BYTES)


def self_mask_commitment(secret: bytes, plan_digest: str, site_id: str, ephemeral_key: str) -> str:
    """Return the hash by which a combined self-mask secret is recognised (SECAGG-12).

    It hides the secret, which has 255 bits of entropy, and fits no other site's or attempt's.

    Returns:
        64 hex digits.
    """
    label = _LABEL + b"self-mask"
    bound = (bytes.fromhex(plan_digest), site_id.encode(), bytes.fromhex(ephemeral_key))
    return hashlib.sha256(frame((label, *bound, secret))).hexdigest()


def group_secret(contributions: dict[str, bytes], attempt: Attempt) -> bytes:
    """Return G, which needs every member's contribution (SECAGG-7).

    Args:
        contributions: 32 bytes from each member of the cohort.
    """
    members = sorted(contributions)
    return derive(
        frame(part for site in members for part in (site.encode(), contributions[site])),
        b"group",
        attempt.info(),
        salt=bytes.fromhex(attempt.transcript_hash),
        n_bytes=KEY_BYTES,
    )


def tag_secret(group: bytes, length: int) -> bytes:
    """Return the 32-byte stream key of the coefficients for vectors of ``length`` words (SECAGG-8).

    The length is bound, or a sum could be cut or grown by words that are zero.
    """
    return derive(group, b"tag", length.to_bytes(8, "big"), salt=b"", n_bytes=KEY_BYTES)


def tag_offset(group: bytes, length: int, site_id: str) -> int:
    """Return b_j, what ``site_id`` adds to its tag (SECAGG-8).

    One offset for each site, so that a sum's tag says whose vectors are in it. With one offset
    for all, a sum of k vectors multiplied by k'/k would pass as a sum of k'.
    """
    context = length.to_bytes(8, "big"), site_id.encode()
    return residue(derive(group, b"tag-offset", *context, salt=b"", n_bytes=KEY_BYTES))


def blind_key(group: bytes, site_id: str) -> bytes:
    """Return the key of the extra stream that ``site_id`` adds to a coordinator-blind sum."""
    return derive(group, b"blind", site_id.encode(), salt=b"", n_bytes=KEY_BYTES)
