"""The journal: forward only, last two states, no head twice, one evaluation roster."""

from __future__ import annotations

import pytest

from schemas.errors import ErrorCode, ProtocolError
from site_node.context import SiteContext

PLAN = "ab" * 32


def test_rounds_only_go_forward(site: SiteContext) -> None:
    journal = site.journal
    assert journal.highest(PLAN, "train") is None
    for step in ((0, 0), (0, 1), (3, 0)):
        journal.advance(PLAN, "train", *step)
        assert journal.highest(PLAN, "train") == step
    for step in ((3, 0), (2, 9), (0, 0)):
        with pytest.raises(ProtocolError) as caught:
            journal.advance(PLAN, "train", *step)
        assert caught.value.code is ErrorCode.MESSAGE_REPLAYED
    assert journal.highest(PLAN, "train") == (3, 0)
    assert journal.highest(PLAN, "evaluate") is None


def test_the_last_two_states_are_kept(site: SiteContext) -> None:
    assert site.journal.load_state(PLAN) is None
    for step in range(5):
        site.journal.save_state(PLAN, step, f"state {step}".encode(), f"{step:064x}")
    assert site.journal.load_state(PLAN) == (4, b"state 4", f"{4:064x}")
    assert site.journal.load_state(PLAN, 3) == (3, b"state 3", f"{3:064x}")
    assert site.journal.load_state(PLAN, 2) is None


def test_a_head_that_comes_back_is_a_rollback(site: SiteContext) -> None:
    journal = site.journal
    first, second = "11" * 32, "22" * 32
    assert journal.remember_head(PLAN, "site-2", first, 0)
    assert journal.remember_head(PLAN, "site-2", first, 0)
    assert journal.remember_head(PLAN, "site-2", second, 0)
    assert not journal.remember_head(PLAN, "site-2", first, 0)
    assert journal.remember_head(PLAN, "site-2", second, 0)
    assert journal.remember_head(PLAN, "site-3", first, 0)


def test_a_new_head_with_fewer_charges_is_a_rollback_too(site: SiteContext) -> None:
    """SECAGG-17: a restored ledger that moved on where nobody looked has a head nobody saw."""
    journal = site.journal
    heads = iter(f"{n:064x}" for n in range(9))
    assert journal.remember_head(PLAN, "site-2", next(heads), 3)
    assert not journal.remember_head(PLAN, "site-2", next(heads), 2)
    assert journal.remember_head("cd" * 32, "site-2", next(heads), 2), "plans are counted apart"
    assert journal.remember_head(PLAN, "site-3", next(heads), 2), "peers are counted apart"
    assert journal.remember_head(PLAN, "site-2", next(heads), 3)


def test_who_contributed_to_a_sum_must_have_charged_it(site: SiteContext) -> None:
    """A ledger restored to just before a sum shows the very head that was seen last."""
    journal = site.journal
    last = "11" * 32
    for peer in ("site-2", "site-3"):
        assert journal.remember_head(PLAN, peer, last, 3)
    journal.expect_charges(PLAN, {"site-2": 4})
    journal.expect_charges(PLAN, {"site-2": 4})  # told twice, once counted
    assert not journal.remember_head(PLAN, "site-2", last, 3)
    assert journal.remember_head(PLAN, "site-2", "22" * 32, 4)
    assert journal.remember_head(PLAN, "site-3", last, 3), "it did not contribute"


def test_an_evaluation_keeps_its_roster(site: SiteContext) -> None:
    journal = site.journal
    assert journal.evaluation_roster(PLAN) is None
    journal.fix_evaluation_roster(PLAN, ["site-2", "site-1"])
    journal.fix_evaluation_roster(PLAN, ["site-1", "site-2"])
    assert journal.evaluation_roster(PLAN) == ("site-1", "site-2")
    with pytest.raises(ProtocolError) as caught:
        journal.fix_evaluation_roster(PLAN, ["site-1"])
    assert caught.value.code is ErrorCode.EVALUATION_ROSTER_CHANGED
