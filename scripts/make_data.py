"""What would four hospitals hand over for the studies `heart` and `cxr`? Writes it, fixed seed.

`python -m scripts.make_data --out DIR [--study heart|cxr] [--limit N]` makes `DIR/site-1 …
site-4/{heart/extract.csv, cxr/labels.csv, cxr/images/*.dcm}` from the shipped, licensed data with
invented people around them, and `DIR/identifiers.json`: everything planted, for the search that
must not find any of it outside the raw folders.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from scripts.synthetic_people import People, Person

DATA = Path(__file__).parent / "data"
SITES = ("site-1", "site-2", "site-3", "site-4")
HEART_FILES = dict(zip(SITES, ("cleveland", "hungarian", "switzerland", "va"), strict=True))
HEART_COLUMNS = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak",
    "slope", "ca", "thal", "num",
)  # fmt: skip
IDENTITY_COLUMNS = ("name", "name_latin", "rrn", "chart_no", "phone", "visit_date", "note")
# Hospital systems do not agree on an encoding: one site exports the older Korean one.
HEART_ENCODING = {"site-1": "utf-8", "site-2": "utf-8-sig", "site-3": "cp949", "site-4": "utf-8"}
DOCTORS = ("문해솔 교수", "Dr. Moon Haesol", "표다온 교수", "Prof. Pyo Daon")
_NOTES = (
    "{name} 환자 {day} 내원, 흉통 호소. 보호자 연락처 {phone}. 담당 {doctor}.",
    "{day} {name} (등록번호 {chart}) 운동부하검사 시행, 주민번호 {rrn} 확인함.",
    "Pt {latin} seen {day}, chest discomfort, call {phone}. {doctor}",
)


class Planted:
    """Gather everything planted, by kind, once each, for the search."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[str, str]] = {}

    def add(self, site: str, study: str, kind: str, *values: str) -> None:
        """Note planted values of one kind."""
        for value in values:
            self._seen.setdefault((kind, value), (site, study))

    def add_person(self, site: str, study: str, person: Person) -> None:
        """Note all that identifies one invented person."""
        for name in (person.hangul, person.hanja):
            self.add(site, study, "name", name, name.replace("^", ""))
        self.add(site, study, "name", person.latin, person.latin.replace("^", " "))
        self.add(site, study, "rrn", person.rrn)
        self.add(site, study, "chart", person.chart)
        self.add(site, study, "phone", person.phone)

    def add_day(self, site: str, study: str, day: date) -> None:
        """Note a date in the two ways hospital systems write it."""
        self.add(site, study, "date", f"{day:%Y%m%d}", day.isoformat())

    def write(self, path: Path) -> int:
        """Write the list; gives its length."""
        rows = [
            {"kind": kind, "value": value, "site": site, "study": study}
            for (kind, value), (site, study) in sorted(self._seen.items())
        ]
        body = {"version": 1, "identifiers": rows}
        path.write_text(json.dumps(body, ensure_ascii=False, indent=0), encoding="utf-8")
        return len(rows)


def verify_checksums() -> None:
    """Check every shipped data file against SHA256SUMS.

    Raises:
        SystemExit: a file is missing or altered.
    """
    for line in (DATA / "SHA256SUMS").read_text(encoding="ascii").splitlines():
        digest, name = line.split("  ", 1)
        path = DATA / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise SystemExit(f"scripts/data/{name} is missing or altered; restore it.")


def make_heart(out: Path, planted: Planted, limit: int | None = None) -> dict[str, int]:
    """Write the four hospitals' extracts; gives the rows of each."""
    splits = json.loads((DATA / "uci_heart" / "flamby_split.json").read_text(encoding="ascii"))
    counts: dict[str, int] = {}
    for number, (site, name) in enumerate(HEART_FILES.items(), start=1):
        people = People(f"cohortium heart {site}")
        file = f"processed.{name}.data"
        split_of = {n: word for word in ("train", "test") for n in splits[file][word]}
        lines = (DATA / "uci_heart" / file).read_text(encoding="ascii").split()
        folder = out / site / "heart"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "extract.csv").open(
            "w", encoding=HEART_ENCODING[site], newline=""
        ) as target:
            writer = csv.writer(target)
            writer.writerow((*IDENTITY_COLUMNS, *HEART_COLUMNS, "split"))
            for row, line in enumerate(lines[:limit]):
                cells = line.split(",")
                identity = _heart_identity(people, planted, site, "ABCD"[number - 1], cells)
                writer.writerow((*identity, *cells, split_of.get(row, "")))
        counts[site] = len(lines[:limit])
    return counts


def _heart_identity(
    people: People, planted: Planted, site: str, prefix: str, cells: list[str]
) -> tuple[str, ...]:
    visit = people.day(date(2024, 1, 2), date(2025, 6, 30))
    age = int(float(cells[0])) if cells[0] != "?" else 55
    born = people.day(
        visit - timedelta(days=365 * (age + 1)), visit - timedelta(days=365 * age + 30)
    )
    person = people.person(born=born, male=cells[1].startswith("1"), prefix=prefix)
    name, latin = person.hangul.replace("^", ""), person.latin.replace("^", " ")
    doctor = people.random.choice(DOCTORS)
    note = people.random.choice(_NOTES).format(
        name=name, latin=latin, day=visit, phone=person.phone, chart=person.chart, rrn=person.rrn,
        doctor=doctor,
    )  # fmt: skip
    planted.add_person(site, "heart", person)
    planted.add_day(site, "heart", visit)
    planted.add(site, "heart", "note", note)
    planted.add(site, "heart", "staff", doctor)
    return name, latin, person.rrn, person.chart, person.phone, visit.isoformat(), note


def make_cxr(out: Path, planted: Planted, limit: int | None = None) -> dict[str, int]:
    """Write the four hospitals' images and label tables; gives the images of each."""
    import numpy as np

    from scripts.synthetic_dicom import DicomWriter

    with np.load(DATA / "pneumoniamnist" / "pneumoniamnist.npz") as archive:
        images = {split: archive[f"{split}_images"] for split in ("train", "test")}
    patients = json.loads((DATA / "pneumoniamnist" / "patients.json").read_text(encoding="ascii"))
    counts: dict[str, int] = {}
    for number, site in enumerate(SITES, start=1):
        people = People(f"cohortium cxr {site}")
        folder = out / site / "cxr"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        writer = DicomWriter(site, number, people, planted)
        rows: list[tuple[str, ...]] = []
        for split, label, group in _patient_groups(patients[site], limit):
            born = people.day(date(2019, 6, 2), date(2023, 12, 30))  # the children of the source
            person = people.person(
                born=born, male=people.random.random() < 0.5, prefix="EFGH"[number - 1]
            )
            planted.add_person(site, "cxr", person)
            planted.add_day(site, "cxr", born)
            for index in group:
                accession, raw = writer.image(person, images[split][index])
                name = f"{person.chart}_{accession}.dcm"
                (folder / "images" / name).write_bytes(raw)
                finding = "pneumonia" if label else "normal"
                rows.append(
                    (person.chart, accession, person.hangul.replace("^", ""), finding, split)
                )
        people.random.shuffle(rows)
        with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as target:
            table = csv.writer(target)
            table.writerow(("PatientID", "AccessionNumber", "PatientName", "finding", "split"))
            table.writerows(rows)
        counts[site] = len(rows)
    return counts


def _patient_groups(
    splits: dict[str, list[tuple[int, list[int]]]], limit: int | None
) -> Iterator[tuple[str, int, list[int]]]:
    """Give a site's patients; with a limit, that many of each split."""
    for split in ("train", "test"):
        for label, group in splits[split][:limit]:
            yield split, label, group


def main() -> int:
    """Check the shipped data, then write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--study", choices=("heart", "cxr"), help="only this study")
    parser.add_argument("--limit", type=int, help="rows (heart), or patients of each split (cxr)")
    arguments = parser.parse_args()
    verify_checksums()
    planted = Planted()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for study, make in (("heart", make_heart), ("cxr", make_cxr)):
        if arguments.study in (None, study):
            for site, count in make(arguments.out, planted, arguments.limit).items():
                print(f"{site} {study}: {count} records")
    count = planted.write(arguments.out / "identifiers.json")
    print(f"{count} planted identifiers listed in identifiers.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
