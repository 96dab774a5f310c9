"""Which bytes does each hospital get, made once for all that get the same?

A sum is by far the largest part of a request. Sites that are told the same get one and the same
object, which the exchange then also cuts, hashes and hands over only once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from coordinator.sums import RoundSum, Sums
from schemas.errors import ErrorCode
from schemas.limits import MAX_FRAME_BYTES, MAX_HEADER_BYTES
from schemas.secagg.coordinator import words_to_bytes
from schemas.secagg.masking import MaskedSum
from schemas.secagg.messages import SignedReady
from schemas.signing import SignedDocument
from schemas.wire import Close, CohortCall, Kind, Open, Result, SumTag, encode

_MAX_PART_BYTES: Final = MAX_FRAME_BYTES // 4  # of sums of earlier rounds in one message
_MAX_PART_HEADER_BYTES: Final = MAX_HEADER_BYTES // 4  # of the signed cohorts behind them
KeyT = TypeVar("KeyT", bound=Hashable)


class Approvals(Protocol):
    """Who approved the plan, as the book has it."""

    def approvals(self) -> Mapping[str, SignedDocument]:
        """Give site id → signed approval."""
        ...


@dataclass(slots=True)
class Calls:
    """The requests of one study, and what is known of the sums each site holds.

    Attributes:
        digest: of the plan.
        sums: the closed rounds.
    """

    digest: str
    sums: Sums
    book: Approvals
    _held: dict[str, int] = field(default_factory=dict)  # site → rounds whose sums it holds
    _part: dict[str, int] = field(default_factory=dict)  # the round to go on from

    def knows(self, site: str, round_: int) -> None:
        """Note that a site holds the sums of all rounds below `round_`."""
        self._held[site] = max(0, round_)

    def opening(
        self,
        sites: Iterable[str],
        kind: Kind,
        round_: int,
        attempt: int,
        finals: Mapping[str, SignedDocument],
    ) -> dict[str, bytes]:
        """Build OPEN for each site, with the sums that it may not have applied yet."""
        before = round_ - 1 if kind == "train" else 0
        approvals = tuple(self.book.approvals().values())

        def build(missing: Sequence[RoundSum]) -> bytes:
            message = Open(
                plan_digest=self.digest,
                kind=kind,
                round=round_,
                attempt=attempt,
                approvals=approvals,
                finals=tuple(finals.values()),
                missing=_with_evidence(missing),
            )
            return encode(message, *(entry.blob() for entry in missing))

        return self._catching_up(sites, before, build)

    def cohort(
        self,
        readies: Mapping[str, SignedReady],
        round_: int,
        attempt: int,
        invited: Iterable[str],
    ) -> dict[str, bytes]:
        """Build COHORT of a training attempt for each of its sites, with the last sum.

        `invited` were not in the round before: with evidence they can check its sum nevertheless.
        """
        last = self.sums.last

        def build(evidence: bool) -> bytes:
            call = CohortCall(
                plan_digest=self.digest,
                kind="train",
                round=round_,
                attempt=attempt,
                readies=tuple(readies.values()),
                previous=last.tag(evidence=evidence) if last else None,
            )
            return encode(call, *([last.blob()] if last else []))

        asked = frozenset(invited) if last else frozenset()
        return _shared({site: site in asked for site in readies}, build)

    def evaluation(self, readies: Iterable[SignedReady], attempt: int) -> bytes:
        """Build COHORT of an evaluation, the same for all of its sites."""
        return encode(
            CohortCall(
                plan_digest=self.digest,
                kind="evaluate",
                round=0,
                attempt=attempt,
                readies=tuple(readies),
            )
        )

    def closing(self, sites: Iterable[str]) -> dict[str, bytes]:
        """Build CLOSE for each site: the last sum, and those before it that it may lack."""
        last = self.sums.last
        assert last is not None, "a plan has one round at least"
        approvals = tuple(self.book.approvals().values())

        def build(missing: Sequence[RoundSum]) -> bytes:
            message = Close(
                plan_digest=self.digest,
                approvals=approvals,
                missing=_with_evidence(missing),
                last=last.tag(evidence=True),
            )
            return encode(message, *(entry.blob() for entry in (*missing, last)))

        return self._catching_up(sites, last.round, build)

    def result(self, attempt: int, summed: MaskedSum) -> bytes:
        """Build RESULT, the same for all sites of the evaluation."""
        tag = SumTag(round=0, attempt=attempt, tag=f"{summed.tag:016x}")
        return encode(Result(plan_digest=self.digest, summed=tag), words_to_bytes(summed.words))

    def took_a_part(self, sites: Iterable[str], reasons: Mapping[str, str]) -> frozenset[str]:
        """Name the sites that were sent the first of many sums, took them and want the rest.

        A message has its limits, and a site that was away for long, or a coordinator that has
        restarted and knows nothing of what the sites hold, has more to send than fits one.
        """
        behind = ErrorCode.SITE_BEHIND.value
        found = frozenset(s for s in sites if s in self._part and reasons.get(s) == behind)
        for site in found:
            self._held[site] = self._part[site]
        return found

    def _catching_up(
        self, sites: Iterable[str], before: int, build: Callable[[Sequence[RoundSum]], bytes]
    ) -> dict[str, bytes]:
        """Build a request with the sums that each site may lack, or the first part of them."""
        first = {site: min(self._held.get(site, 0), max(0, before)) for site in sites}
        following: dict[int, int] = {}

        def build_from(start: int) -> bytes:
            missing = self._part_of(start, before)
            following[start] = start + len(missing)
            return build(missing)

        bodies = _shared(first, build_from)
        for site, start in first.items():
            self._part.pop(site, None)
            if following[start] < before:
                self._part[site] = following[start]
        return bodies

    def _part_of(self, first: int, before: int) -> list[RoundSum]:
        """Give the sums from `first` on that fit one message; one at least."""
        part: list[RoundSum] = []
        words = evidence = 0
        for entry in self.sums.between(first, before):
            words += entry.summed.words.nbytes
            evidence += sum(len(ready.canonical()) for ready in entry.readies)
            if part and (words > _MAX_PART_BYTES or evidence > _MAX_PART_HEADER_BYTES):
                break
            part.append(entry)
        return part


def _with_evidence(sums: Iterable[RoundSum]) -> tuple[SumTag, ...]:
    return tuple(entry.tag(evidence=True) for entry in sums)


def _shared(keys: Mapping[str, KeyT], build: Callable[[KeyT], bytes]) -> dict[str, bytes]:
    """Build one body for each key; sites with the same key get the same object."""
    made: dict[KeyT, bytes] = {}
    for key in keys.values():
        if key not in made:
            made[key] = build(key)
    return {site: made[key] for site, key in keys.items()}
