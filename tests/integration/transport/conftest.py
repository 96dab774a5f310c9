"""One deployment for the whole module: starting it costs most of the time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # flwr 1.41 imports a name that click has deprecated
    import flwr.app  # noqa: F401

from coordinator.flower.fleet import Fleet
from tests.integration.transport.deployment import Deployment, wait_for


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(Path(tmp_path_factory.mktemp("transport")), n_sites=2)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def shared_fleet(deployment: Deployment) -> Iterator[Fleet]:
    fleet = deployment.fleet()
    yield fleet
    fleet.finish(ok=True)
    fleet.close()


@pytest.fixture
def fleet(deployment: Deployment, shared_fleet: Fleet) -> Fleet:
    """The module's fleet with a run in hand and every site online."""
    if not shared_fleet.is_active:
        shared_fleet.acquire(deployment.start_run(), timeout_seconds=30)
    everyone = {site.node_id for site in deployment.sites}
    wait_for(lambda: shared_fleet.online_nodes() >= everyone, 60, "the sites")
    return shared_fleet
