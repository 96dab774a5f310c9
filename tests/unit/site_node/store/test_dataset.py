from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import CohortiumError, DataRejected, ErrorCode, InternalError, TrustError
from site_node.store import Store, dataset
from site_node.store.crypto import StudyKeys, _KeyWrap
from site_node.store.dataset import TERMS_FIELD
from tests.support.forge import STORE_KEY

PATIENTS = ["PAAAAAAAAAAAAAAAAAAAAAAAAAA", "PBBBBBBBBBBBBBBBBBBBBBBBBBB"] * 50
TABLE = pa.table(
    {
        "patient": PATIENTS,
        "split": ["train", "test"] * 50,
        "label": pa.array([0, 1] * 50, pa.int8()),
        "finding": ["pneumonia-code-word"] * 100,
        "pixels": pa.array([b"PIXELPIXELPIXEL!"] * 100, pa.binary()),
    }
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", STORE_KEY)


def _files(root: Path, name: str) -> list[Path]:
    return sorted(root.rglob(name))


def _refused(store: Store, study: str = "cxr") -> ErrorCode:
    with pytest.raises(CohortiumError) as caught:
        store.read(study)
    return caught.value.code


def test_what_is_written_is_read(store: Store) -> None:
    snapshot = store.write("cxr", TABLE, {"stored": 100})
    assert store.read("cxr").equals(TABLE)
    assert store.snapshot("cxr") == snapshot and store.report("cxr") == {"stored": 100}
    assert store.has("cxr") and not store.has("heart")


def test_no_cleartext_value_or_column_name_stands_in_the_files(
    store: Store, tmp_path: Path
) -> None:
    store.write("cxr", TABLE, {})
    raw = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for word in (PATIENTS[0], PATIENTS[1], "pneumonia-code-word", "PIXELPIXEL", "finding", "train"):
        assert word.encode() not in raw
    plain = tmp_path / "plain.parquet"
    pq.write_table(TABLE, plain)  # positive control: without encryption the words are there
    assert PATIENTS[0].encode() in plain.read_bytes()


def test_files_are_authenticated_throughout_and_open_to_the_owner_only(
    store: Store, tmp_path: Path
) -> None:
    store.write("cxr", TABLE, {})
    (data,) = _files(tmp_path, "data.parquet")
    raw = data.read_bytes()
    assert raw[:4] == raw[-4:] == b"PARE"  # encrypted footer
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0
    with pytest.raises((OSError, pa.ArrowException)):
        pq.read_table(data)


def test_a_flipped_byte_is_refused(store: Store, tmp_path: Path) -> None:
    store.write("cxr", TABLE, {})
    (data,) = _files(tmp_path, "data.parquet")
    raw = data.read_bytes()
    for at in range(0, len(raw), len(raw) // 40):
        data.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        assert _refused(store) is ErrorCode.STORE_TAMPERED
    data.write_bytes(raw)
    assert store.read("cxr").num_rows == 100


def test_the_encryption_itself_notices_a_flipped_byte(store: Store, tmp_path: Path) -> None:
    store.write("cxr", TABLE, {})
    raw = _files(tmp_path, "data.parquet")[0].read_bytes()
    keys = StudyKeys(STORE_KEY, "cxr")

    def read(body: bytes) -> pa.Table:
        return pq.read_table(pa.BufferReader(body), decryption_properties=keys.reading())

    assert read(raw).equals(TABLE)
    # Pages as well as footer: AES_GCM_CTR_V1 would not notice it in a page.
    for at in range(8, len(raw) - 8, len(raw) // 60):
        with pytest.raises((OSError, pa.ArrowException)):
            read(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])


@pytest.mark.parametrize("wrapped", ["", "AAA", "not base64!", "AAAA" * 10])
def test_a_key_that_cannot_be_unwrapped_is_no_permission(wrapped: str) -> None:
    client = _KeyWrap({"store": bytes(32)})
    with pytest.raises(PermissionError):
        client.unwrap_key(wrapped, "store")
    with pytest.raises(PermissionError):
        client.unwrap_key("AAAA" * 10, "another")


def test_a_file_of_another_study_or_version_is_refused(store: Store, tmp_path: Path) -> None:
    store.write("cxr", TABLE, {})
    store.write("heart", TABLE.slice(0, 10), {})
    mine, theirs = (next((tmp_path / "store" / s).rglob("data.parquet")) for s in ("cxr", "heart"))
    old = mine.read_bytes()
    mine.write_bytes(theirs.read_bytes())
    assert _refused(store) is ErrorCode.STORE_TAMPERED
    store.write("cxr", TABLE.slice(0, 50), {})  # repaired by a new write
    next((tmp_path / "store" / "cxr").rglob("data.parquet")).write_bytes(old)
    assert _refused(store) is ErrorCode.STORE_TAMPERED


def test_a_whole_folder_of_another_study_is_refused(store: Store, tmp_path: Path) -> None:
    store.write("heart", TABLE, {})
    shutil.copytree(tmp_path / "store" / "heart", tmp_path / "store" / "cxr")
    assert _refused(store) is ErrorCode.STORE_TAMPERED


@pytest.mark.parametrize("body", [b"", b"{}", b'{"manifest": "{}", "tag": "00"}', b"\xff", b"[1]"])
def test_an_altered_manifest_is_refused(store: Store, tmp_path: Path, body: bytes) -> None:
    store.write("cxr", TABLE, {})
    (manifest,) = _files(tmp_path, "manifest.json")
    manifest.write_bytes(body)
    assert _refused(store) is ErrorCode.STORE_TAMPERED


@pytest.mark.parametrize("name", [b"../../heart", b"", b"\xff\xfe", b"0" * 31])
def test_an_altered_pointer_is_refused(store: Store, tmp_path: Path, name: bytes) -> None:
    store.write("cxr", TABLE, {})
    (tmp_path / "store" / "cxr" / "current").write_bytes(name)
    assert _refused(store) is ErrorCode.STORE_TAMPERED


def test_another_key_is_refused(store: Store, tmp_path: Path) -> None:
    store.write("cxr", TABLE, {})
    assert _refused(Store(tmp_path / "store", bytes(32))) is ErrorCode.STORE_TAMPERED


def test_a_study_without_data_is_named_so(store: Store) -> None:
    with pytest.raises(DataRejected) as caught:
        store.snapshot("cxr")
    assert caught.value.code is ErrorCode.STORE_MISSING


def test_the_same_data_again_change_nothing(store: Store, tmp_path: Path) -> None:
    first = store.write("cxr", TABLE, {})
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert store.write("cxr", TABLE, {"other": 1}) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


def test_rows_checked_against_another_contract_are_not_given(store: Store) -> None:
    """The store is one for a study's name; two plans of that name may want different data."""
    for report in ({TERMS_FIELD: "ab"}, {}):
        store.write("cxr", TABLE.slice(0, 10 + len(report)), report)
        with pytest.raises(DataRejected) as caught:
            store.read("cxr", "cd")
        assert caught.value.code is ErrorCode.STORE_TERMS_OTHER
    first = store.write("cxr", TABLE, {TERMS_FIELD: "ab"})
    assert store.write("cxr", TABLE, {TERMS_FIELD: "cd"}) == first  # the same rows, checked again
    assert store.read("cxr", "cd").equals(TABLE)
    assert len(store.read("cxr")) == 100


def test_other_data_replace_the_version_and_the_old_one_goes(store: Store, tmp_path: Path) -> None:
    first = store.write("cxr", TABLE, {})
    second = store.write("cxr", TABLE.slice(0, 10), {})
    assert first != second == store.snapshot("cxr")
    assert store.read("cxr").num_rows == 10
    assert len(_files(tmp_path, "data.parquet")) == 1


def test_the_snapshot_depends_on_every_part_of_the_content(store: Store) -> None:
    other = TABLE.set_column(2, "label", pa.array([1, 0] * 50, pa.int8()))
    renamed = TABLE.rename_columns(["patient", "split", "label", "other", "pixels"])
    digests = {store.write("cxr", table, {}) for table in (TABLE, other, renamed, TABLE.slice(1))}
    assert len(digests) == 4


def test_a_full_disk_leaves_the_data_in_force(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("cxr", TABLE, {})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device: /data/HongGildong")

    with monkeypatch.context() as patch:
        patch.setattr(dataset.os, "fsync", full)
        with pytest.raises(InternalError) as caught:
            store.write("cxr", TABLE.slice(0, 10), {})
    assert caught.value.code is ErrorCode.STORE_UNWRITABLE
    assert "Hong" not in str(caught.value) + caught.value.detail
    assert store.read("cxr").num_rows == 100
    store.write("cxr", TABLE.slice(0, 10), {})  # the leavings do not stand in the way
    assert store.read("cxr").num_rows == 10


def test_an_interrupted_write_leaves_the_data_in_force(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("cxr", TABLE, {})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.write("cxr", TABLE.slice(0, 10), {})
    assert store.read("cxr").num_rows == 100


def test_a_reader_that_meets_a_replacement_gets_the_new_version(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("cxr", TABLE, {})
    opened = Store._open

    def open_then_replace(self: Store, study: str) -> Any:
        monkeypatch.setattr(Store, "_open", opened)
        found = opened(self, study)
        store.write("cxr", TABLE.slice(0, 10), {})
        return found

    monkeypatch.setattr(Store, "_open", open_then_replace)
    assert store.read("cxr").num_rows == 10


def test_a_study_name_cannot_leave_the_store(store: Store) -> None:
    with pytest.raises(ValueError, match="study's name"):
        store.read("../other")


def test_trust_errors_say_what_to_do(store: Store, tmp_path: Path) -> None:
    store.write("cxr", TABLE, {})
    _files(tmp_path, "data.parquet")[0].unlink()
    with pytest.raises(TrustError) as caught:
        store.read("cxr")
    assert caught.value.hint and STORE_KEY.hex() not in repr(store)
