"""The one consortium that most attacks are made on, and the eye that sees what masks hide."""

from __future__ import annotations

import warnings

import pytest

from site_node import round as site_round
from tests.support.attacks import Attack
from tests.support.consortium import memory_consortium
from tests.support.factories import recoverable
from tests.support.sent import Sent

with warnings.catch_warnings():
    # typer 0.20 uses names of click that click 9 will drop; its version is pinned with Flower's.
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer  # noqa: F401

LONG = {
    "training": {"steps": 3, "average_from_step": 1, "retry_cap": 100, "integer_clip": 2**16},
    "privacy": {"noise_multiplier": 80},
}
"""So many attempts that all files can spend them side by side."""


@pytest.fixture(scope="session")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Attack:
    """Four sites at round 0 of atomic mode: whatever happens, no sum is ever applied there."""
    return Attack(memory_consortium(tmp_path_factory.mktemp("attacked"), **LONG))


@pytest.fixture
def drawn(monkeypatch):
    """Each site's last noised vector: what its masks must hide."""
    seen = {}
    honest = site_round.masked_upload

    def spy(keys, vector, **more):
        seen[keys.site_id] = getattr(vector, "values", vector).copy()
        return honest(keys, vector, **more)

    monkeypatch.setattr(site_round, "masked_upload", spy)
    return seen


@pytest.fixture(scope="session")
def recovering(tmp_path_factory: pytest.TempPathFactory) -> Attack:
    """The same in recoverable mode: n = 4, t = 1, so tau = 3 and one may be lost."""
    folder = tmp_path_factory.mktemp("recovering")
    return Attack(memory_consortium(folder, **LONG, **recoverable(1)))


@pytest.fixture
def sent(recovering, drawn) -> Sent:
    """One attempt there, in which everybody has sent."""
    return Sent.by_all(recovering)
