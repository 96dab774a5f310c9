"""How does one answer come to leave this hospital?

`SiteRounds.answer` takes a request of the coordinator and returns exactly one sealed `Released`.
Read `execute_round` first: it is the whole way from an announced cohort to a masked upload, in the
order that keeps the promise — nothing is computed before the charge is durable, nothing leaves but
through the egress gate.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from schemas.canonical import Document
from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TrustError
from schemas.evaluation import derive_release
from schemas.models import final_parameters, model_hash
from schemas.secagg.site import join_cohort
from schemas.signing import Context, SignedDocument, open_signed, seal, sign
from schemas.wire import (
    Close,
    CohortCall,
    Final,
    FinalReply,
    Frame,
    Open,
    ReadyReply,
    Refusal,
    ReleaseReply,
    Request,
    Result,
    SurvivorsCall,
    UnmaskCall,
    Upload,
    decode,
    encode,
)
from site_node.logs import event
from site_node.outgoing import NO_TAG, masked_upload
from site_node.pace import Pace
from site_node.recovery import confirm, unmask
from site_node.session import StudySession, require_running

if TYPE_CHECKING:
    from schemas.entropy import Entropy
    from schemas.governance.study import SumTerms
    from schemas.secagg.quantise import NoisedUpdate
    from schemas.secagg.site import CohortKeys
    from site_node.context import SiteContext
    from site_node.egress.released import Released


class SiteRounds:
    """All studies of this site, as the executor serves them: one request, one released answer."""

    def __init__(
        self, site: SiteContext, entropy: Entropy = os.urandom, pace: Pace | None = None
    ) -> None:
        """Serve requests for `site`; entropy and pace are injected for tests."""
        self._site = site
        self._entropy = entropy
        self._pace = pace or Pace(site.config.service.answer_quantum_seconds)
        self._sessions: dict[str, StudySession] = {}

    def answer(self, raw: bytes) -> Released:
        """Answer one request; a refusal carries a code and nothing else.

        Raises:
            InternalError: AUDIT_UNAVAILABLE when even the refusal cannot be recorded; then
                nothing leaves.
        """
        digest = None
        try:
            frame = decode(
                raw, allowed=(Open, CohortCall, SurvivorsCall, UnmaskCall, Close, Result)
            )
            header = frame.header
            assert isinstance(header, Request)
            digest = header.plan_digest
            session = self._session(digest)
            match header:
                case Open():
                    return self._open(session, header, frame)
                case CohortCall():
                    return self._computed(session, header, frame)
                case SurvivorsCall():
                    return confirm(session, header)
                case UnmaskCall():
                    return unmask(session, header)
                case Close():
                    return self._close(session, header, frame)
                case Result():
                    return self._result(session, header, frame)
        except CohortiumError as error:
            if error.code is ErrorCode.AUDIT_UNAVAILABLE:
                raise
            return self.refuse(error.code, digest)

    def refuse(self, code: ErrorCode, digest: str | None = None) -> Released:
        """Release a refusal: the code alone."""
        event("request.refused", plan=digest or "", code=code.value)
        return self._site.gate.refuse(
            encode(Refusal(code=code.value)), code=code, plan_digest=digest
        )

    def _session(self, digest: str) -> StudySession:
        """Re-check the local approval at every request, then take up the study."""
        plan = self._site.approvals.approved_plan(digest)
        if digest not in self._sessions:
            self._sessions[digest] = StudySession.resume(self._site, plan, digest, self._entropy)
        return self._sessions[digest]

    def _open(self, session: StudySession, message: Open, frame: Frame) -> Released:
        require_running(session.plan, message.round, message.kind, message.attempt)
        session.accept_approvals(message.approvals)
        session.catch_up(message.missing, frame.blobs)
        hash_ = ""
        if message.kind == "evaluate":
            hash_ = _signed_model(session, message.finals)
        ready = session.ready(message.kind, message.round, message.attempt, hash_)
        body = encode(ReadyReply(ready=ready))
        return self._site.gate.release("model-hash", body, plan=session.plan, contributors=1)

    def _computed(self, session: StudySession, call: CohortCall, frame: Frame) -> Released:
        """Answer with what was computed on patients, refusals too, at the study's own pace."""
        if call.kind == "train":
            mechanism = session.plan.sum_terms(call.round).mechanism
            with self._pace.kept(f"{session.digest}/{mechanism}"):
                return execute_round(session, call, frame)
        with self._pace.kept(f"{session.digest}/{call.kind}"):
            return execute_evaluation(session, call, frame)

    def _close(self, session: StudySession, message: Close, frame: Frame) -> Released:
        """Apply the last sum and sign the final model."""
        if message.last.round != session.plan.rounds - 1:
            raise ProtocolError(ErrorCode.MESSAGE_OUT_OF_ORDER, "The study is not at its end.")
        if not frame.blobs:
            raise ProtocolError(ErrorCode.SUM_MISSING, "The last sum is missing.")
        session.accept_approvals(message.approvals)
        session.catch_up(message.missing, frame.blobs[:-1])
        session.accept_sum(message.last, frame.blobs[-1])
        session.forget_ready("train")
        final = Final(
            plan_digest=session.digest,
            site_id=self._site.config.site_id,
            steps=session.standing.state.step,
            model_hash=_final_hash(session),
            last_sum_hash=session.standing.sum_hash,
        )
        sealed = seal(self._site.keys.identity, Context.FINAL, final)
        body = encode(FinalReply(final=sealed))
        return self._site.gate.release("model-hash", body, plan=session.plan, contributors=1)

    def _result(self, session: StudySession, message: Result, frame: Frame) -> Released:
        """Open the blind sum, derive what may be released and co-sign exactly those bytes."""
        if len(frame.blobs) != 1:
            raise ProtocolError(ErrorCode.MESSAGE_MALFORMED, "A result carries one sum.")
        values, roster = session.open_blind_sum(message.summed, frame.blobs[0])
        release = derive_release(session.plan, _final_hash(session), roster, values)
        body = release.canonical()
        signature = sign(self._site.keys.identity, Context.RELEASE, body)
        reply = encode(ReleaseReply(site_id=self._site.config.site_id, signature=signature), body)
        return self._site.gate.release(
            "release", reply, plan=session.plan, contributors=len(roster)
        )


def execute_round(session: StudySession, call: CohortCall, frame: Frame) -> Released:
    """Take part in one attempt of the preparation or of training: the outbound spine.

    Raises:
        CohortiumError: any refusal; before step 4 nothing is charged, after it the attempt
            stays charged.
    """
    site, plan = session.site, session.plan
    require_running(plan, call.round, "train", call.attempt)
    # 1  The sum of the previous round: tag checked, sum applied, state made durable.
    if call.round > 0:
        if call.previous is None or call.previous.round != call.round - 1 or len(frame.blobs) != 1:
            raise ProtocolError(ErrorCode.SUM_MISSING, "The sum of the round before is missing.")
        session.accept_sum(call.previous, frame.blobs[0])
    elif call.previous is not None or frame.blobs:
        raise ProtocolError(ErrorCode.MESSAGE_MALFORMED, "Nothing comes before the first round.")
    # 2  The cohort: pinned keys, same state everywhere, at least m_min approved hospitals.
    keys = _join(session, call, new_model_hash=session.standing.model_hash)
    # 3  No peer's ledger went backwards.
    session.watch_heads(call.readies)
    # 4  Charge: ledger, journal and audit in one durable transaction, before anything is computed.
    charge = site.charge(plan, "train", call.round, call.attempt, keys.roster)
    session.charges["train"] = charge
    # 5-7 What this hospital adds, with its noise on it.
    noised = _contribution(session, plan.sum_terms(call.round), len(keys.roster))
    # 8  READY of the next round travels with this upload.
    following = None
    if call.round + 1 < plan.rounds:
        following = session.ready("train", call.round + 1, 0)
    header = Upload(
        plan_digest=session.digest,
        kind="train",
        round=call.round,
        attempt=call.attempt,
        tag=NO_TAG,
        next_ready=following,
    )
    # 9  Mask, with the affine tag; in recoverable mode under a self-mask as well.
    body = masked_upload(keys, noised, header=header)
    # 10 The only door. In recoverable mode the sum is unmasked later: `site_node.recovery`.
    return site.gate.release(
        "masked-update", body, plan=plan, contributors=len(keys.roster), charge=charge
    )


def _contribution(session: StudySession, terms: SumTerms, cohort_size: int) -> NoisedUpdate:
    """Compute what this hospital adds to a sum: patients, each bounded by itself, then noise."""
    from site_node.cohort.preparation import preparation_sum
    from site_node.training.dp_sgd import clipped_integer_sum, noised_update
    from site_node.training.fedavg import local_update
    from site_node.training.sampling import poisson_mask

    plan, state, entropy = session.plan, session.standing.state, session.entropy
    if terms.mechanism == "preparation":
        # 5, 6 Counts and sums of every training patient, truncated onto the integer grid.
        clipped = preparation_sum(session.rows(), plan)
    else:
        # 5  Features of the training split, prepared as the plan and its first sum say.
        features = session.features("train")
        if terms.is_local:
            # dp-fedavg: private steps of this hospital alone, each with the whole noise.
            return local_update(plan, state, features, entropy)
        # 6  A sample of patients by CSPRNG coins; their gradients, clipped, onto the grid, summed.
        chosen = poisson_mask(features.patients, plan.training.sampling_rate, entropy)
        clipped = clipped_integer_sum(plan, state, features, chosen)
    # 7  This site's share of the noise, for the cohort it knows and those the plan lets it lose.
    return noised_update(plan, terms, clipped, cohort_size, entropy)


def execute_evaluation(session: StudySession, call: CohortCall, frame: Frame) -> Released:
    """Contribute to the one coordinator-blind evaluation of the final model."""
    from site_node.training.evaluate import evaluation_vector

    site, plan = session.site, session.plan
    require_running(plan, call.round, "evaluate", call.attempt)
    if call.previous is not None or frame.blobs:
        raise ProtocolError(ErrorCode.MESSAGE_MALFORMED, "An evaluation follows no sum.")
    final_hash = _final_hash(session)
    keys = _join(session, call, new_model_hash=final_hash)
    session.watch_heads(call.readies)
    # One evaluation: the same hospitals and the same test patients in every attempt.
    features = session.features("test")
    site.journal.fix_evaluation_roster(session.digest, keys.roster)
    site.journal.fix_evaluation_snapshot(session.digest, features.sha256())
    charge = site.charge(plan, "evaluate", call.round, call.attempt, keys.roster)
    parameters = final_parameters(session.standing.state, plan.training)
    vector = evaluation_vector(plan, parameters, features)
    header = Upload(
        plan_digest=session.digest,
        kind="evaluate",
        round=call.round,
        attempt=call.attempt,
        tag=NO_TAG,
    )
    body = masked_upload(keys, vector, header=header, blind=True)
    return site.gate.release(
        "masked-evaluation", body, plan=plan, contributors=len(keys.roster), charge=charge
    )


def _join(session: StudySession, call: CohortCall, *, new_model_hash: str) -> CohortKeys:
    signed, secrets = session.take_ready(call.kind, call.round, call.attempt)
    try:
        keys = join_cohort(
            session.party,
            session.plan,
            secrets,
            call.readies,
            kind=call.kind,
            round=call.round,
            attempt=call.attempt,
            model_hash=signed.ready.model_hash,
            last_sum_hash=signed.ready.last_sum_hash,
            new_model_hash=new_model_hash,
            approved=session.approved,
        )
    finally:
        secrets.erase()
    session.keys[call.kind] = (call.round, call.attempt, keys)
    return keys


def _final_hash(session: StudySession) -> str:
    """Hash the released model, with the sum its inputs are prepared by; only after the last round.

    Raises:
        ProtocolError: MESSAGE_OUT_OF_ORDER before the last round.
    """
    if session.standing.rounds != session.plan.rounds:
        raise ProtocolError(ErrorCode.MESSAGE_OUT_OF_ORDER, "Training is not finished here.")
    state = session.standing.state
    return model_hash(final_parameters(state, session.plan.training), state.prepared)


def _signed_model(session: StudySession, finals: tuple[SignedDocument, ...]) -> str:
    """Check that at least m_min pinned sites signed the very model this site holds.

    Raises:
        TrustError: STATE_MISMATCH when a signature is for another model, COHORT_TOO_SMALL when
            too few signed.
    """
    own = _final_hash(session)
    by_key = {entry.identity_key: entry.site_id for entry in session.plan.sites}
    signers: set[str] = set()
    for sealed in finals:
        site_id = by_key.get(sealed.signer)
        if site_id is None:
            raise TrustError(ErrorCode.SIGNER_UNEXPECTED, "A site outside the plan signed a model.")
        final: Document = open_signed(
            sealed, Context.FINAL, Final, expected_signer=sealed.signer, max_bytes=4096
        )
        assert isinstance(final, Final)
        if (final.plan_digest, final.site_id, final.model_hash) != (session.digest, site_id, own):
            raise TrustError(ErrorCode.STATE_MISMATCH, "A site signed another final model.")
        signers.add(site_id)
    if len(signers) < session.plan.cohort_minimum:
        raise TrustError(ErrorCode.COHORT_TOO_SMALL, "Too few sites signed the final model.")
    return own
