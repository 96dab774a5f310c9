"""PRIVACY-9: an exported ledger proves itself on any machine, or names what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import CohortiumError, ErrorCode
from schemas.privacy.budget import budget_of
from schemas.privacy.export import (
    ExportedBalance,
    ExportedEntry,
    ExportedFloors,
    LedgerExport,
    SignedExport,
    sign_export,
    verify_export,
)
from schemas.privacy.ledger import GENESIS, LedgerEntry, LedgerHead, Settle, append, replay
from schemas.signing import Context, sign
from tests.support.factories import make_keys, sealed_card
from tests.support.ledger_histories import PLANS, SALT, charge, reserve

AT = "2026-11-22T18:00:00Z"
KEYS = make_keys()
OTHER = Ed25519PrivateKey.generate()
FLOORS = ExportedFloors(
    maximum_epsilon_per_study=2.0,
    maximum_epsilon_total=8.0,
    maximum_delta=1e-5,
    maximum_delta_total=1e-4,
)
ENTRIES: tuple[LedgerEntry, ...] = (
    reserve(PLANS[0], 4),
    charge(PLANS[0], "preparation", 0, 0),
    charge(PLANS[0], "training", 1, 0),
    charge(PLANS[0], "evaluation", 0, 0),
    Settle(plan_digest=PLANS[0], salt=SALT),
)


def exported(entries: tuple[LedgerEntry, ...] = ENTRIES) -> LedgerExport:
    head, rows = GENESIS, []
    for number, entry in enumerate(entries, start=1):
        head = append(head, entry)
        signed = LedgerHead(site_id="site-1", entries=number, head=head, at=AT)
        rows.append(
            ExportedEntry(
                body=entry.canonical().decode(),
                head=head,
                written_at=AT,
                signature=sign(KEYS.identity, Context.LEDGER, signed.canonical()),
            )
        )
    budget = budget_of(replay(entries), FLOORS.caps)
    return LedgerExport(
        site_id="site-1",
        exported_at=AT,
        card=sealed_card("site-1", KEYS),
        floors=FLOORS,
        entries=tuple(rows),
        head=head,
        balance=ExportedBalance(
            scope="all studies on these patients",
            spent=budget.spent,
            committed=budget.committed,
            delta_sum=budget.delta_sum,
        ),
    )


def test_a_whole_export_verifies_without_any_site() -> None:
    """PRIVACY-9: chain, signatures, rules and balance from the file alone."""
    found = verify_export(sign_export(KEYS.identity, exported()).canonical())
    assert found.state.accounts[PLANS[0]].opened == {
        "preparation": 1,
        "training": 1,
        "evaluation": 1,
    }
    assert found.budget.spent > 0
    assert found.card.site_id == "site-1"
    assert verify_export(sign_export(KEYS.identity, exported(())).canonical()).budget.spent == 0


Change = Callable[[dict[str, Any]], object]
ENTRY_CHANGES: dict[str, tuple[Change, str]] = {
    "a changed entry": (
        lambda x: x["entries"][2].update(
            body=x["entries"][2]["body"].replace('"attempt":0', '"attempt":1')
        ),
        "entry 2 ",
    ),
    "an entry taken out": (lambda x: x["entries"].pop(1), "entry 1 "),
    "two entries exchanged": (
        lambda x: x["entries"].insert(2, x["entries"].pop(3)),
        "entry 2 ",
    ),
    "an entry repeated": (lambda x: x["entries"].insert(2, x["entries"][2]), "entry 3:"),
    "an entry that breaks a rule": (lambda x: x["entries"].pop(0), "entry 0:"),
    "a head of its own": (lambda x: x["entries"][3].update(head="ab" * 32), "entry 3 "),
    "another time": (
        lambda x: x["entries"][1].update(written_at="2026-11-22T18:00:01Z"),
        "entry 1 is not signed",
    ),
    "another entry's signature": (
        lambda x: x["entries"][4].update(signature=x["entries"][3]["signature"]),
        "entry 4 is not signed",
    ),
    "the last entries cut off": (lambda x: x["entries"].pop(), "entry 4 is missing"),
    "an entry of no known kind": (
        lambda x: x["entries"][4].update(body=x["entries"][4]["body"].replace("settle", "refund")),
        "entry 4:",
    ),
}
OTHER_CHANGES: dict[str, tuple[Change, str]] = {
    "a smaller balance": (lambda x: x["balance"].update(spent=0.001), "whole document"),
    "wider floors": (lambda x: x["floors"].update(maximum_epsilon_total=16.0), "whole document"),
    "another day": (lambda x: x.update(exported_at="2027-01-01T00:00:00Z"), "whole document"),
    "another site": (lambda x: x.update(site_id="site-2"), "another site"),
    "another card": (
        lambda x: x.update(card=sealed_card("site-1", make_keys()).model_dump(mode="json")),
        "entry 0 is not signed",
    ),
}
CHANGES = ENTRY_CHANGES | OTHER_CHANGES


def changed(change: Change) -> bytes:
    """The file as somebody without the key can change it."""
    values = json.loads(sign_export(KEYS.identity, exported()).canonical())
    change(values["export"])
    return SignedExport.model_validate_json(json.dumps(values)).canonical()


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_export_is_refused_and_says_where(name: str) -> None:
    """PRIVACY-9: the entry is named."""
    change, words = CHANGES[name]
    with pytest.raises(CohortiumError) as refused:
        verify_export(changed(change))
    assert refused.value.code is ErrorCode.LEDGER_EXPORT_INVALID
    assert words in refused.value.sentence


@pytest.mark.parametrize("name", ENTRY_CHANGES)
def test_not_even_its_own_key_makes_a_broken_chain_whole(name: str) -> None:
    """The hospital itself, signing anew the document, cannot leave an entry out of its middle."""
    values = json.loads(exported().canonical())
    ENTRY_CHANGES[name][0](values)
    export = LedgerExport.model_validate_json(json.dumps(values))
    with pytest.raises(CohortiumError) as refused:
        verify_export(sign_export(KEYS.identity, export).canonical())
    assert ENTRY_CHANGES[name][1] in refused.value.sentence


def test_a_balance_that_does_not_follow_is_refused_though_it_is_signed() -> None:
    export = exported()
    wrong = export.balance.model_copy(update={"committed": export.balance.committed / 2})
    signed = sign_export(KEYS.identity, export.model_copy(update={"balance": wrong}))
    with pytest.raises(CohortiumError) as refused:
        verify_export(signed.canonical())
    assert "committed" in refused.value.sentence


def test_another_key_signs_no_export_of_this_site() -> None:
    with pytest.raises(CohortiumError) as refused:
        verify_export(sign_export(OTHER, exported()).canonical())
    assert "whole document" in refused.value.sentence


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"export":{},"signature":""}'])
def test_bytes_that_are_no_export_are_refused(raw: bytes) -> None:
    with pytest.raises(CohortiumError):
        verify_export(raw)
