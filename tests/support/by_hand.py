"""How does a test play a dishonest coordinator, message by message, and see no harm done?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.rounds import RoundSum
from schemas.evaluation import evaluation_length
from schemas.secagg.coordinator import (
    add_masked,
    recover_sum,
    upload_hash,
    words_from_bytes,
    words_to_bytes,
)
from schemas.secagg.field import PRIME
from schemas.secagg.masking import MaskedSum, MaskedUpdate
from schemas.secagg.messages import Ready, SignedReady
from schemas.secagg.recovery import Revealed
from schemas.signing import Context, SignedDocument, sign
from schemas.wire import (
    Close,
    CohortCall,
    Confirmation,
    FinalReply,
    Frame,
    Kind,
    Open,
    ReadyReply,
    Refusal,
    ReleaseReply,
    Result,
    SumTag,
    SurvivorsCall,
    UnmaskCall,
    Unmasking,
    Upload,
    decode,
    encode,
)
from tests.support.consortium import MemoryConsortium

REPLIES = (ReadyReply, Upload, Confirmation, Unmasking, FinalReply, ReleaseReply, Refusal)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Everything that a refused message must leave as it was at one site."""

    ledger: str
    rounds: tuple[tuple[int, int] | None, tuple[int, int] | None]
    state: tuple[int, bytes, str] | None
    roster: tuple[str, ...] | None
    masked: int  # masked answers, and what confirms or unmasks their sums

    @classmethod
    def of(cls, consortium: MemoryConsortium, site_id: str) -> Footprint:
        """Read it from the site's disk."""
        site, digest = consortium.sites[site_id], consortium.digest
        row = site.db.row(
            "SELECT count(*) AS n FROM released WHERE kind LIKE 'masked-%' "
            "OR kind IN ('survivor-confirmation', 'unmasking')"
        )
        assert row is not None
        return cls(
            ledger=site.ledger.head(),
            rounds=(
                site.journal.highest(digest, "train"),
                site.journal.highest(digest, "evaluate"),
            ),
            state=site.journal.load_state(digest),
            roster=site.journal.evaluation_roster(digest),
            masked=row["n"],
        )


@contextmanager
def unharmed(consortium: MemoryConsortium, *sites: str) -> Iterator[None]:
    """Assert that nothing was charged, stepped, pinned or uploaded here (default: anywhere)."""
    named = sites or tuple(consortium.sites)
    before = {site: Footprint.of(consortium, site) for site in named}
    yield
    assert {site: Footprint.of(consortium, site) for site in named} == before


@dataclass(repr=False)
class Hand:
    """The coordinator's side of one study, moved by hand; any message can be bent before it goes.

    Attributes:
        attempt: the next attempt number `fresh` gives out.
    """

    consortium: MemoryConsortium
    attempt: int = 0
    uploads: dict[tuple[Kind, int, int], dict[str, MaskedUpdate]] = field(default_factory=dict)

    @property
    def everyone(self) -> tuple[str, ...]:
        """All sites of the plan."""
        return tuple(self.consortium.sites)

    def fresh(self) -> int:
        """Give an attempt number never used before on this consortium."""
        self.attempt += 1
        return self.attempt

    # -- asking ------------------------------------------------------------------------------

    def ask(self, site: str, request: bytes) -> Frame:
        """Send one request and read the reply."""
        return decode(self.consortium.call(site, request), allowed=REPLIES)

    def refusal(self, site: str, request: bytes) -> str:
        """Send one request that must be refused; give the code, the only thing in the answer."""
        frame = self.ask(site, request)
        assert isinstance(frame.header, Refusal), frame.header
        assert frame.blobs == ()
        return frame.header.code

    # -- building ----------------------------------------------------------------------------

    def open(self, round_: int, attempt: int, kind: Kind = "train", **changes: Any) -> bytes:
        """Build an OPEN; `missing` takes RoundSums."""
        missing: Sequence[RoundSum] = changes.pop("missing", ())
        values = {
            "plan_digest": self.consortium.digest,
            "kind": kind,
            "round": round_,
            "attempt": attempt,
            "approvals": tuple(self.consortium.book.signed.values()),
            "missing": tuple(entry.tag(evidence=True) for entry in missing),
        }
        return encode(Open(**{**values, **changes}), *(entry.blob() for entry in missing))

    def readies(
        self,
        round_: int,
        attempt: int,
        kind: Kind = "train",
        sites: Iterable[str] | None = None,
        **changes: Any,
    ) -> dict[str, SignedReady]:
        """Open an attempt at several sites and gather their READYs."""
        found = {}
        for site in sites or self.everyone:
            header = self.ask(site, self.open(round_, attempt, kind, **changes)).header
            assert isinstance(header, ReadyReply), header
            found[site] = header.ready
        return found

    def cohort(
        self,
        readies: Iterable[SignedReady],
        round_: int,
        attempt: int,
        kind: Kind = "train",
        previous: RoundSum | None = None,
        **changes: Any,
    ) -> bytes:
        """Build a COHORT, with the sum of the round before where there is one."""
        values = {
            "plan_digest": self.consortium.digest,
            "kind": kind,
            "round": round_,
            "attempt": attempt,
            "readies": tuple(readies),
            "previous": previous.tag(evidence=True) if previous else None,
        }
        blobs = [previous.blob()] if previous else []
        return encode(CohortCall(**{**values, **changes}), *blobs)

    def close(self, last: RoundSum, missing: Sequence[RoundSum] = (), **changes: Any) -> bytes:
        """Build a CLOSE."""
        values = {
            "plan_digest": self.consortium.digest,
            "approvals": tuple(self.consortium.book.signed.values()),
            "missing": tuple(entry.tag(evidence=True) for entry in missing),
            "last": last.tag(evidence=True),
        }
        blobs = [entry.blob() for entry in (*missing, last)]
        return encode(Close(**{**values, **changes}), *blobs)

    def result(self, summed: RoundSum) -> bytes:
        """Build a RESULT with the blind sum."""
        tag = SumTag(round=summed.round, attempt=summed.attempt, tag=f"{summed.summed.tag:016x}")
        return encode(Result(plan_digest=self.consortium.digest, summed=tag), summed.blob())

    # -- recovery ----------------------------------------------------------------------------

    def survivors(
        self, round_: int, attempt: int, hashes: Mapping[str, str], **changes: Any
    ) -> bytes:
        """Build a SURVIVORS from upload hashes by site."""
        values = {
            "plan_digest": self.consortium.digest,
            "round": round_,
            "attempt": attempt,
            "uploads": dict(hashes),
        }
        return encode(SurvivorsCall(**{**values, **changes}))

    def hashes(self, round_: int, attempt: int, lost: Iterable[str] = ()) -> dict[str, str]:
        """Give the hashes of the uploads that `upload` saw in an attempt, but of the lost."""
        uploads = self.uploads["train", round_, attempt]
        return {s: upload_hash(update) for s, update in uploads.items() if s not in set(lost)}

    def confirmations(
        self,
        round_: int,
        attempt: int,
        hashes: Mapping[str, str],
        sites: Iterable[str] | None = None,
    ) -> dict[str, str]:
        """Send one list of survivors to (some of) them; give their signatures."""
        found = {}
        for site in hashes if sites is None else sites:
            header = self.ask(site, self.survivors(round_, attempt, hashes)).header
            assert isinstance(header, Confirmation), header
            found[site] = header.signature
        return found

    def unmask(
        self, round_: int, attempt: int, confirmations: Mapping[str, str], **changes: Any
    ) -> bytes:
        """Build an UNMASK from signatures by site."""
        values = {
            "plan_digest": self.consortium.digest,
            "round": round_,
            "attempt": attempt,
            "confirmations": dict(confirmations),
        }
        return encode(UnmaskCall(**{**values, **changes}))

    def reveal(
        self, round_: int, attempt: int, confirmations: Mapping[str, str], sites: Iterable[str]
    ) -> dict[str, Revealed]:
        """Send UNMASK to some sites; give what each of them reveals."""
        found = {}
        for site in sites:
            header = self.ask(site, self.unmask(round_, attempt, confirmations)).header
            assert isinstance(header, Unmasking), header
            found[site] = Revealed(header.shares, header.seeds)
        return found

    def recover(
        self,
        round_: int,
        attempt: int,
        readies: Mapping[str, SignedReady],
        lost: Iterable[str] = (),
    ) -> RoundSum:
        """Take the masks off an attempt's uploads, honestly, as if some had not arrived."""
        hashes = self.hashes(round_, attempt, lost)
        signatures = self.confirmations(round_, attempt, hashes)
        revealed = self.reveal(round_, attempt, signatures, hashes)
        uploads = {site: self.uploads["train", round_, attempt][site] for site in hashes}
        summed = recover_sum(self.consortium.plan, readies.values(), uploads, revealed)
        named = tuple(sorted(hashes)) if len(hashes) < len(readies) else ()
        return RoundSum(round_, attempt, summed, tuple(readies.values()), named)

    # -- playing -----------------------------------------------------------------------------

    def upload(self, site: str, request: bytes) -> MaskedUpdate:
        """Send a COHORT that must be answered by an upload."""
        frame = self.ask(site, request)
        header = frame.header
        assert isinstance(header, Upload), header
        plan = self.consortium.plan
        length = plan.sum_terms(header.round).words
        if header.kind == "evaluate":
            length = evaluation_length(plan.evaluation.bins)
        update = MaskedUpdate(words_from_bytes(frame.blobs[0], length), int(header.tag, 16))
        place = (header.kind, header.round, header.attempt)
        self.uploads.setdefault(place, {})[site] = update
        return update

    def play(
        self,
        round_: int,
        attempt: int,
        kind: Kind = "train",
        sites: Iterable[str] | None = None,
        previous: RoundSum | None = None,
        **changes: Any,
    ) -> RoundSum:
        """Run one whole honest attempt and give its sum."""
        readies = self.readies(round_, attempt, kind, sites, **changes)
        call = self.cohort(readies.values(), round_, attempt, kind, previous)
        uploads = {site: self.upload(site, call) for site in readies}
        if self.consortium.plan.is_recoverable and kind == "train":
            return self.recover(round_, attempt, readies)
        summed = add_masked(uploads, sorted(uploads))
        return RoundSum(round_, attempt, summed, tuple(readies.values()))

    def play_split(self, round_: int, attempt: int, shown: Mapping[str, RoundSum]) -> RoundSum:
        """Run one attempt in which each site is shown another sum of the round before."""
        readies = self.readies(round_, attempt)
        uploads = {}
        for site, previous in shown.items():
            call = self.cohort(readies.values(), round_, attempt, previous=previous)
            uploads[site] = self.upload(site, call)
        summed = add_masked(uploads, sorted(uploads))
        return RoundSum(round_, attempt, summed, tuple(readies.values()))

    def train(self, sites: Iterable[str] | None = None) -> list[RoundSum]:
        """Run every round once, the preparation's too."""
        sums: list[RoundSum] = []
        for round_ in range(self.consortium.plan.rounds):
            sums.append(self.play(round_, 0, sites=sites, previous=sums[-1] if sums else None))
        return sums

    def finals(self, last: RoundSum) -> dict[str, SignedDocument]:
        """Close the study at every site and gather the signatures on the final model."""
        found = {}
        for site in self.everyone:
            header = self.ask(site, self.close(last)).header
            assert isinstance(header, FinalReply), header
            found[site] = header.final
        return found

    def resign(self, ready: Ready, **changes: Any) -> SignedReady:
        """Sign a bent READY with the key of the site it names: a site in league with us."""
        bent = ready.model_copy(update=changes)
        key = self.consortium.sites[ready.site_id].keys.identity
        return SignedReady(ready=bent, signature=sign(key, Context.READY, bent.canonical()))


# -- bending sums ----------------------------------------------------------------------------


def with_words(entry: RoundSum, words: NDArray[np.uint32]) -> RoundSum:
    """Replace the words and keep the tag."""
    return replace(entry, summed=MaskedSum(words.astype(np.uint32), entry.summed.tag))


def bent_sums(entry: RoundSum) -> Mapping[str, RoundSum]:
    """Every way to bend a sum without knowing the tag secret, by name."""
    words, tag = entry.summed.words, entry.summed.tag
    one_more = words.copy()
    one_more[0] += np.uint32(1)
    negative = (0 - words.astype(np.int64)) % 2**32

    def both(changed: NDArray[Any], new_tag: int) -> RoundSum:
        return replace(entry, summed=MaskedSum(changed.astype(np.uint32), new_tag % PRIME))

    return {
        "one word altered": with_words(entry, one_more),
        "words swapped": with_words(entry, words[::-1].copy()),
        "doubled with its tag": both(words.astype(np.int64) * 2 % 2**32, tag * 2),
        "negated with its tag": both(negative, -tag),
        "zeroed with its tag": both(np.zeros_like(words), 0),
        "zeroed": with_words(entry, np.zeros_like(words)),
        "tag altered": both(words, tag + 1),
        "tag beyond the field": replace(entry, summed=MaskedSum(words, PRIME)),
    }


def blob_of(summed: MaskedSum) -> bytes:
    """The words as they travel."""
    return words_to_bytes(summed.words)
