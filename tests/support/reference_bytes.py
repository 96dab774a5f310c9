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


# --- strict reading (SECAGG-3, -19) -----------------------------------------------------------

Check = Callable[[object], bool]


def fits_text(pattern: str) -> Check:
    """Whether a value is text of one form."""
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def is_name(value: object) -> bool:
    """Whether a value may name a site."""
    return fits_text(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")(value) and len(str(value)) <= 40


def is_step(value: object) -> bool:
    """Whether a value may be a round, an attempt or a number of charges."""
    return type(value) is int and 0 <= value <= 1_000_000


def fits_by_name(check: Check, fewest: int) -> Check:
    """Whether a value maps names of sites to values that fit."""
    return lambda value: (
        isinstance(value, dict)
        and fewest <= len(value) <= 200
        and all(is_name(site) and check(each) for site, each in value.items())
    )


_HASH = fits_text("[0-9a-f]{64}")
_SHARES = fits_by_name(fits_text("[0-9a-f]{96}"), 0)
HEADER: Final[dict[str, Check]] = {
    "plan_digest": _HASH,
    "kind": fits_text("train|evaluate"),
    "round": is_step,
    "attempt": is_step,
    "site_id": is_name,
    "model_hash": _HASH,
    "last_sum_hash": _HASH,
    "ledger_head": _HASH,
    "ledger_charges": is_step,
    "ephemeral_key": _HASH,
    "self_mask_commitment": _HASH,
}
READY: Final[dict[str, Check]] = HEADER | {"group_shares": _SHARES, "mask_shares": _SHARES}


def are_fields(
    value: object,
    needed: Mapping[str, Check],
    marked: Mapping[str, Check | None] | None = None,
    *,
    version: int | None = None,
) -> bool:
    """Whether a value is an object with these fields, each of which fits.

    Args:
        value: what was read.
        needed: fields whose absence is `document.field_missing`.
        marked: fields whose absence is `document.not_canonical`, since there is one way to say
            that nothing is there.
        version: what `version` must be, where there is one.
    """
    if not isinstance(value, dict):
        return False
    named = dict(marked or {})
    if value.keys() - needed.keys() - named.keys():
        raise Refused("document.field_unknown")
    if needed.keys() - value.keys():
        raise Refused("document.field_missing")
    if named.keys() - value.keys():
        raise Refused("document.not_canonical")
    if version is not None:
        if value["version"] != version:
            raise Refused("document.version_unknown")
        if type(value["version"]) is not int:
            raise Refused("document.not_canonical")
    every = {**named, **needed}
    return all(check is None or check(value[name]) for name, check in every.items())


def is_signed_ready(value: object) -> bool:
    """Whether a value is a signed READY; the signature itself is another question."""
    return are_fields(value, {"ready": _is_ready, "signature": fits_text("[0-9a-f]{128}")})


def _is_ready(value: object) -> bool:
    return are_fields(value, {"version": _is_any, **READY}, version=2)


def _is_any(value: object) -> bool:
    return value is not None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless it names one key twice."""
    if len(dict(pairs)) != len(pairs):
        raise Refused("document.duplicate_key")
    return dict(pairs)


def read_ready(raw: bytes) -> dict[str, Any]:
    """Read one signed READY by itself, as `reference_frames.read_body` does within a header."""
    try:
        signed: dict[str, Any] = json.loads(raw.decode(), object_pairs_hook=unique)
    except ValueError:
        raise Refused("message.malformed") from None
    if not is_signed_ready(signed):
        raise Refused("document.field_invalid")
    if canonical(signed) != raw:
        raise Refused("document.not_canonical")
    return signed


def header_of(ready: Mapping[str, Any]) -> bytes:
    """The canonical header of a READY: what its shares are bound to."""
    return canonical({name: ready[name] for name in ("version", *HEADER)})


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
