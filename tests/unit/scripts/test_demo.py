"""When does the demo say that all is well?"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts import demo


class Bed:
    """A test bed without processes."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        self.pids = list

    @staticmethod
    def ended_at_exit() -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


@pytest.mark.parametrize(
    ("places", "control_found", "status"),
    [((), True, 0), (("coordinator/coordinator.db",), True, 1), ((), False, 1)],
)
def test_an_identifier_found_or_a_blind_search_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    places: tuple[str, ...],
    control_found: bool,
    status: int,
) -> None:
    found = SimpleNamespace(places=places, control_found=control_found)
    monkeypatch.setattr(demo, "Testbed", Bed)
    monkeypatch.setattr("signal.signal", lambda *_arguments: None)  # the test run keeps its own
    monkeypatch.setattr(demo, "run_studies", lambda _bed, _studies: {})
    monkeypatch.setattr(demo, "search_everything", lambda _bed, _studies: found)
    monkeypatch.setattr(demo, "tls_version", lambda _bed: "TLSv1.3")
    monkeypatch.setattr(sys, "argv", ["demo", "--root", str(tmp_path / "run")])
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(demo.shutil, "rmtree", lambda *_a, **_k: None)
    assert demo.main() == status
