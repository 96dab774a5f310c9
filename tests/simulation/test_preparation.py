"""Does a study that prepares its inputs from a noised sum hold together, from that sum to the file?

PRIVACY-11: the preparation is round 0, charged by its own name, with retries of its own; what it
gives is the same at every site, at the coordinator and in the file of the final model.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coordinator.client.results import check_model
from coordinator.rounds import StudyEnded
from schemas.errors import CohortiumError, ErrorCode
from schemas.evaluation import derive_release
from schemas.models import final_parameters, model_hash, read_final
from schemas.preparation import prepare
from schemas.wire import Close, CohortCall, Open, Result, decode
from site_node.cohort.features import load_features
from site_node.cohort.preparation import preparation_sum
from site_node.training.evaluate import evaluation_vector
from tests.support.by_hand import Hand, bent_sums, unharmed
from tests.support.consortium import MemoryConsortium, losing, memory_consortium
from tests.support.factories import recoverable
from tests.support.prepared import WORDS, gappy_table, preparation

REQUESTS = (Open, CohortCall, Close, Result)
STEPS = 3


def prepared_consortium(folder, *, terms: dict[str, Any] | None = None, **more: Any):
    """Four sites with gaps in their rows; three steps, two retries, and one of the preparation."""
    training = {"steps": STEPS, "average_from_step": 1, "retry_cap": 2}
    overrides = preparation(**{"training": training, **(terms or {})})
    return memory_consortium(folder, table=gappy_table, **overrides, **more)


@pytest.fixture
def consortium(tmp_path) -> MemoryConsortium:
    return prepared_consortium(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> MemoryConsortium:
    consortium = prepared_consortium(tmp_path_factory.mktemp("finished"))
    consortium.study_run().run()
    return consortium


def opened(consortium: MemoryConsortium, site: str) -> dict[str, int]:
    """Attempts charged in one site's ledger, by mechanism."""
    return dict(consortium.sites[site].ledger.state().accounts[consortium.digest].opened)


def code_of(call, *arguments: Any) -> ErrorCode:
    with pytest.raises(CohortiumError) as refused:
        call(*arguments)
    return refused.value.code


# --- undisturbed -----------------------------------------------------------------------------


def test_the_preparation_is_round_0_and_every_step_follows(finished) -> None:
    everyone = tuple(finished.sites)
    rounds = [("train", round_, 0, everyone, "") for round_ in range(1 + STEPS)]
    assert finished.book.attempts == [*rounds, ("evaluate", 0, 0, everyone, "")]
    assert [len(entry.summed.words) for entry in finished.book.sums] == [WORDS, 9, 9, 9]
    for site in finished.sites:
        assert finished.standing(site).rounds == 1 + STEPS
        assert finished.standing(site).state.step == STEPS


def test_each_mechanism_is_charged_by_its_name(finished) -> None:
    """PRIVACY-11: one attempt of the preparation, one of each step, at every hospital."""
    for name, site in finished.sites.items():
        assert opened(finished, name) == {"preparation": 1, "training": STEPS, "evaluation": 1}
        assert site.ledger.verify().is_intact
        assert site.audit.verify().is_intact


def test_the_sum_holds_every_patient_and_the_plans_noise(finished) -> None:
    """PRIVACY-11: what was summed is the patients of all sites, and noise of the right size."""
    plan, terms = finished.plan, finished.plan.sum_terms(0)
    clean = sum(
        preparation_sum(site.store.read("heart"), plan).values for site in finished.sites.values()
    )
    noise = finished.standing("site-1").state.prepared - clean
    sigma = terms.noise_multiplier * terms.integer_clip * math.sqrt(4 / 3)  # four shares, t = 1
    assert np.abs(noise).max() < 7 * sigma
    assert 0.5 < noise.std() / sigma < 1.6  # 71 words: each bound is six deviations away


def test_all_sites_hold_the_same_bits_and_prepare_alike(finished) -> None:
    states = {site.journal.load_state(finished.digest) for site in finished.sites.values()}
    assert len(states) == 1
    constants = {
        repr(prepare(finished.plan, finished.standing(site).state.prepared))
        for site in finished.sites
    }
    assert len(constants) == 1


def test_the_file_of_the_model_holds_the_preparation_under_the_signed_hash(finished) -> None:
    """PRIVACY-11: a model without its constants is of no use, with others it is another model."""
    plan, model = finished.plan, finished.book.model
    state = finished.standing("site-2").state
    flat, prepared = read_final(plan, model.safetensors)
    assert flat.tolist() == final_parameters(state, plan.training).tolist()
    assert prepared.tolist() == state.prepared.tolist()
    assert model.model_hash == model_hash(flat, prepared) != model_hash(flat)
    for final in finished.book.signed_finals.values():
        assert model.model_hash.encode() in final.payload_bytes()
    document = check_model(model.safetensors, plan, model.model_hash)
    assert document == prepare(plan, state.prepared).document(plan)
    moved = prepared.copy()
    moved[0] += 1
    assert model_hash(flat, moved) != model.model_hash


def test_the_release_is_what_pooled_counts_on_prepared_inputs_would_give(finished) -> None:
    """The blind evaluation reads the test patients through the same constants."""
    plan, state = finished.plan, finished.standing("site-1").state
    flat = final_parameters(state, plan.training)
    prepared = prepare(plan, state.prepared)
    total = sum(
        evaluation_vector(
            plan, flat, load_features(site.store.read("heart"), plan, "test", prepared)
        )
        for site in finished.sites.values()
    )
    hashed = model_hash(flat, state.prepared)
    release = derive_release(plan, hashed, tuple(finished.sites), total)
    assert finished.book.release[0] == release.canonical()


def test_nothing_left_but_what_the_plan_lists(finished) -> None:
    for site in finished.sites.values():
        rows = site.db.rows("SELECT kind, count(*) AS n FROM released GROUP BY kind ORDER BY kind")
        assert {row["kind"]: row["n"] for row in rows} == {
            "masked-evaluation": 1,
            "masked-update": 1 + STEPS,
            "model-hash": 3,
            "release": 1,
        }


def test_constants_of_the_plan_need_no_preparation_for_the_rest(tmp_path) -> None:
    """Class weights alone: two words."""
    consortium = memory_consortium(
        tmp_path,
        training={"class_weights": "preparation", "steps": 1, "average_from_step": 1},
        preparation={
            "epsilon": 1, "noise_multiplier": 20, "retry_cap": 0, "integer_clip": 2**18,
        },
    )  # fmt: skip
    consortium.study_run().run()
    assert [len(entry.summed.words) for entry in consortium.book.sums] == [2, 5]
    assert consortium.book.release is not None


# --- restarts and absences -------------------------------------------------------------------


def test_everything_may_restart_between_the_preparation_and_the_first_step(consortium) -> None:
    """PRIVACY-11: the sum is durable before it is used, and is not taken twice."""
    asked = iter([False, True])
    with pytest.raises(StudyEnded):
        consortium.study_run(should_stop=lambda: next(asked)).run()
    assert len(consortium.book.sums) == 1
    for site in tuple(consortium.sites):
        consortium.restart(site)
    consortium.study_run().run()
    assert consortium.book.release is not None
    assert len(consortium.book.sums) == 1 + STEPS
    for site in consortium.sites:
        assert opened(consortium, site)["preparation"] == 1
    before = {consortium.standing(site).model_hash for site in consortium.sites}
    assert len(before) == 1


def test_one_site_restarts_after_it_applied_the_preparation(consortium) -> None:
    restarted = []

    def fault(site, request, honest):
        header = decode(request, allowed=REQUESTS).header
        answer = honest(request)
        if isinstance(header, CohortCall) and header.round == 1 and not restarted:
            consortium.restart("site-1")
            restarted.append(site)
        return answer

    consortium.fault = fault
    consortium.study_run().run()
    assert consortium.book.release is not None
    assert {opened(consortium, site)["preparation"] for site in consortium.sites} == {1}
    assert len({consortium.standing(site).model_hash for site in consortium.sites}) == 1


def test_a_site_that_was_away_catches_up_over_the_preparation(consortium) -> None:
    """Its patients are not in the constants, and it prepares its rows by them all the same."""
    consortium.offline.add("site-4")

    def fault(site, request, honest):
        header = decode(request, allowed=REQUESTS).header
        if isinstance(header, CohortCall) and header.round == 1:
            consortium.offline.discard("site-4")
        return honest(request)

    consortium.fault = fault
    consortium.study_run().run()
    rosters = {entry[:2]: entry[3] for entry in consortium.book.attempts}
    assert "site-4" not in rosters["train", 0]
    assert "site-4" in rosters["train", STEPS]
    assert "preparation" not in opened(consortium, "site-4")
    assert consortium.standing("site-4").state.prepared.any()
    assert len({consortium.standing(site).model_hash for site in consortium.sites}) == 1
    assert set(consortium.book.release[1]) == set(consortium.sites)


def test_a_lost_site_voids_the_preparation_alone(consortium) -> None:
    """PRIVACY-11: the retry is charged to the preparation; training keeps all of its own."""
    consortium.fault = losing("site-2", stage="upload", round_=0, attempt=0)
    consortium.study_run().run()
    assert [entry[1:3] + entry[4:] for entry in consortium.book.attempts[:2]] == [
        (0, 0, "transport.timeout"),
        (0, 1, ""),
    ]
    for site in consortium.sites:
        account = consortium.sites[site].ledger.state().accounts[consortium.digest]
        assert opened(consortium, site)["preparation"] == 2
        assert account.remaining_of("preparation") == 0
        assert account.remaining_of("training") == 2


def test_a_lost_site_in_recoverable_mode_costs_no_retry(tmp_path) -> None:
    consortium = prepared_consortium(tmp_path, **recoverable(1))
    consortium.fault = losing("site-2", stage="upload", round_=0)
    consortium.study_run().run()
    assert consortium.book.sums[0].survivors == ("site-1", "site-3", "site-4")
    assert consortium.book.sums[1].survivors == ()
    assert consortium.book.release is not None
    assert {opened(consortium, site)["preparation"] for site in consortium.sites} == {1}
    assert len({consortium.standing(site).model_hash for site in consortium.sites}) == 1


# --- retries of one leave the others' alone --------------------------------------------------


def test_retries_of_the_preparation_never_eat_those_of_training(consortium) -> None:
    """PRIVACY-11: with the preparation's attempts spent the study ends, at the sites as well."""
    consortium.fault = losing("site-4", stage="upload")
    with pytest.raises(StudyEnded) as ended:
        consortium.study_run().run()
    assert ended.value.code is ErrorCode.STUDY_RETRIES_SPENT
    assert len(consortium.book.attempts) == consortium.plan.preparation.attempts == 2
    hand = Hand(consortium)
    readies = hand.readies(0, 2)
    with unharmed(consortium):
        for site in consortium.sites:
            call = hand.cohort(readies.values(), 0, 2)
            assert hand.refusal(site, call) == "ledger.reserve_spent"
    account = consortium.sites["site-1"].ledger.state().accounts[consortium.digest]
    assert account.remaining_of("training") == STEPS + 2


def test_retries_of_training_never_eat_those_of_the_preparation(consortium) -> None:
    """PRIVACY-11: an attempt of the preparation that was not needed pays for no step."""
    hand = Hand(consortium)
    first = hand.play(0, 0)
    for attempt in range(consortium.plan.training.attempts):
        hand.play(1, attempt, previous=first)
    readies = hand.readies(1, 90)
    with unharmed(consortium):
        for site in consortium.sites:
            call = hand.cohort(readies.values(), 1, 90, previous=first)
            assert hand.refusal(site, call) == "ledger.reserve_spent"
    account = consortium.sites["site-1"].ledger.state().accounts[consortium.digest]
    assert account.remaining_of("preparation") == 1


def test_the_coordinator_counts_them_apart_too(consortium) -> None:
    consortium.fault = losing("site-4", stage="upload", round_=2)
    with pytest.raises(StudyEnded) as ended:
        consortium.study_run().run()
    assert ended.value.code is ErrorCode.STUDY_RETRIES_SPENT
    used = [entry[1] for entry in consortium.book.attempts]
    assert used == [0, 1, *[2] * (consortium.plan.training.attempts - 1)]


# --- a coordinator that lies about the preparation -------------------------------------------


def test_a_bent_sum_of_the_preparation_is_refused(consortium) -> None:
    """PRIVACY-11: constants chosen by the coordinator would scale a patient into the open."""
    hand = Hand(consortium)
    summed = hand.play(0, 0)
    for attempt, (name, bent) in enumerate(bent_sums(summed).items()):
        readies = hand.readies(1, attempt)
        call = hand.cohort(readies.values(), 1, attempt, previous=bent)
        with unharmed(consortium):
            assert hand.refusal("site-1", call).startswith("sum."), name


def test_a_step_before_the_preparation_is_out_of_order(consortium) -> None:
    """PRIVACY-11: no site trains on inputs whose constants it does not have."""
    hand = Hand(consortium)
    with unharmed(consortium):
        assert hand.refusal("site-1", hand.open(2, 0)) == "site.behind"
    readies = hand.readies(1, 0)
    with unharmed(consortium):
        request = hand.cohort(readies.values(), 1, 0)
        assert hand.refusal("site-1", request) == "sum.missing"
    session = consortium.rounds["site-1"]._sessions[consortium.digest]
    assert code_of(session.features, "train") is ErrorCode.PREPARATION_MISSING


def test_a_sum_of_a_step_is_none_of_the_preparation(consortium) -> None:
    """The length is the plan's for each round."""
    hand = Hand(consortium)
    first = hand.play(0, 0)
    second = hand.play(1, 0, previous=first)
    request = hand.close(replace(second, round=0))
    with unharmed(consortium):
        assert hand.refusal("site-1", request) == "message.out_of_order"
    readies = hand.readies(2, 0)
    wrong = hand.cohort(readies.values(), 2, 0, previous=replace(first, round=1))
    with unharmed(consortium):
        assert hand.refusal("site-1", wrong) == "message.length_wrong"
