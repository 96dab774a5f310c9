"""One site opened: the charge comes first, and a kill at any write point loses nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import CohortiumError, ConfigError, ErrorCode, InternalError
from schemas.governance.study import StudyPlan
from schemas.wire import Upload, encode
from site_node.context import SiteContext, create_site, open_site
from tests.support.sites import TestClock, approve, sealed


def one_round(site: SiteContext, plan: StudyPlan, number: int, computed: Path) -> None:
    """What an answer does to the disk, in its order; ``computed`` stands for the computation."""
    reference = site.charge(plan, "train", number, 0, plan.site_ids)
    computed.touch()
    body = encode(
        Upload(plan_digest=plan.digest(), kind="train", round=number, attempt=0, tag="0" * 16),
        b"\0" * 4 * plan.model.parameters,
    )
    site.gate.release("masked-update", body, plan=plan, contributors=3, charge=reference)
    site.journal.save_state(plan.digest(), number + 1, b"state", "ab" * 32)


def killed_at(statement: int, home: Path, act: Callable[[SiteContext], None]) -> bool:
    """Run ``act`` in a process of its own that is killed at its n-th SQL statement.

    Returns:
        False if it came to its end before that.
    """
    child = os.fork()
    if child == 0:
        site = open_site(home, TestClock())
        left = statement

        def count(_sql: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        site.db._connection().set_trace_callback(count)
        try:
            act(site)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_kill_at_any_write_point_never_loses_or_repeats_a_charge(
    site: SiteContext, approved: StudyPlan, tmp_path: Path
) -> None:
    site.db.close()
    digest = approved.digest()
    statement, was_killed = 0, True
    seen: set[tuple[int, int]] = set()
    while was_killed:
        statement += 1
        home = Path(shutil.copytree(site.home, tmp_path / f"copy-{statement}"))
        marker = home / "computed"
        was_killed = killed_at(
            statement,
            home,
            lambda s, m=marker: one_round(s, approved, 0, m),  # type: ignore[misc]
        )
        again = open_site(home, TestClock())
        charged = again.ledger.state().accounts[digest].charged
        released = len(again.db.rows("SELECT * FROM released"))
        assert again.audit.verify().is_intact, statement
        assert again.ledger.verify().is_intact, statement
        assert charged == (0 if again.journal.highest(digest, "train") is None else 1)
        assert charged >= released
        if marker.exists():
            assert charged == 1, "computed before the charge was durable"
        if charged:
            with pytest.raises(CohortiumError) as caught:
                one_round(again, approved, 0, marker)
            assert caught.value.code is ErrorCode.MESSAGE_REPLAYED
        one_round(again, approved, 1, marker)
        assert again.ledger.state().accounts[digest].charged == charged + 1
        assert again.ledger.verify().is_intact
        again.db.close()
        shutil.rmtree(home)
        seen.add((charged, released))
    assert statement > 15
    assert seen == {(0, 0), (1, 0), (1, 1)}


def test_a_kill_while_approving_or_stopping_leaves_all_or_nothing(
    sites: list[SiteContext], plan: StudyPlan, tmp_path: Path
) -> None:
    site = sites[0]
    site.inbox.receive("plan", "heart", sealed(plan))
    site.ledger.check_budget(plan)  # the accountant's cache, before any fork
    site.approvals.review(site.inbox.find("heart"))
    site.db.close()
    digest = plan.digest()

    def act(open_one: SiteContext) -> None:
        approve(open_one, plan)
        open_one.approvals.stop(digest)

    statement, was_killed, outcomes = 0, True, set()
    while was_killed:
        statement += 3
        home = Path(shutil.copytree(site.home, tmp_path / f"copy-{statement}"))
        was_killed = killed_at(statement, home, act)
        again = open_site(home, TestClock())
        state = again.approvals.state(digest, plan.expires).value
        account = again.ledger.state().accounts.get(digest)
        queued = {each.kind for each in again.inbox.waiting()}
        assert again.audit.verify().is_intact
        assert again.ledger.verify().is_intact
        expected = {
            "pending": (False, set()),
            "approved": (True, {"approval"}),
            "stopped": (True, {"approval", "stop"}),
        }
        assert (account is not None, queued) == expected[state]
        assert account is None or account.settled == (state == "stopped")
        outcomes.add(state)
        again.db.close()
        shutil.rmtree(home)
    assert outcomes == {"pending", "approved", "stopped"}


def test_a_full_disk_charges_and_releases_nothing(site: SiteContext, approved: StudyPlan) -> None:
    before = (site.ledger.head(), site.journal.highest(approved.digest(), "train"))
    connection = site.db._connection()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    refused = 0
    for number in range(10):
        try:
            site.charge(approved, "train", number, 0, approved.site_ids)
        except InternalError as error:
            assert error.code is ErrorCode.AUDIT_UNAVAILABLE
            refused += 1
            break
        before = (site.ledger.head(), site.journal.highest(approved.digest(), "train"))
    assert refused == 1
    assert (site.ledger.head(), site.journal.highest(approved.digest(), "train")) == before
    assert site.audit.verify().is_intact
    assert site.ledger.verify().is_intact


def test_a_read_only_database_does_nothing(
    site: SiteContext, approved: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.db._connection().execute("PRAGMA query_only = ON")
    code = ErrorCode.AUDIT_UNAVAILABLE
    for act in (
        lambda: site.charge(approved, "train", 0, 0, approved.site_ids),
        lambda: site.approvals.stop(approved.digest()),
        lambda: site.journal.advance(approved.digest(), "train", 0, 0),
        lambda: site.manifest.record("/v1/fleet/push-messages", 1, "ab" * 32),
    ):
        with pytest.raises(InternalError) as caught:
            act()
        assert caught.value.code is code
    site.db._connection().execute("PRAGMA query_only = OFF")
    assert site.audit.verify().is_intact


def test_a_locked_or_missing_database_is_unavailable(
    site: SiteContext, approved: StudyPlan
) -> None:
    other = sqlite3.connect(site.folders.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    site.db._connection().execute("PRAGMA busy_timeout = 10")
    with pytest.raises(InternalError) as caught:
        site.charge(approved, "train", 0, 0, approved.site_ids)
    assert caught.value.code is ErrorCode.AUDIT_UNAVAILABLE
    other.execute("ROLLBACK")
    other.close()
    site.db.close()
    site.folders.database.unlink()
    with pytest.raises(InternalError) as caught:
        open_site(site.home)
    assert caught.value.code is ErrorCode.AUDIT_UNAVAILABLE


def test_a_charge_needs_an_approval_that_still_holds(
    site: SiteContext, approved: StudyPlan, clock: TestClock
) -> None:
    clock.forward(days=365)
    with pytest.raises(CohortiumError) as caught:
        site.charge(approved, "train", 0, 0, approved.site_ids)
    assert caught.value.code is ErrorCode.PLAN_EXPIRED
    assert site.ledger.state().accounts[approved.digest()].charged == 0


def test_a_site_is_never_created_over_another(site: SiteContext) -> None:
    with pytest.raises(ConfigError) as caught:
        create_site(site.home, "site-1", "x")
    assert caught.value.code is ErrorCode.CONFIG_HOME_EXISTS


@pytest.mark.parametrize("site_id", ["Site 1", "", "../x", "a" * 60])
def test_an_impossible_site_id_creates_nothing(tmp_path: Path, site_id: str) -> None:
    with pytest.raises(ConfigError):
        create_site(tmp_path / "new", site_id, "x")
    assert not (tmp_path / "new").exists()


def test_weights_that_have_not_come_are_said_to_be_missing(site: SiteContext) -> None:
    with pytest.raises(CohortiumError) as caught:
        site.weights("ab" * 32)
    assert caught.value.code is ErrorCode.WEIGHTS_MISSING
