from __future__ import annotations

from pathlib import Path

import pytest

from deid.actions import Kind
from deid.options import Option
from deid.profile import MAX_PROFILE_BYTES, SHIPPED, load_profile, parse_profile, shipped_profile
from schemas.errors import ConfigError, ErrorCode

GOOD = (
    b'version = 2\nname = "x"\n[dicom]\noptions = ["clean-descriptors", "retain-uids"]\n'
    b'[override]\nManufacturer = "remove"\n[table]\nage = "keep"\n'
)
RESEARCH = {
    Option.CLEAN_PIXEL_DATA,
    Option.CLEAN_GRAPHICS,
    Option.CLEAN_STRUCTURED_CONTENT,
    Option.CLEAN_DESCRIPTORS,
    Option.RETAIN_MODIFIED_DATES,
    Option.RETAIN_PATIENT_CHARACTERISTICS,
    Option.RETAIN_SAFE_PRIVATE,
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_load_and_explain_every_line(name: str) -> None:
    profile = shipped_profile(name)
    assert len(profile.digest) == 64 and profile.title
    lines = profile.explain()
    assert lines[-1] == "everything else is removed"
    assert len(lines) > (5000 if profile.dicom else len(profile.table))


def test_the_shipped_profiles_have_the_options_they_are_named_for() -> None:
    basic, research = shipped_profile("basic"), shipped_profile("research")
    assert basic.options == frozenset() and basic.dates == "remove" and not basic.clean_pixels
    assert research.options == RESEARCH and research.dates == "modify" and research.clean_pixels
    for profile in (basic, research):
        assert profile.faces == "hold" and profile.age_cap == 89 and not profile.keep_uids
        assert not profile.sop_classes and not profile.transfer_syntaxes
    assert not shipped_profile("ehr-table").dicom


def test_no_shipped_table_keeps_a_name_number_or_text() -> None:
    kept = {n for n, a in shipped_profile("ehr-table").table.items() if a.kind is Kind.KEEP}
    assert not kept & {"name", "name_latin", "rrn", "chart_no", "phone", "note", "visit_date"}
    labels = shipped_profile("research").table
    assert labels["PatientID"].kind is Kind.PATIENT
    assert labels["AccessionNumber"].kind is Kind.RECORD


def test_method_codes_begin_with_the_basic_profile_and_follow_the_options() -> None:
    codes = [code for code, _ in shipped_profile("research").method_codes]
    assert codes == ["113100", "113101", "113103", "113104", "113105", "113107", "113108", "113111"]
    assert [code for code, _ in shipped_profile("basic").method_codes] == ["113100"]


def test_cleaned_visual_features_are_never_claimed() -> None:
    profile = parse_profile(GOOD.replace(b"clean-descriptors", b"clean-visual-features"))
    assert Option.CLEAN_VISUAL_FEATURES in profile.options
    assert "113102" not in dict(profile.method_codes)


def test_the_digest_ignores_comments_and_order_and_follows_content(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(GOOD + b"# a comment\n")
    digest = parse_profile(GOOD).digest
    assert load_profile(path).digest == digest
    turned = GOOD.replace(
        b'"clean-descriptors", "retain-uids"', b'"retain-uids", "clean-descriptors"'
    )
    assert parse_profile(turned).digest == digest
    for old, new in ((b'"remove"', b'"empty"'), (b"retain-uids", b"clean-graphics"), (b"x", b"y")):
        assert parse_profile(GOOD.replace(old, new)).digest != digest


def test_the_digest_covers_the_data_that_the_rules_draw_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: shipped_profile(name).digest for name in SHIPPED}
    real = Path.read_bytes

    def changed(path: Path) -> bytes:
        return real(path) + (b" " if path.name in ("annex_e.json", "keep.toml") else b"")

    monkeypatch.setattr(Path, "read_bytes", changed)
    after = {name: shipped_profile(name).digest for name in SHIPPED}
    assert {name for name in SHIPPED if before[name] != after[name]} == {"basic", "research"}


def _with(line: bytes) -> bytes:
    return GOOD.replace(b"[dicom]\n", b"[dicom]\n" + line + b"\n")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (GOOD.replace(b"version = 2", b"version = 1"), "version 2"),
        (GOOD.replace(b'name = "x"', b'title = "t"'), "no name"),
        (GOOD.replace(b'name = "x"', b'name = "x"\ntitle = 1979-05-27'), "title"),
        (GOOD + b"[drop]\n", "unknown key “drop”"),
        (b"optinos = []\n" + GOOD, "unknown key “optinos”"),
        (_with(b"face = 'hold'"), "“faces” is near"),
        (b'version = 2\nname = "x"\ndicom = 3\n', "[dicom]"),
        (_with(b"faces = 'show'"), "faces"),
        (_with(b"references = 'all'"), "references"),
        (_with(b"age_cap = -1"), "age_cap"),
        (_with(b"age_cap = true"), "age_cap"),
        (_with(b"max_removed_fraction = 0"), "max_removed_fraction"),
        (_with(b"max_removed_fraction = nan"), "max_removed_fraction"),
        (_with(b"max_outside_text_fraction = 2"), "max_outside_text_fraction"),
        (_with(b'sop_classes = ["ct"]'), "UID"),
        (_with(b'transfer_syntaxes = "1.2"'), "list of strings"),
        (GOOD.replace(b"retain-uids", b"retain-uid"), "“retain-uids” is near"),
        (GOOD.replace(b"retain-uids", b"clean-descriptors"), "twice"),
        (
            GOOD.replace(b'"retain-uids"', b'"retain-full-dates", "retain-modified-dates"'),
            "both keeps dates",
        ),
        (
            _with(b"faces = 'pass'").replace(b"retain-uids", b"clean-visual-features"),
            "lets faces pass",
        ),
        (GOOD.replace(b"Manufacturer", b"NoSuchAttribute"), "unknown attribute"),
        (GOOD.replace(b'Manufacturer = "remove"', b'Manufacturer = "keep"'), "must be one of"),
        (GOOD.replace(b'Manufacturer = "remove"', b'PatientAddress = "dummy"'), "looser"),
        (GOOD.replace(b"Manufacturer", b"SOPInstanceUID"), "looser"),
        (GOOD.replace(b"Manufacturer", b"Rows"), "looser"),
        (GOOD.replace(b'Manufacturer = "remove"', b'KVP = "clean-text"'), "looser"),
        (GOOD.replace(b'age = "keep"', b'age = "empty"'), "column"),
        (b"\xff\xfe", "not valid TOML"),
        (b"= broken", "not valid TOML"),
        (b" " * (MAX_PROFILE_BYTES + 1), "too large"),
    ],
)
def test_a_bad_profile_is_refused_with_a_sentence(raw: bytes, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(raw)
    assert caught.value.code is ErrorCode.DEID_PROFILE_INVALID
    assert words in str(caught.value)


def test_overrides_belong_to_dicom_profiles() -> None:
    with pytest.raises(ConfigError):
        parse_profile(b'version = 2\nname = "x"\n[override]\nManufacturer = "remove"\n')


def test_an_unknown_shipped_name_is_refused() -> None:
    for name in ("../../etc/passwd", "dicom-image"):
        with pytest.raises(ConfigError):
            shipped_profile(name)


def test_no_age_cap_is_written_as_zero() -> None:
    assert parse_profile(_with(b"age_cap = 0")).age_cap is None
