"""Does one worker give a fate to every file, and never an exception?"""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest

from deid.batch import worker as module
from deid.batch.marks import Marks
from deid.batch.messages import Job, Setup
from deid.batch.worker import Worker
from deid.errors import DeidRefusal
from deid.profile import load_profile, shipped_profile
from schemas.errors import ErrorCode
from tests.support.forge import SECRET, dicom_bytes


def _setup(place: Path, **changes: Any) -> Setup:
    terms: dict[str, Any] = {
        "profile": "basic", "digest": shipped_profile("basic").digest, "secret": SECRET,
        "project": "", "accept_faces": None, "detects_text": False, "temporary": str(place),
    }  # fmt: skip
    return Setup(**{**terms, **changes})


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(dicom_bytes())
    return path


def _job(path: Path, **changes: Any) -> Job:
    return Job(0, str(path), "mark", **changes)


def test_a_clean_file_waits_for_its_name(tmp_path: Path, image: Path) -> None:
    done = Worker(_setup(tmp_path)).do(_job(image))
    assert done.entry is not None and done.entry.code is None
    parts = done.entry.output.split("/")
    tag = Marks(SECRET, "").content(image.read_bytes())[:8]
    assert len(parts) == 3 and parts[2].endswith(f"-{tag}.dcm")
    assert Path(done.temporary).stat().st_size == done.entry.size
    assert done.entry.detail.modality == "CR" and done.entry.detail.actions["remove"] > 0


def test_what_cannot_be_cleaned_is_set_aside(tmp_path: Path) -> None:
    worker = Worker(_setup(tmp_path))
    for content, code in ((b"", ErrorCode.FILE_EMPTY), (b"no image", ErrorCode.FILE_NOT_DICOM)):
        (tmp_path / "x").write_bytes(content)
        done = worker.do(_job(tmp_path / "x"))
        assert done.entry is not None and done.entry.code is code and not done.temporary


def test_known_bytes_are_not_cleaned_again(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(_setup(tmp_path))
    known = worker.do(_job(image)).entry
    monkeypatch.setattr(worker, "_cleaner", None)
    image.touch()
    done = worker.do(_job(image, known=known))
    assert known is not None and done.entry is not None and not done.temporary
    assert done.entry.output == known.output and done.entry.stamp != known.stamp


def test_a_full_disk_is_told_and_blames_no_file(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, _raw: bytes) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(module, "write_file", full)
    done = Worker(_setup(tmp_path)).do(_job(image))
    assert done.entry is None and done.disk_error == errno.ENOSPC


def test_a_uid_that_leads_out_of_the_folder_names_no_file(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(_setup(tmp_path))
    for uid in ("../../etc/x", "", "a/b", ".."):
        clean = SimpleNamespace(patient="P1", study="2.25.1", uid=uid)
        cleaner = SimpleNamespace(clean=lambda _raw, clean=clean: clean)
        monkeypatch.setattr(worker, "_cleaner", cleaner)
        done = worker.do(_job(image))
        assert done.entry is not None and done.entry.code is ErrorCode.DICOM_OUTPUT_INVALID


def test_a_profile_that_changed_since_the_run_began_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeidRefusal):
        Worker(_setup(tmp_path, digest="ab" * 32))


def test_a_setup_never_shows_its_secret(tmp_path: Path) -> None:
    assert str(SECRET) not in repr(_setup(tmp_path))


def test_a_uid_that_stays_in_the_file_is_not_in_its_path(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "keeps.toml"
    path.write_text('version = 2\nname = "k"\n[dicom]\noptions = ["retain-uids"]\n')
    setup = _setup(tmp_path, profile=str(path), digest=load_profile(path).digest)
    done = Worker(setup).do(_job(image))
    assert done.entry is not None
    clean = pydicom.dcmread(done.temporary)
    assert clean.SOPInstanceUID == pydicom.dcmread(image).SOPInstanceUID
    assert clean.SOPInstanceUID not in done.entry.output
    assert clean.StudyInstanceUID not in done.entry.output
