"""How does a test hold one attempt whose uploads have all arrived, and unmask more than it may?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.secagg import shamir
from schemas.secagg.cohort import share_points
from schemas.secagg.cohort_keys import CohortKeys, RecoverySecrets
from schemas.secagg.keys import PairMask, pair_sign, self_mask_seed
from schemas.secagg.messages import SignedReady
from schemas.secagg.recovery import Revealed
from schemas.secagg.streams import MaskStreams
from schemas.wire import Confirmation, Unmasking
from tests.support.attacks import Attack

ALL = ("site-1", "site-2", "site-3", "site-4")


@dataclass
class Sent:
    """One attempt in which everybody has sent, and the coordinator holds every upload."""

    hand: Attack
    attempt: int
    readies: dict[str, SignedReady]

    hashes: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.hashes = self.hand.hashes(0, self.attempt)

    @classmethod
    def by_all(cls, hand: Attack, sites: Iterable[str] = ALL) -> Sent:
        """Play a new attempt up to its uploads; `sites` are its cohort."""
        attempt = hand.fresh()
        readies = hand.readies(0, attempt, sites=sites)
        call = hand.cohort(readies.values(), 0, attempt)
        for site in readies:
            hand.upload(site, call)
        return cls(hand, attempt, readies)

    def listing(self, survivors: Iterable[str]) -> bytes:
        """SURVIVORS with the true hashes of these."""
        named = {site: self.hashes[site] for site in survivors}
        return self.hand.survivors(0, self.attempt, named)

    def confirm(self, site: str, survivors: Iterable[str]) -> str:
        """Let a site sign a list."""
        header = self.hand.ask(site, self.listing(survivors)).header
        assert isinstance(header, Confirmation), header
        return header.signature

    def unmask(self, confirmations: Mapping[str, str]) -> bytes:
        """UNMASK with these signatures."""
        return self.hand.unmask(0, self.attempt, confirmations)

    def reveal(self, site: str, confirmations: Mapping[str, str]) -> Revealed:
        """Let a site answer UNMASK."""
        header = self.hand.ask(site, self.unmask(confirmations)).header
        assert isinstance(header, Unmasking), header
        return Revealed(header.shares, header.seeds)

    def honest_list(self, lost: str) -> tuple[dict[str, str], dict[str, Revealed]]:
        """Confirm and unmask one list, the same for everyone on it."""
        kept = [site for site in ALL if site != lost]
        signed = {site: self.confirm(site, kept) for site in kept}
        return signed, {site: self.reveal(site, signed) for site in kept}

    def keys(self, site: str) -> CohortKeys:
        """All secrets of one site for this attempt."""
        session = self.hand.consortium.rounds[site]._sessions[self.hand.consortium.digest]
        held: CohortKeys = session.keys["train"][2]
        return held

    def colluding(self, site: str) -> RecoverySecrets:
        """A colluder's own secrets, all of them."""
        return self.keys(site).recovery()

    def opened(
        self, site: str, seeds: Mapping[str, str], self_mask: PairMask | None
    ) -> NDArray[np.int64]:
        """Take off one upload what is known of its masks: seeds by peer, and the self-mask."""
        masks = [PairMask.of(bytes.fromhex(s), pair_sign(site, p)) for p, s in seeds.items()]
        masks += [self_mask] if self_mask else []
        words = self.hand.uploads["train", 0, self.attempt][site].words.copy()
        MaskStreams((-each.sign, each.stream_key) for each in masks).apply(words)
        return words.view(np.int32).astype(np.int64)

    def self_mask(self, site: str, given: Mapping[str, str]) -> PairMask:
        """Combine a site's self-mask from shares by holder."""
        points = share_points(self.hand.consortium.plan)
        weights = shamir.weights_at_zero([points[holder] for holder in given])
        numbers = [shamir.read_element(bytes.fromhex(share)) for share in given.values()]
        header = self.readies[site].ready.header().canonical()
        return PairMask.of(self_mask_seed(shamir.combine(weights, numbers), header), 1)
