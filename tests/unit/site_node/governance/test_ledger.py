"""The durable ledger: reserve, charge, settle, and every tampering shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.errors import BudgetExceeded, CohortiumError, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.privacy.accounting import total_epsilon
from schemas.privacy.events import Mechanism
from schemas.privacy.filter import Cost, PrivacyFilter
from schemas.privacy.ledger import GENESIS, Charge
from site_node.context import SiteContext, open_site
from site_node.governance.audit import AuditRow
from tests.support.sites import approve, real_plan, tamper


def charge(site: SiteContext, plan: StudyPlan, round_number: int, attempt: int = 0) -> None:
    site.charge(plan, "train", round_number, attempt, plan.site_ids)


def test_a_charge_is_counted_and_moves_the_head(site: SiteContext, approved: StudyPlan) -> None:
    before = site.ledger.head()
    reference = site.charge(approved, "train", 0, 0, approved.site_ids)
    account = site.ledger.state().accounts[approved.digest()]
    assert (account.charged, account.remaining) == (1, 11)
    assert site.ledger.head() != before
    assert site.ledger.has_charge(reference)
    assert not site.ledger.has_charge(replace(reference, attempt=1))
    assert not site.ledger.has_charge(replace(reference, index=99))
    assert site.ledger.verify().is_intact


def test_an_empty_ledger_verifies(site: SiteContext) -> None:
    assert site.ledger.head() == GENESIS
    assert site.ledger.verify().is_intact
    assert site.ledger.budget().committed == 0


def test_an_attempt_is_charged_once_and_never_backwards(
    site: SiteContext, approved: StudyPlan
) -> None:
    charge(site, approved, 1)
    for round_number, attempt in ((1, 0), (0, 0), (0, 5)):
        with pytest.raises(CohortiumError) as caught:
            charge(site, approved, round_number, attempt)
        assert caught.value.code is ErrorCode.MESSAGE_REPLAYED
    assert site.ledger.state().accounts[approved.digest()].charged == 1


def test_no_more_than_the_reservation_can_be_charged(
    site: SiteContext, approved: StudyPlan
) -> None:
    for attempt in range(12):
        charge(site, approved, 0, attempt)
    with pytest.raises(BudgetExceeded) as caught:
        charge(site, approved, 0, 12)
    assert caught.value.code is ErrorCode.LEDGER_RESERVE_SPENT
    assert site.journal.highest(approved.digest(), "train") == (0, 11)


def test_an_evaluation_spends_no_attempt_and_keeps_its_roster(
    site: SiteContext, approved: StudyPlan
) -> None:
    site.charge(approved, "evaluate", 0, 0, approved.site_ids)
    assert site.ledger.state().accounts[approved.digest()].remaining == 12
    with pytest.raises(CohortiumError) as caught:
        site.charge(approved, "evaluate", 0, 1, approved.site_ids[:2])
    assert caught.value.code is ErrorCode.EVALUATION_ROSTER_CHANGED
    site.charge(approved, "evaluate", 0, 1, approved.site_ids)


def test_settling_returns_only_attempts_never_opened(
    site: SiteContext, approved: StudyPlan
) -> None:
    charge(site, approved, 0)
    full = site.ledger.budget().committed
    assert site.ledger.settle(approved.digest()) == 11
    budget = site.ledger.budget()
    one = total_epsilon([Mechanism(16.0, 1.0, 1)], delta=1e-5)
    assert budget.spent == one
    assert budget.committed == PrivacyFilter(8.0, 1e-5).epsilon_of(Cost(1 / 16**2))
    assert one < budget.committed < full
    assert site.ledger.settle(approved.digest()) == 0
    with pytest.raises(CohortiumError) as caught:
        charge(site, approved, 1)
    assert caught.value.code is ErrorCode.LEDGER_SETTLED


def test_budgets_of_several_studies_add_up(sites: list[SiteContext]) -> None:
    site = sites[0]
    first = real_plan(sites)
    second = real_plan(sites, study_id="second")
    approve(site, first)
    alone = site.ledger.budget().committed
    approve(site, second)
    both = site.ledger.budget().committed
    assert alone < both < 2 * alone


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM ledger WHERE idx = 2",
        "DELETE FROM ledger WHERE idx = 1",
        "UPDATE ledger SET head = lower(hex(randomblob(32))) WHERE idx = 1",
        "UPDATE ledger SET body = CAST(replace(CAST(body AS TEXT), '\"round\":0', '\"round\":7') "
        "AS BLOB) WHERE idx = 1",
        "UPDATE ledger SET signature = (SELECT signature FROM ledger WHERE idx = 1) WHERE idx = 2",
        "UPDATE ledger SET body = x'7b7d' WHERE idx = 1",
    ],
)
def test_every_tampering_is_found(site: SiteContext, approved: StudyPlan, sql: str) -> None:
    charge(site, approved, 0)
    charge(site, approved, 1)
    assert site.ledger.verify().is_intact
    tamper(site, sql)
    assert not site.ledger.verify().is_intact


def test_salts_differ_so_that_heads_reveal_nothing(sites: list[SiteContext]) -> None:
    plan = real_plan(sites)
    for site in sites[:2]:
        approve(site, plan)
        charge(site, plan, 0)
    assert sites[0].ledger.head() != sites[1].ledger.head()
    entries = [row.entry for site in sites[:2] for row in site.ledger.rows()]
    charges = [entry for entry in entries if isinstance(entry, Charge)]
    assert charges[0].salt != charges[1].salt


def test_a_ledger_that_grows_while_it_is_read_verifies(
    site: SiteContext, approved: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger and audit log are compared as of one moment, though a round goes on."""
    site.charge(approved, "train", 0, 0, approved.site_ids)
    busy = open_site(site.home, site.clock)
    read = site.audit.rows

    def charge_then_read() -> tuple[AuditRow, ...]:
        busy.charge(approved, "train", 1, 0, approved.site_ids)
        return read()

    monkeypatch.setattr(site.audit, "rows", charge_then_read)
    assert site.ledger.verify().problems == ()


def test_a_process_that_has_replayed_notices_another_ledger(
    site: SiteContext, approved: StudyPlan
) -> None:
    """Only what was added is read again, and only while the last head seen stands in its place."""
    charge(site, approved, 0)
    charge(site, approved, 1)
    digest = approved.digest()
    assert site.ledger.state().accounts[digest].charged == 2
    tamper(site, "DELETE FROM ledger WHERE idx = 2")
    assert site.ledger.state().accounts[digest].charged == 1
    tamper(site, "UPDATE ledger SET head = lower(hex(randomblob(32))) WHERE idx = 1")
    tamper(site, "DELETE FROM ledger WHERE idx = 0")
    with pytest.raises(CohortiumError) as caught:
        site.ledger.state()
    assert caught.value.code is ErrorCode.LEDGER_NOT_RESERVED


def test_what_another_process_charged_counts_at_once(
    site: SiteContext, approved: StudyPlan
) -> None:
    other = open_site(site.home, site.clock)
    for number in range(4):
        charge(other if number % 2 else site, approved, number)
    assert site.ledger.charges(approved.digest()) == other.ledger.charges(approved.digest()) == 4
    assert site.ledger.verify().is_intact
