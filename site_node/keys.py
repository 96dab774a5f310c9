"""Which secrets does this hospital hold, and in which file does each lie?

Every key has a file of its own (mode 0600 in a 0700 folder), so that an administrator can give
the steward's approval key and the pseudonym secret to other operating-system users.
"""

from __future__ import annotations

import os
import stat
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from schemas.errors import ConfigError, ErrorCode, TrustError
from site_node.config import write_atomically

if TYPE_CHECKING:
    from schemas.entropy import Entropy

SECRET_FILES = (
    "identity.key",
    "approval.key",
    "study.key",
    "kem.key",
    "node.key",
    "tls.key",
    "store.kek",
    "pseudonym.secret",
)
_PEM = serialization.Encoding.PEM
_PKCS8 = serialization.PrivateFormat.PKCS8
_CLEAR = serialization.NoEncryption()


class SiteKeys:
    """The key files of one site, each read when first used and only if nobody else can read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Name a key file."""
        return self.folder / name

    def read_secret(self, name: str) -> bytes:
        """Read one secret file.

        Raises:
            ConfigError: it is missing, or group or others may read it.
        """
        path = self.path(name)
        try:
            mode = path.stat().st_mode
            raw = path.read_bytes()
        except OSError:
            raise ConfigError(
                ErrorCode.KEY_MISSING,
                f"The key file {name} cannot be read.",
                hint="Restore it from your backup; a new key means a new enrolment.",
                detail=str(path),
            ) from None
        if stat.S_IMODE(mode) & 0o077:
            raise ConfigError(
                ErrorCode.KEY_PERMISSIONS,
                f"Other users of this machine can read the key file {name}.",
                hint=f"Run: chmod 600 {path}",
            )
        return raw

    def _private(self, name: str) -> object:
        raw = self.read_secret(name)
        try:
            return serialization.load_pem_private_key(raw, password=None)
        except (ValueError, TypeError):
            raise TrustError(
                ErrorCode.KEY_INVALID,
                f"The key file {name} does not hold a usable key.",
                hint="Restore it from your backup.",
            ) from None

    def _ed25519(self, name: str) -> Ed25519PrivateKey:
        key = self._private(name)
        if not isinstance(key, Ed25519PrivateKey):
            raise TrustError(ErrorCode.KEY_INVALID, f"{name} is not an Ed25519 key.")
        return key

    @cached_property
    def identity(self) -> Ed25519PrivateKey:
        """Sign protocol messages, audit rows, ledger heads and the manifest."""
        return self._ed25519("identity.key")

    @cached_property
    def approval(self) -> Ed25519PrivateKey:
        """Sign the steward's approvals and stops; nothing else."""
        return self._ed25519("approval.key")

    @cached_property
    def study(self) -> X25519PrivateKey:
        """Agree pair secrets with the other hospitals."""
        key = self._private("study.key")
        if not isinstance(key, X25519PrivateKey):
            raise TrustError(ErrorCode.KEY_INVALID, "study.key is not an X25519 key.")
        return key

    @cached_property
    def kem(self) -> MLKEM768PrivateKey:
        """Agree the post-quantum half of pair secrets, in plans that ask for one."""
        key = self._private("kem.key")
        if not isinstance(key, MLKEM768PrivateKey):
            raise TrustError(ErrorCode.KEY_INVALID, "kem.key is not an ML-KEM-768 key.")
        return key

    @cached_property
    def store_kek(self) -> bytes:
        """Wrap the keys of the encrypted store; 32 bytes."""
        return bytes.fromhex(self.read_secret("store.kek").decode("ascii").strip())

    @cached_property
    def pseudonym_secret(self) -> bytes:
        """Key the pseudonyms and date shifts of this hospital; 32 bytes."""
        return bytes.fromhex(self.read_secret("pseudonym.secret").decode("ascii").strip())

    @cached_property
    def node_public_der_hex(self) -> str:
        """Give the Flower node's public key (P-384 SubjectPublicKeyInfo, DER, hex)."""
        public = serialization.load_ssh_public_key(self.path("node.pub").read_bytes())
        return public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ).hex()

    def exposed(self) -> tuple[str, ...]:
        """Name the secret files that are missing or readable by other users."""
        bad = []
        for name in SECRET_FILES:
            try:
                mode = self.path(name).stat().st_mode
            except OSError:
                bad.append(name)
                continue
            if stat.S_IMODE(mode) & 0o077:
                bad.append(name)
        return tuple(bad)


def create_keys(folder: Path, site_id: str, entropy: Entropy = os.urandom) -> SiteKeys:
    """Make every key of a new site, and the certificate request for its TLS key.

    Args:
        folder: created with mode 0700; must not exist.
        site_id: the common name of the certificate request.
        entropy: source of the two symmetric secrets.

    Raises:
        ConfigError: the folder exists already; keys are never overwritten.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise ConfigError(
            ErrorCode.CONFIG_HOME_EXISTS,
            "This folder already holds a site node's keys.",
            hint="Use another --home; keys are never overwritten.",
            detail=str(folder),
        ) from None
    for name, key in (
        ("identity.key", Ed25519PrivateKey.generate()),
        ("approval.key", Ed25519PrivateKey.generate()),
        ("study.key", X25519PrivateKey.generate()),
        ("kem.key", MLKEM768PrivateKey.generate()),
    ):
        write_atomically(folder / name, key.private_bytes(_PEM, _PKCS8, _CLEAR))
    node = ec.generate_private_key(ec.SECP384R1())
    write_atomically(
        folder / "node.key",
        node.private_bytes(_PEM, serialization.PrivateFormat.OpenSSH, _CLEAR),
    )
    write_atomically(
        folder / "node.pub",
        node.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        ),
        mode=0o644,
    )
    tls = ec.generate_private_key(ec.SECP256R1())
    write_atomically(folder / "tls.key", tls.private_bytes(_PEM, _PKCS8, _CLEAR))
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site_id)]))
        .sign(tls, hashes.SHA256())
    )
    write_atomically(folder / "tls.csr", request.public_bytes(_PEM), mode=0o644)
    for name in ("store.kek", "pseudonym.secret"):
        write_atomically(folder / name, entropy(32).hex().encode("ascii") + b"\n")
    return SiteKeys(folder)
