"""Which answer of a site does the coordinator take, and which is that site's own fault?

Nothing here protects a patient: the sites check everything again. It keeps one site's wrong answer
from spoiling an attempt of the others, or the coordinator's own bookkeeping.
"""

from __future__ import annotations

from collections.abc import Collection

from schemas.errors import ErrorCode, ProtocolError, TrustError
from schemas.evaluation import evaluation_length
from schemas.governance.study import StudyPlan
from schemas.secagg.coordinator import check_confirmation, words_from_bytes
from schemas.secagg.field import PRIME
from schemas.secagg.masking import MaskedUpdate
from schemas.secagg.messages import SignedReady, SurvivorList
from schemas.secagg.recovery import Revealed
from schemas.signing import Context, SignedDocument, is_valid, open_signed
from schemas.wire import Confirmation, Final, Frame, Kind, Unmasking, Upload

_MAX_FINAL_BYTES = 4096


def check_ready(
    plan: StudyPlan, site: str, signed: SignedReady, kind: Kind, round_: int, attempt: int
) -> SignedReady:
    """Give back a READY that is this site's own and for this very attempt.

    Raises:
        ProtocolError: MESSAGE_OTHER_SITE, COHORT_PLAN_MISMATCH, COHORT_ROUND_MISMATCH.
        TrustError: SIGNATURE_INVALID.
    """
    ready = signed.ready
    if ready.site_id != site:
        raise ProtocolError(ErrorCode.MESSAGE_OTHER_SITE, "A READY names another site.")
    if ready.plan_digest != plan.digest():
        raise ProtocolError(ErrorCode.COHORT_PLAN_MISMATCH, "A READY is for another plan.")
    if (ready.kind, ready.round, ready.attempt) != (kind, round_, attempt):
        raise ProtocolError(ErrorCode.COHORT_ROUND_MISMATCH, "A READY is for another attempt.")
    key = plan.site(site).identity_key
    if not is_valid(key, Context.READY, ready.canonical(), signed.signature):
        raise TrustError(ErrorCode.SIGNATURE_INVALID, "A READY is not signed by its site.")
    return signed


def read_upload(
    plan: StudyPlan, frame: Frame, kind: Kind, round_: int, attempt: int
) -> MaskedUpdate:
    """Read one upload; its length is fixed by the plan.

    Raises:
        ProtocolError: MESSAGE_OUT_OF_ORDER, MESSAGE_MALFORMED, MESSAGE_LENGTH_WRONG, VECTOR_SHAPE.
    """
    header = frame.header
    assert isinstance(header, Upload)
    stated = (header.plan_digest, header.kind, header.round, header.attempt)
    if stated != (plan.digest(), kind, round_, attempt):
        raise ProtocolError(ErrorCode.MESSAGE_OUT_OF_ORDER, "An upload of another attempt.")
    if len(frame.blobs) != 1:
        raise ProtocolError(ErrorCode.MESSAGE_MALFORMED, "An upload carries one vector.")
    if kind == "evaluate":
        length = evaluation_length(plan.evaluation.bins)
    else:
        length = plan.sum_terms(round_).words
    tag = int(header.tag, 16)
    if tag >= PRIME:
        raise ProtocolError(ErrorCode.VECTOR_SHAPE, "An upload's tag is out of range.")
    return MaskedUpdate(words_from_bytes(frame.blobs[0], length), tag)


def read_confirmation(plan: StudyPlan, site: str, frame: Frame, survivors: SurvivorList) -> str:
    """Give back a survivor's signature under the very list it was shown.

    Raises:
        ProtocolError: MESSAGE_OUT_OF_ORDER, MESSAGE_OTHER_SITE.
        TrustError: SIGNATURE_INVALID.
    """
    header = frame.header
    assert isinstance(header, Confirmation)
    _check_place(site, header, frame, survivors)
    check_confirmation(plan, survivors, site, header.signature)
    return header.signature


def read_unmasking(
    site: str, frame: Frame, survivors: SurvivorList, cohort: Collection[str]
) -> Revealed:
    """Read what a survivor reveals: a share for each survivor, a seed for each lost site.

    Raises:
        ProtocolError: MESSAGE_OUT_OF_ORDER, MESSAGE_OTHER_SITE; MESSAGE_MALFORMED when it is not
            about exactly those sites.
    """
    header = frame.header
    assert isinstance(header, Unmasking)
    _check_place(site, header, frame, survivors)
    lost = set(cohort) - survivors.uploads.keys()
    if header.shares.keys() != survivors.uploads.keys() or header.seeds.keys() != lost:
        raise ProtocolError(
            ErrorCode.MESSAGE_MALFORMED, "An unmasking is not about the survivors and the lost."
        )
    return Revealed(shares=header.shares, seeds=header.seeds)


def _check_place(
    site: str, header: Confirmation | Unmasking, frame: Frame, survivors: SurvivorList
) -> None:
    stated = (header.plan_digest, header.round, header.attempt)
    if stated != (survivors.plan_digest, survivors.round, survivors.attempt) or frame.blobs:
        raise ProtocolError(ErrorCode.MESSAGE_OUT_OF_ORDER, "An answer of another attempt.")
    if header.site_id != site:
        raise ProtocolError(ErrorCode.MESSAGE_OTHER_SITE, "An answer names another site.")


def check_final(
    plan: StudyPlan, site: str, signed: SignedDocument, model_hash: str
) -> SignedDocument:
    """Give back a site's signature on the very model that follows from the sums.

    Raises:
        TrustError: SIGNER_UNEXPECTED, SIGNATURE_INVALID, or STATE_MISMATCH for another model.
        ProtocolError: it is not such a statement at all.
    """
    final = open_signed(
        signed,
        Context.FINAL,
        Final,
        expected_signer=plan.site(site).identity_key,
        max_bytes=_MAX_FINAL_BYTES,
    )
    if (final.plan_digest, final.site_id, final.model_hash) != (plan.digest(), site, model_hash):
        raise TrustError(ErrorCode.STATE_MISMATCH, "A site signed another final model.")
    return signed
