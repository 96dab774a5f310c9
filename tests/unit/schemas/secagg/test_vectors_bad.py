"""Do product and second implementer refuse the same messages, each with the same code?"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from schemas.errors import CohortiumError
from tests.support.reference_bytes import Refused
from tests.support.vectors_replay import (
    BAD,
    FOLDER,
    GOOD,
    Vector,
    by_product,
    by_reference,
    cohort_of,
    load,
)


@pytest.fixture(scope="module")
def good() -> dict[str, Vector]:
    return {name: load("good", name) for name in GOOD}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_refused_with_its_code(good: dict[str, Vector], name: str) -> None:
    """SECAGG-4, SECAGG-19: by name of the defect; the other clauses' tables likewise."""
    bad = load("bad", name)
    base = good[bad["base"]]
    with pytest.raises(CohortiumError) as refused:
        by_product(base, bad)
    assert refused.value.code.value == bad["code"]
    with pytest.raises(Refused) as refused_too:
        by_reference(base, bad)
    assert refused_too.value.code == bad["code"]


@pytest.mark.parametrize("show", [by_product, by_reference], ids=["product", "reference"])
def test_without_its_defect_a_bad_vector_is_accepted(
    good: dict[str, Vector], show: Callable[[Vector, Vector], None]
) -> None:
    """Or a refusal would prove nothing: the harness itself refuses no good message."""
    atomic, lost = good["atomic-training"], good["recoverable-one-lost"]
    once = {"site": "site-1", "lists": [lost["survivors"]]}
    show(atomic, {"stage": "cohort", "site": "site-1"})
    whole = cohort_of(atomic, list(atomic["readies"].values()))
    show(atomic, {"stage": "frame", "site": "site-1", "body": whole.hex()})
    show(atomic, {"stage": "sum", "site": "site-1", **atomic["sum"]})
    show(lost, {"stage": "sum", "site": "site-1", **lost["sum"]})
    show(lost, {"stage": "sum", "site": "site-3", **lost["sum"]})
    show(lost, {"stage": "survivors", **once})
    show(lost, {"stage": "unmask", **once, "requests": [lost["confirmations"]]})
    show(lost, {"stage": "recovery", "answers": lost["answers"]})


def test_every_refusal_of_the_specification_has_a_vector() -> None:
    """The codes in SECAGG.md's tables of checks, as far as a message can provoke them."""
    text = (FOLDER.parents[1] / "schemas" / "spec" / "SECAGG.md").read_text()
    tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`([a-z]+\.[a-z0-9_]+)`", tables))
    elsewhere = {
        "attempt.unknown",  # a restarted site: tests of the session
        "ledger.rollback",  # a peer's history: tests of the journal
        "message.length_wrong",  # what a session expects next: tests of the rounds
        "sum.missing",
    }
    assert named - {load("bad", name)["code"] for name in BAD} == elsewhere
