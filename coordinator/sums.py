"""What does the coordinator keep of training rounds, and how much of it in memory?

Of the attempt that runs: the sum of the uploads so far, and of each upload its size and hash. Of
the rounds that closed: the last sum, which the next COHORT carries. Older ones are read from the
book, one at a time, for a site that was away and for the final model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

from schemas.errors import ErrorCode, TrustError
from schemas.secagg.coordinator import RunningSum, upload_hash, words_to_bytes
from schemas.secagg.masking import MaskedSum, MaskedUpdate
from schemas.secagg.messages import Ready, SignedReady
from schemas.wire import SumTag


@dataclass(frozen=True, slots=True)
class RoundSum:
    """The sum that closed a training round, with the signed cohort behind it.

    Attributes:
        survivors: the contributors, sorted, where some of the cohort were lost; empty: all of it.
    """

    round: int
    attempt: int
    summed: MaskedSum
    readies: tuple[SignedReady, ...]
    survivors: tuple[str, ...] = ()

    def blob(self) -> memoryview:
        """Give the words as they travel."""
        return words_to_bytes(self.summed.words)

    def tag(self, *, evidence: bool) -> SumTag:
        """Name the sum; with the cohort's READY messages for a site that was not in it."""
        return SumTag(
            round=self.round,
            attempt=self.attempt,
            tag=f"{self.summed.tag:016x}",
            readies=self.readies if evidence else (),
            survivors=self.survivors,
        )


class Charges:
    """What each site's ledger must hold by now, as its READYs and the sums it is in tell.

    The sites check the same of one another and refuse a cohort (SECAGG-17); leaving out a site
    whose ledger was restored from an older copy lets the others go on.
    """

    def __init__(self, sums: Iterable[RoundSum]) -> None:
        """Resume from the sums so far."""
        self._fewest: dict[str, int] = {}
        for closed in sums:
            self.summed(closed)

    def check(self, ready: Ready) -> None:
        """Refuse a READY with fewer charges than its site had before.

        Raises:
            TrustError: LEDGER_ROLLBACK.
        """
        if ready.ledger_charges < self._fewest.get(ready.site_id, 0):
            raise TrustError(
                ErrorCode.LEDGER_ROLLBACK, "A site's ledger was restored from an older copy."
            )
        self._fewest[ready.site_id] = ready.ledger_charges

    def summed(self, closed: RoundSum) -> None:
        """Note that every contributor to a sum was charged for it."""
        for signed in closed.readies:
            site, charges = signed.ready.site_id, signed.ready.ledger_charges
            if site in (closed.survivors or (site,)):
                self._fewest[site] = max(self._fewest.get(site, 0), charges + 1)


@dataclass(slots=True)
class Uploads:
    """The uploads of one attempt: added as they come, and let go of.

    Nobody is taken out of the sum again, also not in recoverable mode: there is one list of
    survivors for an attempt, and it names every upload that arrived.

    Attributes:
        hashes: whether each upload's hash is needed, because a list of survivors will name it.
        sizes: bytes of each site's words.
        hash_of: the hash of each site's upload, where hashes are needed.
    """

    hashes: bool = False
    running: RunningSum = field(default_factory=RunningSum)
    sizes: dict[str, int] = field(default_factory=dict)
    hash_of: dict[str, str] = field(default_factory=dict)

    def add(self, site: str, update: MaskedUpdate) -> None:
        """Add one site's update.

        Raises:
            ProtocolError: VECTOR_SHAPE.
        """
        self.running.add(site, update)
        self.sizes[site] = update.words.nbytes
        if self.hashes:
            self.hash_of[site] = upload_hash(update)

    @property
    def sites(self) -> Collection[str]:
        """Whose uploads arrived."""
        return self.sizes.keys()


class SumStore(Protocol):
    """What `Sums` needs of the book."""

    def count_sums(self) -> int:
        """Count the closed rounds."""
        ...

    def load_sums(self, first: int, before: int) -> Iterator[RoundSum]:
        """Read the sums of rounds `first` to `before` - 1, one at a time, each when asked for."""
        ...

    def store_sum(self, closed: RoundSum) -> None:
        """Keep the sum of the round after the last one."""
        ...

    def drop_sum(self, round_: int) -> None:
        """Forget the sum of the last round, whose attempt is void after all."""
        ...


class Sums:
    """The sums of a study, in order of rounds.

    Attributes:
        last: the newest one, the only one held here; None before the first round closed.
    """

    def __init__(self, store: SumStore) -> None:
        """Resume from what the book holds."""
        self._store = store
        self._n = store.count_sums()
        self.last = next(iter(store.load_sums(self._n - 1, self._n)), None)

    def __len__(self) -> int:
        """Count the closed rounds, which is the number of the next one."""
        return self._n

    def keep(self, closed: RoundSum) -> None:
        """Write a sum down; it is the last one now."""
        self._store.store_sum(closed)
        self._n += 1
        self.last = closed

    def drop_last(self) -> None:
        """Take the last sum back: its round is open again."""
        self._store.drop_sum(self._n - 1)
        self._n -= 1
        self.last = next(iter(self._store.load_sums(self._n - 1, self._n)), None)

    def between(self, first: int, before: int) -> Iterator[RoundSum]:
        """Give the sums of rounds `first` to `before` - 1, each read when it is asked for."""
        return self._store.load_sums(first, before)

    def masked(self) -> Iterator[MaskedSum]:
        """Give every sum without the cohort behind it, each read when it is asked for."""
        return map(attrgetter("summed"), self.between(0, self._n))
