"""Does an output folder belong to one key, profile and version, and to one run at a time?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deid.batch.output import (
    STATE,
    Identity,
    OutputFolder,
    check_lists,
    check_places,
    other_profile,
)
from deid.profile import shipped_profile
from schemas.errors import ConfigError, ErrorCode

MINE = Identity("RUN", "research", "ab" * 32, "1.0")


def _claim(root: Path, identity: Identity = MINE) -> None:
    OutputFolder(root, identity).close()


def test_a_folder_is_claimed_once_and_found_again(tmp_path: Path) -> None:
    _claim(tmp_path / "deep" / "out")
    _claim(tmp_path / "deep" / "out")
    names = {path.name for path in (tmp_path / "deep" / "out" / STATE).iterdir()}
    assert names == {"run.json", "lock"}


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (replace(MINE, run="OTHER"), "key"),
        (replace(MINE, profile="basic", profile_sha256="cd" * 32), "profile"),
        (replace(MINE, profile_sha256="cd" * 32), "profile"),
        (replace(MINE, version="2.0"), "version"),
    ],
    ids=["key", "profile", "digest", "version"],
)
def test_a_folder_of_another_run_is_refused_by_name(
    tmp_path: Path, other: Identity, word: str
) -> None:
    _claim(tmp_path)
    with pytest.raises(ConfigError) as caught:
        _claim(tmp_path, other)
    assert caught.value.code is ErrorCode.DEID_OUTPUT_OTHER and word in caught.value.sentence
    _claim(tmp_path)  # and is still the first one's


def test_a_folder_that_is_not_empty_and_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_bytes(b"x")
    with pytest.raises(ConfigError) as caught:
        _claim(tmp_path)
    assert caught.value.code is ErrorCode.DEID_OUTPUT_OTHER
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_mark_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    _claim(tmp_path)
    (tmp_path / STATE / "run.json").write_text("[")
    with pytest.raises(ConfigError):
        _claim(tmp_path)


def test_two_runs_never_write_to_one_folder(tmp_path: Path) -> None:
    first = OutputFolder(tmp_path, MINE)
    with pytest.raises(ConfigError) as caught:
        _claim(tmp_path)
    assert caught.value.code is ErrorCode.DEID_OUTPUT_OTHER
    first.close()
    _claim(tmp_path)


def test_files_get_their_names_and_lose_them_with_their_folders(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path, MINE)
    for number in "01":
        (folder.temporary / number).write_bytes(b"abc")
    pairs = [(str(folder.temporary / n), f"P1/study{n}/{n}.dcm") for n in "01"]
    folder.name(pairs)
    assert folder.has("P1/study0/0.dcm", 3) and not folder.has("P1/study0/0.dcm", 4)
    folder.remove("P1/study0/0.dcm")
    folder.remove("P1/study0/0.dcm")
    assert not (tmp_path / "P1" / "study0").exists() and folder.has("P1/study1/1.dcm", 3)
    folder.remove("P1/study1/1.dcm")
    folder.close()
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_what_a_killed_run_left_without_a_name_is_cleared(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path, MINE)
    (folder.temporary / "7.dcm").write_bytes(b"half")
    folder.temporary.rename(tmp_path / STATE / "unnamed-1")
    folder.close()
    _claim(tmp_path)
    assert {path.name for path in (tmp_path / STATE).iterdir()} == {"run.json", "lock"}


def test_places_that_mix_raw_and_clean_are_refused(tmp_path: Path) -> None:
    raw, out, key = tmp_path / "in", tmp_path / "out", tmp_path / "key"
    for folder in (raw, out):
        folder.mkdir()
    (tmp_path / "link").symlink_to(raw)
    (tmp_path / "file").write_bytes(b"x")
    cases = [
        (raw, raw, [], key),
        (raw, raw / "out", [], key),
        (raw, tmp_path, [], key),
        (raw, tmp_path / "link" / "out", [], key),
        (raw, tmp_path / "file", [], key),
        (raw, out, [out / "m.csv"], key),
        (raw, out, [raw / "m.csv"], key),
        (raw, out, [], out / "key"),
        (raw, out, [], raw / "scan.dcm"),
    ]
    for case in cases:
        with pytest.raises(ConfigError) as caught:
            check_places(*case)
        assert caught.value.code is ErrorCode.CONFIG_USAGE
    check_places(raw, out, [tmp_path / "m.csv", tmp_path / "out.quarantine.csv"], key)


def test_lists_that_could_not_be_written_are_refused_by_their_option(tmp_path: Path) -> None:
    key, there = tmp_path / "key", tmp_path / "r.json"
    cases = {
        "--report and --key-file": {"--report": key},
        "--mapping and --report": {"--report": there, "--mapping": tmp_path / "." / "r.json"},
        "--report names a folder": {"--report": tmp_path},
        "that --mapping names does not exist": {"--mapping": tmp_path / "absent" / "m"},
    }
    for words, lists in cases.items():
        with pytest.raises(ConfigError) as caught:
            check_lists(lists, key)
        assert words in caught.value.sentence
    check_lists({"--report": there, "--mapping": None, "--quarantine": tmp_path / "q.csv"}, key)


def test_a_folder_says_that_it_was_written_with_another_profile(tmp_path: Path) -> None:
    basic, research = shipped_profile("basic"), shipped_profile("research")
    assert other_profile(tmp_path, basic) is None  # nobody knows
    _claim(tmp_path, Identity("RUN", basic.name, basic.digest))
    assert other_profile(tmp_path, basic) is None
    assert other_profile(tmp_path, research) == "basic"


def test_another_profile_is_named_once_and_the_hint_says_how_to_go_on(tmp_path: Path) -> None:
    _claim(tmp_path)
    for other, words in (
        (replace(MINE, profile="basic", profile_sha256="cd" * 32), "--profile"),
        (replace(MINE, run="OTHER"), "--key-file"),
    ):
        with pytest.raises(ConfigError) as caught:
            _claim(tmp_path, other)
        assert " and " not in caught.value.sentence and words in (caught.value.hint or "")
