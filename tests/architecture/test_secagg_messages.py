"""Is SECAGG.md's table of messages the product's, field by field, and has none a parameter?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from schemas import wire
from schemas.canonical import Document
from schemas.governance.study import StudyPlan
from schemas.secagg.messages import Ready, ReadyHeader, SignedReady
from schemas.signing import SignedDocument
from schemas.wire import Final, Reply, Request, SumTag

SPEC = (Path(__file__).resolve().parents[2] / "schemas" / "spec" / "SECAGG.md").read_text()
CLAUSE = SPEC[SPEC.index("**SECAGG-19 ") : SPEC.index("**SECAGG-18 ")]
EVERYWHERE = {"message", "version", "blobs"}
PLACE = {"plan_digest", "round", "attempt"}
PARTS = {"sum": SumTag, "signed READY": SignedReady, "signed document": SignedDocument}

# Every field of every message that the coordinator sends to a site. Whoever adds one says here
# why a lying coordinator gains nothing by it: none is a threshold, length, list of keys or mode.
STEP = {"plan_digest", "kind", "round", "attempt"}
REQUESTS = {
    "open": {*STEP, "approvals", "finals", "missing"},
    "cohort": {*STEP, "readies", "previous"},
    "survivors": {*PLACE, "uploads"},
    "unmask": {*PLACE, "confirmations"},
    "result": {"plan_digest", "summed"},
    "close": {"plan_digest", "approvals", "missing", "last"},
}
WITHIN = {
    SumTag: {"round", "attempt", "tag", "readies", "survivors"},
    SignedReady: {"ready", "signature"},
    SignedDocument: {"signer", "payload", "signature"},
    Ready: {
        *{"version", "plan_digest", "kind", "round", "attempt", "site_id", "model_hash"},
        *{"last_sum_hash", "ledger_head", "ledger_charges", "ephemeral_key"},
        *{"self_mask_commitment", "group_shares", "mask_shares"},
    },
}
# Words that both use: a document's version, a site's name, "kind", which is a plan's columns', and
# "missing", which is sums in a message and values of a column in a plan.
SHARED_WORDS = {"version", "site_id", "kind", "missing"}


def rows(columns: int) -> dict[str, list[str]]:
    """Rows of the clause's tables with so many columns, by their first cell."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in CLAUSE.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) == columns and "---" not in row[0]}


def fields_in(cell: str) -> tuple[set[str], set[str]]:
    """Fields that a cell names in code, and those of them that are marked °."""
    spelled = re.sub(r"\*place\*", ", ".join(f"`{name}`" for name in sorted(PLACE)), cell)
    named = re.findall(r"`([a-z_]+)`(°?)", spelled)
    return {name for name, _ in named}, {name for name, mark in named if mark}


def optional(cls: type[BaseModel]) -> set[str]:
    """Fields that a reader may leave out without the model's complaining."""
    return {name for name, field in cls.model_fields.items() if not field.is_required()}


def test_the_table_of_messages_is_the_products() -> None:
    """SECAGG-19: every message, its side, its fields, and which of them may be empty."""
    table = rows(4)
    assert table.pop("message") == ["to", "fields", "blobs"]
    assert table.keys() == wire._BY_NAME.keys()
    for name, (side, fields, _) in table.items():
        cls = wire._BY_NAME[name]
        named, marked = fields_in(fields)
        assert named | EVERYWHERE == cls.model_fields.keys(), name
        assert marked | EVERYWHERE == optional(cls), name
        assert side == ("site" if cls in get_args(Request) else "coordinator")
        assert (cls in get_args(Request)) != (cls in get_args(Reply))
        assert get_args(cls.model_fields["version"].annotation) == (1,)


def test_the_table_of_parts_is_the_products() -> None:
    """SECAGG-19: what stands within a header."""
    table = rows(2)
    for part, cls in PARTS.items():
        named, marked = fields_in(table[part][0])
        assert named == cls.model_fields.keys()
        assert marked == optional(cls)
    said = re.search(r"`final` is \{version: 1, ([a-z_, ]+)\}", CLAUSE)
    assert said is not None
    assert {"version", *said[1].split(", ")} == Final.model_fields.keys()


def test_a_ready_has_the_fields_of_its_table() -> None:
    """SECAGG-3: all of them and no other, each required."""
    clause = SPEC[SPEC.index("**SECAGG-3 ") : SPEC.index("**SECAGG-12 ")]
    cells = re.findall(r"^\| ([a-z_, ]+) \| ", clause, flags=re.MULTILINE)
    named = [name for cell in cells for name in cell.split(", ")]
    assert named[0] == "field"
    assert named[1:] == list(Ready.model_fields)
    assert named[1:-2] == list(ReadyHeader.model_fields)
    assert not optional(Ready) | optional(SignedReady)


def test_no_request_carries_a_parameter() -> None:
    """SECAGG-19: everything a coordinator can say to a site, listed; nothing of it is a plan's."""
    requests = {name: cls for name, cls in wire._BY_NAME.items() if cls in get_args(Request)}
    assert requests.keys() == REQUESTS.keys()
    for name, cls in requests.items():
        assert cls.model_fields.keys() == REQUESTS[name] | EVERYWHERE
    for part, fields in WITHIN.items():
        assert part.model_fields.keys() == fields
    said = set().union(*REQUESTS.values(), *WITHIN.values())
    assert said & parameters_of(StudyPlan) == SHARED_WORDS


def test_no_request_holds_a_document_that_is_not_listed() -> None:
    """SECAGG-19: the listing above is complete, however deep the documents lie."""
    found: set[type[BaseModel]] = set()
    for cls in get_args(Request):
        for field in cls.model_fields.values():
            found |= documents_in(field.annotation)
    assert found == WITHIN.keys()


@pytest.mark.parametrize(
    "name", ["cohort_minimum", "collusion_bound", "mode", "survivor_threshold"]
)
def test_the_parameters_are_the_plans(name: str) -> None:
    assert name in parameters_of(StudyPlan)
    assert name not in set().union(*REQUESTS.values(), *WITHIN.values())


def documents_in(annotation: object) -> set[type[BaseModel]]:
    """Document types anywhere in a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, Document):
        inner = (field.annotation for field in annotation.model_fields.values())
        return {annotation}.union(*map(documents_in, inner))
    return set().union(*map(documents_in, get_args(annotation)), set())


def parameters_of(cls: type[BaseModel]) -> set[str]:
    """Names of a plan's fields and derived numbers, however deep."""
    names = {name for name in dir(cls) if isinstance(getattr(cls, name, None), property)}
    names -= {name for name in dir(BaseModel) if not name.startswith("_")}
    for name, field in cls.model_fields.items():
        names |= {name}.union(*map(parameters_of, documents_in(field.annotation)))
    return names
