"""Is every file of the input seen once, in one order, and none that should not be touched?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deid.batch.sources import read_source, walk
from schemas.errors import ConfigError, ErrorCode

LIMIT = 1000


def test_the_order_is_that_of_the_path_parts_bytes(tmp_path: Path) -> None:
    for name in ("b/2.dcm", "b-1.dcm", "a.dcm", "홍길동/1", "Z", "b/10.dcm"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    found = [item.relative for item in walk(tmp_path)]
    assert found == ["Z", "a.dcm", "b/10.dcm", "b/2.dcm", "b-1.dcm", "홍길동/1"]
    assert found == sorted(found, key=lambda name: [os.fsencode(part) for part in name.split("/")])


def test_links_pipes_and_closed_folders_are_named_but_not_opened(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.dcm").write_bytes(b"x")
    root = tmp_path / "in"
    root.mkdir()
    (root / "file-link").symlink_to(outside / "secret.dcm")
    (root / "folder-link").symlink_to(outside)
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe")
    (root / "real").write_bytes(b"x")
    items = {item.relative: item.problem for item in walk(root)}
    assert items.pop("real") is None
    assert set(items) == {"file-link", "folder-link", "loop", "pipe"}
    assert set(items.values()) == {ErrorCode.FILE_UNREADABLE}
    for name in items:
        raw, _ = read_source(str(root / name), LIMIT)
        assert raw is ErrorCode.FILE_UNREADABLE


def test_one_file_is_an_input_too(tmp_path: Path) -> None:
    (tmp_path / "one.dcm").write_bytes(b"x")
    assert [item.relative for item in walk(tmp_path / "one.dcm")] == ["one.dcm"]


def test_an_input_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        list(walk(tmp_path / "absent"))
    assert caught.value.code is ErrorCode.SOURCE_MISSING


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content, expected in (
        (b"abc", b"abc"),
        (b"", ErrorCode.FILE_EMPTY),
        (bytes(LIMIT), bytes(LIMIT)),
        (bytes(LIMIT + 1), ErrorCode.FILE_TOO_LARGE),
    ):
        path.write_bytes(content)
        raw, stamp = read_source(str(path), LIMIT)
        assert raw == expected and stamp[0] == len(content)
    assert read_source(str(tmp_path / "absent"), LIMIT)[0] is ErrorCode.FILE_UNREADABLE


def test_a_file_that_changes_while_it_is_read_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"first")
    real, seen = os.fstat, []

    def fstat(handle: int) -> os.stat_result:
        seen.append(handle)
        if len(seen) == 2:
            path.write_bytes(b"second patient")
        return real(handle)

    monkeypatch.setattr(os, "fstat", fstat)
    assert read_source(str(path), LIMIT)[0] is ErrorCode.FILE_UNREADABLE


def test_the_stamp_follows_a_change(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    (before,) = walk(tmp_path)
    assert before.stamp == read_source(str(path), LIMIT)[1]
    os.utime(path, (1, 1))
    (after,) = walk(tmp_path)
    assert before.stamp != after.stamp
