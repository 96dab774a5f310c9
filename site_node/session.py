"""What does this site remember of one study while it runs: model, READY secrets, cohort keys?

The standing (model and hashes) is durable in the journal; READY secrets, cohort keys and loaded
features live in this process only. After a restart a READY issued before it is refused and the
coordinator opens a new attempt with fresh keys, sample and noise.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.canonical import sha256_hex
from schemas.errors import ErrorCode, PolicyDenied, ProtocolError, TrustError
from schemas.evaluation import evaluation_length
from schemas.governance.approval import check_approvals
from schemas.governance.study import StudyPlan
from schemas.models import from_safetensors, initial_state, weights_from_seed
from schemas.preparation import prepare
from schemas.secagg.coordinator import sum_hash, words_from_bytes
from schemas.secagg.messages import SignedReady, transcript_hash
from schemas.secagg.recovery import contributors_of
from schemas.secagg.site import (
    CohortKeys,
    MaskedSum,
    Party,
    ReadySecrets,
    check_sum,
    make_ready,
    observe_cohort,
)
from schemas.signing import SignedDocument
from schemas.wire import Kind, SumTag
from site_node.kem import kem_secrets
from site_node.logs import event
from site_node.standing import Standing

if TYPE_CHECKING:
    import pyarrow as pa

    from schemas.entropy import Entropy
    from site_node.cohort.features import Features
    from site_node.context import SiteContext
    from site_node.governance.ledger import ChargeRef


@dataclass(slots=True)
class StudySession:
    """One approved plan at this site."""

    site: SiteContext
    plan: StudyPlan
    digest: str
    entropy: Entropy
    standing: Standing
    approved: frozenset[str] = frozenset()
    kem_secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    issued: dict[Kind, tuple[SignedReady, ReadySecrets]] = field(default_factory=dict)
    keys: dict[Kind, tuple[int, int, CohortKeys]] = field(default_factory=dict)
    charges: dict[Kind, ChargeRef] = field(default_factory=dict)
    watched: tuple[int, int, dict[str, int]] | None = None  # charges said in the last cohort
    _features: dict[tuple[str, bytes], Features] = field(default_factory=dict)

    @classmethod
    def resume(
        cls, site: SiteContext, plan: StudyPlan, digest: str, entropy: Entropy
    ) -> StudySession:
        """Take up the study where the journal left it, or at the plan's initial weights.

        Weights from a seed are derived here; the vendor's own came from the coordinator. Either
        way they are those the plan names by hash, or nothing begins.

        Raises:
            ProtocolError: WEIGHTS_MISSING, WEIGHTS_MISMATCH or WEIGHTS_MALFORMED.
        """
        stored = site.journal.load_state(digest)
        if stored is not None:
            standing = Standing.from_bytes(stored[1])
        else:
            if plan.model.initialisation == "seed":
                weights = weights_from_seed(plan.model)
            else:
                weights = site.weights(plan.model.initial_weights_sha256)
            if sha256_hex(weights) != plan.model.initial_weights_sha256:
                raise ProtocolError(
                    ErrorCode.WEIGHTS_MISMATCH,
                    "The initial weights are not those the plan names.",
                )
            flat = from_safetensors(plan.model, weights)
            standing = Standing.initial(plan, digest, initial_state(plan.model, flat))
        return cls(site, plan, digest, entropy, standing)

    @property
    def party(self) -> Party:
        """Who this site is in the secure sum."""
        keys = self.site.keys
        return Party(self.site.config.site_id, keys.identity, keys.study, self.kem_secrets)

    def accept_approvals(self, approvals: Sequence[SignedDocument]) -> None:
        """Learn which sites' stewards approved this very plan, and what they encapsulated.

        Raises:
            TrustError: in a hybrid plan, as `site_node.kem.kem_secrets` says.
        """
        self.kem_secrets = kem_secrets(self.site, self.plan, approvals)
        self.approved = frozenset(check_approvals(self.plan, approvals).approved)

    def features(self, split: Literal["train", "test"]) -> Features:
        """Load the feature tensors of one split, once per process and preparation.

        Raises:
            ProtocolError: PREPARATION_MISSING, the plan has one and its sum is not here yet.
            DataRejected: as from `load_features`.
        """
        from site_node.cohort.features import load_features

        sums = self.standing.state.prepared
        key = (split, sums.tobytes())
        if key not in self._features:
            prepared = prepare(self.plan, sums)
            self._features[key] = load_features(self.rows(), self.plan, split, prepared)
        return self._features[key]

    def rows(self) -> pa.Table:
        """Read the study's rows, as they were ingested here under this plan's data contract.

        Raises:
            DataRejected: STORE_MISSING; STORE_TERMS_OTHER, the store is one for all plans of the
                study's name, and another's contract said which rows and values were let in.
        """
        return self.site.store.read(self.plan.study_id, self.plan.data.digest())

    # -- READY and cohort --------------------------------------------------------------------

    def ready(self, kind: Kind, round_: int, attempt: int, model_hash: str = "") -> SignedReady:
        """Issue the READY of (round, attempt) with a fresh key; older ones are void from here on.

        Raises:
            ProtocolError: ATTEMPT_SPENT when this or a later attempt was already taken up.
        """
        highest = self.site.journal.highest(self.digest, kind)
        if highest is not None and (round_, attempt) <= highest:
            raise ProtocolError(
                ErrorCode.ATTEMPT_SPENT, "This attempt was used before; it cannot be repeated."
            )
        if kind == "train":
            model_hash, last_sum = self.standing.ready_hashes(round_)
        else:
            last_sum = self.standing.sum_hash
        signed, secrets = make_ready(
            self.party,
            self.plan,
            kind=kind,
            round=round_,
            attempt=attempt,
            model_hash=model_hash,
            last_sum_hash=last_sum,
            ledger_head=self.site.ledger.head(),
            ledger_charges=self.site.ledger.charges(self.digest),
            entropy=self.entropy,
            recipients=self.approved,
        )
        self.forget_ready(kind)
        self.issued[kind] = (signed, secrets)
        note_time("ready.issued", self.digest, kind, round_, attempt)
        return signed

    def take_ready(self, kind: Kind, round_: int, attempt: int) -> tuple[SignedReady, ReadySecrets]:
        """Take the secrets of the outstanding READY; each is used once.

        Raises:
            ProtocolError: COHORT_READY_STALE after a restart or a newer READY.
        """
        held = self.issued.get(kind)
        if held is None or (held[0].ready.round, held[0].ready.attempt) != (round_, attempt):
            # A READY still outstanding is for another attempt and stays good for that one.
            raise ProtocolError(
                ErrorCode.COHORT_READY_STALE,
                "The secrets of this READY are gone; a new attempt is needed.",
            )
        del self.issued[kind]
        return held

    def forget_ready(self, kind: Kind) -> None:
        """Erase an outstanding READY's ephemeral key."""
        held = self.issued.pop(kind, None)
        if held is not None:
            held[1].erase()

    def watch_heads(self, readies: Sequence[SignedReady]) -> None:
        """Refuse a cohort in which a peer's ledger went back to an earlier state.

        Raises:
            TrustError: LEDGER_ROLLBACK.
        """
        first = readies[0].ready  # `join_cohort` saw to it that all are of one attempt
        if first.kind == "train":
            said = {signed.ready.site_id: signed.ready.ledger_charges for signed in readies}
            self.watched = first.round, first.attempt, said
        for signed in readies:
            ready = signed.ready
            if ready.site_id == self.site.config.site_id:
                continue
            if not self.site.journal.remember_head(
                self.digest, ready.site_id, ready.ledger_head, ready.ledger_charges
            ):
                raise TrustError(
                    ErrorCode.LEDGER_ROLLBACK,
                    "Another hospital's ledger was restored from an older copy.",
                    hint="Ask that hospital; its node must leave the study.",
                )

    # -- sums --------------------------------------------------------------------------------

    def catch_up(self, missing: Sequence[SumTag], blobs: Sequence[memoryview]) -> None:
        """Apply the sums of rounds this site was away for; those it has are passed over.

        Raises:
            ProtocolError: MESSAGE_MALFORMED when sums and blobs do not pair up, and whatever
                `accept_sum` raises.
        """
        if len(missing) != len(blobs):
            raise ProtocolError(ErrorCode.MESSAGE_MALFORMED, "Each sum needs exactly one blob.")
        for tag, blob in zip(missing, blobs, strict=True):
            if tag.round >= self.standing.rounds:
                self.accept_sum(tag, blob)

    def accept_sum(self, tag: SumTag, blob: memoryview) -> None:
        """Check the affine tag of a round's sum, apply it and make the state durable.

        A site that took part checks with its own cohort keys; one that was away or restarted
        derives the tag secret from the signed READY messages of that attempt.

        Raises:
            ProtocolError: SUM_ALTERED, SUM_MISMATCH, SUM_UNVERIFIABLE, SITE_BEHIND; or the sum
                is said to be of other hospitals than this site knows or may believe.
        """
        words = words_from_bytes(blob, self.plan.sum_terms(tag.round).words)
        summed = MaskedSum(words, int(tag.tag, 16))
        given = sum_hash(summed)
        if not self.standing.expects(tag.round, given):
            return
        keys = self._keys_of(tag)
        contributors = contributors_of(keys, tag.survivors)
        values = check_sum(keys, summed, contributors=contributors)
        following = self.standing.summed(values, given, self.plan)
        # Durable first: memory must never be ahead of what a restart would find.
        self.site.journal.save_state(self.digest, following.rounds, following.to_bytes(), given)
        self.standing = following
        charged = self._charges_before(tag)
        # A contributor was charged for this very attempt; a ledger that says less went back.
        self.site.journal.expect_charges(
            self.digest, {site: charged[site] + 1 for site in contributors if site in charged}
        )
        note_time("sum.checked", self.digest, "train", tag.round, tag.attempt)

    def open_blind_sum(
        self, tag: SumTag, blob: memoryview
    ) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Open the coordinator-blind evaluation sum this site took part in.

        Returns:
            The (d,) integer vector and the roster behind it.

        Raises:
            ProtocolError: ATTEMPT_UNKNOWN after a restart, SUM_ALTERED.
        """
        held = self.keys.get("evaluate")
        if held is None or held[:2] != (tag.round, tag.attempt):
            raise ProtocolError(
                ErrorCode.ATTEMPT_UNKNOWN, "This site did not take part in that evaluation."
            )
        length = evaluation_length(self.plan.evaluation.bins)
        keys, summed = held[2], MaskedSum(words_from_bytes(blob, length), int(tag.tag, 16))
        values = check_sum(keys, summed, contributors=contributors_of(keys, tag.survivors))
        return values, keys.roster

    def _charges_before(self, tag: SumTag) -> dict[str, int]:
        """Give what each member's READY of a summed attempt said of its charges."""
        if self.watched is not None and self.watched[:2] == (tag.round, tag.attempt):
            return self.watched[2]  # seen by this site itself, not as the coordinator tells it
        return {signed.ready.site_id: signed.ready.ledger_charges for signed in tag.readies}

    def _keys_of(self, tag: SumTag) -> CohortKeys:
        """Find the means to check a training sum: own keys, or the attempt's signed cohort."""
        held = self.keys.get("train")
        if held is not None and held[:2] == (tag.round, tag.attempt):
            # Two cohorts of one attempt are a coordinator's doing; only one of them gave a sum.
            if not tag.readies or transcript_hash(tag.readies) == held[2].transcript_hash:
                return held[2]
        elif not tag.readies:
            raise ProtocolError(
                ErrorCode.SUM_UNVERIFIABLE,
                "A sum arrived without the means to check it.",
                hint="The coordinator must send the signed READY messages of that attempt.",
            )
        return observe_cohort(
            self.party,
            self.plan,
            tag.readies,
            kind="train",
            round=tag.round,
            attempt=tag.attempt,
            new_model_hash=self.standing.model_hash,
            approved=self.approved,
        )


def note_time(name: str, digest: str, kind: Kind, round_: int, attempt: int) -> None:
    """Log when a step of the protocol happened here; the log stays at the site."""
    now = round(time.time(), 3)
    event(name, plan=digest, kind=kind, round=round_, attempt=attempt, seconds=now)


def require_running(plan: StudyPlan, round_: int, kind: Kind, attempt: int) -> None:
    """Refuse rounds outside the plan, and evaluations beyond those `plan show` promised.

    The ledger bounds the attempts of training; an evaluation spends nothing there.

    Raises:
        PolicyDenied: ROUND_UNKNOWN.
    """
    limit = plan.rounds if kind == "train" else 1
    if round_ >= limit or (kind == "evaluate" and attempt > plan.training.retry_cap):
        raise PolicyDenied(ErrorCode.ROUND_UNKNOWN, "The round lies outside the plan's rounds.")
