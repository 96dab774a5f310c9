"""With which keys are the store's files encrypted?

Parquet modular encryption, AES_GCM_V1 only: the other algorithm Parquet offers, AES_GCM_CTR_V1,
does not notice a flipped byte in a page. Data keys are 256-bit and random for each file and
column; they are wrapped (RFC 3394 through `cryptography`) under key-encryption keys that are
derived, one for each study and role, from the site's store key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pyarrow.parquet.encryption as pe
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from schemas.errors import ErrorCode, TrustError

KEY_BYTES = 32
FOOTER, PATIENT, VALUES = "footer", "patient", "values"
_ALGORITHM = "AES_GCM_V1"
_DATA_KEY_BITS = 256
_CACHE = timedelta(minutes=5)  # KMS calls are local and cheap; nothing is kept for long


class StudyKeys:
    """Give the keys of one study in one store.

    Args:
        kek: the site's store key, 32 bytes.
        study_id: the study; another study has unrelated keys.

    Raises:
        TrustError: the store key has not 32 bytes.
    """

    __slots__ = ("_keys", "_manifest", "_snapshot")

    def __init__(self, kek: bytes, study_id: str) -> None:
        if len(kek) != KEY_BYTES:
            raise TrustError(
                ErrorCode.STORE_KEY_WRONG,
                "The store key must have 32 bytes.",
                hint="Use the key file that `cohortium-site init` made.",
            )
        self._keys = {name: _derive(kek, study_id, name) for name in (FOOTER, PATIENT, VALUES)}
        self._manifest = _derive(kek, study_id, "manifest")
        self._snapshot = _derive(kek, study_id, "snapshot")

    def __repr__(self) -> str:
        return "StudyKeys(…)"

    def manifest_tag(self, raw: bytes) -> str:
        """Authenticate a manifest (HMAC-SHA-256, hex)."""
        return hmac.new(self._manifest, raw, hashlib.sha256).hexdigest()

    def snapshot_mac(self) -> hmac.HMAC:
        """Start the keyed digest of a table's content: it says "same data", and nothing else."""
        return hmac.new(self._snapshot, b"cohortium/v1/snapshot\x00", hashlib.sha256)

    def writing(self, patient_columns: Sequence[str], value_columns: Sequence[str]) -> Any:
        """Give pyarrow's encryption properties for one new file: every column, and the footer."""
        keys = {PATIENT: list(patient_columns), VALUES: list(value_columns)}
        configuration = pe.EncryptionConfiguration(
            footer_key=FOOTER,
            column_keys={name: columns for name, columns in keys.items() if columns},
            encryption_algorithm=_ALGORITHM,
            plaintext_footer=False,
            double_wrapping=True,
            cache_lifetime=_CACHE,
            internal_key_material=True,
            data_key_length_bits=_DATA_KEY_BITS,
        )
        return self._factory().file_encryption_properties(pe.KmsConnectionConfig(), configuration)

    def reading(self) -> Any:
        """Give pyarrow's decryption properties for files of this study."""
        configuration = pe.DecryptionConfiguration(cache_lifetime=_CACHE)
        return self._factory().file_decryption_properties(pe.KmsConnectionConfig(), configuration)

    def _factory(self) -> Any:
        keys = self._keys
        return pe.CryptoFactory(lambda _: _KeyWrap(keys))


class _KeyWrap(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """Wrap data keys for pyarrow under the study's local keys; a KMS can stand in its place."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        pe.KmsClient.__init__(self)
        self._keys = keys

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        wrapped = aes_key_wrap(self._keys[master_key_identifier], bytes(key_bytes))
        return base64.b64encode(wrapped).decode("ascii")

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        name = master_key_identifier
        if isinstance(name, bytes):
            name = name.decode("ascii")
        try:
            wrapped = base64.b64decode(wrapped_key, validate=True)
            return aes_key_unwrap(self._keys[name], wrapped)
        except (InvalidUnwrap, ValueError, KeyError):  # not ours, not base64, of no such name
            raise PermissionError("the store key does not open this file") from None


def _derive(kek: bytes, study_id: str, name: str) -> bytes:
    info = b"cohortium/v1/store\x00" + study_id.encode("utf-8") + b"\x00" + name.encode("ascii")
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(kek)
