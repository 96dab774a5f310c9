"""Replay of a round or an attempt: can one set of masks be made to cover two vectors?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from coordinator.rounds import RoundSum
from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg import CohortKeys, MaskedUpdate, add_masked, cohort, mask
from site_node.egress import rules
from site_node.governance.journal import Journal
from site_node.governance.ledger import ChargeRef, Ledger
from site_node.session import StudySession
from tests.support.attacks import VICTIM, Attack
from tests.support.consortium import memory_consortium
from tests.support.mutants import without
from tests.support.secure_sum import Consortium, vectors_of

Layer = tuple[Callable[[pytest.MonkeyPatch], None], str]


def heads_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let peers' ledgers go back to where they were at that time."""
    monkeypatch.setattr(Journal, "remember_head", lambda *_: True)


def journal_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let (round, attempt) be taken up again."""
    without(monkeypatch, Journal.advance_within, ErrorCode.MESSAGE_REPLAYED)


def ledger_forgives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take an attempt that was charged before for paid, as a cache would."""
    honest = Ledger.charge_within

    def lenient(self, recording, digest, kind, mechanism, round_, attempt, roster):
        for row in self.rows():
            found = ChargeRef(row.index, digest, kind, round_, attempt)
            if self.has_charge(found):
                return found
        return honest(self, recording, digest, kind, mechanism, round_, attempt, roster)

    monkeypatch.setattr(Ledger, "charge_within", lenient)


def readies_reissued(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue the READY that travels with an upload again, whatever was taken up since."""
    without(monkeypatch, StudySession.ready, ErrorCode.ATTEMPT_SPENT)


def gate_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second upload of an attempt go."""
    without(monkeypatch, rules.only_once, ErrorCode.EGRESS_ALREADY_RELEASED)


BEHIND_MEMORY: dict[str, tuple[Layer, ...]] = {
    "attempt": (
        (journal_forgets, "message.replayed"),
        (ledger_forgives, "ledger.duplicate_charge"),
        (gate_forgets, "egress.already_released"),
    ),
    "round": (
        (heads_forgotten, "ledger.rollback"),
        (journal_forgets, "message.replayed"),
        (ledger_forgives, "ledger.out_of_order"),
        (readies_reissued, "attempt.spent"),
        (gate_forgets, "egress.already_released"),
    ),
}
"""What takes a layer out, and how that layer refuses a replay while it stands."""


@dataclass
class Answered:
    """A COHORT of round 0 that the victim has answered, and what was learnt from it.

    "attempt": nothing has happened since. "round": the study has gone on to round 1.
    """

    what: str
    hand: Attack
    call: bytes
    first: MaskedUpdate
    vector: np.ndarray
    rearm: Callable[[], None]

    @property
    def layers(self) -> tuple[Layer, ...]:
        return BEHIND_MEMORY[self.what]


@pytest.fixture(params=["attempt", "round"])
def answered(request, attack, tmp_path, drawn) -> Answered:
    hand, attempt = attack, 0
    if request.param == "round":
        hand = Attack(memory_consortium(tmp_path, n_sites=3))
    else:
        attempt = hand.fresh()
    readies = hand.readies(0, attempt)
    session = hand.consortium.rounds[VICTIM]._sessions[hand.consortium.digest]
    signed, secrets = session.issued["train"]
    private, standing = secrets.ephemeral(), session.standing
    call = hand.cohort(readies.values(), 0, attempt)
    first = hand.upload(VICTIM, call)
    vector = drawn[VICTIM]
    if request.param == "round":
        uploads = {site: hand.upload(site, call) for site in hand.everyone[1:]}
        summed = add_masked({VICTIM: first, **uploads}, hand.everyone)
        hand.play(1, 0, previous=RoundSum(0, 0, summed, tuple(readies.values())))

    def rearm() -> None:
        """Resume a snapshot of the machine's memory; its disk is as it is."""
        secrets._ephemeral = private
        session.issued["train"] = (signed, secrets)
        session.standing = standing

    return Answered(request.param, hand, call, first, vector, rearm)


def test_a_cohort_that_was_answered_is_refused(answered) -> None:
    assert answered.hand.refused(VICTIM, answered.call) == "cohort.ready_stale"


def test_a_resumed_snapshot_of_memory_meets_journal_ledger_and_gate(answered, monkeypatch) -> None:
    for take_out, code in answered.layers:
        answered.rearm()
        assert answered.hand.refused(VICTIM, answered.call) == code
        take_out(monkeypatch)


def test_without_any_of_them_two_vectors_lie_under_one_pad(answered, monkeypatch, drawn) -> None:
    """The uploads' difference is the vectors' difference, and one charge paid for both."""
    for take_out, _ in answered.layers:
        take_out(monkeypatch)
    before = answered.hand.charged_uploads(VICTIM)
    answered.rearm()
    second = answered.hand.upload(VICTIM, answered.call)
    assert answered.hand.charged_uploads(VICTIM) == (before[0], before[1] + 1)
    difference = (second.words - answered.first.words).view(np.int32).astype(np.int64)
    assert np.array_equal(difference, drawn[VICTIM] - answered.vector)


# -- an attempt opened again -----------------------------------------------------------------


def test_no_ready_is_issued_for_an_attempt_that_was_taken_up(attack) -> None:
    attempt = attack.fresh()
    attack.play(0, attempt)
    assert attack.refused(VICTIM, attack.open(0, attempt)) == "attempt.spent"
    assert attack.refused(VICTIM, attack.open(0, attempt - 1)) == "attempt.spent"


def test_without_that_the_journal_is_the_first_to_say_no(attack, monkeypatch) -> None:
    without(monkeypatch, StudySession.ready, ErrorCode.ATTEMPT_SPENT)
    attempt = attack.fresh()
    attack.play(0, attempt)
    readies = attack.readies(0, attempt)
    call = attack.cohort(readies.values(), 0, attempt)
    assert attack.refused(VICTIM, call) == "message.replayed"


def test_without_both_one_charge_pays_for_two_vectors(attack, monkeypatch, drawn) -> None:
    """Fresh keys and fresh noise, so no pad breaks: the privacy loss is what goes unrecorded."""
    without(monkeypatch, StudySession.ready, ErrorCode.ATTEMPT_SPENT)
    for take_out, _ in BEHIND_MEMORY["attempt"]:
        take_out(monkeypatch)
    attempt = attack.fresh()
    attack.play(0, attempt)
    before = attack.charged_uploads(VICTIM)
    again = attack.play(0, attempt)
    assert attack.charged_uploads(VICTIM) == (before[0], before[1] + 1)
    total = sum(drawn[site] for site in attack.everyone)
    assert np.array_equal(again.summed.words.view(np.int32), total)


# -- a peer's READY of another attempt -------------------------------------------------------


def with_an_older_ready(attack: Attack) -> tuple[int, bytes]:
    """Site-4 is silent in this attempt; what it signed for the one before stands in for it."""
    first, second = attack.fresh(), attack.fresh()
    older = attack.readies(0, first, sites=["site-4"])
    readies = {**attack.readies(0, second, sites=["site-1", "site-2", "site-3"]), **older}
    return second, attack.cohort(readies.values(), 0, second)


def test_a_peers_ready_of_an_earlier_attempt_is_refused(attack) -> None:
    _, call = with_an_older_ready(attack)
    assert attack.refused(VICTIM, call) == "cohort.round_mismatch"


def test_without_that_comparison_a_site_that_is_not_there_counts(attack, monkeypatch) -> None:
    honest = cohort.Expected.check

    def lenient(self, ready):
        honest(self, ready.model_copy(update={"round": self.round, "attempt": self.attempt}))

    monkeypatch.setattr(cohort.Expected, "check", lenient)
    before = attack.charged_uploads(VICTIM)
    _, call = with_an_older_ready(attack)
    attack.upload(VICTIM, call)
    assert attack.charged_uploads(VICTIM) == (before[0] + 1, before[1] + 1)


# -- a second vector under the keys of one attempt, inside the site --------------------------


@pytest.fixture(scope="module")
def three() -> Consortium:
    return Consortium.of(3)


def test_the_keys_of_an_attempt_mask_one_vector(three) -> None:
    keys = three.keys()[VICTIM]
    vector = vectors_of([VICTIM], 20)[VICTIM]
    mask(keys, vector)
    with pytest.raises(ProtocolError) as error:
        mask(keys, vector)
    assert error.value.code is ErrorCode.SECRETS_SPENT


def test_keys_that_stay_would_give_the_difference_of_two_vectors(three, monkeypatch) -> None:
    keys = three.keys()[VICTIM]
    first, second = vectors_of(["a", "b"], 20).values()
    masks = keys.spend_masks()
    monkeypatch.setattr(CohortKeys, "spend_masks", lambda _: masks)
    words = mask(keys, first).words - mask(keys, second).words
    assert np.array_equal(words.view(np.int32).astype(np.int64), first - second)
