"""How do tests run a secure sum in memory, with a hand on every message?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.governance.study import StudyPlan
from schemas.secagg import (
    NO_SUM,
    CohortKeys,
    MaskedSum,
    MaskedUpdate,
    Party,
    Ready,
    ReadySecrets,
    SignedReady,
    add_masked,
    join_cohort,
    make_ready,
    mask,
    recover_sum,
    upload_hash,
)
from schemas.secagg.recovery import Revealed, confirm_survivors, reveal
from schemas.signing import Context, sign
from tests.support.factories import make_plan
from tests.support.hybrid import agree_kem

MODEL = "ab" * 32
NEW_MODEL = "cd" * 32
HEAD = "ef" * 32
RECOVERY_OUTPUTS = ["survivor-confirmation", "unmasking"]


@dataclass(slots=True)
class FixedEntropy:
    """A reproducible stream of bytes for tests; nothing outside tests may use it."""

    seed: str
    _counter: int = 0

    def __call__(self, n_bytes: int, /) -> bytes:
        """Give the next ``n_bytes`` of the stream."""
        out = b""
        while len(out) < n_bytes:
            self._counter += 1
            out += hashlib.sha256(f"{self.seed}/{self._counter}".encode()).digest()
        return out[:n_bytes]


@dataclass(slots=True)
class Consortium:
    """All sites of one plan, with their private keys, as no real machine has them."""

    plan: StudyPlan
    parties: dict[str, Party]
    entropy: FixedEntropy = field(default_factory=lambda: FixedEntropy("consortium"))

    @classmethod
    def of(cls, n_sites: int, **overrides: Any) -> Consortium:
        """Make a consortium of ``n_sites``."""
        plan, keys = make_plan(n_sites, **overrides)
        held = agree_kem(plan, keys) if plan.is_hybrid else {s: {} for s in keys}
        return cls(plan, {s: Party(s, k.identity, k.study, held[s]) for s, k in keys.items()})

    @classmethod
    def recoverable(
        cls, n_sites: int, *, maximum_dropouts: int = 1, collusion_bound: int = 1, **overrides: Any
    ) -> Consortium:
        """Make a consortium whose training survives the loss of ``maximum_dropouts`` members."""
        outputs = ["masked-update", "masked-evaluation", "model-hash", "release", "refusal"]
        terms = {"mode": "recoverable", "maximum_dropouts": maximum_dropouts}
        usual: dict[str, Any] = {
            "aggregation": {**terms, **overrides.pop("aggregation", {})},
            "outputs": outputs + RECOVERY_OUTPUTS,
            "collusion_bound": collusion_bound,
            "cohort_minimum": max(3, collusion_bound + 2),
        }
        return cls.of(n_sites, **{**usual, **overrides})

    @property
    def approved(self) -> frozenset[str]:
        """Every site approves."""
        return frozenset(self.parties)

    def context(self, **overrides: Any) -> dict[str, Any]:
        """What a READY and its cohort agree on."""
        usual = {
            "kind": "train",
            "round": 3,
            "attempt": 1,
            "model_hash": MODEL,
            "last_sum_hash": NO_SUM,
        }
        return usual | overrides

    def issue(self, site: str, **overrides: Any) -> tuple[SignedReady, ReadySecrets]:
        """Let one site issue a READY."""
        recipients = overrides.pop("recipients", None)
        return make_ready(
            self.parties[site],
            self.plan,
            ledger_head=HEAD,
            ledger_charges=0,
            entropy=self.entropy,
            recipients=recipients,
            **self.context(**overrides),
        )

    def issue_all(
        self, sites: Iterable[str] | None = None, **overrides: Any
    ) -> dict[str, tuple[SignedReady, ReadySecrets]]:
        """Let several sites issue READYs."""
        return {site: self.issue(site, **overrides) for site in (sites or self.parties)}

    def join(
        self,
        site: str,
        secrets: ReadySecrets,
        readies: Iterable[SignedReady],
        *,
        approved: frozenset[str] | None = None,
        new_model_hash: str = NEW_MODEL,
        **overrides: Any,
    ) -> CohortKeys:
        """Show one site a cohort."""
        return join_cohort(
            self.parties[site],
            self.plan,
            secrets,
            tuple(readies),
            new_model_hash=new_model_hash,
            approved=self.approved if approved is None else approved,
            **self.context(**overrides),
        )

    def keys(self, sites: Iterable[str] | None = None, **overrides: Any) -> dict[str, CohortKeys]:
        """Take several sites through READY and cohort."""
        return self.meet(sites, **overrides)[1]

    def meet(
        self, sites: Iterable[str] | None = None, **overrides: Any
    ) -> tuple[list[SignedReady], dict[str, CohortKeys]]:
        """Like `keys`, with the READYs, which the coordinator needs to recover a sum."""
        issued = self.issue_all(sites, **overrides)
        readies = [signed for signed, _ in issued.values()]
        keys = {
            site: self.join(site, secrets, readies, **overrides)
            for site, (_, secrets) in issued.items()
        }
        return readies, keys

    def confirm(
        self, keys: Mapping[str, CohortKeys], uploads: Mapping[str, MaskedUpdate]
    ) -> dict[str, str]:
        """Let every survivor sign the list of these uploads."""
        named = {site: upload_hash(update) for site, update in uploads.items()}
        return {
            site: confirm_survivors(keys[site], self.parties[site], self.plan, named)
            for site in uploads
        }

    def unmask(
        self, keys: Mapping[str, CohortKeys], confirmations: Mapping[str, str]
    ) -> dict[str, Revealed]:
        """Let every signer answer UNMASK."""
        return {site: reveal(keys[site], self.plan, confirmations) for site in confirmations}

    def recover(
        self,
        readies: Iterable[SignedReady],
        keys: Mapping[str, CohortKeys],
        vectors: Mapping[str, NDArray[np.int64]],
        *,
        lost: Iterable[str] = (),
    ) -> MaskedSum:
        """Run a recoverable attempt to its sum; the ``lost`` masked but were not heard again."""
        uploads = {site: mask(keys[site], vectors[site]) for site in keys}
        for site in lost:
            del uploads[site]
        revealed = self.unmask(keys, self.confirm(keys, uploads))
        return recover_sum(self.plan, tuple(readies), uploads, revealed)

    def resign(self, ready: Ready, **changes: Any) -> SignedReady:
        """What a dishonest member would send: another READY, properly signed by itself."""
        changed = ready.model_copy(update=changes)
        identity = self.parties[ready.site_id].identity
        return SignedReady(
            ready=changed, signature=sign(identity, Context.READY, changed.canonical())
        )


def summed(
    keys: Mapping[str, CohortKeys], vectors: Mapping[str, NDArray[np.int64]], *, blind: bool = False
) -> MaskedSum:
    """Mask every vector and add, as an honest coordinator does."""
    uploads = {site: mask(keys[site], vectors[site], blind=blind) for site in keys}
    return add_masked(uploads, tuple(keys))


def vectors_of(
    sites: Iterable[str], length: int, *, bound: int = 1 << 20, seed: str = "vectors"
) -> dict[str, NDArray[np.int64]]:
    """Reproducible integers in [-bound, bound) for each site."""
    entropy = FixedEntropy(seed)
    return {
        site: np.frombuffer(entropy(8 * length), dtype="<u8").astype(np.int64) % (2 * bound) - bound
        for site in sites
    }
