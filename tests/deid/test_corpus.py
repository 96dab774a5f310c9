"""The goals of de-identification, reached on published files with an identity planted everywhere.

The real command runs as a hospital runs it, over pydicom's own files and those of tests/data/dicom;
the score is the one of scripts/score_deid, which runs it on any corpus. Text detection is tried on
a few images only: it takes seconds an image.
"""

from __future__ import annotations

import csv
import hashlib
from datetime import date
from pathlib import Path

import pydicom
import pydicom.data
import pytest

from deid.profile import shipped_profile
from deid.pseudonym import Pseudonymiser
from deid.report import DeidReport
from deid.tabular import TableDeidentifier
from scripts.score_deid import Ran, goals, judge, run_command
from tests.support.deid_bytes import found_in
from tests.support.deid_corpus import Archive, build, corpus_files, wheel_files
from tests.support.deid_inject import inject, lenient, read
from tests.support.deid_ledger import Ledger
from tests.support.deid_malformed import MAKERS
from tests.support.deid_people import person
from tests.support.deid_stats import Score

DATA = Path(__file__).parents[1] / "data" / "dicom"
DETECTED = (
    "cornerstone3D/CT2_J2KR.dcm",
    "cornerstone3D/CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm",
    "cornerstone3D/CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm",
    "cornerstone3D/CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm",
    "pydicom-data/OBXXXX1A_rle.dcm",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, Ran, Score]:
    """The whole corpus, injected, de-identified and scored once."""
    folder = tmp_path_factory.mktemp("corpus")
    archive = build([*corpus_files(DATA), *wheel_files()], folder / "in", patients=30)
    ran = run_command(archive.folder, folder, detect=False, workers=2)
    return archive, ran, judge(archive, ran, detect=False)


def test_every_goal_is_met_on_the_small_corpus(run: tuple[Archive, Ran, Score]) -> None:
    archive, ran, result = run
    assert not ran.errors
    assert len(archive.ledgers) > 150
    missed = [goal.line() for goal, _ in goals(result, detect=False) if not goal.is_met]
    assert not missed, "\n".join([*missed, result.failures()])


def test_no_planted_text_is_left_in_any_attribute_or_anywhere_in_a_file(
    run: tuple[Archive, Ran, Score],
) -> None:
    _, _, result = run
    assert result.header_text().of > 10_000
    assert result.header_text().share == 1.0, result.failures()
    assert result.rate("file_clean").share == 1.0, result.failures()
    assert result.rate("path_clean").share == 1.0


def test_every_malformed_file_is_quarantined_with_a_reason(
    run: tuple[Archive, Ran, Score],
) -> None:
    archive, ran, _ = run
    broken = [name for name, ledger in archive.ledgers.items() if ledger.must_be_refused]
    assert len(broken) == len(MAKERS)
    assert not set(broken) - set(ran.quarantined)
    assert all(ran.quarantined[name] for name in broken)
    assert not [code for code in ran.quarantined.values() if code.startswith("internal")]
    assert ran.exit_code not in (0, 1)


def test_the_originals_are_as_they_were(tmp_path: Path) -> None:
    archive = build(wheel_files()[:12], tmp_path / "in")
    names = sorted(archive.ledgers)
    before = [hashlib.sha256((archive.folder / name).read_bytes()).digest() for name in names]
    run_command(archive.folder, tmp_path, detect=False)
    after = [hashlib.sha256((archive.folder / name).read_bytes()).digest() for name in names]
    assert before == after


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Ran]]:
    """One patient with two studies, as two hospitals with keys of their own release it."""
    folder = tmp_path_factory.mktemp("hospitals")
    who = person("two studies")
    with lenient():
        for number, (name, days) in enumerate(
            [("CT_small.dcm", 0), ("MR_small.dcm", 100), ("CT_small.dcm", 0)]
        ):
            found = pydicom.data.get_testdata_file(name, download=False)
            raw, _ = inject(Path(str(found)).read_bytes(), who, "p", f"h{number}", days=days)
            (folder / "in").mkdir(exist_ok=True)
            (folder / "in" / f"{number}.dcm").write_bytes(raw)
    return folder, {
        key: run_command(folder / "in", folder / key, detect=False, key=key.encode() * 32)
        for key in "ab"
    }


def released(ran: Ran) -> list[pydicom.Dataset]:
    with lenient():
        return [read(ran.released[name].read_bytes()) for name in sorted(ran.released)]


def test_one_patient_with_two_studies_stays_one_patient_with_the_interval_kept(
    hospitals: tuple[Path, dict[str, Ran]],
) -> None:
    first, second, again = released(hospitals[1]["a"])
    assert first.PatientID == second.PatientID == again.PatientID
    assert first.StudyInstanceUID != second.StudyInstanceUID
    assert first.StudyInstanceUID == again.StudyInstanceUID
    days = [date.fromisoformat(str(each.StudyDate)) for each in (first, second)]
    assert (days[1] - days[0]).days == 100


def test_two_hospitals_outputs_share_nothing_that_links_them(
    hospitals: tuple[Path, dict[str, Ran]],
) -> None:
    one, two = (released(ran) for ran in hospitals[1].values())
    for keyword in (
        "PatientID", "PatientName", "StudyInstanceUID", "SOPInstanceUID", "SeriesInstanceUID",
        "FrameOfReferenceUID", "AccessionNumber", "StudyDate",
    ):  # fmt: skip
        values = [{str(each.get(keyword, "")) for each in side} - {""} for side in (one, two)]
        assert not values[0] & values[1], keyword
        assert values[0] or keyword in ("FrameOfReferenceUID", "AccessionNumber")
    paths = [{p.parts[-3:] for p in ran.released.values()} for ran in hospitals[1].values()]
    parts = [{part for path in side for part in path} for side in paths]
    assert not parts[0] & parts[1]


def test_images_and_table_rows_of_one_patient_join_under_one_key(
    hospitals: tuple[Path, dict[str, Ran]],
) -> None:
    who = person("two studies")
    table = TableDeidentifier(
        shipped_profile("ehr-table"), Pseudonymiser(b"a" * 32), "chart_no", DeidReport()
    )
    row = table.clean({"chart_no": who.mrn, "visit_date": who.study_date.isoformat()})
    image = released(hospitals[1]["a"])[0]
    assert row["chart_no"] == image.PatientID
    assert row["visit_date"].replace("-", "") == image.StudyDate


def test_two_workers_release_the_same_bytes_as_one(
    hospitals: tuple[Path, dict[str, Ran]], tmp_path: Path
) -> None:
    folder, runs = hospitals
    both = run_command(folder / "in", tmp_path, detect=False, workers=2, key=b"a" * 32)
    for name, path in runs["a"].released.items():
        assert both.released[name].read_bytes() == path.read_bytes()
        assert both.released[name].parts[-3:] == path.parts[-3:]


def test_the_mapping_names_every_released_file_once(
    hospitals: tuple[Path, dict[str, Ran]],
) -> None:
    folder, runs = hospitals
    with (folder / "a" / "mapping.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["input_rel"] for row in rows) == ["0.dcm", "1.dcm", "2.dcm"]
    assert len({row["output_rel"] for row in rows}) == len(runs["a"].released) == 3


def test_burned_in_lines_are_hidden_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    """Every coding that redaction writes, grey and palette, Latin and Hangul."""
    archive = build(
        [DATA / name for name in DETECTED], tmp_path / "in", lines=4, with_made=False, patients=2
    )
    ran = run_command(archive.folder, tmp_path, detect=True)
    result = judge(archive, ran, detect=True)
    assert not result.quarantined
    lines = result.lines("latin", "digits", "hangul")
    assert lines.of >= 12
    assert lines.passed >= lines.of - 1, result.failures()
    assert result.rate("pixels_retained").share == 1.0, result.area_outside
    assert result.rate("ts_retained").share == result.rate("file_clean").share == 1.0


def test_the_published_files_are_the_ones_that_were_published() -> None:
    for line in (DATA / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest, name
    projects = {path.parent.name for path in corpus_files(DATA)}
    assert projects == {path.stem for path in (DATA / "LICENSES").iterdir()}
    sources = (DATA / "SOURCES.md").read_text()
    assert all(str(path.relative_to(DATA)) in sources for path in corpus_files(DATA))


def test_the_search_would_have_found_what_was_planted(run: tuple[Archive, Ran, Score]) -> None:
    """The control: the injected inputs themselves are full of identity."""
    archive, _, _ = run
    sound: list[tuple[str, Ledger]] = [
        (name, ledger) for name, ledger in archive.ledgers.items() if len(ledger.planted) > 30
    ]
    assert len(sound) > 120
    for name, ledger in sound[::10]:
        assert len(found_in((archive.folder / name).read_bytes(), ledger.secrets)) > 5
