"""Is the task in hand remembered, privately, across a crash?"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from flwr.app.metadata import Metadata

from site_node.flower.runtime import OpenTask

METADATA = Metadata(
    run_id=5,
    message_id="ab" * 32,
    src_node_id=1,
    dst_node_id=2**64 - 3,
    reply_to_message_id="",
    group_id="",
    created_at=1_700_000_000.5,
    ttl=35.0,
    message_type="query",
)


def test_a_saved_task_is_found_by_the_next_process(tmp_path: Path) -> None:
    OpenTask(tmp_path / "new").save("token", METADATA, "ef" * 32)
    found = OpenTask(tmp_path / "new").load()
    assert found is not None
    token, metadata, answer_id = found
    assert (token, answer_id) == ("token", "ef" * 32)
    assert metadata is not None
    assert vars(metadata) == vars(METADATA)


def test_a_task_without_its_message_is_found_too(tmp_path: Path) -> None:
    OpenTask(tmp_path).save("token", None)
    assert OpenTask(tmp_path).load() == ("token", None, "")


def test_the_token_is_readable_by_nobody_else(tmp_path: Path) -> None:
    OpenTask(tmp_path).save("token", METADATA)
    assert stat.S_IMODE((tmp_path / "task.json").stat().st_mode) == 0o600


def test_a_finished_task_is_forgotten(tmp_path: Path) -> None:
    task = OpenTask(tmp_path)
    task.save("token", METADATA)
    task.clear()
    task.clear()
    assert task.load() is None


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"token": "t", "metadata": {"x": 1}}'])
def test_a_damaged_file_is_no_task(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "task.json").write_bytes(raw)
    assert OpenTask(tmp_path).load() is None
