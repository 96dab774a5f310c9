"""SECAGG-16: what is a pair's ML-KEM-768 secret bound to, and does a root need both halves?"""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.secagg.kem import (
    KEM_CIPHERTEXT_BYTES,
    KEM_KEY_BYTES,
    KEM_SECRET_BYTES,
    KEM_SEED_BYTES,
    kem_secret,
    own_kem_secret,
)
from schemas.secagg.keys import pair_root

PLAN, SHARED, CIPHERTEXT = "5a" * 32, bytes(range(32)), bytes(range(136)) * 8
BOUND = {"plan_digest": PLAN, "sender": "site-1", "receiver": "site-2"}


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, one block, by the letter."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def test_the_sizes_are_those_of_the_library() -> None:
    private = MLKEM768PrivateKey.generate()
    shared, ciphertext = private.public_key().encapsulate()
    assert len(private.private_bytes_raw()) == KEM_SEED_BYTES
    assert len(private.public_key().public_bytes_raw()) == KEM_KEY_BYTES
    assert (len(shared), len(ciphertext)) == (KEM_SECRET_BYTES, KEM_CIPHERTEXT_BYTES)
    assert private.decapsulate(ciphertext) == shared


def test_a_secret_is_hkdf_of_the_shared_secret_and_everything_named() -> None:
    """SECAGG-16, computed a second way."""
    info = framed(b"cohortium/v2/secagg/kem-secret", b"site-1", b"site-2", CIPHERTEXT)
    assert kem_secret(SHARED, CIPHERTEXT, **BOUND) == hkdf(SHARED, bytes.fromhex(PLAN), info)


def test_a_sites_secret_with_itself_is_hkdf_of_its_private_key() -> None:
    seed = bytes(range(64))
    info = framed(b"cohortium/v2/secagg/kem-self", b"site-1")
    own = own_kem_secret(seed, plan_digest=PLAN, site_id="site-1")
    assert own == hkdf(seed, bytes.fromhex(PLAN), info)


@pytest.mark.parametrize(
    "change",
    [{"plan_digest": "5b" * 32}, {"sender": "site-0"}, {"receiver": "site-3"},
     {"sender": "site-2", "receiver": "site-1"}, {"sender": "site-12", "receiver": ""}],
)  # fmt: skip
def test_another_plan_or_pair_has_another_secret(change: dict[str, str]) -> None:
    assert kem_secret(SHARED, CIPHERTEXT, **{**BOUND, **change}) != kem_secret(
        SHARED, CIPHERTEXT, **BOUND
    )


def test_another_ciphertext_has_another_secret_even_for_one_shared_secret() -> None:
    other = CIPHERTEXT[:-1] + bytes([CIPHERTEXT[-1] ^ 1])
    assert kem_secret(SHARED, other, **BOUND) != kem_secret(SHARED, CIPHERTEXT, **BOUND)


def test_a_changed_ciphertext_decapsulates_to_another_secret_and_raises_nothing() -> None:
    """FIPS 203 section 6.3, implicit rejection: the share under the root is what notices."""
    private = MLKEM768PrivateKey.generate()
    shared, ciphertext = private.public_key().encapsulate()
    bent = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    assert private.decapsulate(bent) != shared
    assert private.decapsulate(bent) == private.decapsulate(bent)
    assert MLKEM768PrivateKey.generate().decapsulate(ciphertext) != shared


def test_a_root_needs_both_halves() -> None:
    """SECAGG-2, -16: who breaks one of the two still lacks the other."""
    first, second = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    keys = [key.public_key().public_bytes_raw().hex() for key in (first, second)]
    secret = kem_secret(SHARED, CIPHERTEXT, **BOUND)
    root = pair_root(first, keys[1], PLAN, "site-1", "site-2", secret)
    assert root == pair_root(second, keys[0], PLAN, "site-2", "site-1", secret)
    assert root != pair_root(first, keys[1], PLAN, "site-1", "site-2", bytes(32))
    assert root != pair_root(first, keys[1], PLAN, "site-1", "site-2")
    stranger = X25519PrivateKey.generate()
    assert root != pair_root(stranger, keys[1], PLAN, "site-1", "site-2", secret)
