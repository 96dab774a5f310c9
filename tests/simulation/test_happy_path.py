"""Does an undisturbed study end with one model, one result, and exactly its charges?"""

from __future__ import annotations

import numpy as np
import pytest

from schemas.evaluation import derive_release
from schemas.models import final_parameters, model_hash, to_safetensors
from schemas.signing import Context, is_valid, public_hex
from site_node.cohort.features import load_features
from site_node.training.evaluate import evaluation_vector
from tests.support.consortium import MemoryConsortium, memory_consortium


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> MemoryConsortium:
    consortium = memory_consortium(tmp_path_factory.mktemp("finished"))
    consortium.study_run().run()
    return consortium


def test_every_attempt_succeeded_at_once(finished) -> None:
    everyone = tuple(finished.sites)
    expected = [("train", step, 0, everyone, "") for step in range(4)]
    assert finished.book.attempts == [*expected, ("evaluate", 0, 0, everyone, "")]
    assert finished.book.waits == {}


def test_all_sites_hold_the_same_bits(finished) -> None:
    states = {finished.sites[site].journal.load_state(finished.digest) for site in finished.sites}
    assert len(states) == 1
    assert states.pop()[0] == 4


def test_the_coordinator_rebuilt_the_sites_model(finished) -> None:
    flat = final_parameters(finished.standing("site-1").state, finished.plan.training)
    assert finished.book.model.safetensors == to_safetensors(finished.plan.model, flat)
    assert finished.book.model.model_hash == model_hash(flat)
    assert np.all(np.isfinite(flat))


def test_the_ledger_holds_one_charge_for_each_attempt(finished) -> None:
    for name, site in finished.sites.items():
        account = site.ledger.state().accounts[finished.digest]
        assert finished.charged(name) == 4
        assert dict(account.last) == {"train": (3, 0), "evaluate": (0, 0)}
        assert site.ledger.verify().is_intact
        assert site.audit.verify().is_intact


def test_nothing_left_but_what_the_plan_lists(finished) -> None:
    for site in finished.sites.values():
        rows = site.db.rows("SELECT kind, count(*) AS n FROM released GROUP BY kind ORDER BY kind")
        assert {row["kind"]: row["n"] for row in rows} == {
            "masked-evaluation": 1,
            "masked-update": 4,
            "model-hash": 3,  # READY of the first round, FINAL, READY of the evaluation
            "release": 1,
        }


def test_all_sites_signed_the_same_release(finished) -> None:
    body, signatures = finished.book.release
    assert set(signatures) == set(finished.sites)
    for name, signature in signatures.items():
        key = public_hex(finished.sites[name].keys.identity)
        assert is_valid(key, Context.RELEASE, body, signature)


def test_the_release_is_what_pooled_counts_would_give(finished) -> None:
    plan = finished.plan
    flat = final_parameters(finished.standing("site-1").state, plan.training)
    total = sum(
        evaluation_vector(plan, flat, load_features(site.store.read("heart"), plan, "test"))
        for site in finished.sites.values()
    )
    release = derive_release(plan, model_hash(flat), tuple(finished.sites), total)
    assert finished.book.release[0] == release.canonical()


def test_a_site_that_did_not_approve_is_left_out(tmp_path) -> None:
    consortium = memory_consortium(tmp_path, approve=["site-1", "site-2", "site-4"])
    consortium.study_run().run()
    members = {roster for _, _, _, roster, _ in consortium.book.attempts}
    assert members == {("site-1", "site-2", "site-4")}
    assert consortium.digest not in consortium.sites["site-3"].ledger.state().accounts
    assert consortium.sites["site-3"].db.rows("SELECT * FROM released") == []


def test_a_plan_with_poisson_sampling_runs_to_its_result(tmp_path) -> None:
    """Each hospital flips a coin per patient; what leaves has the same form as without sampling."""
    consortium = memory_consortium(
        tmp_path,
        training={"sampling": "poisson", "sampling_rate": 0.25, "divisor": 25, "steps": 2,
                  "average_from_step": 1},
    )  # fmt: skip
    consortium.study_run().run()
    assert consortium.book.release is not None
    assert [entry[4] for entry in consortium.book.attempts] == [""] * 3
    for site in consortium.sites:
        assert consortium.charged(site) == 2
