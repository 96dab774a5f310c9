"""Which clean file came from which raw one, and who can read that?

The mapping undoes the de-identification, so it never lies in clear on a disk unless that is asked
for. By default it is a stream of chunks under AES-256-GCM with a key derived (HKDF-SHA-256, RFC
5869) from the hospital's key file and a fresh salt. A chunk's nonce is its number and a mark that
is set on the last one only, so chunks can be neither changed, moved, dropped nor cut off unnoticed
(the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, CRYPTO 2015).
"""

from __future__ import annotations

import csv
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from deid.batch.files import NewFile
from schemas.entropy import Entropy
from schemas.errors import ConfigError, DataRejected, ErrorCode

COLUMNS = ("input_rel", "output_rel")
MAGIC = b"cohortium deid mapping 1\n"
_SALT_BYTES = 32
_CHUNK_BYTES = 65_536
_TAG_BYTES = 16


class MappingWriter:
    """Write a mapping row by row; it appears, whole and for its owner only, on `commit`.

    Args:
        path: where the mapping goes; one that is there is replaced, any other file is refused.
        secret: the hospital's secret; None writes plain CSV.
        entropy: gives the salt.

    Raises:
        ConfigError: something that is no mapping lies there, or it cannot be written.
    """

    def __init__(self, path: Path, secret: bytes | None, entropy: Entropy = os.urandom) -> None:
        _refuse_other(path)
        self._file = NewFile(path, mode=0o600)
        self._pending = bytearray()
        self._text = io.StringIO(newline="")
        self._csv = csv.writer(self._text, lineterminator="\n")
        self._cipher: AESGCM | None = None
        self._count = 0
        if secret is not None:
            salt = entropy(_SALT_BYTES)
            self._header = MAGIC + salt
            self._cipher = AESGCM(_key(secret, salt))
            self._file.write(self._header)
        self._csv.writerow(COLUMNS)

    def __enter__(self) -> MappingWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.abandon()

    def add(self, input_rel: str, output_rel: str) -> None:
        """Append one released file."""
        self._csv.writerow((input_rel, output_rel))
        if self._text.tell() >= _CHUNK_BYTES:
            self._flush()

    def commit(self) -> None:
        """Write the end and put the mapping in place."""
        self._flush()
        if self._cipher is not None:
            self._seal(bytes(self._pending), is_last=True)
        self._file.commit()

    def _flush(self) -> None:
        # A file name need not be UTF-8: its bytes pass as they are.
        raw = self._text.getvalue().encode("utf-8", "surrogateescape")
        self._text.seek(0)
        self._text.truncate()
        if self._cipher is None:
            self._file.write(raw)
            return
        self._pending += raw
        while len(self._pending) > _CHUNK_BYTES:
            self._seal(bytes(self._pending[:_CHUNK_BYTES]), is_last=False)
            del self._pending[:_CHUNK_BYTES]

    def _seal(self, chunk: bytes, *, is_last: bool) -> None:
        assert self._cipher is not None
        nonce = _nonce(self._count, is_last=is_last)
        self._file.write(self._cipher.encrypt(nonce, chunk, self._header))
        self._count += 1


def read_mapping(path: Path, secret: bytes | None) -> Iterator[bytes]:
    """Give a mapping's CSV text (UTF-8) piece by piece; a plain mapping passes as it is.

    Pieces are authentic one by one, but only the end tells that nothing is missing: whoever must
    not act on a part of the mapping reads it to the end first.

    Raises:
        ConfigError: there is no such file.
        DataRejected: it is no mapping, was changed or cut, or belongs to another key.
    """
    try:
        file = path.open("rb")
    except OSError:
        raise ConfigError(
            ErrorCode.CONFIG_FILE_MISSING,
            "The mapping cannot be opened.",
            hint="Check the path, and that you may read it.",
        ) from None
    with file:
        head = file.read(len(MAGIC))
        if head != MAGIC:
            if not head.startswith(",".join(COLUMNS).encode()):
                raise _invalid(
                    "The file is not a mapping of cohortium-deid.",
                    "Name the file that --mapping of `run` wrote.",
                )
            file.seek(0)
            while piece := file.read(_CHUNK_BYTES):
                yield piece
            return
        if secret is None:
            raise _invalid(
                "The mapping is encrypted.", "Name the key that `run` was given with --key-file."
            )
        salt = file.read(_SALT_BYTES)
        cipher, header = AESGCM(_key(secret, salt)), MAGIC + salt
        count = 0
        sealed = file.read(_CHUNK_BYTES + _TAG_BYTES)
        while True:
            following = file.read(_CHUNK_BYTES + _TAG_BYTES)
            try:
                yield cipher.decrypt(_nonce(count, is_last=not following), sealed, header)
            except (InvalidTag, ValueError):
                raise _invalid(
                    "The mapping was changed or cut off, or belongs to another key.",
                    "Name the key that `run` was given. If it is the right one, run the same "
                    "command again with --mapping: it writes the mapping anew.",
                ) from None
            if not following:
                return
            sealed, count = following, count + 1


def _nonce(count: int, *, is_last: bool) -> bytes:
    return struct.pack(">3xQB", count, is_last)


def _key(secret: bytes, salt: bytes) -> bytes:
    info = b"cohortium/v1/deid/mapping"
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)


def _refuse_other(path: Path) -> None:
    """Refuse to replace a file that is no mapping: a slip of the keyboard must not cost data."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except FileNotFoundError:
        return
    except OSError:
        head = b"?"
    if head not in (b"", MAGIC) and not head.startswith(",".join(COLUMNS).encode()):
        raise ConfigError(
            ErrorCode.CONFIG_FILE_UNWRITABLE,
            "The path of the mapping is taken by something that is no mapping.",
            hint="Name another file with --mapping.",
        )


def _invalid(sentence: str, hint: str) -> DataRejected:
    return DataRejected(ErrorCode.DEID_MAPPING_INVALID, sentence, hint=hint)
