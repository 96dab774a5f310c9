"""How does a folder of real files become a hospital's archive, with a ledger for every file?"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pydicom.data

from tests.support.deid_documents import KINDS, make
from tests.support.deid_inject import CannotInject, inject, lenient
from tests.support.deid_ledger import Ledger
from tests.support.deid_malformed import malformed
from tests.support.deid_people import Person, person

PATIENTS = 45
# files whose publisher's image shows readable text of its own (read by OCR and by eye)
_NATIVE_TEXT = (
    "US", "OBXXXX", "no-pixel-spacing", "YBR_FULL-RLE", "ovly_p01", "GREYSCALE", "IM00001", "RGB",
    "color-p", "examples_jpeg2k", "examples_palette", "examples_rgb", "examples_ybr", "966_fixed",
    "FreezePattern", "GH195", "GH538", "MOVEKNEE", "RI6X", "jpeg-ls-Palette", "0_ORIGINAL",
    "JPEGwithIcon", "mlut_18", "vlut_04", "HasFragment", "Deflated.dcm", "RG3", "966",
)  # fmt: skip


@dataclass(slots=True)
class Archive:
    """Injected files on disk and what is known about them."""

    folder: Path
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    untouched: list[str] = field(default_factory=list)  # could not be injected
    people: dict[str, Person] = field(default_factory=dict)

    def put(self, name: str, raw: bytes, ledger: Ledger) -> None:
        """Write one file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        self.ledgers[name] = ledger


def corpus_files(*folders: Path) -> list[Path]:
    """DICOM files below folders: everything but licences, lists and hidden files."""
    left_out = {".md", ".sha256", ".txt", ".json", ".toml", ".png", ".py", ".pyc"}
    return [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in left_out and "LICENSES" not in path.parts
        and path.name not in ("SHA256SUMS", "LICENSE")
    ]  # fmt: skip


def wheel_files() -> list[Path]:
    """The DICOM files that pydicom's own wheel carries, without its DICOMDIRs and broken ones."""
    folder = Path(pydicom.data.__file__).parent
    return [
        path
        for part in ("test_files", "charset_files", "palettes")
        for path in sorted((folder / part).glob("*.dcm"))
    ]


def build(
    files: Sequence[Path],
    folder: Path,
    *,
    seed: str = "0",
    lines: int = 0,
    with_made: bool = True,
    patients: int = PATIENTS,
) -> Archive:
    """Inject ``files`` into ``folder``: many files a patient, some with several studies.

    Args:
        files: real DICOM files.
        folder: where the archive goes; paths there name patients, as archives do.
        seed: another seed, other people and places.
        lines: how many lines are burned into each image that can hold them.
        with_made: add hand-made documents and the malformed files.
        patients: how many people there are.
    """
    archive = Archive(folder)
    sound: bytes | None = None
    for number, path in enumerate(files):
        raw = path.read_bytes()
        with lenient():
            study = _study_of(raw) or path.name
        digest = hashlib.sha256(f"{seed} {study}".encode()).digest()
        patient = f"{seed}-{digest[0] % patients}"
        days = digest[1] * 3
        who = archive.people.setdefault(patient, person(patient))
        name = f"{who.family}_{who.given}/{who.mrn}/{days}/IM{number:04d}.dcm"
        try:
            changed, ledger = inject(
                raw, who, patient, f"{seed} {path.name} {number}", days=days, lines=lines
            )
        except CannotInject:
            archive.untouched.append(path.name)
            changed, ledger = raw, Ledger(patient, may_be_refused=True)
        ledger.native_text = path.name.startswith(_NATIVE_TEXT)
        archive.put(f"{name[:-4]}_{path.stem[:40]}.dcm", changed, ledger)
        if path.name == "CT_small.dcm":
            sound = raw
    if with_made:
        _add_made(archive, seed)
        _add_malformed(archive, seed, sound)
    return archive


def _study_of(raw: bytes) -> str:
    try:
        dataset = pydicom.dcmread(io.BytesIO(raw), force=True, specific_tags=["StudyInstanceUID"])
        return str(dataset.get("StudyInstanceUID", ""))
    except Exception:
        return ""


def _add_made(archive: Archive, seed: str) -> None:
    people = list(archive.people.items())[:6]
    for number, (patient, who) in enumerate(people):
        for kind in KINDS:
            raw, ledger = make(kind, who, patient, number * 10 + KINDS.index(kind), days=number)
            archive.put(f"made/{who.given}/{kind}{number}.dcm", raw, ledger)


def _add_malformed(archive: Archive, seed: str, sound: bytes | None) -> None:
    if sound is None:
        found = pydicom.data.get_testdata_file("CT_small.dcm", download=False)
        sound = Path(str(found)).read_bytes()
    who = person(f"{seed} malformed")
    for kind, raw in malformed(sound, who).items():
        ledger = Ledger("malformed", secrets=list(who.secrets()), must_be_refused=True)
        archive.put(f"broken/{who.given}/{kind}.dcm", raw, ledger)
