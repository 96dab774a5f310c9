"""How is a study's table written, published and read back so that nobody can see or swap it?

`ROOT/STUDY/versions/NAME/{data.parquet, manifest.json}`; `ROOT/STUDY/current` names the version in
force and is replaced atomically. The manifest binds study, file digest, size and snapshot, and is
authenticated under the store key, so a flipped byte, another study's file and a file of an older
version in a newer one's place are all refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DataRejected, ErrorCode, InternalError, TrustError
from site_node.store.crypto import StudyKeys

PATIENT_COLUMN = "patient"
TERMS_FIELD = "data_terms_sha256"  # of the report: the contract the rows were checked against
_DATA, _MANIFEST, _CURRENT = "data.parquet", "manifest.json", "current"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VERSION = re.compile(r"[0-9a-f]{32}")
_ROW_GROUP = 4096  # rows: bounds the memory of a reader
_MAX_MANIFEST_BYTES = 65_536


class Store:
    """Keep the tables of one hospital, encrypted, one folder a study.

    Args:
        root: the store's folder; made when first written.
        kek: the store key, 32 bytes.
    """

    def __init__(self, root: Path, kek: bytes) -> None:
        self._root = root
        self._kek = kek

    def __repr__(self) -> str:
        return "Store(…)"

    def write(self, study_id: str, table: pa.Table, report: Mapping[str, object]) -> str:
        """Publish a table as the study's data; the same under the same contract changes nothing.

        Args:
            study_id: the study.
            table: rows with a `patient` column of pseudonyms.
            report: counts, and the contract's digest as `TERMS_FIELD`, to keep beside the data
                inside its authenticated manifest.

        Returns:
            The snapshot: a keyed digest of the content, the same whenever the content is.

        Raises:
            InternalError: the store cannot be written; what was there before is still in force.
        """
        keys = StudyKeys(self._kek, study_id)
        folder = self._folder(study_id)
        snapshot = _snapshot(keys, table)
        try:
            if self._holds(study_id, snapshot, report.get(TERMS_FIELD)):
                return snapshot
            versions = folder / "versions"
            versions.mkdir(parents=True, exist_ok=True, mode=0o700)
            staging = versions / f"staging-{os.getpid()}"
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(mode=0o700)
            digest = _write_file(staging / _DATA, table, keys)
            manifest = {
                "version": 1,
                "study_id": study_id,
                "rows": table.num_rows,
                "snapshot": snapshot,
                "files": {_DATA: digest},
                "report": dict(report),
            }
            body = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode("ascii")
            sealed = {"manifest": body.decode("ascii"), "tag": keys.manifest_tag(body)}
            _write_bytes(staging / _MANIFEST, json.dumps(sealed).encode("ascii"))
            name = hashlib.sha256(body).hexdigest()[:32]
            target = versions / name
            shutil.rmtree(target, ignore_errors=True)
            staging.rename(target)
            _sync_folder(versions)
            fresh = folder / f"{_CURRENT}.new"
            _write_bytes(fresh, name.encode("ascii"))
            fresh.replace(folder / _CURRENT)
            _sync_folder(folder)
            _remove_others(versions, name)
        except OSError as error:
            raise InternalError(
                ErrorCode.STORE_UNWRITABLE,
                "The store cannot be written; the data in force before are unchanged.",
                hint="Check free space and permissions of the store's folder.",
                detail=type(error).__name__,
            ) from error
        return snapshot

    def read(self, study_id: str, terms_sha256: str | None = None) -> pa.Table:
        """Give the study's table, decrypted, after every check.

        Args:
            study_id: the study.
            terms_sha256: the data contract the rows must have been checked against; None: any.

        Raises:
            DataRejected: the study has no data here, or they were checked against another contract.
            TrustError: a file or the manifest was altered or swapped, or the key is another.
        """
        try:
            return self._read_current(study_id, terms_sha256)
        except TrustError:
            # A reader may meet the moment in which an ingest replaces the version; a sound store
            # reads well the second time, an altered one does not.
            return self._read_current(study_id, terms_sha256)

    def snapshot(self, study_id: str) -> str:
        """Give the keyed digest of the data in force; raises as `read`."""
        return str(self._open(study_id)[1]["snapshot"])

    def report(self, study_id: str) -> dict[str, Any]:
        """Give the counts kept beside the data in force; raises as `read`."""
        return dict(self._open(study_id)[1]["report"])

    def has(self, study_id: str) -> bool:
        """Tell whether the study has published data, without opening them."""
        return (self._folder(study_id) / _CURRENT).is_file()

    def _holds(self, study_id: str, snapshot: str, terms_sha256: object) -> bool:
        try:
            manifest = self._open(study_id)[1]
            held = manifest["snapshot"], manifest["report"].get(TERMS_FIELD)
            if held != (snapshot, terms_sha256):
                return False
            self.read(study_id)
        except (DataRejected, TrustError):
            return False  # nothing there, or not sound: write it anew
        return True

    def _read_current(self, study_id: str, terms_sha256: str | None = None) -> pa.Table:
        folder, manifest, keys = self._open(study_id)
        if terms_sha256 is not None and manifest["report"].get(TERMS_FIELD) != terms_sha256:
            raise DataRejected(
                ErrorCode.STORE_TERMS_OTHER,
                "The stored rows were checked against another data contract than this plan's.",
                hint="Ingest the extract again, naming this plan by its hash instead of the study: "
                "`cohortium-site ingest HASH --source DIR`.",
            )
        try:
            raw = (folder / _DATA).read_bytes()
        except OSError:
            raise _tampered() from None
        if not hmac.compare_digest(hashlib.sha256(raw).hexdigest(), manifest["files"][_DATA]):
            raise _tampered()
        try:
            table = pq.read_table(
                pa.BufferReader(raw), decryption_properties=keys.reading(), use_threads=False
            )
        except (OSError, PermissionError, pa.ArrowException):
            raise _tampered() from None
        if table.num_rows != manifest["rows"] or _snapshot(keys, table) != manifest["snapshot"]:
            raise _tampered()
        return table

    def _folder(self, study_id: str) -> Path:
        if _NAME.fullmatch(study_id) is None:
            raise ValueError("a study's name is lower-case letters, digits and hyphens")
        return self._root / study_id

    def _open(self, study_id: str) -> tuple[Path, dict[str, Any], StudyKeys]:
        keys = StudyKeys(self._kek, study_id)
        folder = self._folder(study_id)
        try:
            name = (folder / _CURRENT).read_text("ascii").strip()
        except FileNotFoundError:
            raise DataRejected(
                ErrorCode.STORE_MISSING,
                "There are no ingested data for this study.",
                hint="Run `cohortium-site ingest STUDY --source DIR` first.",
            ) from None
        except (OSError, UnicodeDecodeError):
            raise _tampered() from None
        if _VERSION.fullmatch(name) is None:
            raise _tampered()
        version = folder / "versions" / name
        return version, _read_manifest(version / _MANIFEST, study_id, keys), keys


def _read_manifest(path: Path, study_id: str, keys: StudyKeys) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            sealed = json.loads(file.read(_MAX_MANIFEST_BYTES))
        body = str(sealed["manifest"]).encode("ascii")
        tag = str(sealed["tag"])
        if not hmac.compare_digest(keys.manifest_tag(body).encode(), tag.encode()):
            raise _tampered()
        manifest: dict[str, Any] = json.loads(body)
    except (OSError, ValueError, KeyError, TypeError):
        raise _tampered() from None
    if manifest["study_id"] != study_id or manifest["version"] != 1:
        raise _tampered()
    return manifest


def _snapshot(keys: StudyKeys, table: pa.Table) -> str:
    """Digest column names, types and values, independent of how a file lays them out."""
    mac = keys.snapshot_mac()
    for column_field, column in zip(table.schema, table.columns, strict=True):
        head = f"{column_field.name}\x00{column_field.type}\x00{len(column)}".encode()
        mac.update(struct.pack(">Q", len(head)) + head)
        for value in column.to_pylist():
            raw = value if isinstance(value, bytes) else repr(value).encode("utf-8")
            mac.update(struct.pack(">Q", len(raw)) + raw)
    return mac.hexdigest()


def _write_file(path: Path, table: pa.Table, keys: StudyKeys) -> str:
    values = [name for name in table.column_names if name != PATIENT_COLUMN]
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        with pq.ParquetWriter(
            file,
            table.schema.remove_metadata(),
            encryption_properties=keys.writing([PATIENT_COLUMN], values),
            compression="zstd",
        ) as writer:
            writer.write_table(table.replace_schema_metadata(None), row_group_size=_ROW_GROUP)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_bytes(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_others(versions: Path, keep: str) -> None:
    """Remove older versions and the leavings of an interrupted write."""
    for entry in versions.iterdir():
        if entry.name != keep:
            with contextlib.suppress(OSError):
                shutil.rmtree(entry)


def _tampered() -> TrustError:
    return TrustError(
        ErrorCode.STORE_TAMPERED,
        "The stored data are not those that were written, or the key is another.",
        hint="Ingest the study again from the raw folder; find out what changed the files.",
    )
