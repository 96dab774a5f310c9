"""What has the adversary seen, and what can it send? The coordinator and the colluding sites.

`World` passes messages to honest hospitals, keeps every answer, plays the colluders by the
product's own code, and reports each answer to the rules (`tests.search.oracle`). It chooses
nothing: who is asked what, in which order, is decided in `tests.search.adversary`.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from schemas.errors import CohortiumError
from schemas.evaluation import evaluation_length
from schemas.secagg.cohort_keys import CohortKeys
from schemas.secagg.coordinator import (
    add_masked,
    recover_sum,
    upload_hash,
    words_from_bytes,
    words_to_bytes,
)
from schemas.secagg.field import PRIME
from schemas.secagg.masking import MaskedSum, MaskedUpdate, mask
from schemas.secagg.messages import Ready, SignedReady, SurvivorList, transcript_hash
from schemas.secagg.recovery import Revealed, confirm_survivors, reveal
from schemas.secagg.site import Party, ReadySecrets, join_cohort, make_ready
from schemas.signing import Context, SignedDocument, open_signed, seal, sign
from schemas.wire import (
    Close,
    CohortCall,
    Confirmation,
    Final,
    FinalReply,
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
)
from tests.search.hospital import WATCH, Hospital
from tests.search.ideal import MEMORY, REMEMBERED, Entropy
from tests.search.oracle import Rules, Sent
from tests.search.scenes import Scene, ground_of

Slot = tuple[Kind, int, int]
"""Kind, round, attempt."""

Sum = tuple[SumTag, bytes]


@dataclass(frozen=True, slots=True)
class View:
    """One cohort as it is shown to somebody."""

    slot: Slot
    members: Mapping[str, SignedReady]
    transcript: str
    readies: tuple[SignedReady, ...]

    @classmethod
    def of(cls, slot: Slot, readies: Iterable[SignedReady]) -> View:
        """Make a view of READYs; a site that occurs twice is known by its last."""
        shown = tuple(readies)
        members = {signed.ready.site_id: signed for signed in shown}
        return cls(slot, members, transcript_hash(members.values()), shown)


@dataclass(slots=True)
class Colluder:
    """A site that gives the coordinator all it knows, and answers as it likes."""

    party: Party
    entropy: Entropy
    secrets: dict[str, ReadySecrets] = field(default_factory=dict)  # by ephemeral key


class World:
    """One schedule: honest hospitals, colluders, and all that was said."""

    def __init__(self, scene: Scene, seed: str) -> None:
        MEMORY.forget()
        REMEMBERED.forget()
        ground = ground_of(scene)
        ground.begin(scene)
        self.scene, self.plan, self.approvals = scene, ground.plan, ground.approvals
        self.digest = self.plan.digest()
        self.honest: dict[str, Hospital] = {}
        self.colluders: dict[str, Colluder] = {}
        for site in self.plan.site_ids:
            entropy = Entropy(f"{seed}/{site}/".encode(), site not in scene.corrupt)
            identity, study = ground.identity[site], ground.study[site]
            if site in scene.corrupt:
                party = Party(site, identity, study)  # type: ignore[arg-type]
                self.colluders[site] = Colluder(party, entropy)
            else:
                self.honest[site] = Hospital(
                    self.plan, site, identity, study, ground.weights, entropy
                )
        self.pool: dict[Slot, dict[str, list[SignedReady]]] = defaultdict(lambda: defaultdict(list))
        self.views: dict[str, View] = {}
        self.uploads: dict[str, dict[str, MaskedUpdate]] = defaultdict(dict)
        self.models: dict[str, str] = {}  # transcript → new model hash of an honest member
        self.lists: list[SurvivorList] = []
        self.signatures: dict[bytes, dict[str, str]] = defaultdict(dict)  # by the list's bytes
        self.revealed: dict[str, dict[str, Revealed]] = defaultdict(dict)  # by transcript
        self.sums: dict[int, list[Sum]] = defaultdict(list)
        self.finals: dict[str, SignedDocument] = {}
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self.rules = Rules(self.plan, scene.corrupt)

    # -- messages to honest sites -------------------------------------------------------------

    def open(
        self,
        site: str,
        slot: Slot,
        missing: Iterable[Sum] = (),
        approvals: tuple[SignedDocument, ...] | None = None,
    ) -> SignedReady | None:
        """OPEN: ask for a READY; a colluder gives as many as one likes."""
        if site in self.colluders:
            return self._colluding_ready(site, slot)
        kind, round_, attempt = slot
        sums = tuple(missing)
        message = Open(
            plan_digest=self.digest,
            kind=kind,
            round=round_,
            attempt=attempt,
            approvals=self.approvals if approvals is None else approvals,
            finals=tuple(self.finals.values()) if kind == "evaluate" else (),
            missing=tuple(tag for tag, _ in sums),
        )
        reply = self._ask(site, message, *(blob for _, blob in sums))
        if not isinstance(reply, ReadyReply):
            return None
        self._keep_ready(reply.ready)
        return reply.ready

    def cohort(self, site: str, view: View, previous: Sum | None = None) -> bool:
        """COHORT: show a site a view; say whether it sent its update."""
        kind, round_, attempt = view.slot
        message = CohortCall(
            plan_digest=self.digest,
            kind=kind,
            round=round_,
            attempt=attempt,
            readies=view.readies,
            previous=previous[0] if previous else None,
        )
        blobs = (previous[1],) if previous else ()
        reply = self._ask(site, message, *blobs)
        if not isinstance(reply, Upload):
            return False
        ((keys, masks),) = WATCH.spent
        length = (
            self.plan.model.parameters
            if kind == "train"
            else evaluation_length(self.plan.evaluation.bins)
        )
        update = MaskedUpdate(words_from_bytes(self._blobs[0], length), int(reply.tag, 16))
        self.views[view.transcript] = view
        self.uploads[view.transcript][site] = update
        self.models[view.transcript] = keys.attempt.new_model_hash
        self.rules.uploaded(
            Sent.of(site, keys, masks, view.members, update, WATCH.drawn, WATCH.counted)
        )
        if reply.next_ready is not None:
            self._keep_ready(reply.next_ready)
        return True

    def survivors(self, site: str, survivors: SurvivorList) -> None:
        """SURVIVORS: ask a site to sign a list."""
        if survivors not in self.lists:
            self.lists.append(survivors)
        if site in self.colluders:
            self._colluding_signatures(survivors)
            return
        message = SurvivorsCall(
            plan_digest=self.digest,
            round=survivors.round,
            attempt=survivors.attempt,
            uploads=survivors.uploads,
        )
        reply = self._ask(site, message)
        if isinstance(reply, Confirmation):
            # The site signs the list for its own transcript, whatever the coordinator meant.
            own = self.rules.transcript_of(site, survivors.round, survivors.attempt)
            meant = survivors.model_copy(update={"transcript_hash": own})
            if meant not in self.lists:
                self.lists.append(meant)
            self.signatures[meant.canonical()][site] = reply.signature
            self._colluding_signatures(meant)
            self.rules.confirmed(site, meant)

    def unmask(
        self, site: str, round_: int, attempt: int, confirmations: Mapping[str, str]
    ) -> None:
        """UNMASK: show a site signatures and keep what it reveals."""
        if site in self.colluders or not confirmations:
            return
        message = UnmaskCall(
            plan_digest=self.digest,
            round=round_,
            attempt=attempt,
            confirmations=dict(confirmations),
        )
        reply = self._ask(site, message)
        if isinstance(reply, Unmasking):
            transcript = self.rules.transcript_of(site, round_, attempt)
            self.revealed[transcript][site] = Revealed(reply.shares, reply.seeds)
            self.rules.revealed(site, self.views[transcript].members, reply)

    def close(self, site: str, last: Sum, missing: Iterable[Sum] = ()) -> None:
        """CLOSE: give the last sum and get the signed final model."""
        if site in self.colluders:
            return
        sums = tuple(missing)
        message = Close(
            plan_digest=self.digest,
            approvals=self.approvals,
            missing=tuple(tag for tag, _ in sums),
            last=last[0],
        )
        reply = self._ask(site, message, *(blob for _, blob in sums), last[1])
        if isinstance(reply, FinalReply):
            self.finals[site] = reply.final
            for colluder in self.colluders:
                self._colluding_final(colluder, reply.final)

    def result(self, site: str, summed: Sum) -> None:
        """RESULT: give an evaluation sum back."""
        if site not in self.colluders:
            message = Result(plan_digest=self.digest, summed=summed[0])
            reply = self._ask(site, message, summed[1])
            assert isinstance(reply, ReleaseReply | Refusal)

    def restart(self, site: str) -> None:
        """Let a site lose its memory."""
        if site in self.honest:
            self.log.append(f"restart {site}")
            self.honest[site].restart()

    # -- what the coordinator makes of the answers --------------------------------------------

    def sum_of(self, view: View, survivors: SurvivorList | None = None) -> Sum | None:
        """Add the updates of a view honestly, or of the survivors on a list; None if it fails."""
        roster = tuple(sorted(view.members if survivors is None else survivors.uploads))
        uploads = {}
        for site in roster:
            update = self.update_of(site, view)
            if update is None:
                return None
            uploads[site] = update
        try:
            if survivors is None:
                summed = add_masked(uploads, roster)
            else:
                revealed = dict(self.revealed[view.transcript])
                for site in self.colluders.keys() & set(roster):
                    revealed[site] = self._colluding_reveal(site, view, survivors)
                summed = recover_sum(self.plan, tuple(view.members.values()), uploads, revealed)
        except CohortiumError:
            return None
        self.counts["sum opened" if survivors is None else "sum recovered"] += 1
        return self.tagged(view, summed, () if survivors is None else roster)

    def tagged(self, view: View, summed: MaskedSum, survivors: tuple[str, ...] = ()) -> Sum:
        """Pack a sum as it travels."""
        _, round_, attempt = view.slot
        tag = SumTag(
            round=round_,
            attempt=attempt,
            tag=f"{summed.tag % PRIME:016x}",
            readies=tuple(view.members.values()),
            survivors=survivors,
        )
        return tag, words_to_bytes(summed.words)

    def update_of(self, site: str, view: View) -> MaskedUpdate | None:
        """Return a site's update in a view; a colluder's is made when it is first needed."""
        held = self.uploads[view.transcript].get(site)
        if held is None and site in self.colluders and view.transcript in self.models:
            keys = self._colluding_keys(site, view)
            if keys is not None:
                kind = view.slot[0]
                bins = self.plan.evaluation.bins
                length = self.plan.model.parameters if kind == "train" else evaluation_length(bins)
                vector = np.zeros(length, dtype=np.int64)
                held = mask(keys, vector, blind=kind == "evaluate")
                self.uploads[view.transcript][site] = held
        return held

    def list_of(self, view: View, members: Iterable[str], lie: str = "") -> SurvivorList:
        """Write a list of survivors with the hashes of what they sent, or of nothing."""
        uploads = {}
        for site in sorted(members):
            update = self.update_of(site, view)
            if update is None or lie:
                uploads[site] = hashlib.sha256(f"{site}/{lie}".encode()).hexdigest()
            else:
                uploads[site] = upload_hash(update)
        _, round_, attempt = view.slot
        return SurvivorList(
            plan_digest=self.digest,
            round=round_,
            attempt=attempt,
            transcript_hash=view.transcript,
            uploads=uploads,
        )

    # -- colluders ----------------------------------------------------------------------------

    def _colluding_ready(self, site: str, slot: Slot) -> SignedReady | None:
        kind, round_, attempt = slot
        colluder = self.colluders[site]
        honest = [
            signed.ready
            for name, given in self.pool[slot].items()
            if name in self.honest
            for signed in given
        ]
        if not honest:
            return None
        ready, secrets = make_ready(
            colluder.party,
            self.plan,
            kind=kind,
            round=round_,
            attempt=attempt,
            model_hash=honest[-1].model_hash,
            last_sum_hash=honest[-1].last_sum_hash,
            ledger_head="ef" * 32,
            ledger_charges=0,
            entropy=colluder.entropy,
        )
        colluder.secrets[ready.ready.ephemeral_key] = secrets
        self._keep_ready(ready)
        return ready

    def _colluding_keys(self, site: str, view: View) -> CohortKeys | None:
        own = view.members[site].ready
        colluder = self.colluders[site]
        secrets = colluder.secrets.get(own.ephemeral_key)
        if secrets is None or view.transcript not in self.models:
            return None
        kind, round_, attempt = view.slot
        try:
            return join_cohort(
                colluder.party,
                self.plan,
                copy.copy(secrets),  # honest code forgets them; a colluder does not
                tuple(view.members.values()),
                kind=kind,
                round=round_,
                attempt=attempt,
                model_hash=own.model_hash,
                last_sum_hash=own.last_sum_hash,
                new_model_hash=self.models[view.transcript],
                approved=frozenset(self.plan.site_ids),
            )
        except CohortiumError:
            return None

    def _colluding_signatures(self, survivors: SurvivorList) -> None:
        """Colluders sign whatever they are on."""
        statement = survivors.canonical()
        for site in self.colluders.keys() & survivors.uploads.keys():
            identity = self.colluders[site].party.identity
            self.signatures[statement][site] = sign(identity, Context.SURVIVORS, statement)

    def _colluding_reveal(self, site: str, view: View, survivors: SurvivorList) -> Revealed:
        keys = self._colluding_keys(site, view)
        if keys is None:
            return Revealed({}, {})
        mask(keys, np.zeros(self.plan.model.parameters, dtype=np.int64))
        confirm_survivors(keys, self.colluders[site].party, self.plan, survivors.uploads)
        return reveal(keys, self.plan, self.signatures[survivors.canonical()])

    def _colluding_final(self, site: str, honest: SignedDocument) -> None:
        final = open_signed(
            honest, Context.FINAL, Final, expected_signer=None, max_bytes=4096
        ).model_copy(update={"site_id": site})
        self.finals[site] = seal(self.colluders[site].party.identity, Context.FINAL, final)

    def resigned(self, ready: Ready, change: Mapping[str, object]) -> SignedReady:
        """Return a colluder's READY with something changed, properly signed."""
        changed = ready.model_copy(update=dict(change))
        identity = self.colluders[ready.site_id].party.identity
        signature = sign(identity, Context.READY, changed.canonical())
        return SignedReady(ready=changed, signature=signature)

    # -- underneath ---------------------------------------------------------------------------

    def _keep_ready(self, signed: SignedReady) -> None:
        ready = signed.ready
        self.pool[ready.kind, ready.round, ready.attempt][ready.site_id].append(signed)

    def _ask(self, site: str, message: object, *blobs: bytes) -> object:
        hospital = self.honest[site]
        frame = hospital.answer(message, *blobs)  # type: ignore[arg-type]
        reply = frame.header
        self._blobs = frame.blobs
        name = type(message).__name__
        outcome = hospital.refusals[-1].value if isinstance(reply, Refusal) else "answered"
        self.counts[f"{name} {outcome}"] += 1
        self.log.append(f"{name} {site} {outcome}")
        for round_, values in WATCH.applied:
            self.counts["sum applied"] += 1
            self.rules.applied(site, round_, values)
        for roster, values in WATCH.opened:
            self.counts["evaluation opened"] += 1
            self.rules.opened(site, roster, values)
        return reply


__all__ = ["Slot", "Sum", "View", "World"]
