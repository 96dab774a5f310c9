"""Fixtures of the coordinator's tests: a desk with four enrolled hospitals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A coordinator's database with four hospitals in it."""
    return Desk(tmp_path / "desk").enrol_four()
