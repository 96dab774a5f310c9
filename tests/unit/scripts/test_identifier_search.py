"""Does the search find a planted identifier wherever it may stand, the encrypted store included?"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from scripts.identifier_search import SearchResult, search
from tests.support.secure_sum import FixedEntropy
from tests.support.sites import TestClock, make_sites, real_plan, sealed

NAME, NUMBER = "홍길동전", "630412-1234567"
CLEAN = "pseudonym-only"


@pytest.fixture
def identifiers(tmp_path: Path) -> Path:
    rows = [{"kind": "name", "value": NAME}, {"kind": "rrn", "value": NUMBER}]
    path = tmp_path / "run" / "raw" / "identifiers.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"identifiers": rows}), encoding="utf-8")
    return path


def _search(identifiers: Path, homes: list[Path], **extra: bytes) -> SearchResult:
    root = identifiers.parents[1]
    return search(root, identifiers, raw_folders=[identifiers.parent], homes=homes, extra=extra)


@pytest.mark.parametrize(
    "hidden",
    [
        NAME.encode("utf-8"),
        NAME.encode("utf-16-le"),
        NAME.encode("cp949"),
        NUMBER.encode(),
        b"630412 1234567",
        b"6304121234567",
    ],
)
def test_a_file_outside_the_raw_folder_is_searched_in_every_form(
    identifiers: Path, hidden: bytes
) -> None:
    (identifiers.parent / "extract.csv").write_bytes(hidden)  # where it may stand
    log = identifiers.parents[1] / "site-1" / "executor.log"
    log.parent.mkdir()
    log.write_text(CLEAN)
    clean = _search(identifiers, [])
    assert clean.places == () and clean.control_found and clean.files == 1
    log.write_bytes(b"before " + hidden + b" after")
    assert all(place.startswith("site-1/executor.log") for place in _search(identifiers, []).places)
    assert _search(identifiers, []).places
    log.unlink()
    assert _search(identifiers, [], page=b"<p>" + hidden + b"</p>").places


def test_the_store_is_searched_decrypted(identifiers: Path, tmp_path: Path) -> None:
    site, *others = make_sites(tmp_path / "homes", TestClock())
    plan = real_plan([site, *others])
    site.inbox.receive("plan", plan.study_id, sealed(plan))
    site.store.write(plan.study_id, pa.table({"patient": [CLEAN]}), {})
    clean = _search(identifiers, [site.home])
    assert clean.places == () and clean.stores == 1
    site.store.write(plan.study_id, pa.table({"patient": [CLEAN], "note": [NUMBER]}), {})
    found = _search(identifiers, [site.home])
    assert any("decrypted" in place for place in found.places)


def test_six_bytes_that_look_like_a_name_in_ciphertext_are_chance(identifiers: Path) -> None:
    """One name in UTF-16 has the bytes of one place in 10^14; the search asks for thousands."""
    even = FixedEntropy("ciphertext")(4096)
    sealed_file = identifiers.parents[1] / "rows.bin"
    for hidden, is_found in (
        (NAME.encode("utf-16-le"), False),
        (NAME.encode("cp949"), False),
        (NAME.encode("utf-8"), True),
        (NUMBER.encode(), True),
    ):
        sealed_file.write_bytes(even[:2000] + hidden + even[2000:])
        assert bool(_search(identifiers, []).places) is is_found
        sealed_file.write_bytes(even[:40].hex().encode() * 4 + hidden + b"and text")
        assert _search(identifiers, []).places
