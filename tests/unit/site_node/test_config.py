"""Site configuration: known keys only, floors never looser than the product's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigError, ErrorCode
from site_node.config import (
    HOME_VARIABLE,
    SiteConfig,
    load_config,
    parse_config,
    render_config,
    resolve_home,
    write_atomically,
)

MINIMAL = 'site_id = "site-1"\nname = "서울 병원"\n'


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode("utf-8"))
    return caught.value


def test_defaults_survive_a_round_trip_through_toml() -> None:
    config = parse_config(MINIMAL.encode("utf-8"))
    assert parse_config(render_config(config).encode("utf-8")) == config


def test_an_unknown_key_names_the_nearest_one() -> None:
    error = refused(MINIMAL + "[floors]\nminimum_cohrt = 4\n")
    assert error.code is ErrorCode.CONFIG_UNKNOWN_KEY
    assert "floors.minimum_cohort" in error.hint
    assert refused(MINIMAL + 'nmae = "x"\n').hint.endswith("name.")


@pytest.mark.parametrize(
    "loosened",
    [
        "minimum_cohort = 2",
        "minimum_collusion_bound = 0",
        "maximum_delta = 1e-4",
        "maximum_epsilon_per_study = 9.0",
        "maximum_epsilon_total = 100.0",
        "minimum_roc_patients = 5",
        "maximum_days = 4000",
    ],
)
def test_a_floor_cannot_be_looser_than_the_products_own(loosened: str) -> None:
    assert refused(f"{MINIMAL}[floors]\n{loosened}\n").code is ErrorCode.CONFIG_INVALID


def test_a_floor_can_be_stricter() -> None:
    config = parse_config(f"{MINIMAL}[floors]\nminimum_cohort = 5\n".encode())
    assert config.floors.minimum_cohort == 5


@pytest.mark.parametrize(
    "text",
    ["site_id = ", 'site_id = "Site 1"\nname = "x"', 'site_id = "site-1"', "\xff", "version = 2"],
)
def test_a_broken_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text.encode("latin-1"))


def test_a_name_with_control_characters_cannot_be_written() -> None:
    with pytest.raises(ConfigError):
        render_config(SiteConfig.model_construct(site_id="site-1", name="a\nb"))


def test_the_home_comes_from_the_argument_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "named"))
    assert resolve_home(tmp_path) == tmp_path
    assert resolve_home(None) == tmp_path / "named"
    monkeypatch.delenv(HOME_VARIABLE)
    with pytest.raises(ConfigError) as caught:
        resolve_home(None)
    assert caught.value.code is ErrorCode.CONFIG_HOME_MISSING


def test_a_folder_without_a_site_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert caught.value.code is ErrorCode.CONFIG_HOME_MISSING


def test_an_interrupted_write_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def broken(_descriptor: int) -> None:
        raise OSError("full")

    monkeypatch.setattr("site_node.config.os.fsync", broken)
    with pytest.raises(OSError, match="full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_bad_site_id_is_explained_in_words() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(b'site_id = "Bad Id"\nname = "x"\n')
    assert "lower-case words and digits joined by hyphens" in caught.value.sentence
    assert "pattern" not in caught.value.sentence
