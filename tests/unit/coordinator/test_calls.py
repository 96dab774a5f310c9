"""Is every request what it would be if it were made for its site alone, and yet made once?"""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.calls import Calls
from coordinator.sums import RoundSum, Sums
from schemas.secagg import MaskedSum
from schemas.signing import SignedDocument
from schemas.wire import Close, CohortCall, Open, Result, decode, encode
from tests.support.consortium import MemoryBook
from tests.support.secure_sum import Consortium

HOUSE = Consortium.of(4)
DIGEST = HOUSE.plan.digest()
ALL = tuple(HOUSE.parties)
SIGNED = SignedDocument(signer="ab" * 32, payload="e30=", signature="cd" * 64)
READIES = {site: signed for site, (signed, _) in HOUSE.issue_all(round=3, attempt=0).items()}


def round_sum(round_: int) -> RoundSum:
    words = np.array([round_, 2**32 - 1 - round_], dtype=np.uint32)
    return RoundSum(round_, 1, MaskedSum(words, 70 + round_), tuple(READIES.values()))


SUMS = [round_sum(round_) for round_ in range(3)]


def calls(n_sums: int = 3) -> Calls:
    book = MemoryBook(b"", dict.fromkeys(ALL, SIGNED), sums=SUMS[:n_sums])
    return Calls(DIGEST, Sums(book), book)


def objects(bodies: dict[str, bytes]) -> int:
    return len({id(body) for body in bodies.values()})


@pytest.mark.parametrize("invited", [(), ("site-2",), ("site-1", "site-3"), ALL])
def test_cohort_bodies_are_shared_by_those_with_and_those_without_evidence(invited) -> None:
    made = calls().cohort(READIES, 3, 0, invited)
    for site in ALL:
        alone = CohortCall(
            plan_digest=DIGEST,
            kind="train",
            round=3,
            attempt=0,
            readies=tuple(READIES.values()),
            previous=SUMS[2].tag(evidence=site in invited),
        )
        assert made[site] == encode(alone, SUMS[2].blob())
    assert objects(made) == len({site in invited for site in ALL})


def test_before_the_first_sum_all_get_the_same_without_one() -> None:
    made = calls(0).cohort(READIES, 0, 0, ("site-1",))
    assert objects(made) == 1
    frame = decode(made["site-1"], allowed=(CohortCall,))
    assert (frame.header.previous, frame.blobs) == (None, ())


def opened(missing: list[RoundSum], kind: str = "train", round_: int = 3) -> bytes:
    message = Open(
        plan_digest=DIGEST,
        kind=kind,
        round=round_,
        attempt=0,
        approvals=(SIGNED,) * 4,
        missing=tuple(entry.tag(evidence=True) for entry in missing),
    )
    return encode(message, *(entry.blob() for entry in missing))


def test_sites_equally_far_behind_are_opened_with_the_same_body() -> None:
    made = calls()
    made.knows("site-1", 1)
    made.knows("site-2", 7)  # ahead of what this round needs
    made.knows("site-4", -1)
    bodies = made.opening(ALL, "train", 3, 0, {})
    assert bodies["site-1"] == opened(SUMS[1:2])
    assert bodies["site-2"] == opened([])
    assert bodies["site-3"] == bodies["site-4"] == opened(SUMS[:2])
    assert objects(bodies) == 3


@pytest.mark.parametrize(("kind", "round_"), [("train", 0), ("train", 1), ("evaluate", 0)])
def test_at_the_start_and_in_the_evaluation_nothing_is_missing(kind, round_) -> None:
    made = calls()
    made.knows("site-1", 2)
    bodies = made.opening(ALL, kind, round_, 0, {})
    assert set(bodies.values()) == {opened([], kind, round_)}
    assert objects(bodies) == 1


def test_closing_carries_the_last_sum_and_what_each_lacks_before_it() -> None:
    made = calls()
    made.knows("site-1", 1)
    for site in ("site-2", "site-3"):
        made.knows(site, 2)
    bodies = made.closing(ALL)
    for site, missing in {"site-1": SUMS[1:2], "site-2": [], "site-4": SUMS[:2]}.items():
        message = Close(
            plan_digest=DIGEST,
            approvals=(SIGNED,) * 4,
            missing=tuple(entry.tag(evidence=True) for entry in missing),
            last=SUMS[2].tag(evidence=True),
        )
        assert bodies[site] == encode(message, *(e.blob() for e in (*missing, SUMS[2])))
    assert bodies["site-2"] is bodies["site-3"]
    assert objects(bodies) == 3


def test_a_result_carries_the_blind_sum() -> None:
    frame = decode(calls().result(4, SUMS[1].summed), allowed=(Result,))
    tag = frame.header.summed
    assert (tag.round, tag.attempt, tag.tag, tag.readies) == (0, 4, f"{71:016x}", ())
    assert frame.blobs == (bytes(SUMS[1].blob()),)
