"""Do studies with the other algorithms and optimisers run to one model and one result?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.models import final_parameters, initial_parameters, read_final
from schemas.preparation import prepare
from site_node.cohort.features import load_features
from tests.support.consortium import MemoryConsortium, losing, memory_consortium, toy_table
from tests.support.factories import recoverable
from tests.support.prepared import gappy_table, preparation

FEDAVG: dict[str, Any] = {
    "algorithm": "dp-fedavg",
    "steps": 3,
    "average_from_step": 1,
    "local_steps": 2,
    "local_learning_rate": 0.5,
    "local_divisor": 30,
    "update_clip": 2,
    "divisor": 4,
}
ADAM: dict[str, Any] = {
    "optimiser": "adam",
    "steps": 5,
    "average_from_step": 3,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "second_momentum": 0.99,
    "adam_epsilon": 1e-6,
}
COX = {
    "data": {
        "columns": [
            {"name": "age", "kind": "number", "minimum": 18, "maximum": 110},
            {"name": "chol", "kind": "number", "minimum": 0, "maximum": 1000},
            {"name": "cp", "kind": "category", "codes": ["1", "2", "3", "4"]},
            {"name": "num", "kind": "integer", "minimum": 0, "maximum": 4},
            {"name": "days", "kind": "integer", "minimum": 0, "maximum": 9999},
        ],
        "time_column": "days",
    },
    "model": {"architecture": "cox", "time_edges": [30, 90, 180], "parameters": 7},
}


def ended(consortium: MemoryConsortium) -> MemoryConsortium:
    """Run the study and see that all sites agree about everything."""
    consortium.study_run().run()
    plan = consortium.plan
    assert consortium.book.release is not None
    assert {entry[4] for entry in consortium.book.attempts} == {""}
    states = {site.journal.load_state(consortium.digest) for site in consortium.sites.values()}
    assert len(states) == 1
    state = consortium.standing("site-1").state
    flat, prepared = read_final(plan, consortium.book.model.safetensors)
    assert flat.tolist() == final_parameters(state, plan.training).tolist()
    assert prepared.tolist() == state.prepared.tolist()
    assert np.isfinite(flat).all()
    assert not np.array_equal(state.parameters, initial_parameters(plan.model))
    for site in consortium.sites:
        assert consortium.charged(site) == plan.rounds
        assert consortium.sites[site].ledger.verify().is_intact
    return consortium


def test_a_study_of_federated_averaging_runs_to_its_result(tmp_path) -> None:
    """PRIVACY-13: each hospital's change carries its own noise; the sum is the mean's numerator."""
    consortium = ended(memory_consortium(tmp_path, training=FEDAVG))
    plan = consortium.plan
    clip = plan.training.integer_clip
    for entry in consortium.book.sums:
        values = entry.summed.words.view(np.int32).astype(np.float64)
        assert 0 < np.sqrt((values**2).sum()) <= len(consortium.sites) * clip


def test_federated_averaging_survives_a_lost_hospital(tmp_path) -> None:
    consortium = memory_consortium(tmp_path, training=FEDAVG, **recoverable(1))
    consortium.fault = losing("site-3", stage="upload", round_=1)
    ended(consortium)
    assert consortium.book.sums[1].survivors == ("site-1", "site-2", "site-4")


def test_federated_averaging_with_samples_and_a_preparation(tmp_path) -> None:
    training = {**FEDAVG, "sampling": "poisson", "sampling_rate": 0.5, "local_divisor": 15}
    ended(memory_consortium(tmp_path, table=gappy_table, **preparation(training=training)))


def test_a_study_with_adam_runs_to_its_result(tmp_path) -> None:
    consortium = ended(memory_consortium(tmp_path, training=ADAM))
    state = consortium.standing("site-2").state
    assert (state.second > 0).all()
    # Adam moves a coordinate by about the learning rate a step, whatever the noise.
    assert np.abs(state.parameters).max() < 5 * 0.1 * 3


def test_a_study_with_adam_survives_restarts_of_every_site(tmp_path) -> None:
    """The second moment is part of what a restart finds."""
    consortium = memory_consortium(tmp_path, training=ADAM)
    restarted: set[str] = set()

    def fault(site, request, honest):
        answer = honest(request)
        if len(consortium.book.sums) == 3 and site not in restarted:
            restarted.add(site)
            consortium.restart(site)
        return answer

    consortium.fault = fault
    consortium.study_run().run()
    assert restarted == set(consortium.sites)
    assert consortium.book.release is not None
    assert len({consortium.standing(site).model_hash for site in consortium.sites}) == 1


@pytest.mark.parametrize("algorithm", ["dp-fedsgd", "dp-fedavg"])
def test_a_cox_model_reads_the_times_of_follow_up(tmp_path, algorithm: str) -> None:
    def timed_table(site: int) -> pa.Table:
        days = [37 * i * site % 300 for i in range(60)]
        return toy_table(site).append_column("days", [days])

    training = {**FEDAVG, "algorithm": algorithm} if algorithm == "dp-fedavg" else {}
    consortium = ended(memory_consortium(tmp_path, table=timed_table, training=training, **COX))
    plan = consortium.plan
    rows = consortium.sites["site-1"].store.read("heart")
    features = load_features(rows, plan, "train", prepare(plan, np.zeros(0, dtype=np.int64)))
    assert features.time is not None
    assert features.time.dtype == np.float32
    assert len(features.time) == len(features.y) == 30
