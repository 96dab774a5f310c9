from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from schemas.governance.study import Column, DataTerms
from scripts import make_data, make_splits
from scripts.make_data import SITES, Planted, make_cxr, make_heart
from site_node.ingest import ingest
from site_node.store import Store
from tests.support.forge import SECRET, STORE_KEY, image_terms
from tests.support.phi_canary import load_needles, search_tree

FLAMBY = {"site-1": (199, 104), "site-2": (172, 89), "site-3": (30, 16), "site-4": (85, 45)}
RAW_ROWS = {"site-1": 303, "site-2": 294, "site-3": 123, "site-4": 200}


def _number(name: str) -> Column:
    return Column(name=name, kind="number", suspicious=(0.0,) if name == "chol" else ())


def _heart_terms() -> DataTerms:
    numbers = ("age", "trestbps", "chol", "thalach", "oldpeak")
    codes = {"sex": 2, "cp": 5, "fbs": 2, "restecg": 3, "exang": 2, "num": 5}
    return DataTerms(
        source="table",
        patient_column="chart_no",
        columns=(
            *(_number(name) for name in numbers),
            *(
                Column(name=name, kind="category", codes=tuple(str(c) for c in range(count)))
                for name, count in codes.items()
            ),
        ),
        label="num",
        label_positive=("1", "2", "3", "4"),
        split_column="split",
        minimum_class_count_in_test=5,
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    planted = Planted()
    make_heart(root, planted)
    make_cxr(root, planted, limit=6)
    planted.write(root / "identifiers.json")
    return root


def test_shipped_data_have_their_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_data.verify_checksums()
    (tmp_path / "SHA256SUMS").write_text("00" * 32 + "  absent\n")
    monkeypatch.setattr(make_data, "DATA", tmp_path)
    with pytest.raises(SystemExit, match="missing or altered"):
        make_data.verify_checksums()


def test_every_shipped_file_is_on_the_checksum_list() -> None:
    lines = (make_data.DATA / "SHA256SUMS").read_text().splitlines()
    listed = {line.split("  ")[1] for line in lines}
    there = {str(p.relative_to(make_data.DATA)) for p in make_data.DATA.rglob("*") if p.is_file()}
    assert there - listed == {"SHA256SUMS", "SOURCES.md"}


def test_heart_hospitals_reproduce_flamby_sizes_and_the_real_defects(
    raw: Path, tmp_path: Path
) -> None:
    excluded = zero = 0
    for site in SITES:
        report = ingest(
            raw / site / "heart",
            study_id="heart",
            data=_heart_terms(),
            secret=SECRET,
            store=Store(tmp_path / site, STORE_KEY),
            quarantine=tmp_path / "q" / site,
        )
        assert report.read == RAW_ROWS[site]
        assert (report.train.patients, report.test.patients) == FLAMBY[site]
        assert set(report.quarantined) <= {"ingest.row_incomplete"}
        excluded += sum(report.quarantined.values())
        found = {f.code.value: f for f in report.findings}
        if site == "site-3":
            assert found["ingest.class_count_low"].count == report.test.negative == 1
            assert found["ingest.value_suspicious"].count == report.stored
        zero += found["ingest.value_suspicious"].count if "ingest.value_suspicious" in found else 0
    assert excluded == 180 and zero == 79


def test_splits_are_in_step_with_their_script() -> None:
    text = (make_splits.DATA / "patients.json").read_text(encoding="utf-8")
    fresh = make_splits.patients(make_splits.DATA / "pneumoniamnist.npz")
    assert json.loads(text) == json.loads(json.dumps(fresh))


def test_image_patients_are_grouped_and_never_across_splits_or_sites() -> None:
    sites = json.loads((make_splits.DATA / "patients.json").read_text())
    with np.load(make_splits.DATA / "pneumoniamnist.npz") as file:
        archive = dict(file)  # decompressed once
    where: dict[bytes, set[tuple[str, str, int]]] = {}
    sizes: Counter[int] = Counter()
    used: dict[str, list[int]] = {"train": [], "test": []}
    for site, splits in sites.items():
        for split, patients in splits.items():
            labels = archive[f"{split}_labels"].reshape(-1)
            for number, (label, group) in enumerate(patients):
                assert all(labels[index] == label for index in group)
                used[split] += group
                if split == "train":
                    sizes[len(group)] += 1
                else:
                    assert len(group) == 1
                for index in group:
                    image = archive[f"{split}_images"][index].tobytes()
                    where.setdefault(image, set()).add((site, split, number))
    assert all(len(places) == 1 for places in where.values())
    assert len(used["train"]) == len(set(used["train"])) == 4708
    assert len(used["test"]) == len(set(used["test"])) == 621
    total = sum(sizes.values())
    assert total == 2999 and max(sizes) == 10
    assert (total - sizes[1]) / total >= 0.2
    counts = [len(sites[site]["train"]) for site in SITES]
    assert counts == [1219, 833, 593, 354]


def test_image_hospitals_are_ingested_whole(raw: Path, tmp_path: Path) -> None:
    for site in SITES:
        report = ingest(
            raw / site / "cxr",
            study_id="cxr",
            data=image_terms(image_rows=28, image_columns=28),
            secret=SECRET,
            store=Store(tmp_path / site, STORE_KEY),
            quarantine=tmp_path / "q" / site,
        )
        assert report.quarantined == {} and report.label_rows_quarantined == {}
        assert (report.train.patients, report.test.patients) == (6, 6)
        assert report.read == report.stored == len(list((raw / site / "cxr/images").iterdir()))


def test_everything_planted_is_found_in_the_raw_folders_and_nothing_outside(
    raw: Path, tmp_path: Path
) -> None:
    needles = load_needles(raw / "identifiers.json")
    assert len(needles) > 4000
    found = search_tree(raw / "site-3", needles)
    assert set(found) >= {path for path in (raw / "site-3").rglob("*") if path.is_file()}
    kinds = {hit.kind for hits in found.values() for hit in hits}
    every = {"name", "rrn", "chart", "phone", "date", "note", "staff", "accession", "uid"}
    assert kinds == every | {"address", "institution"}
    encodings = {hit.encoding for hits in found.values() for hit in hits}
    assert {"utf-8", "euc-kr", "digits"} <= encodings
    for study, terms in (
        ("heart", _heart_terms()),
        ("cxr", image_terms(image_rows=28, image_columns=28)),
    ):
        store = Store(tmp_path / "store", STORE_KEY)
        report = ingest(
            raw / "site-3" / study,
            study_id=study,
            data=terms,
            secret=SECRET,
            store=store,
            quarantine=tmp_path / "quarantine",
        )
        (tmp_path / f"{study}.json").write_text(report.to_json())
        rows = store.read(study)
        (tmp_path / f"{study}.decrypted").write_text(repr(rows.to_pylist()))
        if "pixels" in rows.column_names:
            (tmp_path / "pixels").write_bytes(b"".join(rows["pixels"].to_pylist()))
    assert search_tree(tmp_path, needles) == {}


def test_the_same_seed_gives_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    make_cxr(tmp_path, Planted(), limit=6)
    make_heart(tmp_path, Planted())
    twins = {p.relative_to(raw) for site in SITES for p in (raw / site).rglob("*") if p.is_file()}
    assert twins == {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    assert all((raw / twin).read_bytes() == (tmp_path / twin).read_bytes() for twin in twins)


def test_extracts_carry_identity_beside_the_clinical_columns(raw: Path) -> None:
    with (raw / "site-1" / "heart" / "extract.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["chart_no"] for row in rows}) == len({row["rrn"] for row in rows}) == 303
    assert all(row["name"] and row["phone"] and row["note"] and row["visit_date"] for row in rows)


def test_the_command_writes_one_study(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "scripts.make_data",
        "--out",
        str(tmp_path),
        "--study",
        "heart",
    ]
    done = subprocess.run([*command, "--limit", "3"], check=True, capture_output=True, text=True)
    assert "site-4 heart: 3 records" in done.stdout
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*SITES, "identifiers.json"}
