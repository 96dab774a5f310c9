"""What does the coordinator keep of a training round that closed?"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.secagg.coordinator import words_to_bytes
from schemas.secagg.masking import MaskedSum
from schemas.secagg.messages import SignedReady
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
