"""Could a second implementer get the same bytes from SECAGG.md alone?

A reference written from the clauses in plain Python integers and HMAC, without a line of ours, and
compared with a whole attempt of three sites.
"""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.secagg.coordinator import add_masked
from schemas.secagg.masking import MaskedUpdate, mask
from tests.support.secure_sum import NEW_MODEL, Consortium, vectors_of

P = 2**61 - 1
LENGTH = 50


def frame(*parts: bytes) -> bytes:
    return b"".join(len(p).to_bytes(4, "big") + p for p in parts)


def kdf(secret: bytes, purpose: str, *context: bytes, salt: bytes, length: int) -> bytes:
    """RFC 5869, from HMAC."""
    info = frame(b"cohortium/v2/secagg/" + purpose.encode(), *context)
    key = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    out = block = b""
    counter = 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def stream(key: bytes, size: int, count: int) -> list[int]:
    block = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    raw = b"".join(block.update(i.to_bytes(16, "big")) for i in range(size * count // 16 + 1))
    return [int.from_bytes(raw[i * size : (i + 1) * size], "little") for i in range(count)]


def reference(consortium: Consortium, own: str, documents: list[bytes], vector: list[int]) -> tuple:
    """One site's masked update, by SECAGG-2 to -9; ``documents`` are the signed READYs' bytes."""
    said = {json.loads(d)["ready"]["site_id"]: json.loads(d)["ready"] for d in documents}
    roster = sorted(said)
    first = said[roster[0]]
    plan = bytes.fromhex(first["plan_digest"])
    party = consortium.parties[own]
    pinned = {site.site_id: site.study_key for site in consortium.plan.sites}
    ordered = sorted(documents, key=lambda d: json.loads(d)["ready"]["site_id"])
    transcript = hashlib.sha256(frame(b"cohortium/v2/secagg/transcript", *ordered)).digest()
    attempt = frame(
        plan,
        first["kind"].encode(),
        first["round"].to_bytes(8, "big"),
        first["attempt"].to_bytes(8, "big"),
        bytes.fromhex(NEW_MODEL),
        transcript,
    )

    def dh(private: X25519PrivateKey, public: str) -> bytes:
        return private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(public)))

    words, tag, gathered = [q % 2**32 for q in vector], 0, []
    for site in roster:
        low, high = sorted((own, site))
        names = low.encode(), high.encode()
        root = kdf(dh(party.study, pinned[site]), "pair-root", *names, salt=plan, length=32)
        header = {k: v for k, v in said[site].items() if k not in ("group_shares", "mask_shares")}
        canonical = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        bound = frame(site.encode(), own.encode(), canonical)
        share_key = kdf(root, "group-share", bound, salt=b"", length=32)
        sealed = bytes.fromhex(said[site]["group_shares"][own])
        gathered += [site.encode(), AESGCM(share_key).decrypt(bytes(12), sealed, bound)]
        if site == own:
            continue
        ephemeral = consortium.ephemerals[own]
        shared = dh(ephemeral, said[site]["ephemeral_key"])
        seed = kdf(shared, "pair-mask", attempt, *names, salt=root, length=48)
        sign = 1 if own == low else -1
        tag += sign * (int.from_bytes(seed[32:], "little") % P)
        masks = stream(seed[:32], 4, LENGTH)
        words = [(w + sign * m) % 2**32 for w, m in zip(words, masks, strict=True)]
    group = kdf(frame(*gathered), "group", attempt, salt=transcript, length=32)
    secret = kdf(group, "tag", LENGTH.to_bytes(8, "big"), salt=b"", length=64)
    a = [w & P for w in stream(secret[:32], 8, LENGTH)]
    b = int.from_bytes(secret[32:], "little") % P
    tag += sum(x * q for x, q in zip(a, vector, strict=True)) + b
    if first["kind"] == "evaluate":
        blind = stream(kdf(group, "blind", own.encode(), salt=b"", length=32), 4, LENGTH)
        words = [(w + m) % 2**32 for w, m in zip(words, blind, strict=True)]
    return words, tag % P


class WithEphemerals(Consortium):
    """A consortium whose ephemeral keys the reference may see."""

    ephemerals: dict[str, X25519PrivateKey]


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_an_independent_reference_gives_the_same_upload(kind: str) -> None:
    consortium = WithEphemerals.of(3)
    issued = consortium.issue_all(kind=kind)
    consortium.ephemerals = {site: secret.ephemeral() for site, (_, secret) in issued.items()}
    readies = [signed for signed, _ in issued.values()]
    documents = [signed.canonical() for signed in readies]
    vectors = vectors_of(issued, LENGTH)
    uploads: dict[str, MaskedUpdate] = {}
    for site, (_, secrets) in issued.items():
        keys = consortium.join(site, secrets, readies, kind=kind)
        uploads[site] = mask(keys, vectors[site], blind=kind == "evaluate")
        words, tag = reference(consortium, site, documents, vectors[site].tolist())
        assert uploads[site].words.tolist() == words
        assert uploads[site].tag == tag
    assert add_masked(uploads, tuple(issued)).words.shape == (LENGTH,)
