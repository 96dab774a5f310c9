"""Does the coordinator's memory stay the same however many hospitals and rounds there are?

The hospitals here answer with words of their own choice: the coordinator could not tell.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.asking import Answer
from coordinator.rounds import RoundSum, StudyEnded, StudyRun
from schemas.secagg import MaskedSum, SignedReady
from schemas.signing import SignedDocument
from schemas.wire import CohortCall, Open, ReadyReply, Upload, decode, encode
from tests.support.consortium import MemoryBook
from tests.support.secure_sum import Consortium

LENGTH = 1_000_000  # beside it READYs, frames and what else a run makes weigh little
VECTOR = 4 * LENGTH  # bytes
ROUNDS = 5
SITES = 8
HOUSE = Consortium.of(SITES, model={"parameters": LENGTH})
APPROVAL = SignedDocument(signer="ab" * 32, payload="e30=", signature="cd" * 64)
NOTHING = np.zeros(0, dtype=np.uint32)


@dataclass
class FileBook(MemoryBook):
    """A book whose sums are on disk, as the real one's are."""

    folder: Path = Path()
    reads: list[int] = field(default_factory=list)

    def store_sum(self, closed: RoundSum) -> None:
        np.save(self.folder / f"{closed.round}.npy", closed.summed.words)
        summed = MaskedSum(NOTHING, closed.summed.tag)
        self.sums.append(replace(closed, summed=summed))

    def load_sums(self, first: int, before: int) -> Iterator[RoundSum]:
        for entry in super().load_sums(first, before):
            self.reads.append(entry.round)
            words = np.load(self.folder / f"{entry.round}.npy")
            yield replace(entry, summed=MaskedSum(words, entry.summed.tag))


@dataclass
class Hospitals:
    """Sites that answer one after another, and who was asked with which object."""

    forgetful: set[str] = field(default_factory=set)  # send no READY beside their upload
    asked: list[tuple[type, int, Mapping[str, int]]] = field(default_factory=list)
    uploads_alive: list[int] = field(default_factory=list)

    def __call__(
        self, requests: Mapping[str, bytes], *, timeout_seconds: float, is_enough: object = None
    ) -> Iterator[tuple[str, Answer]]:
        bodies = {site: id(body) for site, body in requests.items()}
        header = decode(next(iter(requests.values())), allowed=(Open, CohortCall)).header
        self.asked.append((type(header), header.round, bodies))
        for site in requests:
            if isinstance(header, Open):
                ready = ready_of(site, header.round, header.attempt)
                yield site, Answer(encode(ReadyReply(ready=ready)))
            else:
                self.uploads_alive.append(alive())
                yield site, Answer(upload(site, header, site not in self.forgetful))

    def shared(self, kind: type, round_: int) -> int:
        """How many different objects went out in the one exchange of this kind and round."""
        (bodies,) = [ids for of, at, ids in self.asked if (of, at) == (kind, round_)]
        return len(set(bodies.values()))


def ready_of(site: str, round_: int, attempt: int = 0) -> SignedReady:
    """A READY of a site that took part in every round so far."""
    signed, _ = HOUSE.issue(site, round=round_, attempt=attempt)
    return HOUSE.resign(signed.ready, ledger_charges=round_)


def upload(site: str, call: CohortCall, with_ready: bool) -> bytes:
    ready = ready_of(site, call.round + 1) if with_ready else None
    words = np.full(LENGTH, ord(site[-1]) + call.round, dtype=np.uint32)
    header = Upload(plan_digest=HOUSE.plan.digest(), kind="train", round=call.round,
                    attempt=call.attempt, tag=f"{call.round:016x}", next_ready=ready)  # fmt: skip
    return encode(header, words.data.cast("B"))


def alive() -> int:
    """Uploads of these hospitals that are in memory anywhere in this process."""
    found = (each for each in gc.get_objects() if type(each) is Upload)
    return sum(each.plan_digest == HOUSE.plan.digest() for each in found)


@pytest.fixture
def book(tmp_path: Path) -> FileBook:
    signed = dict.fromkeys(HOUSE.parties, APPROVAL)
    return FileBook(b"", signed, folder=tmp_path)


@pytest.fixture
def hospitals() -> Hospitals:
    return Hospitals()


def run(book: FileBook, hospitals: Hospitals, *, rounds: int = ROUNDS) -> StudyRun:
    """Let a coordinator go on until so many rounds have closed."""
    ticks = iter(range(10**6))
    values = {
        "plan": HOUSE.plan,
        "book": book,
        "exchange": hospitals,
        "online": lambda: frozenset(HOUSE.parties),
        "sleep": lambda seconds: None,
        "monotonic": lambda: float(next(ticks)),
        "should_stop": lambda: len(book.sums) >= rounds,
    }
    made = StudyRun(**values)
    with pytest.raises(StudyEnded):
        made.run()
    return made


def test_the_sum_is_that_of_all_uploads(book, hospitals) -> None:
    run(book, hospitals, rounds=2)
    first, second = book.load_sums(0, 2)
    expected = sum(ord(site[-1]) for site in HOUSE.parties)
    assert set(first.summed.words.tolist()) == {expected}
    assert set(second.summed.words.tolist()) == {expected + SITES}
    assert (first.summed.tag, second.summed.tag) == (0, SITES)


def test_memory_depends_neither_on_hospitals_nor_on_rounds(book, hospitals) -> None:
    """The last sum, the body that carries it, the sum that grows, and the upload that arrives."""
    gc.collect()
    tracemalloc.start()
    run(book, hospitals)
    peak = tracemalloc.get_traced_memory()[1] / VECTOR
    tracemalloc.stop()
    assert peak < 7, f"{peak:.1f} vectors"
    assert len(book.sums) == ROUNDS


def test_an_upload_is_gone_before_the_next_one_is_there(book, hospitals) -> None:
    run(book, hospitals, rounds=2)
    assert set(hospitals.uploads_alive) == {0}


def test_all_hospitals_get_one_and_the_same_body(book, hospitals) -> None:
    run(book, hospitals, rounds=3)
    assert [hospitals.shared(Open, 0)] == [1]
    assert [hospitals.shared(CohortCall, at) for at in range(3)] == [1, 1, 1]


def test_a_hospital_that_is_asked_again_gets_evidence_and_the_others_still_share(
    book, hospitals
) -> None:
    hospitals.forgetful = {"site-3", "site-5"}
    run(book, hospitals, rounds=3)
    assert [hospitals.shared(Open, at) for at in range(3)] == [1, 1, 1]
    assert [hospitals.shared(CohortCall, at) for at in range(3)] == [1, 2, 2]
    last = [bodies for _, at, bodies in hospitals.asked if at == 2][-1]
    assert {site for site in last if last[site] == last["site-3"]} == {"site-3", "site-5"}


def test_old_sums_are_read_only_for_a_site_that_is_behind(book, hospitals) -> None:
    run(book, hospitals)
    assert book.reads == [], "a coordinator that has just made them reads none"
    run(book, hospitals, rounds=ROUNDS + 1)
    opened = book.reads[-(ROUNDS - 1) :]
    assert opened == list(range(ROUNDS - 1)), "a new one reads them once, for all sites together"


def test_one_sum_is_held(book, hospitals) -> None:
    coordinator = run(book, hospitals)
    held = [each for each in gc.get_objects() if type(each) is RoundSum]
    assert [each.round for each in held if len(each.summed.words) == LENGTH] == [ROUNDS - 1]
    assert coordinator.book is book
