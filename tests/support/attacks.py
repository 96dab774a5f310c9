"""How does a test attack real sites, and see each refusal written down where it happened?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from structlog.testing import capture_logs

from schemas.audit import AuditEvent
from schemas.governance.study import StudyPlan
from schemas.secagg import (
    CohortKeys,
    MaskedUpdate,
    Party,
    ReadySecrets,
    SignedReady,
    add_masked,
    join_cohort,
    make_ready,
    mask,
)
from schemas.secagg.messages import Ready
from site_node.context import SiteContext
from tests.support.by_hand import Hand, unharmed
from tests.support.consortium import MemoryConsortium
from tests.support.secure_sum import HEAD, FixedEntropy

VICTIM = "site-1"
FORGED = "5e" * 64
"""A signature by nobody."""


class Attack(Hand):
    """A dishonest coordinator whose every refusal must be found in the site's own records."""

    def refused(self, site: str, request: bytes, *, harmless: bool = True) -> str:
        """Send what must be refused; give the code, after finding it in log and audit.

        Args:
            site: who must refuse.
            request: the message.
            harmless: whether no site may have been charged, stepped, pinned or left an upload.
        """
        with capture_logs() as entries:
            if harmless:
                with unharmed(self.consortium):
                    code = self.refusal(site, request)
            else:
                code = self.refusal(site, request)
        logged = [entry["code"] for entry in entries if entry["event"] == "request.refused"]
        assert logged == [code]
        last = last_event(self.consortium.sites[site])
        assert (last.event, last.attributes["kind"]) == ("egress.released", "refusal")
        assert last.attributes["code"] == code
        return code

    @property
    def model_hash(self) -> str:
        """The hash of the model that the victim holds; the coordinator knows the model."""
        session = self.consortium.rounds[VICTIM]._sessions[self.consortium.digest]
        return session.standing.model_hash

    def charged_uploads(self, site: str) -> tuple[int, int]:
        """Training attempts in the site's ledger, and training uploads it let go."""
        row = self.consortium.sites[site].db.row(
            "SELECT count(*) AS n FROM released WHERE kind = 'masked-update'"
        )
        assert row is not None
        return self.consortium.charged(site), int(row["n"])


def last_event(site: SiteContext) -> AuditEvent:
    """The newest entry of a site's audit log."""
    row = site.db.row("SELECT body FROM audit ORDER BY idx DESC LIMIT 1")
    assert row is not None
    return AuditEvent.model_validate_json(row["body"])


def forged(ready: Ready, **changes: Any) -> SignedReady:
    """A READY changed by somebody who cannot sign for its site."""
    return SignedReady(ready=ready.model_copy(update=changes), signature=FORGED)


class Puppets:
    """Members of a cohort whose keys the attacker holds; they add zeros, so the rest lies open."""

    def __init__(
        self, plan: StudyPlan, parties: Mapping[str, Party], real: Mapping[str, SiteContext]
    ) -> None:
        """Hold these parties; where a site of the same name is real, its ledger is known."""
        self.plan = plan
        self.counted = plan.digest()  # the plan whose charges their READYs speak of
        self.parties = dict(parties)
        self.real = real
        self.secrets: dict[str, ReadySecrets] = {}
        self.entropy = FixedEntropy("puppets")

    @classmethod
    def holding(cls, consortium: MemoryConsortium, sites: Iterable[str]) -> Puppets:
        """Puppets that hold the keys of real sites: stolen, or of colluders."""
        keys = {site: consortium.sites[site].keys for site in sites}
        parties = {site: Party(site, k.identity, k.study) for site, k in keys.items()}
        return cls(consortium.plan, parties, consortium.sites)

    def readies(self, like: Ready) -> dict[str, SignedReady]:
        """Issue READYs for the attempt that an honest READY is for."""
        found = {}
        for site, party in self.parties.items():
            found[site], self.secrets[site] = make_ready(
                party,
                self.plan,
                kind=like.kind,
                round=like.round,
                attempt=like.attempt,
                model_hash=like.model_hash,
                last_sum_hash=like.last_sum_hash,
                ledger_head=self.real[site].ledger.head() if site in self.real else HEAD,
                ledger_charges=(
                    self.real[site].ledger.charges(self.counted) if site in self.real else 0
                ),
                entropy=self.entropy,
            )
        return found

    def keys(self, readies: Iterable[SignedReady], new_model_hash: str) -> dict[str, CohortKeys]:
        """Join a cohort at every puppet."""
        readies = tuple(readies)
        shown = {signed.ready.site_id: signed for signed in readies}
        found = {}
        for site, party in self.parties.items():
            self.secrets[site].issued = shown[site]  # signed or not, as the victim saw it
            said = shown[site].ready
            found[site] = join_cohort(
                party,
                self.plan,
                self.secrets[site],
                readies,
                kind=said.kind,
                round=said.round,
                attempt=said.attempt,
                model_hash=said.model_hash,
                last_sum_hash=said.last_sum_hash,
                new_model_hash=new_model_hash,
                approved=frozenset(signed.ready.site_id for signed in readies),
            )
        return found

    def open(
        self,
        readies: Iterable[SignedReady],
        new_model_hash: str,
        uploads: Mapping[str, MaskedUpdate],
    ) -> NDArray[np.int64]:
        """Add zeros for every puppet: what comes out is the sum of the others' vectors."""
        length = len(next(iter(uploads.values())).words)
        zeros = np.zeros(length, dtype=np.int64)
        mine = {
            site: mask(keys, zeros) for site, keys in self.keys(readies, new_model_hash).items()
        }
        together = {**uploads, **mine}
        words = add_masked(together, sorted(together)).words
        return words.view(np.int32).astype(np.int64)
