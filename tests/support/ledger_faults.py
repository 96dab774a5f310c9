"""How does a test kill a hospital at any write point, and what must hold when it comes back?

A child process runs a story with the real classes: approve, charge, compute, release, settle. It
is killed with SIGKILL at its n-th write point: before any SQL statement (BEGIN and COMMIT among
them), fsync, rename or lock. What the outside world saw is kept in a file the child only appends
to. Then the hospital is opened anew, and `check_site` compares both.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.privacy.ledger import Charge
from schemas.wire import Upload, encode
from site_node.context import SiteContext, open_site
from site_node.governance.checks import PlanState
from tests.support.sites import TestClock, sealed

SEEN = "seen-outside"
_HOOKED = ((os, "fsync"), (os, "replace"), (fcntl, "flock"))


@dataclass(frozen=True)
class Story:
    """What a hospital does with one plan, from wherever it was left.

    Attributes:
        plan: the study.
        rounds: training rounds to take part in before the end.
        charge_first: whether an attempt is charged before it is computed, as it must be.
        ends: whether the plan is stopped after the last round, which settles it.
    """

    plan: StudyPlan
    rounds: int = 2
    charge_first: bool = True
    ends: bool = True

    def go_on(self, site: SiteContext) -> None:
        """Take every step that is still to take; what was begun before a kill is not repeated."""
        digest = self.plan.digest()
        if site.approvals.state(digest, self.plan.expires) is PlanState.PENDING:
            site.approvals.approve(sealed(self.plan), digest)
        while site.approvals.state(digest, self.plan.expires) is PlanState.APPROVED:
            highest = site.journal.highest(digest, "train")
            number = 0 if highest is None else highest[0] + 1
            if number >= self.rounds:
                if site.journal.highest(digest, "evaluate") is None:
                    site.charge(self.plan, "evaluate", 0, 0, self.plan.site_ids)
                if not self.ends:
                    return
                site.approvals.stop(digest)
                return
            self._round(site, digest, number)

    def _round(self, site: SiteContext, digest: str, number: int) -> None:
        if not self.charge_first:
            note(site.home, f"computed {digest} {number} 0")
        reference = site.charge(self.plan, "train", number, 0, self.plan.site_ids)
        if self.charge_first:
            note(site.home, f"computed {digest} {number} 0")
        body = encode(
            Upload(plan_digest=digest, kind="train", round=number, attempt=0, tag="0" * 16),
            b"\0" * 4 * self.plan.sum_terms(number).words,
        )
        site.gate.release("masked-update", body, plan=self.plan, contributors=3, charge=reference)
        note(site.home, f"released {digest} {number} 0")


def warm_up(site: SiteContext, plan: StudyPlan) -> None:
    """Load and cache the accountant before any fork: else a child dies there, over and over."""
    for check in (*site.approvals._checks.all, site.ledger.check_budget):
        check(plan)


def note(home: Path, line: str) -> None:
    """Append to what was seen outside; the kernel has it at once, so no kill loses it."""
    handle = os.open(home / SEEN, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def seen(home: Path) -> list[tuple[str, str, int, int]]:
    """Read back (what, plan, round, attempt)."""
    if not (home / SEEN).exists():
        return []
    lines = (home / SEEN).read_text("utf-8").splitlines()
    return [(w, d, int(r), int(a)) for w, d, r, a in (line.split() for line in lines)]


@contextlib.contextmanager
def write_points(site: SiteContext, act: Callable[[str], None]) -> Iterator[None]:
    """Call ``act`` with a name before every write point of this process."""
    honest = [(module, name, getattr(module, name)) for module, name in _HOOKED]

    def hooked(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **more: object) -> object:
            act(name)
            return real(*arguments, **more)

        return call

    site.db._connection().set_trace_callback(lambda sql: act(sql.split()[0].upper()))
    for module, name, real in honest:
        setattr(module, name, hooked(name, real))
    try:
        yield
    finally:
        site.db._connection().set_trace_callback(None)
        for module, name, real in honest:
            setattr(module, name, real)


def in_child(home: Path, act: Callable[[SiteContext], None]) -> int:
    """Fork a process that opens the hospital and acts; give its process id once it is open.

    So that a kill after a time falls on what it writes, not on its start on a busy machine.
    """
    is_open, opened = os.pipe()
    child = os.fork()
    if child:
        os.close(opened)
        os.read(is_open, 1)  # or its end, if it died
        os.close(is_open)
        return child
    code = 1
    try:
        site = open_site(home, TestClock())
        os.write(opened, b"1")
        act(site)
        code = 0
    except CohortiumError:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> bool:
    """Wait for a child; True if it ended by itself, False if it was killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return True


def kill_at(point: int, home: Path, act: Callable[[SiteContext], None]) -> bool:
    """Run ``act`` in a child that kills itself at its n-th write point, from 1.

    Returns:
        Whether it was killed; False if it came to its end before.
    """

    def run(site: SiteContext) -> None:
        left = point

        def count(_name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        with write_points(site, count):
            act(site)

    return not ended(in_child(home, run))


@dataclass(frozen=True)
class Findings:
    """What a hospital that came back holds."""

    spent: float
    charged: int
    released: int
    problems: tuple[str, ...]


def check_site(home: Path) -> Findings:
    """Open the hospital anew and compare ledger, witness, gate and what was seen outside."""
    site = open_site(home, TestClock())
    problems: list[str] = []
    for name, report in (("audit", site.audit.verify()), ("ledger", site.ledger.verify())):
        problems += [f"{name}: {problem}" for problem in report.problems]
    try:
        site.ledger.check_witness()
    except CohortiumError as error:
        problems.append(error.code.value)
    entries = [row.entry for row in site.ledger.rows()]
    charges = {
        (e.plan_digest, e.round, e.attempt)
        for e in entries
        if isinstance(e, Charge) and e.kind == "train"
    }
    rows = site.db.rows("SELECT * FROM released WHERE kind = 'masked-update'")
    gate = {(row["plan_digest"], row["round"], row["attempt"]) for row in rows}
    problems += [f"released without a charge: {each}" for each in sorted(gate - charges)]
    for what, *place in seen(home):
        if tuple(place) not in charges:
            problems.append(f"{what} without a charge: {place}")
        if what == "released" and tuple(place) not in gate:
            problems.append(f"released past the gate: {place}")
    budget = site.ledger.budget()
    if not budget.is_admitted:
        problems.append("the filter's limit is exceeded")
    found = Findings(budget.spent, len(charges), len(gate), tuple(problems))
    site.db.close()
    return found


def every_point(source: Path, folder: Path, story: Story) -> tuple[int, list[str]]:
    """Kill the story at each write point, and let it go on after.

    Returns:
        How many write points it has, and what went wrong at the first at which anything did.
    """
    point, problems = 0, list[str]()
    while True:
        point += 1
        home = Path(shutil.copytree(source, folder / f"kill-{point}"))
        was_killed = kill_at(point, home, story.go_on)
        problems = survivors_problems(home, story)
        shutil.rmtree(home)
        if not was_killed or problems:
            return point - 1, [f"{point}: {problem}" for problem in problems]


def survivors_problems(home: Path, story: Story) -> list[str]:
    """List what is wrong at a hospital that was killed, then with the story gone on there."""
    before = check_site(home)
    if before.problems:
        return list(before.problems)
    if not ended(in_child(home, story.go_on)):
        return ["the re-run was killed"]
    after = check_site(home)
    if before.spent > after.spent or before.charged > after.charged:
        return ["what was spent came back"]
    return [f"re-run: {problem}" for problem in after.problems]


def refusal(act: Callable[[], object]) -> ErrorCode | None:
    """Give the code with which something is refused; None if it is not."""
    try:
        act()
    except CohortiumError as error:
        return error.code
    return None
