"""What do the real state machines of all sites cost, in memory, for any number of sites?

Every site runs READY, cohort, masking, confirmation, unmasking and the check of the sum; the
coordinator adds and recovers. The same `Consortium` drives them as in the tests.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.secagg import MaskedUpdate, SignedReady, check_sum, mask, recover_sum, upload_hash
from schemas.secagg.cohort_keys import CohortKeys
from schemas.secagg.keys import Attempt, PairMask
from schemas.secagg.recovery import Revealed, confirm_survivors, contributors_of, reveal
from schemas.wire import CohortCall, encode
from tests.support.secure_sum import Consortium

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Handshake:
    """One recoverable attempt up to the answers of UNMASK, the last site being lost.

    The secrets serve for vectors of any length, over and over, as no product code allows: what is
    measured with them does not depend on the words.
    """

    consortium: Consortium
    readies: tuple[SignedReady, ...]
    attempt: Attempt
    group: bytes
    masks: dict[str, tuple[PairMask, ...]]
    lost: str
    revealed: dict[str, Revealed]

    @classmethod
    def of(cls, n_sites: int) -> Handshake:
        """Let ``n_sites`` meet, send one word each, lose one and unmask the rest."""
        consortium = Consortium.recoverable(n_sites)
        readies, keys = consortium.meet()
        masks: dict[str, tuple[PairMask, ...]] = {}
        uploads = {}
        for site, mine in keys.items():
            masks[site] = mine.spend_masks()
            words = np.zeros(1, dtype=np.uint32)
            uploads[site] = MaskedUpdate(words, 0)
            mine.note_upload(upload_hash(uploads[site]))
        any_site = next(iter(keys.values()))
        group, lost = any_site.group(), any_site.roster[-1]
        del uploads[lost]
        revealed = consortium.unmask(keys, consortium.confirm(keys, uploads))
        return cls(consortium, tuple(readies), any_site.attempt, group, masks, lost, revealed)

    @property
    def roster(self) -> tuple[str, ...]:
        """The cohort, sorted."""
        return tuple(sorted(self.masks))

    @property
    def survivors(self) -> tuple[str, ...]:
        """The cohort without the one that was lost."""
        return tuple(site for site in self.roster if site != self.lost)

    def keys(self, site: str) -> CohortKeys:
        """Give one site's keys, as if they had never been used."""
        return CohortKeys(site, self.roster, self.attempt, self.group, self.masks[site])

    def upload(self, site: str, vector: NDArray[np.int64]) -> MaskedUpdate:
        """Mask one site's vector."""
        return mask(self.keys(site), vector)


def simulate(n_sites: int, length: int, *, maximum_dropouts: int) -> dict[str, Any]:
    """Run one recoverable attempt of all sites with real handshakes, and lose one of them.

    Returns:
        Median CPU seconds a site spends on each step, those of the coordinator, bytes of the
        messages, and whether everybody opened the exact sum of the others.
    """
    consortium = Consortium.recoverable(n_sites, maximum_dropouts=maximum_dropouts)
    sites = consortium.plan.site_ids
    base = np.arange(length, dtype=np.int64) - length // 2
    steps: dict[str, list[float]] = {}

    def timed(step: str, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        start = time.process_time()
        result = call(*arguments, **options)
        steps.setdefault(step, []).append(time.process_time() - start)
        return result

    issued = {site: timed("ready", consortium.issue, site) for site in sites}
    readies = tuple(signed for signed, _ in issued.values())
    keys = {
        site: timed("cohort", consortium.join, site, issued[site][1], readies) for site in sites
    }
    uploads = {site: timed("mask", mask, keys[site], base + k) for k, site in enumerate(sites)}
    del uploads[sites[-1]]  # lost after the cohort
    plan = consortium.plan
    named = timed("hash_uploads", lambda: {s: upload_hash(each) for s, each in uploads.items()})
    signatures = {
        site: timed("confirm", confirm_survivors, keys[site], consortium.parties[site], plan, named)
        for site in uploads
    }
    revealed = {site: timed("unmask", reveal, keys[site], plan, signatures) for site in uploads}
    summed = timed("recover", recover_sum, plan, readies, uploads, revealed)
    expected = base * len(uploads) + sum(range(len(uploads)))
    opened = [
        timed(
            "check",
            check_sum,
            keys[site],
            summed,
            contributors=contributors_of(keys[site], tuple(uploads)),
        )
        for site in uploads
    ]
    call = CohortCall(plan_digest=plan.digest(), kind="train", round=3, attempt=1, readies=readies)
    median = {step: statistics.median(seconds) for step, seconds in steps.items()}
    coordinator = ("hash_uploads", "recover")
    return {
        "sites": n_sites,
        "d": length,
        "threshold": plan.survivor_threshold,
        "cpu_seconds_per_site": {s: t for s, t in median.items() if s not in coordinator},
        "cpu_seconds_of_coordinator": {s: median[s] for s in coordinator},
        "ready_bytes": max(len(signed.canonical()) for signed in readies),
        "cohort_bytes": len(encode(call)),
        "sum_is_exact": all(np.array_equal(each, expected) for each in opened),
    }
