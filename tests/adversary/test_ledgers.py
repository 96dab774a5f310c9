"""Rolled-back ledgers, and drop-outs that never were: is every look at the patients paid for?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ErrorCode
from schemas.privacy import ledger as ledger_rules
from schemas.secagg.quantise import NoisedUpdate
from site_node.egress import rules
from site_node.governance.journal import Journal
from site_node.governance.ledger import ChargeRef, Ledger
from site_node.training import dp_sgd
from tests.support.attacks import VICTIM, Attack
from tests.support.consortium import memory_consortium
from tests.support.mutants import without

THREE = ("site-1", "site-2", "site-3")


# -- rolled-back ledger ----------------------------------------------------------------------


def restore(folder: Path) -> Attack:
    """After three rounds site-4 is restored from a copy made after the first."""
    attack = Attack(memory_consortium(folder / "sites", training={"retry_cap": 20}))
    sums = [attack.play(0, 0)]
    attack.consortium.back_up("site-4", folder / "old.db")
    sums.append(attack.play(1, 0, previous=sums[-1]))
    sums.append(attack.play(2, 0, previous=sums[-1]))
    attack.consortium.put_back("site-4", folder / "old.db")
    attack.sums = sums
    return attack


@pytest.fixture(scope="module")
def restored(tmp_path_factory) -> Attack:
    return restore(tmp_path_factory.mktemp("restored"))


@pytest.fixture(scope="module")
def moved_on(tmp_path_factory) -> Attack:
    """Then one attempt is shown to site-4 alone: its ledger's head is one that nobody has seen."""
    attack = restore(tmp_path_factory.mktemp("moved"))
    attack.upload("site-4", next_cohort(attack))
    return attack


def next_cohort(attack: Attack) -> bytes:
    """COHORT of round 3 with the restored site among the members."""
    attempt = attack.fresh()
    readies = attack.readies(3, attempt, sites=THREE)
    readies |= attack.readies(3, attempt, sites=["site-4"], missing=attack.sums[:2])
    return attack.cohort(readies.values(), 3, attempt, previous=attack.sums[2])


def test_a_rolled_back_ledger_is_refused_by_every_peer(restored) -> None:
    assert restored.consortium.charged("site-4") == 1  # two rounds are forgotten
    call = next_cohort(restored)
    charged = [restored.consortium.charged(site) for site in THREE]
    for site in THREE:
        # The sum that came along is good, and its step is taken; the cohort is refused.
        assert restored.refused(site, call, harmless=False) == "ledger.rollback"
    assert [restored.consortium.charged(site) for site in THREE] == charged
    assert not restored.consortium.sites["site-4"].audit.verify().is_intact


def test_without_the_watch_on_heads_spent_budget_comes_back(restored, monkeypatch) -> None:
    monkeypatch.setattr(Journal, "remember_head", lambda *_: True)
    call = next_cohort(restored)
    for site in restored.everyone:
        restored.upload(site, call)
    charged = {site: restored.consortium.charged(site) for site in restored.everyone}
    assert charged == {**dict.fromkeys(THREE, 4), "site-4": 2}


def test_a_rolled_back_ledger_that_moved_on_unseen_is_refused_by_every_peer(moved_on) -> None:
    assert moved_on.consortium.charged("site-4") == 2
    call = next_cohort(moved_on)
    for site in THREE:
        assert moved_on.refused(site, call, harmless=False) == "ledger.rollback"


def test_without_the_count_of_charges_a_head_of_its_own_is_all_it_takes(
    moved_on, monkeypatch
) -> None:
    honest = Journal.remember_head

    def only_heads(self, digest, peer, *shown):
        with self._database.write(is_forced=False) as connection:
            connection.execute("DELETE FROM journal_charges")
        return honest(self, digest, peer, *shown)

    monkeypatch.setattr(Journal, "remember_head", only_heads)
    call = next_cohort(moved_on)
    for site in moved_on.everyone:
        moved_on.upload(site, call)
    charged = {site: moved_on.consortium.charged(site) for site in moved_on.everyone}
    assert charged == {**dict.fromkeys(THREE, 4), "site-4": 3}


# -- fake drop-out, then a retry -------------------------------------------------------------


@pytest.fixture
def clipped(monkeypatch) -> list[np.ndarray]:
    """Every clipped sum before noise, in the order in which sites were asked."""
    seen = []
    honest = dp_sgd.noised_update

    def spy(plan, terms, quantised, *more):
        seen.append(quantised.values.copy())
        return honest(plan, terms, quantised, *more)

    monkeypatch.setattr(dp_sgd, "noised_update", spy)
    return seen


def with_and_without_site_4(attack: Attack) -> np.ndarray:
    """Two sums of one round, the second after site-4 is said to have been lost; their difference.

    Everyone was there all the time: the coordinator kept the first sum.
    """
    first = attack.play(0, attack.fresh()).summed.words
    second = attack.play(0, attack.fresh(), sites=THREE).summed.words
    return (first - second).view(np.int32).astype(np.int64)


def test_a_retry_after_a_fake_drop_out_is_paid_for_by_all_and_shows_noise(attack, clipped) -> None:
    before = {site: attack.charged_uploads(site) for site in attack.everyone}
    difference = with_and_without_site_4(attack)
    for site, (charges, uploads) in before.items():
        times = 1 if site == "site-4" else 2
        assert attack.charged_uploads(site) == (charges + times, uploads + times)
    plan = attack.consortium.plan
    sigma = plan.privacy.noise_multiplier * plan.training.integer_clip
    left = difference - clipped[3]  # site-4 was asked fourth
    # Two whole noises lie on it: less than a hundredth of one has a chance below 1e-10.
    assert np.sqrt(np.mean(left.astype(float) ** 2)) > sigma / 100


def test_if_a_retry_repeated_its_noise_the_difference_would_be_the_vector(
    attack, monkeypatch, drawn
) -> None:
    kept: dict[bytes, NoisedUpdate] = {}
    honest = dp_sgd.noised_update

    def frugal(plan, terms, quantised, *more):
        vector = quantised.values.tobytes()
        if vector not in kept:
            kept[vector] = honest(plan, terms, quantised, *more)
        return kept[vector]

    monkeypatch.setattr(dp_sgd, "noised_update", frugal)
    difference = with_and_without_site_4(attack)
    assert np.array_equal(difference, drawn["site-4"])


def one_charge_per_round(monkeypatch) -> None:
    """Let a retry ride on what its round has paid."""
    honest = Ledger.charge_within

    def lenient(self, recording, digest, kind, mechanism, round_, attempt, roster):
        for row in reversed(self.rows()):
            entry = row.entry
            if isinstance(entry, ledger_rules.Charge) and entry.plan_digest == digest:
                return ChargeRef(row.index, digest, entry.kind, entry.round, entry.attempt)
        return honest(self, recording, digest, kind, mechanism, round_, attempt, roster)

    monkeypatch.setattr(Ledger, "charge_within", lenient)


def test_a_retry_that_was_not_charged_itself_is_held_back_by_the_gate(attack, monkeypatch) -> None:
    attack.play(0, attack.fresh())
    one_charge_per_round(monkeypatch)
    attempt = attack.fresh()
    readies = attack.readies(0, attempt)
    before = attack.charged_uploads(VICTIM)
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call, harmless=False) == "egress.not_charged"
    assert attack.charged_uploads(VICTIM) == before


def test_without_both_a_retry_is_free(attack, monkeypatch) -> None:
    attack.play(0, attack.fresh())
    one_charge_per_round(monkeypatch)
    without(monkeypatch, rules.charged, ErrorCode.EGRESS_NOT_CHARGED)
    before = attack.charged_uploads(VICTIM)
    attack.play(0, attack.fresh())
    assert attack.charged_uploads(VICTIM) == (before[0], before[1] + 1)


# -- and again, and again --------------------------------------------------------------------


@pytest.fixture
def tired(tmp_path) -> Attack:
    """Every attempt of a small plan is used up on round 0."""
    terms = {"steps": 1, "average_from_step": 1, "retry_cap": 1}
    attack = Attack(memory_consortium(tmp_path, n_sites=3, training=terms))
    for attempt in range(attack.consortium.plan.training.attempts):
        attack.play(0, attempt)
    return attack


def test_retries_end_where_the_reserve_ends(tired) -> None:
    readies = tired.readies(0, 9)
    call = tired.cohort(readies.values(), 0, 9)
    for site in tired.everyone:
        assert tired.refused(site, call) == "ledger.reserve_spent"


def test_without_the_reserve_retries_average_the_noise_away(tired, monkeypatch) -> None:
    without(monkeypatch, ledger_rules._charged, ErrorCode.LEDGER_RESERVE_SPENT)
    plan = tired.consortium.plan
    for attempt in range(2, 6):
        tired.play(0, attempt)
    account = tired.consortium.sites[VICTIM].ledger.state().accounts[tired.consortium.digest]
    assert account.charged == 6 > plan.training.attempts
    assert account.epsilon_charged() > account.epsilon_reserved()
