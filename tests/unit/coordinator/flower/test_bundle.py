"""Is the bundle code-free, the same everywhere, and one that Flower accepts?"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from coordinator.flower import bundle


def test_the_bundle_holds_no_code() -> None:
    with zipfile.ZipFile(io.BytesIO(bundle.build_bundle())) as archive:
        assert archive.namelist() == ["pyproject.toml", "LICENSE", ".info/CONTENT"]


# flwr 1.41 asks pathspec for a pattern class that pathspec announces to remove.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_the_bundle_is_what_flowers_own_builder_makes(tmp_path: Path) -> None:
    from flwr.cli.build import build_fab_from_disk

    made = tmp_path / "cohortium"
    made.mkdir()
    for name in ("pyproject.toml", "LICENSE"):
        source = Path(bundle.__file__).parent / "app" / name
        (made / name).write_bytes(source.read_bytes())
    assert _files(build_fab_from_disk(made)) == _files(bundle.build_bundle())


def _files(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_changed_digest_is_a_new_bundle_that_every_site_must_approve_again() -> None:
    known = "5bd76033ba0bfb6ad37a8a38fa2cd3006b8fe82a5a5bafbbe938a85c0662577a"
    assert bundle.bundle_sha256() == known
