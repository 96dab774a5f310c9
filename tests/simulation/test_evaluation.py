"""Is the one evaluation seen by the sites alone, of one model, over one roster?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coordinator.rounds import StudyEnded
from schemas.canonical import parse
from schemas.evaluation import Release, evaluation_length
from schemas.secagg.coordinator import add_masked
from schemas.secagg.masking import CohortKeys, MaskedSum
from schemas.signing import Context, seal
from schemas.wire import Final, ReleaseReply, Result, SumTag, decode, encode
from site_node import round as site_round
from site_node.cohort.features import load_features
from site_node.outgoing import masked_upload
from site_node.store.dataset import TERMS_FIELD
from site_node.training.evaluate import evaluation_vector
from tests.support.by_hand import REPLIES, Hand, bent_sums, unharmed
from tests.support.consortium import memory_consortium, toy_table

SHORT = {"training": {"steps": 1, "average_from_step": 1, "retry_cap": 6}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Hand:
    """Training is over, the final model is signed; nobody has evaluated."""
    hand = Hand(memory_consortium(tmp_path_factory.mktemp("trained"), **SHORT))
    hand.last = hand.train()[-1]
    hand.signed = hand.finals(hand.last)
    return hand


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Hand:
    """All sites contributed; the blind sum is in the coordinator's hand."""
    hand = Hand(memory_consortium(tmp_path_factory.mktemp("evaluated"), **SHORT))
    signed = hand.finals(hand.train()[-1])
    hand.signed = signed
    hand.blind = hand.play(0, 0, "evaluate", finals=tuple(signed.values()))
    return hand


def histogram(hand: Hand) -> np.ndarray:
    """What the sum says, computed with all sites' rows: as no coordinator can."""
    consortium = hand.consortium
    plan = consortium.plan
    parameters = consortium.standing("site-1").state.parameters
    return sum(
        evaluation_vector(plan, parameters, load_features(site.store.read("heart"), plan, "test"))
        for site in consortium.sites.values()
    )


def looks_uniform(words: np.ndarray) -> bool:
    """Chi-squared over nibbles, 15 degrees of freedom; 90 is exceeded with probability 1e-12."""
    raw = words.astype("<u4").view(np.uint8)
    counts = np.bincount(np.concatenate([raw >> 4, raw & 15]), minlength=16)
    expected = counts.sum() / 16
    return float(((counts - expected) ** 2 / expected).sum()) < 90


def test_the_coordinators_sum_is_noise_and_the_sites_read_the_histogram(evaluated) -> None:
    truth = histogram(evaluated)
    assert not looks_uniform(truth.astype(np.uint32))  # the test can tell
    assert looks_uniform(evaluated.blind.summed.words)
    assert not np.array_equal(evaluated.blind.summed.words, truth.astype(np.uint32))
    session = evaluated.consortium.rounds["site-2"]._sessions[evaluated.consortium.digest]
    tag = evaluated.blind.tag(evidence=False)
    values, roster = session.open_blind_sum(tag, evaluated.blind.blob())
    assert np.array_equal(values, truth)
    assert roster == evaluated.everyone


def test_without_the_blinding_the_coordinator_would_read_it(tmp_path, monkeypatch) -> None:
    """The blinding is needed: under the pair masks alone the sum lies open."""
    hand = Hand(memory_consortium(tmp_path, **SHORT))
    signed = hand.finals(hand.train()[-1])
    monkeypatch.setattr(CohortKeys, "is_blind", False)
    monkeypatch.setattr(
        site_round, "masked_upload", lambda k, v, header, **_: masked_upload(k, v, header=header)
    )
    blind = hand.play(0, 0, "evaluate", finals=tuple(signed.values()))
    assert np.array_equal(blind.summed.words, histogram(hand).astype(np.uint32))


def test_every_site_signs_the_same_bytes_and_no_histogram_leaves(evaluated) -> None:
    bodies = set()
    for site in evaluated.everyone:
        frame = evaluated.ask(site, evaluated.result(evaluated.blind))
        assert isinstance(frame.header, ReleaseReply)
        bodies.add(bytes(frame.blobs[0]))
    release = parse(Release, bodies.pop(), max_bytes=2**16)
    assert not bodies
    assert release.roster == evaluated.everyone
    assert release.outside_epsilon


@pytest.mark.parametrize("how", list(range(8)))
def test_a_bent_blind_sum_is_refused(evaluated, how) -> None:
    bent = list(bent_sums(evaluated.blind).values())[how]
    with unharmed(evaluated.consortium):
        code = evaluated.refusal("site-1", evaluated.result(bent))
    assert code == ("sum.malformed" if bent.summed.tag >= 2**61 - 1 else "sum.altered")


def test_a_blind_sum_of_wrong_length_is_refused(evaluated) -> None:
    tag = SumTag(round=0, attempt=0, tag="00" * 8)
    request = encode(Result(plan_digest=evaluated.consortium.digest, summed=tag), bytes(40))
    with unharmed(evaluated.consortium):
        assert evaluated.refusal("site-1", request) == "message.length_wrong"


def test_a_part_of_the_blind_sum_is_refused(evaluated) -> None:
    uploads = dict(evaluated.uploads["evaluate", 0, 0])
    uploads.pop("site-4")
    part = replace(evaluated.blind, summed=add_masked(uploads, sorted(uploads)))
    with unharmed(evaluated.consortium):
        assert evaluated.refusal("site-1", evaluated.result(part)) == "sum.altered"


def test_a_result_for_an_attempt_not_taken_part_in_is_refused(evaluated) -> None:
    other = replace(evaluated.blind, attempt=5)
    with unharmed(evaluated.consortium):
        assert evaluated.refusal("site-1", evaluated.result(other)) == "attempt.unknown"


def test_a_second_roster_is_refused_although_each_member_is_honest(evaluated) -> None:
    """Two rosters differing by one hospital would open that hospital's histogram."""
    attempt = 1
    sites = ["site-1", "site-2", "site-3"]
    finals = tuple(evaluated.signed.values())
    readies = evaluated.readies(0, attempt, "evaluate", sites, finals=finals)
    call = evaluated.cohort(readies.values(), 0, attempt, "evaluate")
    with unharmed(evaluated.consortium):
        for site in sites:
            assert evaluated.refusal(site, call) == "evaluation.roster_changed"


def test_the_identical_roster_may_repeat_it_and_pays_no_epsilon(evaluated) -> None:
    charged = evaluated.consortium.charged("site-1")
    finals = tuple(evaluated.signed.values())
    again = evaluated.play(0, 2, "evaluate", finals=finals)
    assert again.summed.words.tolist() != evaluated.blind.summed.words.tolist()
    frame = evaluated.ask("site-1", evaluated.result(again))
    assert isinstance(frame.header, ReleaseReply)
    assert evaluated.consortium.charged("site-1") == charged


def colluders_final(hand: Hand, **changes) -> object:
    """A final statement signed by site-4's own key, with another content."""
    digest = hand.consortium.digest
    values = {
        "plan_digest": digest,
        "site_id": "site-4",
        "steps": 1,
        "model_hash": "ab" * 32,
        "last_sum_hash": "00" * 32,
    }
    key = hand.consortium.sites["site-4"].keys.identity
    return seal(key, Context.FINAL, Final(**{**values, **changes}))


def test_another_model_signed_by_a_colluder_is_refused(trained) -> None:
    finals = (*list(trained.signed.values())[:3], colluders_final(trained))
    with unharmed(trained.consortium):
        request = trained.open(0, 0, "evaluate", finals=finals)
        assert trained.refusal("site-1", request) == "round.state_mismatch"


def test_too_few_signatures_on_the_model_are_refused(trained) -> None:
    with unharmed(trained.consortium):
        one = trained.signed["site-1"]
        for finals in ((), (one,), (one, one, one)):
            request = trained.open(0, 0, "evaluate", finals=finals)
            assert trained.refusal("site-1", request) == "cohort.too_small"


def test_signatures_by_strangers_or_for_another_purpose_are_refused(trained) -> None:
    from tests.support.factories import VENDOR

    consortium = trained.consortium
    stranger = seal(VENDOR, Context.FINAL, Final(
        plan_digest=consortium.digest, site_id="site-4", steps=1, model_hash="ab" * 32,
        last_sum_hash="00" * 32,
    ))  # fmt: skip
    key = consortium.sites["site-4"].keys.identity
    purpose = seal(key, Context.READY, parse(
        Final, trained.signed["site-4"].payload_bytes(), max_bytes=4096
    ))  # fmt: skip
    with unharmed(consortium):
        for bad, code in (
            (stranger, "signature.signer_unexpected"),
            (purpose, "signature.invalid"),
        ):
            request = trained.open(0, 0, "evaluate", finals=(*trained.signed.values(), bad))
            assert trained.refusal("site-1", request) == code


def test_an_evaluation_cohort_on_another_model_is_refused(trained) -> None:
    attempt = trained.fresh()
    finals = tuple(trained.signed.values())
    readies = trained.readies(0, attempt, "evaluate", finals=finals)
    bent = trained.resign(readies["site-4"].ready, model_hash="ab" * 32)
    members = [bent if name == "site-4" else signed for name, signed in readies.items()]
    with unharmed(trained.consortium):
        call = trained.cohort(members, 0, attempt, "evaluate")
        assert trained.refusal("site-1", call) == "cohort.model_mismatch"


def test_a_training_ready_opens_no_evaluation(trained) -> None:
    attempt = trained.fresh()
    readies = trained.readies(0, attempt, "evaluate", finals=tuple(trained.signed.values()))
    bent = trained.resign(readies["site-3"].ready, kind="train")
    members = [bent if name == "site-3" else signed for name, signed in readies.items()]
    with unharmed(trained.consortium):
        call = trained.cohort(members, 0, attempt, "evaluate")
        assert trained.refusal("site-2", call) == "cohort.kind_mismatch"


def test_an_evaluation_sum_never_passes_for_a_training_sum(evaluated) -> None:
    bent = replace(evaluated.blind, summed=MaskedSum(evaluated.blind.summed.words[:5], 0))
    with unharmed(evaluated.consortium):
        request = evaluated.close(bent)
        assert evaluated.refusal("site-1", request) == "sum.mismatch"


def test_the_coordinator_accepts_no_release_that_differs_between_sites(tmp_path) -> None:
    consortium = memory_consortium(tmp_path, **SHORT)

    def fault(site, request, honest):
        reply = honest(request)
        frame = decode(reply, allowed=REPLIES)
        if isinstance(frame.header, ReleaseReply) and site == "site-3":
            return encode(frame.header, bytes(frame.blobs[0]).replace(b'"sites":4', b'"sites":5'))
        return reply

    consortium.fault = fault
    with pytest.raises(StudyEnded) as ended:
        consortium.study_run().run()
    assert ended.value.code == "study.retries_spent"
    assert consortium.book.release is None


def test_too_few_patients_of_one_class_release_nothing(tmp_path, monkeypatch) -> None:
    from site_node.training import evaluate

    hand = Hand(memory_consortium(tmp_path, **SHORT))
    signed = hand.finals(hand.train()[-1])

    def one_sick(plan, parameters, features):
        bins = plan.evaluation.bins
        vector = np.zeros(evaluation_length(bins), dtype=np.int64)
        vector[3], vector[bins + 2] = 1, 50
        vector[2 * bins], vector[2 * bins + 2] = 1, 50
        return vector

    monkeypatch.setattr(evaluate, "evaluation_vector", one_sick)
    blind = hand.play(0, 0, "evaluate", finals=tuple(signed.values()))
    assert hand.refusal("site-1", hand.result(blind)) == "evaluation.class_small"


def test_other_test_patients_are_refused_in_a_second_attempt(tmp_path) -> None:
    """Two sums differing by one patient would show that patient to a colluding hospital."""
    hand = Hand(memory_consortium(tmp_path, **SHORT))
    finals = tuple(hand.finals(hand.train()[-1]).values())
    hand.play(0, 0, "evaluate", finals=finals)
    store = hand.consortium.sites["site-1"].store
    terms = {TERMS_FIELD: hand.consortium.plan.data.digest()}
    store.write("heart", toy_table(1, rows=62), terms)
    hand.consortium.restart("site-1")
    readies = hand.readies(0, 1, "evaluate", finals=finals)
    call = hand.cohort(readies.values(), 0, 1, "evaluate")
    with unharmed(hand.consortium, "site-1"):
        assert hand.refusal("site-1", call) == "store.snapshot_changed"
    store.write("heart", toy_table(1), terms)
    hand.consortium.restart("site-1")
    hand.play(0, 2, "evaluate", finals=finals)
