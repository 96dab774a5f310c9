"""Hospitals for the tests of the site node's shell."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest

from schemas.governance.study import StudyPlan
from site_node.context import SiteContext, open_site
from tests.support.sites import TestClock, approve, make_sites, real_plan

with warnings.catch_warnings():
    # typer 0.20 uses names of click that click 9 will drop; its version is pinned with Flower's.
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer  # noqa: F401


@pytest.fixture
def clock() -> TestClock:
    """A clock at the beginning of the test."""
    return TestClock()


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hospitals that have confirmed each other, to be copied and never opened again."""
    folder = tmp_path_factory.mktemp("hospitals")
    for site in make_sites(folder, TestClock()):
        site.db.close()
    return folder


@pytest.fixture
def sites(hospitals: Path, tmp_path: Path, clock: TestClock) -> list[SiteContext]:
    """A fresh copy of those three hospitals."""
    return [
        open_site(Path(shutil.copytree(home, tmp_path / home.name)), clock)
        for home in sorted(hospitals.iterdir())
    ]


@pytest.fixture
def site(sites: list[SiteContext]) -> SiteContext:
    """The first of them."""
    return sites[0]


@pytest.fixture
def plan(sites: list[SiteContext]) -> StudyPlan:
    """A plan for all three, not approved yet."""
    return real_plan(sites)


@pytest.fixture
def approved(site: SiteContext, plan: StudyPlan) -> StudyPlan:
    """The same plan, approved at the first hospital."""
    approve(site, plan)
    return plan
