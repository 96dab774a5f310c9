from __future__ import annotations

import json
from pathlib import Path

import pytest

import coordinator
from deid.actions import DICOM_ACTIONS, Kind
from deid.profile import MAX_PROFILE_BYTES, load_profile, parse_profile, shipped_profile
from schemas.errors import ConfigError, ErrorCode

GOOD = b'version = 1\nname = "x"\n[dicom]\nModality = "keep"\n[table]\nage = "keep"\n'


@pytest.mark.parametrize("name", ["dicom-image", "ehr-table"])
def test_shipped_profiles_load_and_explain_every_line(name: str) -> None:
    profile = shipped_profile(name)
    assert len(profile.digest) == 64
    lines = profile.explain()
    assert len(lines) == len(profile.dicom) + len(profile.table) + 1
    assert lines[-1] == "everything else is removed"


def test_no_shipped_profile_keeps_a_name_number_or_text() -> None:
    kept = {n for n, a in shipped_profile("ehr-table").table.items() if a.kind is Kind.KEEP}
    assert not kept & {"name", "name_latin", "rrn", "chart_no", "phone", "note", "visit_date"}
    dicom = shipped_profile("dicom-image").dicom
    assert dicom[0x00100010].kind is Kind.PATIENT and dicom[0x00100030].kind is Kind.EMPTY
    assert 0x00104000 not in dicom  # PatientComments


def test_the_digest_ignores_comments_and_follows_content(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(GOOD + b"# a comment\n")
    assert load_profile(path).digest == parse_profile(GOOD).digest
    changed = GOOD.replace(b'Modality = "keep"', b'Modality = "empty"')
    assert parse_profile(changed).digest != parse_profile(GOOD).digest


@pytest.mark.parametrize(
    "raw",
    [
        GOOD.replace(b"version = 1", b"version = 2"),
        GOOD.replace(b'name = "x"', b"other = 1"),
        GOOD + b"[drop]\n",
        GOOD.replace(b"Modality", b"NoSuchAttribute"),
        GOOD.replace(b'Modality = "keep"', b'Modality = "guess"'),
        GOOD.replace(b'age = "keep"', b'age = "empty"'),
        b"\xff\xfe",
        b"= broken",
        b" " * (MAX_PROFILE_BYTES + 1),
    ],
    ids=["version", "key", "part", "tag", "action", "column-action", "encoding", "toml", "size"],
)
def test_a_bad_profile_is_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(raw)
    assert caught.value.code is ErrorCode.DEID_PROFILE_INVALID


def test_an_unknown_shipped_name_is_refused() -> None:
    with pytest.raises(ConfigError):
        shipped_profile("../../etc/passwd")


def test_every_action_explains_itself() -> None:
    assert set(DICOM_ACTIONS) == {kind.value for kind in Kind}
    assert all(action.explain()[1:3] == ": " for action in DICOM_ACTIONS.values())


def test_the_plan_compiler_names_the_digests_of_the_shipped_profiles() -> None:
    path = Path(coordinator.__file__).parent / "client" / "templates" / "deid_profiles.json"
    assert json.loads(path.read_text("utf-8")) == {
        "table": shipped_profile("ehr-table").digest,
        "dicom": shipped_profile("dicom-image").digest,
    }
