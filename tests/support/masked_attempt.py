"""How does a test play one recoverable attempt after everybody masked, and bend what follows?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.secagg.coordinator import upload_hash
from schemas.secagg.masking import CohortKeys, MaskedUpdate, mask
from schemas.secagg.messages import SignedReady, SurvivorList
from schemas.secagg.recovery import Revealed, confirm_survivors, reveal
from schemas.signing import Context, sign
from tests.support.secure_sum import Consortium, vectors_of

FIVE = ("site-1", "site-2", "site-3", "site-4", "site-5")
FOUR = ("site-1", "site-2", "site-3", "site-4")  # tau of five sites and one colluder


@dataclass(slots=True)
class Attempt:
    """One recoverable attempt after everybody masked."""

    consortium: Consortium
    readies: list[SignedReady]
    keys: dict[str, CohortKeys]
    vectors: dict[str, NDArray[np.int64]]
    uploads: dict[str, MaskedUpdate]

    def hashes(self, survivors: Iterable[str]) -> dict[str, str]:
        """Their uploads' hashes."""
        return {site: upload_hash(self.uploads[site]) for site in survivors}

    def confirm(self, site: str, survivors: Iterable[str]) -> str:
        """Let a site sign the list of these."""
        return self.confirm_as(site, self.hashes(survivors))

    def confirm_as(self, site: str, uploads: Mapping[str, str]) -> str:
        """Let a site sign a list with these hashes."""
        party = self.consortium.parties[site]
        return confirm_survivors(self.keys[site], party, self.consortium.plan, uploads)

    def confirmations(self, survivors: Iterable[str]) -> dict[str, str]:
        """Let all of these sign the list of them."""
        return {site: self.confirm(site, survivors) for site in survivors}

    def reveal(self, site: str, confirmations: Mapping[str, str]) -> Revealed:
        """Let a site answer UNMASK."""
        return reveal(self.keys[site], self.consortium.plan, confirmations)

    def forged(self, site: str, survivors: Iterable[str], **changes: object) -> str:
        """What a colluding site signs: anything."""
        own = self.keys["site-1"].attempt
        listed = SurvivorList(
            plan_digest=own.plan_digest,
            round=own.round,
            attempt=own.attempt,
            transcript_hash=own.transcript_hash,
            uploads=self.hashes(survivors),
        ).model_copy(update=changes)
        identity = self.consortium.parties[site].identity
        return sign(identity, Context.SURVIVORS, listed.canonical())

    def plain(self, survivors: Iterable[str]) -> NDArray[np.int64]:
        """The sum of their vectors."""
        return sum((self.vectors[site] for site in survivors), np.int64(0) * self.vectors["site-1"])


def attempt_of(
    consortium: Consortium, members: Iterable[str] | None = None, length: int = 40
) -> Attempt:
    """Let these meet and mask a vector each."""
    readies, keys = consortium.meet(members)
    vectors = vectors_of(keys, length)
    uploads = {site: mask(keys[site], vectors[site]) for site in keys}
    return Attempt(consortium, readies, keys, vectors, uploads)
