from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ConfigError, ErrorCode
from site_node.ingest import IngestReport, ingest
from site_node.store import Store
from tests.support.forge import PLANTED, SECRET, STORE_KEY, dicom_bytes, image_terms

HEADER = "PatientID,AccessionNumber,PatientName,finding,split"
PIXELS = bytes(range(16))


def _image(patient: str, accession: str, **changes: Any) -> bytes:
    uid = f"1.2.410.200088.7.1.{zlib.crc32((patient + accession).encode())}"
    fields = {"PatientID": patient, "AccessionNumber": accession, "SOPInstanceUID": uid}
    return dicom_bytes(**{**fields, **changes})


class Folder:
    """A raw folder under construction."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "raw" / "images").mkdir(parents=True)
        self.labels = [HEADER]

    def add(self, name: str, raw: bytes) -> None:
        (self.root / "raw" / "images" / name).write_bytes(raw)

    def label(
        self, patient: str, accession: str, finding: str = "normal", split: str = "train"
    ) -> None:
        self.labels.append(f"{patient},{accession},홍길동,{finding},{split}")

    def ingest(self, **options: Any) -> IngestReport:
        (self.root / "raw" / "labels.csv").write_text("\n".join(self.labels) + "\n", "utf-8")
        return ingest(
            self.root / "raw",
            study_id="cxr",
            data=image_terms(),
            secret=SECRET,
            store=self.store,
            quarantine=self.root / "quarantine",
            **options,
        )

    @property
    def store(self) -> Store:
        return Store(self.root / "store", STORE_KEY)

    def quarantined(self) -> dict[tuple[str, int], str]:
        text = (self.root / "quarantine" / "cxr.jsonl").read_text("ascii")
        entries = [json.loads(line) for line in text.splitlines()]
        return {(entry["kind"], entry["pointer"]): entry["code"] for entry in entries}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_images_join_their_labels_by_pseudonym_and_are_stored(folder: Folder) -> None:
    for patient, accession, finding, split in (
        ("K1", "A1", "pneumonia", "train"),
        ("K1", "A2", "normal", "train"),
        ("K2", "A3", "normal", "test"),
    ):
        folder.add(f"{patient}_{accession}.dcm", _image(patient, accession))
        folder.label(patient, accession, finding, split)
    report = folder.ingest()
    assert (report.read, report.stored, report.label_rows_joined) == (3, 3, 3)
    assert (report.train.patients, report.train.rows, report.test.patients) == (1, 2, 1)
    table = folder.store.read("cxr")
    assert table.column_names == ["patient", "split", "label", "pixels"]
    assert table["pixels"].to_pylist() == [PIXELS] * 3
    assert sorted(table["label"].to_pylist()) == [0, 0, 1]
    assert len(set(table["patient"].to_pylist())) == 2


def test_every_bad_image_is_quarantined_and_the_rest_goes_on(folder: Folder) -> None:
    raw = _image("K1", "A1")
    bad = {
        "a.dcm": raw,
        "b.dcm": b"",
        "c.dcm": b"not a DICOM file at all",
        "d.dcm": raw[:700],
        "e.dcm": raw,
        "f.dcm": _image("K1", "A9"),
        "g.dcm": _image("K1", "A1", Rows=2, Columns=8, SOPInstanceUID="1.2.9"),
        "h.dcm": _image("K1", "A1", BurnedInAnnotation="YES", SOPInstanceUID="1.2.10"),
        "i.dcm": _image("", "A1", SOPInstanceUID="1.2.11"),
    }
    for name, content in bad.items():
        folder.add(name, content)
    folder.label("K1", "A1")
    report = folder.ingest()
    assert (report.read, report.stored) == (9, 1)
    assert sum(report.quarantined.values()) == 8
    entries = folder.quarantined()
    assert entries["image", 2] == "ingest.file_empty"
    assert entries["image", 3] == "ingest.file_not_dicom"
    assert entries["image", 4] in ("ingest.dicom_unreadable", "ingest.dicom_pixels")
    assert entries["image", 5] == "ingest.dicom_duplicate"
    assert entries["image", 6] == "ingest.image_without_label"
    assert entries["image", 7] == "ingest.dicom_shape"
    assert entries["image", 8] == "ingest.dicom_burned_in"
    assert entries["image", 9] == "ingest.patient_missing"


@pytest.mark.parametrize("is_labelled", [True, False])
def test_another_patient_with_the_same_instance_uid_changes_nothing(
    tmp_path: Path, is_labelled: bool
) -> None:
    """PRIVACY-19: the rows of K2 are the same with K1 and without, stored or not."""
    rows: list[list[dict[str, Any]]] = []
    for with_other in (False, True):
        folder = Folder(tmp_path / str(with_other))
        for name in ("b.dcm", "c.dcm"):  # the second is the patient's own, and set aside
            folder.add(name, _image("K2", "A2", SOPInstanceUID="1.2.9"))
        folder.add("d.dcm", _image("K2", "A3", SOPInstanceUID="1.2.10"))
        folder.label("K2", "A2", "pneumonia")
        folder.label("K2", "A3", "pneumonia")
        if with_other:
            folder.add("a.dcm", _image("K1", "A1", SOPInstanceUID="1.2.9"))
            folder.add("e.dcm", _image("K1", "A1", SOPInstanceUID="1.2.10"))
            if is_labelled:
                folder.label("K1", "A1")
        report = folder.ingest()
        assert report.quarantined["ingest.dicom_duplicate"] == 1
        rows.append(folder.store.read("cxr").to_pylist())
    own = {row["patient"] for row in rows[0]}
    assert len(rows[0]) == 2 and len(own) == 1
    assert [row for row in rows[1] if row["patient"] in own] == rows[0]
    assert len(rows[1]) == (4 if is_labelled else 2)


def test_every_bad_label_is_quarantined_and_counted(folder: Folder) -> None:
    folder.add("a.dcm", _image("K1", "A1"))
    folder.add("b.dcm", _image("K2", "A2"))
    folder.add("c.dcm", _image("K3", "A3"))
    folder.label("K1", "A1")
    folder.label("K1", "A1")  # line 3: repeats line 2
    folder.label("K2", "A2", "normal")  # lines 4 and 5 contradict each other
    folder.label("K2", "A2", "pneumonia")
    folder.label("K3", "A3", "unclear")
    folder.label("K4", "A4")
    folder.label("K5", "")
    folder.label("", "A6")
    folder.labels.append("too,few")
    report = folder.ingest()
    assert (report.stored, report.label_rows_read, report.label_rows_joined) == (1, 9, 1)
    entries = folder.quarantined()
    assert {line: entries["label", line] for line in range(3, 11)} == {
        3: "ingest.row_duplicate",
        4: "ingest.label_conflict",
        5: "ingest.label_conflict",
        6: "ingest.value_code_unknown",
        7: "ingest.label_without_image",
        8: "ingest.row_incomplete",
        9: "ingest.patient_missing",
        10: "ingest.row_malformed",
    }
    assert report.quarantined == {"ingest.image_without_label": 2}


def test_a_patient_in_both_splits_is_taken_out(folder: Folder) -> None:
    for accession, split in (("A1", "train"), ("A2", "test"), ("A3", "train")):
        folder.add(f"{accession}.dcm", _image("K1", accession))
        folder.label("K1", accession, split=split)
    report = folder.ingest()
    assert not report.accepted and report.quarantined == {"ingest.split_overlap": 3}
    assert report.label_rows_joined == 3


def test_a_label_table_without_a_needed_column_stores_nothing_and_loses_nothing(
    folder: Folder,
) -> None:
    folder.add("a.dcm", _image("K1", "A1"))
    folder.labels = [HEADER.replace("finding", "remark"), "K1,A1,홍길동,normal,train"]
    report = folder.ingest()
    assert not report.accepted
    assert report.label_rows_quarantined == {"ingest.column_missing": 1}
    assert report.quarantined == {"ingest.image_without_label": 1}


def test_a_label_table_without_accession_numbers_joins_nothing(folder: Folder) -> None:
    folder.add("a.dcm", _image("K1", "A1"))
    folder.labels = ["PatientID,finding,split", "K1,normal,train"]
    report = folder.ingest()
    assert report.label_rows_quarantined == {"ingest.row_incomplete": 1}


def test_missing_labels_or_images_are_refused_or_reported(folder: Folder) -> None:
    report = folder.ingest()
    assert not report.accepted and ErrorCode.SOURCE_EMPTY in report.warnings
    (folder.root / "raw" / "labels.csv").unlink()
    with pytest.raises(ConfigError):
        ingest(
            folder.root / "raw",
            study_id="cxr",
            data=image_terms(),
            secret=SECRET,
            store=folder.store,
            quarantine=folder.root / "quarantine",
        )


def test_nothing_identifying_is_written_even_from_file_names(
    folder: Folder, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder.add("홍길동_K10482213.dcm", dicom_bytes())
    folder.add("홍길동_broken.dcm", dicom_bytes()[:500])
    folder.label("K10482213", "RX1000200")
    seen: list[tuple[int, int]] = []
    report = folder.ingest(progress=lambda done, total: seen.append((done, total)))
    assert report.stored == 1 and seen == [(1, 2), (2, 2)]
    written = report.to_json() + repr(folder.store.read("cxr").to_pylist()) + caplog.text
    written += "".join(capfd.readouterr())
    for place in ("store", "quarantine"):
        for path in (folder.root / place).rglob("*"):
            written += str(path.relative_to(folder.root))
            written += path.read_bytes().decode("latin-1") if path.is_file() else ""
    for planted in PLANTED:
        assert planted not in written
        assert planted.encode().decode("latin-1") not in written


def test_a_repeated_ingest_gives_the_same_snapshot(folder: Folder) -> None:
    folder.add("a.dcm", _image("K1", "A1"))
    folder.label("K1", "A1")
    assert folder.ingest().snapshot == folder.ingest().snapshot


def test_the_report_names_the_contract_the_rows_were_checked_against(folder: Folder) -> None:
    folder.add("a.dcm", _image("K1", "A1"))
    folder.label("K1", "A1")
    assert folder.ingest().data_terms_sha256 == image_terms().digest()
    assert folder.store.read("cxr", image_terms().digest()).num_rows == 1
