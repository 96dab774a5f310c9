"""The consortia to which the tests of a site's checks issue READYs."""

from __future__ import annotations

import pytest

from tests.support.cohorts import Issued
from tests.support.masked_attempt import Attempt, attempt_of
from tests.support.secure_sum import Consortium


@pytest.fixture(scope="module")
def consortium() -> Consortium:
    """Five sites in atomic mode."""
    return Consortium.of(5)


@pytest.fixture
def issued(consortium: Consortium) -> Issued:
    """A READY of each of them for one attempt."""
    return consortium.issue_all()


@pytest.fixture(scope="module")
def lasting() -> Consortium:
    """Five sites in recoverable mode: tau = 4."""
    return Consortium.recoverable(5)


@pytest.fixture
def attempt(consortium: Consortium) -> Attempt:
    """One attempt after all of a recoverable consortium masked."""
    return attempt_of(consortium)
