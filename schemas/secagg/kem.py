"""What does ML-KEM-768 add to a pair root, and what is its secret bound to?

In a plan whose ``pair_root`` is ``x25519-ml-kem-768`` a pair root stays secret as long as one of
X25519 and ML-KEM-768 (FIPS 203) holds. Of each pair the site whose name sorts first encapsulates
to the other's key pinned in the plan; the ciphertext travels in its steward's signed approval. No
randomness here: a site encapsulates in its own code and passes the result in.

Decapsulation never fails: a ciphertext that was changed, or made for another key, gives another
secret (FIPS 203 §6.3). The pair then shares no root, and whoever opens the other's first share
refuses it (SECAGG-3).
"""

from __future__ import annotations

from typing import Final

from schemas.identity import KEM_CIPHERTEXT_BYTES, KEM_KEY_BYTES
from schemas.secagg.keys import derive

__all__ = [
    "KEM_CIPHERTEXT_BYTES",
    "KEM_KEY_BYTES",
    "KEM_SECRET_BYTES",
    "KEM_SEED_BYTES",
    "kem_secret",
    "own_kem_secret",
]

KEM_SEED_BYTES: Final = 64  # d and z of FIPS 203 §7.1: the private key as it is kept
KEM_SECRET_BYTES: Final = 32


def kem_secret(
    shared: bytes, ciphertext: bytes, *, plan_digest: str, sender: str, receiver: str
) -> bytes:
    """Return what both ends of a pair add to their root (SECAGG-16).

    The ciphertext is bound, so that the secret names one encapsulation and no other; the plan's
    digest pins both sites' keys.

    Args:
        shared: 32 bytes, ML-KEM's shared secret.
        ciphertext: 1088 bytes that travelled.
        plan_digest: 64 hex digits.
        sender: the site that encapsulated; its name sorts first.
        receiver: the site that decapsulates.

    Returns:
        32 bytes for ``kem_secret`` of `schemas.secagg.keys.pair_root`.
    """
    return derive(
        shared,
        b"kem-secret",
        sender.encode(),
        receiver.encode(),
        ciphertext,
        salt=bytes.fromhex(plan_digest),
        n_bytes=KEM_SECRET_BYTES,
    )


def own_kem_secret(seed: bytes, *, plan_digest: str, site_id: str) -> bytes:
    """Return a site's secret with itself: like its X25519 half, known to it alone (SECAGG-16).

    Args:
        seed: 64 bytes, the site's ML-KEM-768 private key.
        plan_digest: 64 hex digits.
        site_id: the site.
    """
    return derive(
        seed,
        b"kem-self",
        site_id.encode(),
        salt=bytes.fromhex(plan_digest),
        n_bytes=KEM_SECRET_BYTES,
    )
