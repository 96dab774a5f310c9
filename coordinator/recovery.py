"""How does the sum of a recoverable attempt come together although hospitals were lost?

Two exchanges after the uploads (SECAGG-13 to -15): SURVIVORS names the uploads that arrived and
gathers the sites' signatures under that one list; UNMASK shows the signatures and gathers what
takes the masks off the sum of exactly those. There is one list for an attempt: sites sign no
second one. If either exchange falls short, the attempt is void, as a lost hospital voids an atomic
one; whatever was revealed by then opens nothing.

| lost after       | needed                                       | otherwise |
| ---------------- | -------------------------------------------- | --------- |
| COHORT           | no more lost than the plan allows            | void      |
| upload, confirm  | nobody lost: tau signatures, then tau answers | void      |
|                  | some lost: every survivor signs and answers  | void      |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coordinator.answers import read_confirmation, read_unmasking
from coordinator.asking import Asker
from coordinator.sums import RoundSum, Uploads
from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.secagg.coordinator import unmask_sum
from schemas.secagg.messages import SignedReady, SurvivorList, transcript_hash
from schemas.secagg.recovery import Revealed
from schemas.wire import (
    Confirmation,
    SurvivorsCall,
    UnmaskCall,
    Unmasking,
    encode,
)

NoteBytes = Callable[[str, Mapping[str, int]], None]
"""(kind, site id → bytes): what arrived, for the count of what each hospital has sent."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The uploads of one recoverable attempt on their way to a sum.

    Attributes:
        readies: the signed cohort by site.
        uploads: the sum of what arrived, and the hash of each part of it.
    """

    plan: StudyPlan
    asker: Asker
    note_bytes: NoteBytes
    round: int
    attempt: int
    readies: Mapping[str, SignedReady]
    uploads: Uploads

    def run(self) -> tuple[RoundSum | None, str]:
        """Give the sum, or the code that makes the attempt void."""
        arrived = sorted(self.uploads.sites)
        lost = [site for site in self.readies if site not in self.uploads.sites]
        if len(lost) > self.plan.dropouts_allowed(len(self.readies)):
            return None, self.asker.reason_of(lost[0])
        survivors = SurvivorList(
            plan_digest=self.plan.digest(),
            round=self.round,
            attempt=self.attempt,
            transcript_hash=transcript_hash(self.readies.values()),
            uploads={site: self.uploads.hash_of[site] for site in arrived},
        )
        # A lost hospital's masks come off only with the help of every survivor.
        needed = len(arrived) if lost else self.plan.survivor_threshold
        confirmations = self._confirmations(survivors, needed)
        if len(confirmations) < needed:
            return None, self._why(confirmations, ErrorCode.CONFIRMATIONS_TOO_FEW)
        revealed = self._revealed(survivors, confirmations, needed)
        if len(revealed) < needed:
            return None, self._why(revealed, ErrorCode.RECOVERY_FAILED)
        try:
            summed = unmask_sum(self.plan, self.readies.values(), self.uploads.running, revealed)
        except CohortiumError as error:
            return None, error.code.value
        named = tuple(arrived) if lost else ()
        ordered = tuple(self.readies[site] for site in sorted(self.readies))
        return RoundSum(self.round, self.attempt, summed, ordered, named), ""

    def _confirmations(self, survivors: SurvivorList, needed: int) -> dict[str, str]:
        """Gather the survivors' signatures under the list, valid ones only."""
        call = SurvivorsCall(
            plan_digest=survivors.plan_digest,
            round=self.round,
            attempt=self.attempt,
            uploads=survivors.uploads,
        )
        frames = self.asker.ask(
            dict.fromkeys(survivors.uploads, encode(call)),
            (Confirmation,),
            self.asker.answer_seconds(),
            needed,
        )
        found: dict[str, str] = {}
        for site, frame in frames.items():
            try:
                found[site] = read_confirmation(self.plan, site, frame, survivors)
            except CohortiumError as error:
                self.asker.reasons[site] = error.code.value
        self.note_bytes(
            "survivor-confirmation", {site: len(encode(frames[site].header)) for site in found}
        )
        return found

    def _revealed(
        self, survivors: SurvivorList, confirmations: Mapping[str, str], needed: int
    ) -> dict[str, Revealed]:
        """Gather what the confirming survivors reveal, well-formed answers only."""
        call = UnmaskCall(
            plan_digest=survivors.plan_digest,
            round=self.round,
            attempt=self.attempt,
            confirmations=dict(confirmations),
        )
        frames = self.asker.ask(
            dict.fromkeys(confirmations, encode(call)),
            (Unmasking,),
            self.asker.answer_seconds(),
            needed,
        )
        found: dict[str, Revealed] = {}
        for site, frame in frames.items():
            try:
                found[site] = read_unmasking(site, frame, survivors, self.readies)
            except CohortiumError as error:
                self.asker.reasons[site] = error.code.value
        self.note_bytes("unmasking", {site: len(encode(frames[site].header)) for site in found})
        return found

    def _why(self, answered: Mapping[str, object], code: ErrorCode) -> str:
        """Give the reason of the first survivor that did not answer, or what is missing."""
        silent = [site for site in sorted(self.uploads.sites) if site not in answered]
        return self.asker.reasons.get(silent[0], code.value) if silent else code.value
