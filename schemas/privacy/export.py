"""Can an auditor, on any machine, see what a hospital has spent and that nothing was left out?

An export is one signed, readable JSON document: the site's identity card, its caps, every entry in
its canonical bytes with head and signature, and the balance. `verify_export` needs nothing else:
it recomputes chain, signatures, rules and balance, and names the first entry that does not fit.
Whose card it is, people say by comparing the fingerprint; whether the ledger went on since, only a
later export or a peer can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints

from schemas.canonical import Document, HexBytes32, HexBytes64, parse
from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TrustError
from schemas.identity import IdentityCard, open_card
from schemas.ids import SiteId, Timestamp
from schemas.privacy.budget import Budget, Caps, budget_of
from schemas.privacy.ledger import GENESIS, LedgerHead, LedgerState, append, parse_entry, step
from schemas.signing import Context, SignedDocument, is_valid, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_EXPORT_BYTES: Final = 256 * 2**20
"""Bytes of an export: about 1 KB an entry, so some hundred thousand charges."""

_TOLERANCE: Final = 2e-4  # of epsilon: two machines may round the fourth decimal apart
_FLOATS: Final = 1e-9


class ExportedEntry(Document):
    """One entry with what the site signed when it wrote it."""

    body: Annotated[str, StringConstraints(max_length=65_536)]  # the entry's canonical JSON
    head: HexBytes32
    written_at: Timestamp
    signature: HexBytes64  # of the `LedgerHead` that follows from the above (Context.LEDGER)


class ExportedFloors(Document):
    """The hospital's own caps when the export was written."""

    maximum_epsilon_per_study: Annotated[float, Field(gt=0)]
    maximum_epsilon_total: Annotated[float, Field(gt=0)]
    maximum_delta: Annotated[float, Field(gt=0, lt=1)]
    maximum_delta_total: Annotated[float, Field(gt=0, lt=1)]

    @property
    def caps(self) -> Caps:
        """Those over all studies together."""
        return Caps(self.maximum_epsilon_total, self.maximum_delta, self.maximum_delta_total)


class ExportedBalance(Document):
    """What the site says has been spent and may still be, at ``maximum_delta``."""

    unit: Literal["patient"] = "patient"
    adjacency: Literal["add-remove"] = "add-remove"
    scope: Annotated[str, StringConstraints(max_length=4_000)]  # what the numbers depend on
    spent: Annotated[float, Field(ge=0)]
    committed: Annotated[float, Field(ge=0)]
    delta_sum: Annotated[float, Field(ge=0)]


class LedgerExport(Document):
    """A whole ledger."""

    version: Literal[1] = 1
    site_id: SiteId
    exported_at: Timestamp
    card: SignedDocument
    floors: ExportedFloors
    entries: tuple[ExportedEntry, ...]
    head: HexBytes32
    balance: ExportedBalance


class SignedExport(Document):
    """The export and the site's signature under its canonical bytes (Context.LEDGER_EXPORT)."""

    export: LedgerExport
    signature: HexBytes64


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """What a whole export proves: whose ledger, up to where, and its recomputed balance."""

    card: IdentityCard
    export: LedgerExport
    state: LedgerState
    budget: Budget


def sign_export(identity: Ed25519PrivateKey, export: LedgerExport) -> SignedExport:
    """Sign an export with the site's identity key."""
    signature = sign(identity, Context.LEDGER_EXPORT, export.canonical())
    return SignedExport(export=export, signature=signature)


def verify_export(raw: bytes) -> VerifiedExport:
    """Recompute everything an export says.

    Args:
        raw: the file's bytes.

    Raises:
        TrustError: LEDGER_EXPORT_INVALID; the sentence names the first entry that does not fit.
        ProtocolError: the bytes are not an export at all.
    """
    try:
        signed = parse(SignedExport, raw.strip(), max_bytes=MAX_EXPORT_BYTES)  # mail adds new lines
    except ProtocolError as error:
        raise ProtocolError(
            error.code,
            "The file is not an exported ledger as a site wrote it.",
            hint="Take the very file that `cohortium-site ledger export` wrote, not edited, "
            "reformatted or cut short.",
            detail=error.detail,
        ) from error
    export = signed.export
    card = _card(export)
    # Entry by entry first, so that whoever changed one finds it named, not only the whole refused.
    state = _replayed(export, card.identity_key)
    if not is_valid(card.identity_key, Context.LEDGER_EXPORT, export.canonical(), signed.signature):
        raise _invalid("the signature under the whole document does not fit")
    budget = budget_of(state, export.floors.caps)
    _check_balance(export.balance, budget)
    return VerifiedExport(card, export, state, budget)


def _card(export: LedgerExport) -> IdentityCard:
    try:
        card = open_card(export.card)
    except CohortiumError:
        raise _invalid("the identity card is not signed by its own key") from None
    if card.site_id != export.site_id:
        raise _invalid("the identity card is of another site")
    return card


def _replayed(export: LedgerExport, identity_key: str) -> LedgerState:
    state, head = LedgerState(), GENESIS
    for index, each in enumerate(export.entries):
        try:
            entry = parse_entry(each.body.encode("utf-8"))
            state = step(state, entry)
        except CohortiumError as error:
            raise _invalid(f"entry {index}: {error.code.meaning}") from None
        head = append(head, entry)
        if head != each.head:
            raise _invalid(f"entry {index} was changed, removed or put in later")
        signed = LedgerHead(
            site_id=export.site_id, entries=index + 1, head=head, at=each.written_at
        )
        if not is_valid(identity_key, Context.LEDGER, signed.canonical(), each.signature):
            raise _invalid(f"entry {index} is not signed by the site of the card")
    if head != export.head:
        raise _invalid(f"entry {len(export.entries)} is missing: the last entries were cut off")
    return state


def _check_balance(said: ExportedBalance, budget: Budget) -> None:
    for name, one, other, room in (
        ("spent epsilon", said.spent, budget.spent, _TOLERANCE),
        ("committed epsilon", said.committed, budget.committed, _TOLERANCE),
        ("sum of deltas", said.delta_sum, budget.delta_sum, _FLOATS),
    ):
        if not abs(one - other) <= room:
            raise _invalid(f"the balance does not follow from the entries ({name})")


def _invalid(why: str) -> TrustError:
    return TrustError(
        ErrorCode.LEDGER_EXPORT_INVALID,
        f"The exported ledger does not verify: {why}.",
        hint="Ask the hospital for a new export, and compare the card's fingerprint by telephone.",
    )
