"""What may this hospital still spend, by the record of what it has spent?

The ledger is a list of entries; the balance is never stored but replayed from them (PRIVACY-8).
A plan is reserved whole, with every mechanism it runs on patients; charged attempt by attempt,
each to the mechanism it opens, before anything is computed; and settled once: settling returns only
attempts that were never opened. Entries are salted and chained by hash, so that a head, shown to
peers in every READY, reveals nothing and an old copy is noticed.

`step` is total: for any entry it returns the next state or raises a `CohortiumError`, and the state
it was given stays as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from schemas.canonical import Document
from schemas.errors import BudgetExceeded, CohortiumError, ErrorCode, ProtocolError
from schemas.ids import HexBytes32, SiteId, StudyId, Timestamp
from schemas.privacy.accounting import total_epsilon
from schemas.privacy.events import Mechanism, MechanismEvent
from schemas.secagg.keys import frame
from schemas.secagg.messages import Kind, Step

GENESIS: Final = "0" * 64
"""Head of a ledger without entries."""

SALT_BYTES: Final = 16
Salt = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
ChargedMechanism = Literal["preparation", "training", "evaluation"]


class Reserve(Document):
    """Set aside the whole cost of a plan; nothing may be charged without it."""

    entry: Literal["reserve"] = "reserve"
    version: Literal[2] = 2
    plan_digest: HexBytes32
    study_id: StudyId
    mechanisms: Annotated[tuple[MechanismEvent, ...], Field(min_length=1, max_length=2)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    hospitals_per_patient: Annotated[int, Field(ge=1, le=200)] = 1
    collusion_bound: Annotated[int, Field(ge=1, le=200)] | None  # t; None: any number, all is local
    has_initial_weights: bool  # from a file: whoever they were trained on lies outside epsilon
    salt: Salt

    @property
    def attempts(self) -> int:
        """Attempts set aside, of all mechanisms, retries included."""
        return sum(event.attempts for event in self.mechanisms)

    @model_validator(mode="after")
    def _named_once(self) -> Reserve:
        if len({event.name for event in self.mechanisms}) != len(self.mechanisms):
            raise ValueError("a mechanism is reserved twice")
        if (self.collusion_bound is None) != all(event.is_local for event in self.mechanisms):
            raise ValueError("collusion_bound is left out where every mechanism is local, only")
        return self


class Charge(Document):
    """Open one attempt. Written before anything is computed, never taken back."""

    entry: Literal["charge"] = "charge"
    version: Literal[2] = 2
    plan_digest: HexBytes32
    kind: Kind
    mechanism: ChargedMechanism
    round: Step
    attempt: Step
    roster_hash: HexBytes32
    salt: Salt

    @model_validator(mode="after")
    def _consistent(self) -> Charge:
        if (self.kind == "evaluate") != (self.mechanism == "evaluation"):
            raise ValueError("an evaluation, and only that, is charged as one")
        return self


class Settle(Document):
    """Close a plan for good; attempts never opened are free again."""

    entry: Literal["settle"] = "settle"
    version: Literal[2] = 2
    plan_digest: HexBytes32
    salt: Salt


LedgerEntry = Reserve | Charge | Settle


class LedgerHead(Document):
    """A head as a site signs it (Context.LEDGER)."""

    version: Literal[1] = 1
    site_id: SiteId
    entries: Annotated[int, Field(ge=0)]
    head: HexBytes32
    at: Timestamp


@dataclass(frozen=True, slots=True)
class PlanAccount:
    """One plan's line in the ledger.

    Attributes:
        reserve: the entry that opened it.
        opened: attempts opened, by mechanism; those of the evaluation cost no epsilon.
        last: highest (round, attempt) opened, by kind.
        evaluation_roster: the only roster that may evaluate, once one has.
        settled: whether it is closed.
    """

    reserve: Reserve
    opened: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    last: Mapping[Kind, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    evaluation_roster: str | None = None
    settled: bool = False

    @property
    def charged(self) -> int:
        """Attempts opened that spend budget: of preparation and training together."""
        return sum(self.opened.get(event.name, 0) for event in self.reserve.mechanisms)

    @property
    def remaining(self) -> int:
        """Attempts that may still be opened, of all mechanisms."""
        return sum(self.remaining_of(event.name) for event in self.reserve.mechanisms)

    def remaining_of(self, name: str) -> int:
        """Attempts of one mechanism that may still be opened; 0 if none was reserved."""
        reserved = sum(x.attempts for x in self.reserve.mechanisms if x.name == name)
        return 0 if self.settled else reserved - self.opened.get(name, 0)

    def charged_mechanisms(self) -> tuple[Mechanism, ...]:
        """Give the attempts opened as the accountant knows them."""
        return tuple(x.mechanism(self.opened.get(x.name, 0)) for x in self.reserve.mechanisms)

    def reserved_mechanisms(self) -> tuple[Mechanism, ...]:
        """Give every attempt that was reserved as the accountant knows them."""
        return tuple(event.mechanism() for event in self.reserve.mechanisms)

    def epsilon_charged(self) -> float:
        """Return epsilon of the attempts opened, at the plan's own delta and scope."""
        return self._epsilon(self.charged_mechanisms())

    def epsilon_reserved(self) -> float:
        """Return epsilon if every attempt is opened, at the plan's own delta and scope."""
        return self._epsilon(self.reserved_mechanisms())

    def _epsilon(self, mechanisms: tuple[Mechanism, ...]) -> float:
        return total_epsilon(
            mechanisms,
            delta=self.reserve.delta,
            hospitals_per_patient=self.reserve.hospitals_per_patient,
        )


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What a replay gives: one account per plan, by plan digest.

    What the whole ledger costs, and what the next plan may cost, is `schemas.privacy.budget`.
    """

    accounts: Mapping[str, PlanAccount] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def hospitals_per_patient(self) -> int:
        """The largest number of hospitals any plan says a patient may be at; 1 without plans."""
        return max((a.reserve.hospitals_per_patient for a in self.accounts.values()), default=1)

    @property
    def collusion_bound(self) -> int | None:
        """The smallest t of any plan, which holds for all of them; None: any number."""
        bounds = [a.reserve.collusion_bound for a in self.accounts.values()]
        return min((bound for bound in bounds if bound is not None), default=None)

    @property
    def has_initial_weights(self) -> bool:
        """Whether any plan started from weights that somebody trained before."""
        return any(a.reserve.has_initial_weights for a in self.accounts.values())

    def charged_epsilon(self, *, delta: float, hospitals: int | None = None) -> float:
        """Return epsilon of everything opened so far, over all plans on these patients.

        The number that is reported: the composition of what was really opened, by the accountant
        of record. Whether another plan may come is not decided by it but by the filter.

        Args:
            delta: the site's own delta, for all plans together.
            hospitals: hospitals that may hold the same patient; None: the largest any plan says.
        """
        return total_epsilon(
            [each for account in self.accounts.values() for each in account.charged_mechanisms()],
            delta=delta,
            hospitals_per_patient=self.hospitals_per_patient if hospitals is None else hospitals,
        )


def step(state: LedgerState, entry: LedgerEntry) -> LedgerState:
    """Apply one entry.

    Raises:
        BudgetExceeded: every reserved attempt is charged.
        ProtocolError: the entry contradicts those before it; the code says how.
    """
    account = state.accounts.get(entry.plan_digest)
    if isinstance(entry, Reserve):
        if account is not None:
            raise _contradicts(ErrorCode.LEDGER_DUPLICATE_RESERVE, "The plan was reserved before.")
        return _with(state, PlanAccount(entry))
    if account is None:
        raise _contradicts(ErrorCode.LEDGER_NOT_RESERVED, "The plan was never reserved.")
    if account.settled:
        raise _contradicts(ErrorCode.LEDGER_SETTLED, "The plan is settled.")
    if isinstance(entry, Settle):
        return _with(state, replace(account, settled=True))
    return _with(state, _charged(account, entry))


def replay(entries: Iterable[LedgerEntry]) -> LedgerState:
    """Return the state after all ``entries``; the empty ledger has no account.

    Raises:
        BudgetExceeded, ProtocolError: as in `step`.
    """
    state = LedgerState()
    for entry in entries:
        state = step(state, entry)
    return state


def append(previous_head: str, entry: LedgerEntry) -> str:
    """Return the head after ``entry``: a hash over the head before it and its salted bytes.

    Args:
        previous_head: 64 hex digits; `GENESIS` before the first entry.
        entry: what is added.
    """
    parts = (b"cohortium/v1/ledger", bytes.fromhex(previous_head), entry.canonical())
    return hashlib.sha256(frame(parts)).hexdigest()


def head_of(entries: Iterable[LedgerEntry]) -> str:
    """Return the head of a whole ledger."""
    head = GENESIS
    for entry in entries:
        head = append(head, entry)
    return head


def parse_entry(raw: bytes) -> LedgerEntry:
    """Read one stored entry.

    Raises:
        ProtocolError: it is of no known kind, has an unknown field, or is not in canonical form.
    """
    try:
        entry = _ENTRY.validate_json(raw)
    except ValidationError:
        raise _unknown() from None
    if entry.canonical() != raw:
        raise _unknown()
    return entry


_ENTRY: Final[TypeAdapter[LedgerEntry]] = TypeAdapter(
    Annotated[LedgerEntry, Field(discriminator="entry")]
)


def _charged(account: PlanAccount, charge: Charge) -> PlanAccount:
    here = (charge.round, charge.attempt)
    before = account.last.get(charge.kind)
    if before == here:
        raise _contradicts(ErrorCode.LEDGER_DUPLICATE_CHARGE, "The attempt was charged before.")
    if before is not None and here < before:
        raise _contradicts(ErrorCode.LEDGER_OUT_OF_ORDER, "The charge is older than the last.")
    roster = account.evaluation_roster
    if charge.mechanism == "evaluation":
        if roster not in (None, charge.roster_hash):
            raise _contradicts(
                ErrorCode.EVALUATION_ROSTER_CHANGED,
                "An evaluation may be retried only with the identical sites.",
            )
        roster = charge.roster_hash
    else:
        _check_due(account, charge)
        if account.remaining_of(charge.mechanism) < 1:
            raise BudgetExceeded(
                ErrorCode.LEDGER_RESERVE_SPENT,
                f"Every attempt that was reserved for the plan's {charge.mechanism} is charged.",
                hint="The study ends here; going on takes a new plan and a new approval.",
            )
    count = account.opened.get(charge.mechanism, 0) + 1
    return replace(
        account,
        last=MappingProxyType({**account.last, charge.kind: here}),
        opened=MappingProxyType({**account.opened, charge.mechanism: count}),
        evaluation_roster=roster,
    )


def _check_due(account: PlanAccount, charge: Charge) -> None:
    """Refuse to open one mechanism as another: none borrows another's attempts or noise.

    Round 0 is the preparation, if the plan has one, and nothing else is.
    """
    names = {event.name for event in account.reserve.mechanisms}
    due = "preparation" if "preparation" in names and charge.round == 0 else "training"
    if charge.mechanism not in names or charge.mechanism != due:
        raise _contradicts(
            ErrorCode.LEDGER_NOT_RESERVED, "The plan reserved no such mechanism for this round."
        )


def _with(state: LedgerState, account: PlanAccount) -> LedgerState:
    digest = account.reserve.plan_digest
    return LedgerState(MappingProxyType({**state.accounts, digest: account}))


def _contradicts(code: ErrorCode, sentence: str) -> CohortiumError:
    return ProtocolError(code, sentence, hint="Nothing was written; verify the ledger.")


def _unknown() -> ProtocolError:
    return ProtocolError(
        ErrorCode.LEDGER_ENTRY_UNKNOWN, "The ledger holds an entry that is not known here."
    )
