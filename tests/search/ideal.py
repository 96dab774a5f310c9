"""What are the primitives when nothing about them can be broken, and who could compute what?

X25519, Ed25519 and HKDF are replaced by hash functions with a memory: every value that comes out
is written down with what went in. Knowledge is then a question of reachability instead of
computation: a derived key is known exactly to whoever knows what it was derived from. AES-GCM,
AES-CTR, SHA-256, Shamir and all code above the primitives are the product's own.

The replaced names are those of the lowest calls, wherever a module has bound them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from schemas import canonical
from schemas.governance.study import StudyPlan
from schemas.secagg import keys, messages

LOW_ORDER = bytes(32)
_PRODUCT = ("schemas.", "site_node.", "coordinator.")


@dataclass(slots=True)
class Derivation:
    """One call of the key derivation."""

    secret: bytes
    salt: bytes
    purpose: bytes
    context: tuple[bytes, ...]


@dataclass(slots=True)
class Memory:
    """Everything the primitives did in one schedule.

    Attributes:
        shared: Diffie-Hellman secret → the two public keys.
        derived: derived value → what it came from.
        honest_keys: public keys whose private half an honest site made.
        secrets: raw entropy that honest sites drew.
        roots: pair roots with what they came from; they outlive the schedule.
    """

    shared: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    derived: dict[bytes, Derivation] = field(default_factory=dict)
    honest_keys: set[bytes] = field(default_factory=set)
    secrets: set[bytes] = field(default_factory=set)
    roots: dict[tuple[object, ...], tuple[bytes, bytes, Derivation]] = field(default_factory=dict)

    def forget(self) -> None:
        """Begin a new schedule."""
        self.shared.clear()
        self.derived.clear()
        self.honest_keys.clear()
        self.secrets.clear()

    def is_known(self, value: bytes, given: set[bytes]) -> bool:
        """Say whether whoever holds ``given`` can compute ``value``.

        What no honest site drew and no primitive made is public.
        """
        if value in given:
            return True
        if value in self.secrets:
            return False
        if value in self.shared:
            return any(public not in self.honest_keys for public in self.shared[value])
        made = self.derived.get(value)
        if made is None:
            # A shared secret may be followed by more (a hybrid root): the parts decide.
            return value[:32] not in self.shared or self.is_known(value[:32], given)
        return self.is_known(made.secret, given) and self.is_known(made.salt, given)


MEMORY = Memory()


class IdealX25519:
    """A private key whose public key is a name; agreements are written down."""

    __slots__ = ("_public",)

    def __init__(self, public: bytes) -> None:
        self._public = public

    @classmethod
    def from_private_bytes(cls, raw: bytes) -> IdealX25519:
        """Whose entropy it is decides who may ever know what is agreed under it."""
        public = hashlib.sha256(b"public" + raw).digest()
        if raw in MEMORY.secrets:
            MEMORY.honest_keys.add(public)
        return cls(public)

    def public_key(self) -> IdealPublic:
        """Return the public half."""
        return IdealPublic(self._public)

    def exchange(self, peer: IdealPublic) -> bytes:
        """Agree; points of low order are refused, as `cryptography` does."""
        theirs = peer.public_bytes_raw()
        if theirs == LOW_ORDER:
            raise ValueError("low order")
        first, second = sorted((self._public, theirs))
        secret = hashlib.sha256(b"shared" + first + second).digest()
        MEMORY.shared[secret] = (first, second)
        return secret


class IdealPublic:
    """A public X25519 key."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @classmethod
    def from_public_bytes(cls, raw: bytes) -> IdealPublic:
        """Take any 32 bytes."""
        if len(raw) != 32:
            raise ValueError("an X25519 key has 32 bytes")
        return cls(raw)

    def public_bytes_raw(self) -> bytes:
        """Return the 32 bytes."""
        return self._raw


class IdealEd25519:
    """A signing key; nobody but its holder calls ``sign``, so there are no forgeries."""

    __slots__ = ("_public",)

    def __init__(self, public: bytes) -> None:
        self._public = public

    def public_key(self) -> IdealVerifier:
        """Return the public half."""
        return IdealVerifier(self._public)

    def sign(self, message: bytes) -> bytes:
        """Sign."""
        return hashlib.sha512(self._public + message).digest()


class IdealVerifier:
    """A public Ed25519 key."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @classmethod
    def from_public_bytes(cls, raw: bytes) -> IdealVerifier:
        """Take any 32 bytes."""
        if len(raw) != 32:
            raise ValueError("an Ed25519 key has 32 bytes")
        return cls(raw)

    def public_bytes_raw(self) -> bytes:
        """Return the 32 bytes."""
        return self._raw

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise unless this key signed this message."""
        if signature != hashlib.sha512(self._raw + message).digest():
            raise InvalidSignature


def ideal_derive(
    secret: bytes, purpose: bytes, *context: bytes, salt: bytes, n_bytes: int
) -> bytes:
    """A random oracle in HKDF's place; each output remembers its inputs."""
    parts = (secret, salt, purpose, *context)
    lengths = ",".join([str(len(part)) for part in parts]).encode()
    out = hashlib.blake2b(b"".join((lengths, b":", *parts))).digest()[:n_bytes]
    MEMORY.derived[out] = Derivation(secret, salt, purpose, context)
    return out


_PAIR_ROOT = keys.pair_root


def remembered_root(
    study_private: IdealX25519,
    peer_study_key: str,
    plan_digest: str,
    own_id: str,
    peer_id: str,
    kem_secret: bytes = b"",
) -> bytes:
    """The product's `pair_root`, computed once for all schedules."""
    own = study_private.public_key().public_bytes_raw()
    place = (own, peer_study_key, plan_digest, own_id, peer_id, kem_secret)
    if place not in MEMORY.roots:
        root = _PAIR_ROOT(study_private, *place[1:])  # type: ignore[arg-type]
        made = MEMORY.derived[root]
        MEMORY.roots[place] = (root, made.secret[:32], made)
    root, secret, made = MEMORY.roots[place]
    MEMORY.derived[root] = made
    MEMORY.shared[secret] = (own, bytes.fromhex(peer_study_key))
    return root


class Remembered:
    """Canonical bytes of frozen documents, computed once per object: they are most of the cost."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, bytes]] = {}
        self._plans: dict[int, tuple[object, bytes]] = {}  # few, and shared by many schedules
        self._headers: dict[int, tuple[object, Any]] = {}
        self._canonical = canonical.Document.canonical
        self._header = messages.Ready.header

    def forget(self) -> None:
        """Let go of the objects of the last schedule."""
        self._seen.clear()
        self._headers.clear()

    def canonical(self) -> Any:
        """Return a method in place of `Document.canonical`."""
        seen, plans, original = self._seen, self._plans, self._canonical

        def method(document: canonical.Document) -> bytes:
            held = seen.get(id(document)) or plans.get(id(document))
            if held is None:
                if isinstance(document, StudyPlan):
                    held = plans[id(document)] = (document, original(document))
                else:
                    held = seen[id(document)] = (document, _quick(document))
            return held[1]

        return method

    def header(self) -> Any:
        """Return a method in place of `Ready.header`."""
        seen, original = self._headers, self._header

        def method(ready: messages.Ready) -> messages.ReadyHeader:
            held = seen.get(id(ready))
            if held is None:
                held = seen[id(ready)] = (ready, original(ready))
            return held[1]

        return method


def _quick(document: canonical.Document) -> bytes:
    """Write a document that holds whole numbers and ASCII only: the bytes of RFC 8785, sooner."""
    return json.dumps(
        document.model_dump(mode="json"), sort_keys=True, separators=(",", ":")
    ).encode()


REMEMBERED = Remembered()


def bound_names(original: object) -> Iterator[tuple[Any, str]]:
    """Find every module of ours that has bound ``original``, and under which name."""
    for name, module in list(sys.modules.items()):
        if module is not None and name.startswith(_PRODUCT):
            for attribute, value in list(vars(module).items()):
                if value is original:
                    yield module, attribute


@contextmanager
def replaced(*pairs: tuple[object, object]) -> Iterator[None]:
    """Replace objects wherever our modules have bound them by now; undone at the end."""
    with ExitStack() as stack:
        for original, new in pairs:
            for module, name in bound_names(original):
                if module.__name__ != __name__:
                    stack.enter_context(mock.patch.object(module, name, new))
        yield


@contextmanager
def ideal_primitives() -> Iterator[None]:
    """Run with ideal primitives in every module that is loaded by now."""
    pairs = (
        (x25519.X25519PrivateKey, IdealX25519),
        (x25519.X25519PublicKey, IdealPublic),
        (ed25519.Ed25519PublicKey, IdealVerifier),
        (keys.derive, ideal_derive),
        (keys.pair_root, remembered_root),
    )
    with (
        replaced(*pairs),
        mock.patch.object(canonical.Document, "canonical", REMEMBERED.canonical()),
        mock.patch.object(messages.Ready, "header", REMEMBERED.header()),
    ):
        MEMORY.forget()
        REMEMBERED.forget()
        yield


@dataclass(slots=True)
class Entropy:
    """A reproducible stream; an honest site's draws are secret, the adversary's are not."""

    seed: bytes
    is_honest: bool
    _counter: Iterator[int] = field(default_factory=itertools.count)

    def __call__(self, n_bytes: int, /) -> bytes:
        """Draw."""
        raw = hashlib.shake_256(self.seed + next(self._counter).to_bytes(8, "big")).digest(n_bytes)
        if self.is_honest:
            MEMORY.secrets.add(raw)
        return raw
