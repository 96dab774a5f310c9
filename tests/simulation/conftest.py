"""Consortia that the tests of one file share, where a test leaves them as it found them."""

from __future__ import annotations

import warnings

import pytest

from tests.support.by_hand import Hand
from tests.support.consortium import MemoryConsortium, memory_consortium

with warnings.catch_warnings():
    # typer 0.20 uses names of click that click 9 will drop; its version is pinned with Flower's.
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer  # noqa: F401

LONG = {
    "training": {
        "steps": 3,
        "average_from_step": 1,
        "retry_cap": 100,
        "integer_clip": 2**16,
    },
    "privacy": {"noise_multiplier": 80},
}
"""So many attempts that tests of one file can spend them side by side."""


@pytest.fixture
def consortium(tmp_path) -> MemoryConsortium:
    """Four sites of this test alone, four steps, three retries."""
    return memory_consortium(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Hand:
    """Four sites at round 0 for every test of the file: refused messages must leave them there."""
    return Hand(memory_consortium(tmp_path_factory.mktemp("shared"), **LONG))
