"""Which bytes does SECAGG.md mean? Its notation and documents, read by a second implementer.

Plain Python: HMAC for HKDF, AES one block at a time, the json module for canonical documents.
Nothing of ours is imported.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

LABEL: Final = b"cohortium/v2/secagg/"
TAG_PRIME: Final = 2**61 - 1
SHAMIR_PRIME: Final = 2**255 - 19
ZEROS: Final = "0" * 64
MAX_READY_BYTES: Final = 64 * 1024


class Refused(Exception):
    """A check failed; ``code`` is what crosses the wire."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


# --- notation ---------------------------------------------------------------------------------


def frame(*parts: bytes) -> bytes:
    """Join parts, each after its length in four bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def kdf(secret: bytes, purpose: str, *context: bytes, salt: bytes = b"", length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869 sections 2.2 and 2.3) from HMAC."""
    info = frame(LABEL + purpose.encode(), *context)
    key = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    out = block = b""
    counter = 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def hashed(purpose: str, *parts: bytes) -> str:
    """SHA-256 of a frame that begins with a label."""
    return hashlib.sha256(frame(LABEL + purpose.encode(), *parts)).hexdigest()


def stream(key: bytes, size: int, count: int) -> list[int]:
    """The first ``count`` little-endian words of ``size`` bytes of AES-256-CTR over zeros."""
    block = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    raw = b"".join(block.update(i.to_bytes(16, "big")) for i in range(size * count // 16 + 1))
    return [int.from_bytes(raw[i * size : (i + 1) * size], "little") for i in range(count)]


def residue(raw: bytes) -> int:
    """A field element of the tag from uniform bytes."""
    return int.from_bytes(raw, "little") % TAG_PRIME


def canonical(document: object) -> bytes:
    """RFC 8785 for what occurs here: ASCII text, small integers, objects and lists."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def body(header: Mapping[str, Any], *blobs: bytes) -> bytes:
    """One message as it travels (SECAGG-19)."""
    raw = canonical({**header, "blobs": [len(blob) for blob in blobs]})
    return len(raw).to_bytes(4, "big") + raw + b"".join(blobs)


def sign(private: bytes, context: str, payload: bytes) -> str:
    """Ed25519 for one purpose."""
    message = b"cohortium/v1/" + context.encode() + b"\x00" + payload
    return Ed25519PrivateKey.from_private_bytes(private).sign(message).hex()


def is_signed(public: str, context: str, payload: bytes, signature: str) -> bool:
    """Whether a signature fits key, purpose and bytes."""
    message = b"cohortium/v1/" + context.encode() + b"\x00" + payload
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
            bytes.fromhex(signature), message
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def agree(private: bytes, public: str) -> bytes:
    """X25519, points of low order refused."""
    try:
        peer = X25519PublicKey.from_public_bytes(bytes.fromhex(public))
        return X25519PrivateKey.from_private_bytes(private).exchange(peer)
    except ValueError:
        raise Refused("cohort.key_invalid") from None


def x25519_public(private: bytes) -> str:
    """The public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw().hex()


# --- strict reading (SECAGG-3) ----------------------------------------------------------------


def _text(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_name(value: object) -> bool:
    return _text(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")(value) and len(str(value)) <= 40


def _is_step(value: object) -> bool:
    return type(value) is int and 0 <= value <= 1_000_000


def _are_shares(value: object) -> bool:
    sealed = _text("[0-9a-f]{96}")
    return (
        isinstance(value, dict)
        and len(value) <= 200
        and all(_is_name(site) and sealed(share) for site, share in value.items())
    )


_HASH = _text("[0-9a-f]{64}")
HEADER: Final[dict[str, Callable[[object], bool]]] = {
    "version": lambda value: type(value) is int and value == 2,
    "plan_digest": _HASH,
    "kind": _text("train|evaluate"),
    "round": _is_step,
    "attempt": _is_step,
    "site_id": _is_name,
    "model_hash": _HASH,
    "last_sum_hash": _HASH,
    "ledger_head": _HASH,
    "ledger_charges": _is_step,
    "ephemeral_key": _HASH,
    "self_mask_commitment": _HASH,
}
READY: Final = HEADER | {"group_shares": _are_shares, "mask_shares": _are_shares}


def _fields(document: object, wanted: Mapping[str, Callable[[object], bool]]) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise Refused("document.field_invalid")
    if document.keys() - wanted.keys():
        raise Refused("document.field_unknown")
    if wanted.keys() - document.keys():
        raise Refused("document.field_missing")
    if "version" in wanted and not wanted["version"](document["version"]):
        raise Refused("document.version_unknown")
    if not all(fits(document[name]) for name, fits in wanted.items()):
        raise Refused("document.field_invalid")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise Refused("document.duplicate_key")
    return dict(pairs)


def read_ready(raw: bytes) -> dict[str, Any]:
    """Read one signed READY, or refuse it: strict, complete, canonical."""
    if len(raw) > MAX_READY_BYTES:
        raise Refused("document.too_large")
    try:
        signed = json.loads(raw.decode(), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise Refused("document.not_utf8") from None
    except ValueError:
        raise Refused("document.malformed") from None
    signature = _text("[0-9a-f]{128}")
    _fields(signed, {"ready": lambda value: isinstance(value, dict), "signature": signature})
    _fields(signed["ready"], READY)
    if canonical(signed) != raw:
        raise Refused("document.not_canonical")
    return signed


def header_of(ready: Mapping[str, Any]) -> bytes:
    """The canonical header of a READY: what its shares are bound to."""
    return canonical({name: ready[name] for name in HEADER})


# --- what site and coordinator both compute ---------------------------------------------------


def commitment(plan_digest: bytes, site: str, ephemeral: bytes, secret: int) -> str:
    """The hash by which a self-mask's secret is known before it is shown (SECAGG-12)."""
    return hashed("self-mask", plan_digest, site.encode(), ephemeral, secret.to_bytes(32, "little"))


def self_mask_seed(secret: int, ready: Mapping[str, Any]) -> bytes:
    """The 48 bytes that a site adds on its own (SECAGG-12)."""
    return kdf(secret.to_bytes(32, "little"), "self-mask", header_of(ready), length=48)


def upload_hash(words: Sequence[int], tag: int) -> str:
    """The hash that names one upload (SECAGG-13)."""
    return hashed("upload", words_bytes(words), tag.to_bytes(8, "little"))


def words_bytes(words: Sequence[int]) -> bytes:
    """Words as they travel."""
    return b"".join(word.to_bytes(4, "little") for word in words)


def affine_tag(group: bytes, vector: Sequence[int], contributors: Sequence[str]) -> int:
    """<a, vector> and the contributors' offsets; coefficients in rows of 1024 (SECAGG-8)."""
    length = len(vector).to_bytes(8, "big")
    rows = [vector[start : start + 1024] for start in range(0, len(vector), 1024)]
    key = kdf(group, "tag", length, length=32)
    drawn = [word & TAG_PRIME for word in stream(key, 8, 1024 + len(rows) - 1)]
    s, r = drawn[:1024], [1, *drawn[1024:]]
    inner = sum(
        factor * sum(x * q for x, q in zip(s, row, strict=False))
        for factor, row in zip(r, rows, strict=True)
    )
    offsets = (kdf(group, "tag-offset", length, i.encode(), length=32) for i in contributors)
    return (inner + sum(residue(offset) for offset in offsets)) % TAG_PRIME


def added(words: list[int], sign_: int, masks: list[int]) -> list[int]:
    return [(word + sign_ * mask) % 2**32 for word, mask in zip(words, masks, strict=True)]


def polynomial(coefficients: Sequence[int], x: int) -> int:
    return sum(c * x**power for power, c in enumerate(coefficients)) % SHAMIR_PRIME
