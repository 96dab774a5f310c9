"""What does a site's memory of one study keep, give out once, and refuse?"""

from __future__ import annotations

import pytest

from schemas.canonical import sha256_hex
from schemas.errors import CohortiumError, PolicyDenied
from schemas.models import from_safetensors, initial_parameters
from schemas.models import weights as weights_module
from schemas.signing import Context, is_valid, public_hex
from schemas.wire import SumTag
from site_node.session import StudySession, require_running
from site_node.store.dataset import TERMS_FIELD
from tests.support.by_hand import Hand
from tests.support.consortium import memory_consortium
from tests.support.starts import FROM_FILE, start_weights


@pytest.fixture
def hand(tmp_path) -> Hand:
    return Hand(memory_consortium(tmp_path, n_sites=3))


def session_of(hand: Hand, site: str = "site-1") -> StudySession:
    context = hand.consortium.sites[site]
    plan = context.approvals.approved_plan(hand.consortium.digest)
    return StudySession.resume(context, plan, hand.consortium.digest, _entropy)


def _entropy(n_bytes: int, /) -> bytes:
    return bytes(range(1, n_bytes + 1))


def code_of(call, *arguments) -> str:
    with pytest.raises(CohortiumError) as refused:
        call(*arguments)
    return refused.value.code.value


def test_it_begins_at_the_plans_weights(hand) -> None:
    session = session_of(hand)
    assert session.standing.rounds == 0
    assert session.approved == frozenset()


def test_a_seed_gives_the_weights_and_nothing_has_to_arrive(hand) -> None:
    site = hand.consortium.sites["site-1"]
    assert site.db.row("SELECT 1 FROM inbox WHERE kind = 'weights'") is None
    model = hand.consortium.plan.model
    found = session_of(hand).standing.state.parameters
    assert found.tolist() == initial_parameters(model).tolist()


def test_weights_a_seed_does_not_give_are_refused(hand, monkeypatch) -> None:
    """A hospital with another version of the software must not begin."""
    monkeypatch.setattr(
        weights_module, "initial_parameters", lambda m: initial_parameters(m) + 2.0**-50
    )
    assert code_of(session_of, hand) == "weights.mismatch"


def test_rows_of_another_contract_do_not_train(hand) -> None:
    """Two plans of one name share a store; the other plan's checks are not this one's."""
    session = session_of(hand)
    site = hand.consortium.sites["site-1"]
    site.store.write("heart", session.rows(), {TERMS_FIELD: "ab" * 32})
    assert code_of(session.rows) == "store.terms_other"
    assert code_of(session.features, "train") == "store.terms_other"


@pytest.fixture
def own(tmp_path) -> Hand:
    """A study that starts from the vendor's own weights."""
    return Hand(memory_consortium(tmp_path, n_sites=3, model=FROM_FILE))


def test_it_begins_at_the_vendors_weights(own) -> None:
    model = own.consortium.plan.model
    found = session_of(own).standing.state.parameters
    assert found.tolist() == from_safetensors(model, start_weights(model)).tolist()
    assert found.any()


def test_weights_other_than_the_plans_are_refused(own, monkeypatch) -> None:
    site = own.consortium.sites["site-1"]
    good = site.weights(own.consortium.plan.model.initial_weights_sha256)
    bad = good[:-1] + bytes([good[-1] ^ 1])
    assert sha256_hex(bad) != own.consortium.plan.model.initial_weights_sha256
    monkeypatch.setattr(site, "weights", lambda _: bad)
    assert code_of(session_of, own) == "weights.mismatch"


def test_weights_that_have_not_arrived_are_missed(own) -> None:
    site = own.consortium.sites["site-1"]
    with site.db.write() as connection:
        connection.execute("DELETE FROM inbox WHERE kind = 'weights'")
    assert code_of(session_of, own) == "weights.missing"


def test_a_ready_is_signed_and_shows_the_ledgers_head(hand) -> None:
    session = session_of(hand)
    signed = session.ready("train", 0, 0)
    site = session.site
    key = public_hex(site.keys.identity)
    assert is_valid(key, Context.READY, signed.ready.canonical(), signed.signature)
    assert signed.ready.ledger_head == site.ledger.head()
    assert signed.ready.plan_digest == hand.consortium.digest


def test_the_secrets_of_a_ready_are_given_out_once(hand) -> None:
    session = session_of(hand)
    signed = session.ready("train", 0, 0)
    assert session.take_ready("train", 0, 0)[0] == signed
    assert code_of(session.take_ready, "train", 0, 0) == "cohort.ready_stale"


def test_a_newer_ready_erases_the_older_ones_key(hand) -> None:
    session = session_of(hand)
    session.ready("train", 0, 0)
    _, secrets = session.issued["train"]
    session.ready("train", 0, 1)
    assert code_of(secrets.ephemeral) == "cohort.ready_stale"
    assert code_of(session.take_ready, "train", 0, 0) == "cohort.ready_stale"
    session.take_ready("train", 0, 1)  # asking for the older one did not cost the newer


def test_training_and_evaluation_have_readies_of_their_own(hand) -> None:
    session = session_of(hand)
    training = session.ready("train", 0, 0)
    evaluation = session.ready("evaluate", 0, 0, "ab" * 32)
    assert session.take_ready("train", 0, 0)[0] == training
    assert session.take_ready("evaluate", 0, 0)[0] == evaluation


def test_no_ready_for_an_attempt_that_was_taken_up(hand) -> None:
    session = session_of(hand)
    session.site.journal.advance(session.digest, "train", 0, 2)
    for attempt in (0, 1, 2):
        assert code_of(session.ready, "train", 0, attempt) == "attempt.spent"
    session.ready("train", 0, 3)


def test_a_peers_head_that_comes_back_is_a_rollback(hand) -> None:
    session = session_of(hand)
    readies = hand.readies(0, 0)
    peer = readies["site-2"]

    def showing(head: str) -> list:
        return [peer.model_copy(update={"ready": peer.ready.model_copy(update={"ledger_head": h})})
                for h in [head]]  # fmt: skip

    session.watch_heads(showing("01" * 32))
    session.watch_heads(showing("01" * 32))
    session.watch_heads(showing("02" * 32))
    assert code_of(session.watch_heads, showing("01" * 32)) == "ledger.rollback"
    session.watch_heads([readies["site-1"]])  # its own head is its own ledger's business


def test_a_sum_without_keys_and_without_evidence_is_unverifiable(hand) -> None:
    first = hand.play(0, 0)
    session = session_of(hand)
    tag = first.tag(evidence=False)
    assert code_of(session.accept_sum, tag, first.blob()) == "sum.unverifiable"
    session.accept_approvals(tuple(hand.consortium.book.signed.values()))
    session.accept_sum(first.tag(evidence=True), first.blob())
    assert session.standing.rounds == 1
    session.accept_sum(first.tag(evidence=True), first.blob())  # again: nothing happens
    assert session.standing.rounds == 1


def test_evidence_counts_only_from_sites_known_to_have_approved(hand) -> None:
    first = hand.play(0, 0)
    session = session_of(hand)
    tag = first.tag(evidence=True)
    assert code_of(session.accept_sum, tag, first.blob()) == "cohort.member_unapproved"


def test_catching_up_passes_over_what_was_applied(hand) -> None:
    first = hand.play(0, 0)
    second = hand.play(1, 0, previous=first)
    session = session_of(hand)  # resumed from the journal: the sum of round 0 is applied
    assert session.standing.rounds == 1
    session.accept_approvals(tuple(hand.consortium.book.signed.values()))
    tags = [entry.tag(evidence=True) for entry in (first, second)]
    assert code_of(session.catch_up, tags, [first.blob()]) == "message.malformed"
    session.catch_up(tags, [first.blob(), second.blob()])
    assert session.standing.rounds == 2


def test_a_blind_sum_is_opened_only_by_those_who_took_part(hand) -> None:
    session = session_of(hand)
    tag = SumTag(round=0, attempt=0, tag="00" * 8)
    assert code_of(session.open_blind_sum, tag, b"") == "attempt.unknown"


def test_features_are_read_once(hand, monkeypatch) -> None:
    session = session_of(hand)
    first = session.features("train")
    monkeypatch.setattr(session.site.store, "read", lambda _: pytest.fail("read again"))
    assert session.features("train") is first


@pytest.mark.parametrize(("round_", "kind"), [(4, "train"), (1, "evaluate")])
def test_rounds_outside_the_plan_are_refused(hand, round_, kind) -> None:
    require_running(hand.consortium.plan, round_ - 1, kind, 0)
    with pytest.raises(PolicyDenied) as refused:
        require_running(hand.consortium.plan, round_, kind, 0)
    assert refused.value.code == "round.unknown"
