"""Killed, restored, doubled or out of time: can spent budget ever come back?

Scheduled with many more points: `python -m scripts.fault_ledger --points 1000`.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import ErrorCode
from schemas.governance.study import StudyPlan
from schemas.privacy import ledger as rules
from schemas.privacy.ledger import Charge, LedgerEntry, PlanAccount, Settle
from site_node.context import SiteContext, open_site
from site_node.governance import witness as witness_module
from site_node.governance.ledger import Ledger
from site_node.governance.witness import Witness
from tests.support.by_hand import Hand
from tests.support.consortium import memory_consortium
from tests.support.ledger_faults import (
    Story,
    check_site,
    ended,
    every_point,
    in_child,
    refusal,
    warm_up,
    write_points,
)
from tests.support.mutants import without
from tests.support.sites import TestClock, approve, make_sites, real_plan


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyPlan, StudyPlan]:
    """A hospital that has done nothing yet, and two plans it could approve."""
    sites = make_sites(tmp_path_factory.mktemp("base"), TestClock())
    plans = real_plan(sites), real_plan(sites, study_id="second")
    for plan in plans:  # every number in the accountant's cache, before any fork
        warm_up(sites[0], plan)
    for site in sites:
        site.db.close()
    return sites[0].home, *plans


@pytest.fixture
def home(base: tuple[Path, StudyPlan, StudyPlan], tmp_path: Path) -> Path:
    return Path(shutil.copytree(base[0], tmp_path / "site"))


@pytest.fixture
def plan(base: tuple[Path, StudyPlan, StudyPlan]) -> StudyPlan:
    return base[1]


@pytest.fixture
def second(base: tuple[Path, StudyPlan, StudyPlan]) -> StudyPlan:
    return base[2]


# --- kill -9 ---------------------------------------------------------------------------------


def test_a_kill_at_every_write_point_loses_no_charge(
    home: Path, plan: StudyPlan, tmp_path: Path
) -> None:
    """PRIVACY-8: statement, commit, fsync, rename or lock; the chain, the witness, the gate."""
    points, problems = every_point(home, tmp_path, Story(plan, rounds=1))
    assert problems == []
    assert points > 80


def test_computing_before_the_charge_is_found(home: Path, plan: StudyPlan, tmp_path: Path) -> None:
    """The test above can fail: one kill between the two is enough."""
    _, problems = every_point(home, tmp_path, Story(plan, charge_first=False))
    assert "computed without a charge" in problems[0]


def test_without_the_announcement_a_kill_leaves_a_ledger_nobody_witnessed(
    home: Path, plan: StudyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-17: only after the commit is too late."""
    monkeypatch.setattr(Witness, "announce", lambda *_: None)
    monkeypatch.setattr(Witness, "confirm", Witness.accept)
    _, problems = every_point(home, tmp_path, Story(plan))
    assert "ledger.witness" in problems[0]


def test_kills_at_any_time_never_lower_what_is_spent(home: Path, plan: StudyPlan) -> None:
    """PRIVACY-8: one life, many deaths."""
    site = open_site(home, TestClock())
    approve(site, plan)
    site.db.close()
    spent, kills = 0.0, 0
    for delay_ms in (1, 3, 5, 8, 12, 17, 23, 30, 40, 60):
        child = in_child(home, Story(plan, rounds=10, ends=False).go_on)
        time.sleep(delay_ms / 1000)
        os.kill(child, signal.SIGKILL)
        kills += not ended(child)
        found = check_site(home)
        assert found.problems == ()
        assert found.spent >= spent
        spent = found.spent
    assert kills > 0
    assert spent > 0  # not one of them lived too short to charge anything


def test_the_disk_has_the_witness_before_the_ledger_and_again_before_anything_is_computed(
    home: Path, plan: StudyPlan
) -> None:
    """PRIVACY-17: a kill keeps what the kernel has; a power cut keeps what was forced, in order."""
    site = open_site(home, TestClock())
    approve(site, plan)
    order: list[str] = []
    with write_points(site, order.append):
        site.charge(plan, "train", 0, 0, plan.site_ids)
    full = site.db._connection().execute("PRAGMA synchronous").fetchone()[0]
    site.db.close()
    steps = [name for name in order if name in ("fsync", "replace", "COMMIT")]
    written = ["fsync", "replace", "fsync"]  # the file, its name, its folder
    at = steps.index("COMMIT")
    assert steps[:at] == written
    assert steps[at + 1 :] == ["replace", *written]  # the audit log's own checkpoint comes first
    assert steps.count("COMMIT") == 1
    assert full == 2  # FULL: the write-ahead log is forced by that COMMIT


# --- two at once -----------------------------------------------------------------------------


def charges(plan: StudyPlan, count: int) -> Callable[[SiteContext], None]:
    def act(site: SiteContext) -> None:
        for number in range(count):
            site.charge(plan, "train", number, 0, plan.site_ids)

    return act


def test_two_studies_charging_at_once_are_serialised(
    home: Path, plan: StudyPlan, second: StudyPlan
) -> None:
    """PRIVACY-10: both are counted, whatever the order; nothing waits for ever."""
    site = open_site(home, TestClock())
    approve(site, plan)
    approve(site, second)
    site.db.close()
    began = time.monotonic()
    children = [in_child(home, charges(each, 12)) for each in (plan, second)]
    assert [ended(child) for child in children] == [True, True]
    assert time.monotonic() - began < 60
    found = check_site(home)
    assert found.problems == ()
    assert found.charged == 24
    order = [
        row.entry.plan_digest
        for row in open_site(home).ledger.rows()
        if isinstance(row.entry, Charge)
    ]
    assert len(set(order)) == 2


def test_two_approvals_at_once_never_exceed_the_cap(
    home: Path, plan: StudyPlan, second: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-10: each alone fits, both together do not; exactly one is admitted."""
    alone = open_site(home).ledger.budget(plan).after
    text = (home / "site.toml").read_text("utf-8")
    assert "maximum_epsilon_total = 8.0" in text
    limit = f"maximum_epsilon_total = {alone * 1.2:.3f}"
    (home / "site.toml").write_text(text.replace("maximum_epsilon_total = 8.0", limit), "utf-8")

    def try_to(each: StudyPlan) -> Callable[[SiteContext], None]:
        def act(site: SiteContext) -> None:
            # As if both had looked before either wrote: the one check left is under the lock.
            monkeypatch.setattr(Ledger, "check_budget", lambda *_: None)
            outcome = refusal(lambda: approve(site, each))
            (home / each.study_id).write_text(str(outcome), "utf-8")

        return act

    children = [in_child(home, try_to(each)) for each in (plan, second)]
    assert [ended(child) for child in children] == [True, True]
    outcomes = sorted((home / each.study_id).read_text("utf-8") for each in (plan, second))
    assert outcomes == ["None", "ledger.insufficient"]
    assert check_site(home).problems == ()


# --- an old copy -----------------------------------------------------------------------------


def copy_of(home: Path, folder: Path) -> Path:
    """What a backup tool copies while nothing runs."""
    site = open_site(home)
    site.db._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    site.db.close()
    return Path(shutil.copytree(home, folder / "backup"))


def put_back(home: Path, backup: Path, *, with_witness: bool = False) -> SiteContext:
    """Restore the database (and the witness), and open the hospital."""
    for suffix in ("-wal", "-shm"):
        (home / "state" / f"site.db{suffix}").unlink(missing_ok=True)
    shutil.copyfile(backup / "state" / "site.db", home / "state" / "site.db")
    if with_witness:
        name = Path("witness") / "ledger.witness"
        shutil.copyfile(backup / name, home / name)
    return open_site(home, TestClock())


@pytest.fixture
def old(home: Path, plan: StudyPlan, tmp_path: Path) -> Path:
    """A copy after one charge; the hospital itself has made three."""
    site = open_site(home, TestClock())
    approve(site, plan)
    charges(plan, 1)(site)
    site.db.close()
    backup = copy_of(home, tmp_path)
    site = open_site(home, TestClock())
    for number in (1, 2):
        site.charge(plan, "train", number, 0, plan.site_ids)
    site.db.close()
    return backup


def test_an_old_database_charges_and_reserves_nothing(
    home: Path, old: Path, plan: StudyPlan, second: StudyPlan
) -> None:
    """PRIVACY-17: two charges are gone, and the witness knows."""
    site = put_back(home, old)
    assert site.ledger.state().accounts[plan.digest()].charged == 1
    rollback = ErrorCode.LEDGER_WITNESS_ROLLBACK
    assert refusal(site.ledger.check_witness) is rollback
    assert refusal(lambda: site.charge(plan, "train", 1, 0, plan.site_ids)) is rollback
    assert refusal(lambda: site.charge(plan, "evaluate", 0, 0, plan.site_ids)) is rollback
    assert refusal(lambda: approve(site, second)) is rollback
    assert refusal(site.ledger.accept_witness) is rollback
    assert site.ledger.state().accounts[plan.digest()].charged == 1
    assert site.journal.highest(plan.digest(), "train") == (0, 0)
    assert site.approvals.stop(plan.digest()).attempts_returned == 0  # a stop works all the same


def test_without_the_witness_an_old_database_passes(
    home: Path, old: Path, plan: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, witness_module._judge, ErrorCode.LEDGER_WITNESS_ROLLBACK)
    site = put_back(home, old)
    charge = site.charge(plan, "train", 1, 0, plan.site_ids)
    assert site.ledger.has_charge(charge)
    assert site.ledger.state().accounts[plan.digest()].charged == 2  # the fourth look at patients


def test_the_newest_database_is_taken_back(home: Path, old: Path, plan: StudyPlan) -> None:
    newest = copy_of(home, old.parent / "newest")
    put_back(home, old).db.close()
    site = put_back(home, newest)
    site.ledger.check_witness()
    site.charge(plan, "train", 3, 0, plan.site_ids)
    assert site.ledger.state().accounts[plan.digest()].charged == 4


def test_a_whole_machine_put_back_is_not_noticed_here(
    home: Path, old: Path, plan: StudyPlan
) -> None:
    """What this site cannot know, its peers do: see the next test."""
    site = put_back(home, old, with_witness=True)
    site.ledger.check_witness()
    assert site.ledger.state().accounts[plan.digest()].charged == 1
    assert not site.audit.verify().is_intact  # its checkpoint was left; an attacker takes that too


@pytest.mark.parametrize("with_witness", [True, False])
def test_a_restored_machine_is_noticed_by_peers_and_a_restored_database_by_itself(
    tmp_path: Path, with_witness: bool
) -> None:
    """PRIVACY-17: the head and the charges in every READY are the witness of last resort."""
    consortium = memory_consortium(tmp_path / "sites")
    hand = Hand(consortium)
    sums = [hand.play(0, 0)]
    consortium.back_up("site-4", tmp_path / "old.db")
    sums.append(hand.play(1, 0, previous=sums[-1]))
    sums.append(hand.play(2, 0, previous=sums[-1]))
    consortium.put_back("site-4", tmp_path / "old.db", with_witness=with_witness)
    readies = hand.readies(3, 0, sites=["site-1", "site-2", "site-3"])
    readies |= hand.readies(3, 0, sites=["site-4"], missing=sums[:2])
    call = hand.cohort(readies.values(), 3, 0, previous=sums[2])
    before = consortium.charged("site-4")
    for site in ("site-1", "site-2", "site-3"):
        assert hand.refusal(site, call) == "ledger.rollback"
    if not with_witness:
        assert hand.refusal("site-4", call) == "ledger.witness_rollback"
        assert consortium.charged("site-4") == before


# --- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [-4000, -30, -1, 1, 30, 4000])
def test_a_clock_that_is_moved_brings_nothing_back(
    home: Path, plan: StudyPlan, second: StudyPlan, days: int
) -> None:
    """PRIVACY-8: budget has no time; neither waiting nor setting a clock renews it."""
    clock = TestClock()
    site = open_site(home, clock)
    approve(site, plan)
    charges(plan, 3)(site)
    before = site.ledger.budget()
    clock.now += dt.timedelta(days=days)
    again = open_site(home, clock)
    assert again.ledger.budget() == before
    refusal(lambda: again.charge(plan, "train", 3, 0, plan.site_ids))
    refusal(lambda: approve(again, second))
    after = again.ledger.budget()
    assert after.spent >= before.spent
    assert after.committed >= before.committed
    assert after.delta_sum >= before.delta_sum
    assert again.ledger.verify().is_intact
    assert again.audit.verify().is_intact


# --- refunds ---------------------------------------------------------------------------------


def forgiving(account: PlanAccount, charge: Charge) -> PlanAccount:
    """Let an attempt that follows another of the same round take back what that one cost."""
    opened = dict(account.opened)
    if charge.attempt:
        opened[charge.mechanism] -= 1
    opened[charge.mechanism] = opened.get(charge.mechanism, 0) + 1
    here = {charge.kind: (charge.round, charge.attempt)}
    return replace(account, opened=opened, last={**account.last, **here})


def retried(home: Path, plan: StudyPlan) -> tuple[float, float]:
    """Spend one attempt, then its retry."""
    site = open_site(home, TestClock())
    approve(site, plan)
    site.charge(plan, "train", 0, 0, plan.site_ids)
    once = site.ledger.budget().spent
    site.charge(plan, "train", 0, 1, plan.site_ids)
    twice = site.ledger.budget().spent
    site.db.close()
    return once, twice


def test_a_voided_attempt_stays_charged(home: Path, plan: StudyPlan) -> None:
    """PRIVACY-8: the retry is paid for beside it."""
    once, twice = retried(home, plan)
    assert once < twice


def test_a_refund_would_be_seen(
    home: Path, plan: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "_charged", forgiving)
    once, twice = retried(home, plan)
    assert once == twice


def test_each_attempt_has_an_entry_of_its_own(home: Path, plan: StudyPlan) -> None:
    site = open_site(home, TestClock())
    approve(site, plan)
    charges(plan, 2)(site)
    site.ledger.settle(plan.digest())
    kinds: list[type[LedgerEntry]] = [type(row.entry) for row in site.ledger.rows()]
    assert kinds[1:] == [Charge, Charge, Settle]
