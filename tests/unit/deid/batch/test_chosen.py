"""Are the key and the profile what the person meant?"""

from __future__ import annotations

from pathlib import Path

import pytest

from deid.batch.chosen import choose_profile, read_key
from deid.profile import SHIPPED
from schemas.errors import ConfigError, ErrorCode


@pytest.mark.parametrize("length", [32, 33, 64])
def test_a_key_is_taken_byte_for_byte(tmp_path: Path, length: int) -> None:
    raw = bytes(range(length - 1)) + b"\n"
    (tmp_path / "key").write_bytes(raw)
    assert read_key(tmp_path / "key").secret == raw


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o400, False), (0o604, True)])
def test_a_key_that_others_may_read_is_noticed(tmp_path: Path, mode: int, exposed: bool) -> None:
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "key").chmod(mode)
    key = read_key(tmp_path / "key")
    assert key.is_exposed is exposed and "\\x00" not in repr(key)


@pytest.mark.parametrize("length", [0, 31, 4097])
def test_what_is_no_key_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "key").write_bytes(bytes(length))
    with pytest.raises(ConfigError) as caught:
        read_key(tmp_path / "key")
    assert caught.value.code is ErrorCode.DEID_SECRET_INVALID


def test_a_profile_is_named_or_a_file(tmp_path: Path) -> None:
    for name in SHIPPED:
        assert choose_profile(name).name == name
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            choose_profile(str(path))
        assert caught.value.code is ErrorCode.CONFIG_FILE_MISSING
