"""Does a file appear whole or not at all, on a full disk too?"""

from __future__ import annotations

from pathlib import Path

import pytest

from deid.batch.files import NewFile, write_file
from deid.batch.journal import Entry, Journal
from schemas.errors import CohortiumError, ErrorCode


def test_a_file_appears_on_commit_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    file = NewFile(path, mode=0o600)
    file.write(b"abc")
    assert not path.exists()
    file.commit()
    file.abandon()
    assert path.read_bytes() == b"abc" and path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_on_a_full_disk_nothing_is_left_and_the_first_error_is_told(tmp_path: Path) -> None:
    file = NewFile(tmp_path / "list.csv")
    file._file.close()
    file._file = open("/dev/full", "wb")  # noqa: SIM115 - closed by `abandon`
    file.write(b"waits in the buffer")
    file.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_on_a_full_disk_says_so_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal._file.close()
    journal._file = open("/dev/full", "wb")  # noqa: SIM115 - closed by `close`
    with pytest.raises(CohortiumError) as caught:
        journal.append([Entry("I", "S")], is_new=True)
    assert caught.value.code is ErrorCode.INTERNAL_DISK_FULL
    journal.close()


def test_what_a_dead_worker_left_half_written_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "7.dcm"
    path.write_bytes(b"half of an ob")
    write_file(path, b"an object")
    assert path.read_bytes() == b"an object"
