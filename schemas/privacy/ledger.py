"""What may this hospital still spend, by the record of what it has spent?

The ledger is a list of entries; the balance is never stored but replayed from them (PRIVACY-8).
A plan is reserved whole, charged attempt by attempt before anything is computed, and settled once:
settling returns only attempts that were never opened. Entries are salted and chained by hash, so
that a head, shown to peers in every READY, reveals nothing and an old copy is noticed.

`step` is total: for any entry it returns the next state or raises a `CohortiumError`, and the state
it was given stays as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from schemas.canonical import Document
from schemas.errors import BudgetExceeded, CohortiumError, ErrorCode, ProtocolError
from schemas.ids import HexBytes32, SiteId, StudyId, Timestamp
from schemas.privacy.accounting import total_epsilon
from schemas.privacy.events import Mechanism
from schemas.secagg.keys import frame
from schemas.secagg.messages import Kind, Step

GENESIS: Final = "0" * 64
"""Head of a ledger without entries."""

SALT_BYTES: Final = 16
Salt = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Reserve(Document):
    """Set aside the whole cost of a plan; nothing may be charged without it."""

    entry: Literal["reserve"] = "reserve"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    study_id: StudyId
    attempts: Annotated[int, Field(ge=1, le=1_000_000)]  # steps and retries
    noise_multiplier: Annotated[float, Field(gt=0, le=10_000)]
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    hospitals_per_patient: Annotated[int, Field(ge=1, le=200)] = 1
    salt: Salt


class Charge(Document):
    """Open one attempt. Written before anything is computed, never taken back."""

    entry: Literal["charge"] = "charge"
    version: Literal[1] = 1
    plan_digest: HexBytes32
    kind: Kind
    round: Step
    attempt: Step
    roster_hash: HexBytes32
    salt: Salt


class Settle(Document):
    """Close a plan for good; attempts never opened are free again."""

    entry: Literal["settle"] = "settle"
    version: Literal[1] = 1
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
        charged: training attempts opened.
        last: highest (round, attempt) opened, by kind.
        evaluation_roster: the only roster that may evaluate, once one has.
        settled: whether it is closed.
    """

    reserve: Reserve
    charged: int = 0
    last: Mapping[Kind, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    evaluation_roster: str | None = None
    settled: bool = False

    @property
    def remaining(self) -> int:
        """Attempts that may still be opened."""
        return 0 if self.settled else self.reserve.attempts - self.charged

    def mechanism(self, count: int) -> Mechanism:
        """Return ``count`` attempts of this plan as the accountant knows them."""
        return Mechanism(self.reserve.noise_multiplier, self.reserve.sampling_rate, count)

    def epsilon_charged(self) -> float:
        """Return epsilon of the attempts opened, at the plan's own delta and scope."""
        return self._epsilon(self.charged)

    def epsilon_reserved(self) -> float:
        """Return epsilon if every attempt is opened, at the plan's own delta and scope."""
        return self._epsilon(self.reserve.attempts)

    def _epsilon(self, count: int) -> float:
        return total_epsilon(
            [self.mechanism(count)],
            delta=self.reserve.delta,
            hospitals_per_patient=self.reserve.hospitals_per_patient,
        )


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What a replay gives: one account per plan, by plan digest."""

    accounts: Mapping[str, PlanAccount] = field(default_factory=lambda: MappingProxyType({}))

    def charged_epsilon(self, *, delta: float) -> float:
        """Return epsilon of everything opened so far, over all plans on these patients."""
        return self._epsilon(delta, {digest: a.charged for digest, a in self.accounts.items()})

    def committed_epsilon(self, *, delta: float, also: Reserve | None = None) -> float:
        """Return epsilon if every open plan uses all its attempts, and ``also`` were added.

        This is what a site compares with its own cap before it approves a plan.

        Args:
            delta: the site's own delta, for all plans together.
            also: a reservation that is being considered.
        """
        counts = {d: a.charged + a.remaining for d, a in self.accounts.items()}
        return self._epsilon(delta, counts, also)

    def _epsilon(
        self, delta: float, counts: Mapping[str, int], also: Reserve | None = None
    ) -> float:
        accounts = self.accounts
        mechanisms = [accounts[digest].mechanism(count) for digest, count in counts.items()]
        hospitals = [a.reserve.hospitals_per_patient for a in accounts.values()]
        if also is not None:
            mechanisms.append(PlanAccount(also).mechanism(also.attempts))
            hospitals.append(also.hospitals_per_patient)
        return total_epsilon(
            mechanisms, delta=delta, hospitals_per_patient=max(hospitals, default=1)
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
    last = MappingProxyType({**account.last, charge.kind: here})
    if charge.kind == "evaluate":
        if account.evaluation_roster not in (None, charge.roster_hash):
            raise _contradicts(
                ErrorCode.EVALUATION_ROSTER_CHANGED,
                "An evaluation may be retried only with the identical sites.",
            )
        return replace(account, last=last, evaluation_roster=charge.roster_hash)
    if account.remaining < 1:
        raise BudgetExceeded(
            ErrorCode.LEDGER_RESERVE_SPENT,
            "Every attempt that was reserved for the plan is charged.",
            hint="The study ends here; going on takes a new plan and a new approval.",
        )
    return replace(account, last=last, charged=account.charged + 1)


def _with(state: LedgerState, account: PlanAccount) -> LedgerState:
    digest = account.reserve.plan_digest
    return LedgerState(MappingProxyType({**state.accounts, digest: account}))


def _contradicts(code: ErrorCode, sentence: str) -> CohortiumError:
    return ProtocolError(code, sentence, hint="Nothing was written; verify the ledger.")


def _unknown() -> ProtocolError:
    return ProtocolError(
        ErrorCode.LEDGER_ENTRY_UNKNOWN, "The ledger holds an entry that is not known here."
    )
