"""Does a wrong setting stop the coordinator with a name and a hint?"""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.config import HOME_VARIABLE, Home, find_home, load, write_initial
from schemas.errors import ConfigError, ErrorCode


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path)
    write_initial(found, 'A "quoted" 병원 consortium', "coordinator.example")
    return found


def test_the_first_file_reads_back(home: Home) -> None:
    config = load(home)
    assert config.name == 'A "quoted" 병원 consortium'
    assert config.public_host == "coordinator.example"
    assert config.api_port == 0


def test_an_unknown_key_is_named_with_the_nearest(home: Home) -> None:
    text = home.config_file.read_text(encoding="utf-8")
    home.config_file.write_text(text + "gatway_port = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(home)
    assert caught.value.code is ErrorCode.CONFIG_UNKNOWN_KEY
    assert "gateway_port" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("api_port = 70000", ErrorCode.CONFIG_INVALID),
        ('api_port = "443"', ErrorCode.CONFIG_INVALID),
        ('public_host = "https://x/"', ErrorCode.CONFIG_INVALID),
        ("invite_valid_hours = 0", ErrorCode.CONFIG_INVALID),
        ("= 1", ErrorCode.CONFIG_INVALID),
    ],
)
def test_wrong_values_are_refused(home: Home, line: str, code: ErrorCode) -> None:
    home.config_file.write_text(f'name = "x"\n{line}\n', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(home)
    assert caught.value.code is code


def test_a_folder_that_is_no_home_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Home(tmp_path / "nothing"))
    assert caught.value.code is ErrorCode.CONFIG_MISSING


def test_the_home_is_given_or_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    with pytest.raises(ConfigError):
        find_home(None)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "a"))
    assert find_home(None).root == tmp_path / "a"
    assert find_home(tmp_path / "b").root == tmp_path / "b"


@pytest.mark.parametrize(("name", "host"), [("", "x"), ("x", "a b"), ("x" * 81, "x")])
def test_an_unusable_name_or_host_makes_no_home(tmp_path: Path, name: str, host: str) -> None:
    with pytest.raises(ConfigError):
        write_initial(Home(tmp_path), name, host)
    assert not Home(tmp_path).config_file.exists()
