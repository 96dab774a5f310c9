"""Which small archive do the tests of whole runs use? Invented, with identity in every name."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.forge import SECRET, dicom_bytes

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
PATIENTS = ("K10482213", "K10482214", "K10482215")
FOLDER = "홍길동_K10482213"


def make_archive(root: Path, files: int = 9) -> Path:
    """Write `files` images of three patients, a copy of one, and files that are no image."""
    raw = root / "환자자료"
    (raw / FOLDER).mkdir(parents=True)
    for number in range(files):
        patient = PATIENTS[number % 3]
        image = dicom_bytes(
            PatientID=patient,
            StudyInstanceUID=f"1.2.410.200088.7.1.{number % 3}",
            SOPInstanceUID=f"1.2.410.200088.7.1.9.{number}",
        )
        (raw / FOLDER / f"{patient}_{number:04d}").write_bytes(image)
    (raw / "copy_of_K10482213.dcm").write_bytes((raw / FOLDER / f"{PATIENTS[0]}_0000").read_bytes())
    (raw / "환자목록.txt").write_text("홍길동 630412-1234567", encoding="utf-8")
    (raw / "empty.dcm").write_bytes(b"")
    (raw / "link.dcm").symlink_to(raw / "copy_of_K10482213.dcm")
    (root / "key").write_bytes(SECRET)
    (root / "key").chmod(0o600)
    return raw


SET_ASIDE = 3  # the list, the empty file and the link


def tree(root: Path) -> dict[str, bytes]:
    """Give every file below a folder with its bytes, the state folder's too."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def inodes(root: Path) -> dict[str, tuple[int, int]]:
    """Give what changes when a file is written again."""
    return {
        str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in root.rglob("*.dcm")
    }


def descendants(pid: int) -> list[int]:
    """Give the processes below one, deepest last."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found += [int(entry), *descendants(int(entry))]
    return found
