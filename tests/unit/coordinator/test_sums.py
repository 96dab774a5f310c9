"""Does the coordinator hold one sum and no upload, and still know all it needs of them?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from coordinator.model import rebuild
from coordinator.sums import RoundSum, Sums, Uploads
from schemas.errors import ProtocolError
from schemas.models import initial_parameters, to_safetensors
from schemas.secagg import MaskedSum, MaskedUpdate, upload_hash
from tests.support.factories import make_plan


@dataclass
class Store:
    """Sums that are made when they are read, and a note of it."""

    n: int
    length: int = 2
    reads: list[int] = field(default_factory=list)
    kept: list[RoundSum] = field(default_factory=list)

    def count_sums(self) -> int:
        return self.n

    def load_sums(self, first: int, before: int) -> Iterator[RoundSum]:
        for round_ in range(max(0, first), min(self.n, before)):
            self.reads.append(round_)
            words = np.full(self.length, round_ + 1, dtype=np.uint32)
            yield RoundSum(round_, 0, MaskedSum(words, round_), ())

    def store_sum(self, closed: RoundSum) -> None:
        self.kept.append(closed)


def test_a_new_study_has_no_sum() -> None:
    sums = Sums(Store(0))
    assert (len(sums), sums.last) == (0, None)


def test_resuming_reads_the_last_sum_alone() -> None:
    store = Store(5)
    sums = Sums(store)
    assert len(sums) == 5
    assert sums.last is not None
    assert (sums.last.round, store.reads) == (4, [4])


def test_a_kept_sum_is_in_the_book_and_is_the_last_one() -> None:
    store = Store(1)
    sums = Sums(store)
    closed = RoundSum(1, 0, MaskedSum(np.zeros(2, dtype=np.uint32), 0), ())
    sums.keep(closed)
    assert store.kept == [closed]
    assert (len(sums), sums.last) == (2, closed)


def test_older_sums_are_read_when_they_are_asked_for() -> None:
    store = Store(5)
    sums = Sums(store)
    found = sums.between(1, 4)
    assert store.reads == [4]
    assert next(found).round == 1
    assert store.reads == [4, 1]
    assert [entry.round for entry in found] == [2, 3]


def test_a_model_is_rebuilt_from_one_sum_after_another() -> None:
    plan, _ = make_plan(4, training={"steps": 4, "average_from_step": 2})
    store = Store(4, plan.model.parameters)
    weights = to_safetensors(plan.model, initial_parameters(plan.model))
    at_once = [entry.summed for entry in store.load_sums(0, 4)]
    assert rebuild(plan, weights, Sums(store).masked()) == rebuild(plan, weights, at_once)


def update(*words: int, tag: int = 3) -> MaskedUpdate:
    return MaskedUpdate(np.array(words, dtype=np.uint32), tag)


@pytest.mark.parametrize("hashes", [False, True])
def test_of_an_upload_its_size_stays_and_its_hash_where_a_list_will_name_it(hashes: bool) -> None:
    uploads = Uploads(hashes)
    uploads.add("b", update(1, 2))
    uploads.add("a", update(3, 4))
    assert set(uploads.sites) == {"a", "b"}
    assert uploads.sizes == {"a": 8, "b": 8}
    assert uploads.running.total("ab").words.tolist() == [4, 6]
    expected = {"b": upload_hash(update(1, 2)), "a": upload_hash(update(3, 4))}
    assert uploads.hash_of == (expected if hashes else {})


def test_a_refused_upload_has_not_arrived() -> None:
    uploads = Uploads(True)
    uploads.add("a", update(1, 2))
    with pytest.raises(ProtocolError):
        uploads.add("b", update(1))
    assert set(uploads.sites) == set(uploads.hash_of) == {"a"}
