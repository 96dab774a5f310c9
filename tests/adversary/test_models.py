"""Split model: can hospitals be made to compute on models of the coordinator's choice?

A sum in which only one hospital's gradient is alive is that hospital's gradient (Pasquini et al.
2022, arXiv 2111.07380). So: no model ever comes from the coordinator, and masks of sites with
different models do not cancel.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas.canonical import sha256_hex
from schemas.errors import CohortiumError, ErrorCode
from schemas.models import to_safetensors
from schemas.secagg import cohort, masking
from schemas.secagg.keys import Attempt
from schemas.secagg.masking import MaskedSum, check_sum
from site_node.governance.inbox import Inbox
from site_node.session import StudySession
from tests.support.attacks import VICTIM, Attack
from tests.support.consortium import hurried_rounds, memory_consortium
from tests.support.mutants import without
from tests.support.starts import FROM_FILE


def unbind_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive masks from everything but the model that a site computed."""
    honest = Attempt.info
    blank = {"new_model_hash": "00" * 32}
    monkeypatch.setattr(Attempt, "info", lambda self: honest(replace(self, **blank)))


# -- crafted initial weights for one hospital ------------------------------------------------


@pytest.fixture(scope="module")
def crafted(tmp_path_factory) -> Attack:
    """On the victim's disk lie other initial weights than the plan names, where those should be."""
    folder = tmp_path_factory.mktemp("crafted")
    attack = Attack(
        memory_consortium(folder, n_sites=3, training={"retry_cap": 20}, model=FROM_FILE)
    )
    plan = attack.consortium.plan
    attack.weights = to_safetensors(plan.model, np.full(plan.model.parameters, 9.0))
    victim = attack.consortium.sites[VICTIM]
    with victim.db.write() as connection:
        connection.execute("UPDATE inbox SET body = ? WHERE kind = 'weights'", (attack.weights,))
    attack.consortium.rounds[VICTIM] = hurried_rounds(victim)
    return attack


def test_other_weights_than_the_plan_names_are_not_taken_in(crafted) -> None:
    site = crafted.consortium.sites["site-2"]
    with pytest.raises(CohortiumError) as error:
        site.inbox.receive("weights", "heart", crafted.weights)
    assert error.value.code is ErrorCode.WEIGHTS_MISMATCH


def test_without_that_they_would_wait_on_the_disk(crafted, monkeypatch) -> None:
    site = crafted.consortium.sites["site-2"]
    monkeypatch.setattr(Inbox, "_verified", lambda self, *_: crafted.consortium.digest)
    site.inbox.receive("weights", "heart", crafted.weights)
    assert sha256_hex(crafted.weights) in site.inbox.have()


def test_weights_are_hashed_again_before_they_are_used(crafted) -> None:
    assert crafted.refused(VICTIM, crafted.open(0, crafted.fresh())) == "weights.mismatch"


def believing(monkeypatch) -> None:
    """Take whatever weights lie on the disk."""
    without(monkeypatch, StudySession.resume, ErrorCode.WEIGHTS_MISMATCH)


@pytest.fixture
def fooled(crafted, monkeypatch):
    """The victim computes on the crafted model from here on, in this test."""
    believing(monkeypatch)
    yield crafted
    victim = crafted.consortium.sites[VICTIM]
    crafted.consortium.rounds[VICTIM] = hurried_rounds(victim)


def test_a_hospital_with_another_model_finds_no_cohort(fooled) -> None:
    attempt = fooled.fresh()
    readies = fooled.readies(0, attempt)
    call = fooled.cohort(readies.values(), 0, attempt)
    for site in fooled.everyone:
        assert fooled.refused(site, call) == "cohort.model_mismatch"


def ignoring_models(monkeypatch) -> None:
    """Compare everything a READY says but its model."""
    honest = cohort.Expected.check

    def lenient(self, ready):
        honest(self, ready.model_copy(update={"model_hash": self.model_hash}))

    monkeypatch.setattr(cohort.Expected, "check", lenient)


def sum_of_one_attempt(attack: Attack) -> np.ndarray:
    summed = attack.play(0, attack.fresh()).summed
    return summed.words.view(np.int32).astype(np.int64)


def test_without_that_comparison_the_masks_of_two_models_do_not_cancel(
    fooled, monkeypatch, drawn
) -> None:
    ignoring_models(monkeypatch)
    words = sum_of_one_attempt(fooled)
    assert not np.any(words == sum(drawn.values()))


def test_without_the_model_in_the_masks_the_coordinator_reads_a_sum_over_two_models(
    fooled, monkeypatch, drawn
) -> None:
    ignoring_models(monkeypatch)
    unbind_the_model(monkeypatch)
    assert np.array_equal(sum_of_one_attempt(fooled), sum(drawn.values()))


# -- a sum forged for one hospital, with the help of another ---------------------------------


@pytest.fixture(scope="module")
def forked(tmp_path_factory) -> tuple:
    """Round 0 is over; site-3 colludes, and the victim is to be shown another sum of it."""
    folder = tmp_path_factory.mktemp("forked")
    attack = Attack(memory_consortium(folder, n_sites=3, training={"retry_cap": 20}))
    first = attack.play(0, 0)
    digest = attack.consortium.digest
    keys = attack.consortium.rounds["site-3"]._sessions[digest].keys["train"][2]
    forged = replace(first, summed=forged_with(keys, first.summed))
    return attack, {site: forged if site == VICTIM else first for site in attack.everyone}


def forged_with(keys, summed: MaskedSum) -> MaskedSum:
    """What a colluder's group secret allows: another sum, with the tag that fits it."""
    words = summed.words.copy()
    words[0] += np.uint32(12345)
    fitting = []
    with pytest.MonkeyPatch.context() as reading:
        reading.setattr(masking.hmac, "compare_digest", lambda *tags: not fitting.append(tags[0]))
        check_sum(keys, MaskedSum(words, 0))
    return MaskedSum(words, int.from_bytes(fitting[0], "little"))


def test_a_forgery_with_a_colluder_splits_the_models_and_then_masks_do_not_cancel(
    forked, drawn
) -> None:
    attack, shown = forked
    words = attack.play_split(1, attack.fresh(), shown).summed.words
    hashes = {attack.consortium.standing(site).model_hash for site in attack.everyone}
    assert len(hashes) == 2
    assert not np.any(words.view(np.int32) == sum(drawn.values()))


def test_without_the_model_in_the_masks_such_a_sum_would_open(forked, monkeypatch, drawn) -> None:
    unbind_the_model(monkeypatch)
    attack, shown = forked
    words = attack.play_split(1, attack.fresh(), shown).summed.words
    assert np.array_equal(words.view(np.int32), sum(drawn.values()))
