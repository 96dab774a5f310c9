"""Does the book give back after a restart what a running study wrote into it?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coordinator.book import StudyBook
from coordinator.db import Event
from coordinator.overview import Overview
from coordinator.studies import Studies
from coordinator.sums import RoundSum
from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import StudyPlan
from schemas.secagg.masking import MaskedSum
from tests.support.desk import Desk
from tests.support.factories import recoverable
from tests.support.secure_sum import Consortium

ALL = ("site-1", "site-2", "site-3", "site-4")
THREE = ALL[:3]
HOUSE = Consortium.recoverable(4)  # of another plan: the book keeps READYs and believes nothing


@pytest.fixture
def plan(desk: Desk) -> StudyPlan:
    plan = desk.plan(**recoverable(1))
    desk.propose(plan)
    desk.approve(plan)
    return plan


def book_of(desk: Desk, plan: StudyPlan) -> StudyBook:
    """The book as a process that has just started opens it."""
    studies = Studies(desk.database)
    return StudyBook(studies, desk.database, studies.by_digest(plan.digest()))


def close_round(desk: Desk, plan: StudyPlan, round_: int, survivors: tuple[str, ...]) -> RoundSum:
    book = book_of(desk, plan)
    words = np.array([1, 2**32 - 1, round_], dtype=np.uint32)
    readies = tuple(signed for signed, _ in HOUSE.issue_all(round=round_).values())
    closed = RoundSum(round_, 0, MaskedSum(words, 7 + round_), readies, survivors)
    book.open_attempt("train", round_, 0, ALL)
    book.store_sum(closed)
    book.close_attempt("train", round_, 0, dict.fromkeys(survivors or ALL, 12), "")
    return closed


def test_a_sum_comes_back_with_its_cohort_and_its_survivors(desk: Desk, plan: StudyPlan) -> None:
    stored = [close_round(desk, plan, 0, THREE), close_round(desk, plan, 1, ())]
    book = book_of(desk, plan)
    loaded = list(book.load_sums(0, book.count_sums()))
    assert [entry.survivors for entry in loaded] == [THREE, ()]
    for before, after in zip(stored, loaded, strict=True):
        assert after.readies == before.readies
        assert after.summed.words.tolist() == before.summed.words.tolist()
        assert after.tag(evidence=True) == before.tag(evidence=True)
    assert loaded[0].tag(evidence=False).survivors == THREE
    assert loaded[1].tag(evidence=False).survivors == ()


def test_a_list_of_survivors_left_by_a_crash_is_not_the_next_attempts(
    desk: Desk, plan: StudyPlan
) -> None:
    """Cohort and survivors are written before the sum; the process may end in between."""
    closed = close_round(desk, plan, 0, THREE)
    with desk.database.write(Event("sum.lost", plan.digest(), {})) as sql:
        sql.execute("DELETE FROM sums WHERE digest = ?", (plan.digest(),))
    book = book_of(desk, plan)
    book.open_attempt("train", 0, 1, ALL)
    book.store_sum(replace(closed, attempt=1, survivors=()))
    assert next(book.load_sums(0, 1)).survivors == ()


def test_a_sum_that_is_taken_back_leaves_a_void_attempt(desk: Desk, plan: StudyPlan) -> None:
    close_round(desk, plan, 0, THREE)
    close_round(desk, plan, 1, THREE)
    book = book_of(desk, plan)
    book.drop_sum(1)
    assert book.count_sums() == 1
    states = [
        (a.round, a.state, a.reason_code) for a in Studies(desk.database).attempts(plan.digest())
    ]
    assert states == [(0, "summed", ""), (1, "void", "sum.altered")]
    book.open_attempt("train", 1, 1, ALL)
    assert book.used_attempts()["train", 1] == 2


def test_the_first_evaluation_fixes_the_roster(desk: Desk, plan: StudyPlan) -> None:
    book = book_of(desk, plan)
    assert book.evaluation_roster() == ()
    book.open_attempt("train", 0, 0, ALL)
    assert book.evaluation_roster() == ()
    book.open_attempt("evaluate", 0, 0, THREE)
    book.close_attempt("evaluate", 0, 0, {}, "transport.timeout")
    assert book_of(desk, plan).evaluation_roster() == THREE


def test_sums_are_read_one_at_a_time_and_only_those_asked_for(
    desk: Desk, plan: StudyPlan, monkeypatch
) -> None:
    for round_ in range(4):
        close_round(desk, plan, round_, ())
    book, read = book_of(desk, plan), []
    real = Studies.sum_of
    monkeypatch.setattr(
        Studies, "sum_of", lambda self, digest, at: (read.append(at), real(self, digest, at))[1]
    )
    assert book.count_sums() == 4
    found = book.load_sums(1, 3)
    assert read == []
    assert next(found).round == 1
    assert read == [1]
    assert [entry.round for entry in found] == [2]
    assert list(book.load_sums(-1, 0)) == list(book.load_sums(4, 9)) == []


def test_a_round_without_a_sum_is_said_to_have_none(desk: Desk, plan: StudyPlan) -> None:
    close_round(desk, plan, 0, ())
    with pytest.raises(ProtocolError) as caught:
        Studies(desk.database).sum_of(plan.digest(), 1)
    assert caught.value.code is ErrorCode.SUM_MISSING


def test_the_picture_shows_who_was_lost_without_calling_the_attempt_void(
    desk: Desk, plan: StudyPlan
) -> None:
    close_round(desk, plan, 0, THREE)
    close_round(desk, plan, 1, ())
    study = Overview(desk.database).study("heart")
    assert [(item.sites, item.sites_lost, item.state) for item in study.rounds] == [
        (4, 1, "summed"),
        (4, 0, "summed"),
    ]
    assert (study.attempts_opened, study.attempts_void) == (2, 0)
    assert study.aggregation.mode == "recoverable"
    assert (study.aggregation.survivor_threshold, study.aggregation.maximum_dropouts) == (3, 1)


def test_an_atomic_study_has_no_threshold_to_show(desk: Desk) -> None:
    desk.propose(desk.plan())
    shown = Overview(desk.database).study("heart").aggregation
    assert (shown.mode, shown.survivor_threshold, shown.maximum_dropouts) == ("atomic", None, 0)


def test_confirmations_and_unmaskings_count_as_sent_by_their_hospitals(
    desk: Desk, plan: StudyPlan
) -> None:
    book = book_of(desk, plan)
    book.note_bytes("survivor-confirmation", {"site-1": 400, "site-2": 400})
    book.note_bytes("unmasking", {"site-1": 600})
    book.note_bytes("unmasking", {"site-1": 600})
    sent = {site.site_id: {item.kind: (item.messages, item.bytes) for item in site.sent}
            for site in Overview(desk.database).study("heart").sites}  # fmt: skip
    assert sent["site-1"]["unmasking"] == (2, 1200)
    assert sent["site-2"]["survivor-confirmation"] == (1, 400)
    assert "unmasking" not in sent["site-2"]
