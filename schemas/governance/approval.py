"""Which hospitals have approved or stopped a plan, as anyone can verify?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from schemas import limits
from schemas.canonical import Document, HexBytes32
from schemas.errors import CohortiumError, ErrorCode, TrustError
from schemas.governance.study import StudyPlan
from schemas.identity import KemCiphertext
from schemas.ids import EventName, SiteId, StudyId, Timestamp, parse_time
from schemas.signing import Context, SignedDocument, open_signed


class Approval(Document):
    """A steward's yes to one plan; sealed with ``Context.APPROVAL`` by the approval key."""

    version: Literal[1] = 1
    plan_digest: HexBytes32
    study_id: StudyId
    site_id: SiteId
    peers: Annotated[dict[SiteId, HexBytes32], Field(max_length=limits.MAX_SITES)]
    # ^ every other site of the plan -> the card fingerprint this steward confirmed
    encapsulations: Annotated[
        dict[SiteId, KemCiphertext], Field(max_length=limits.MAX_HYBRID_SITES)
    ] = Field(default_factory=dict)
    # ^ in a plan with a hybrid pair root: every peer that sorts later -> a ciphertext for its key
    approved_at: Timestamp


class Stop(Document):
    """A steward's stop, final for this approval; sealed with ``Context.STOP`` likewise."""

    version: Literal[1] = 1
    plan_digest: HexBytes32
    site_id: SiteId
    stopped_at: Timestamp
    reason_code: EventName


@dataclass(frozen=True, slots=True)
class ApprovalResult:
    """Who approved, who is missing, and what was wrong with the rest.

    Attributes:
        approved: Sites with a valid approval, sorted.
        missing: Sites of the plan without one, sorted.
        invalid: Refused documents: site name where known, else the signer's key, -> code.
    """

    approved: tuple[str, ...]
    missing: tuple[str, ...]
    invalid: dict[str, ErrorCode]


@dataclass(frozen=True, slots=True)
class StopResult:
    """Who stopped, and what was wrong with the rest (keys as in :class:`ApprovalResult`)."""

    stopped: tuple[str, ...]
    invalid: dict[str, ErrorCode]


def open_approval(plan: StudyPlan, signed: SignedDocument) -> Approval:
    """Read one approval of this plan.

    Raises:
        TrustError: The signer is no approver of the plan, the signature does not fit, or the
            approval is for another plan or site, late, does not confirm every peer, or does not
            carry exactly the ciphertexts that the plan asks this site for.
        ProtocolError: The payload is not an approval.
    """
    site_id = _approver(plan, signed)
    approval = open_signed(
        signed,
        Context.APPROVAL,
        Approval,
        expected_signer=signed.signer,
        max_bytes=limits.MAX_APPROVAL_BYTES,
    )
    _check_subject(plan, site_id, approval.plan_digest, approval.site_id)
    if approval.study_id != plan.study_id:
        raise TrustError(
            ErrorCode.APPROVAL_INVALID, "The approval names another study than its plan."
        )
    if parse_time(approval.approved_at) >= parse_time(plan.expires):
        raise TrustError(ErrorCode.PLAN_EXPIRED, "The plan was approved after its expiry.")
    if set(approval.peers) != set(plan.site_ids) - {site_id}:
        raise TrustError(
            ErrorCode.APPROVAL_PEERS_INCOMPLETE,
            "The approval does not confirm exactly the other sites of the plan.",
        )
    if set(approval.encapsulations) != set(plan.encapsulated_for(site_id)):
        raise TrustError(
            ErrorCode.APPROVAL_ENCAPSULATIONS_WRONG,
            "The approval does not carry exactly the ML-KEM-768 ciphertexts the plan asks for.",
            hint="The plan's pair_root says whether it needs any; the hospital must approve it "
            "with a node that knows hybrid plans.",
        )
    return approval


def open_stop(plan: StudyPlan, signed: SignedDocument) -> Stop:
    """Read one stop of this plan.

    Raises:
        TrustError: The signer is no approver of the plan, the signature does not fit, or the
            stop is for another plan or site.
        ProtocolError: The payload is not a stop.
    """
    site_id = _approver(plan, signed)
    stop = open_signed(
        signed,
        Context.STOP,
        Stop,
        expected_signer=signed.signer,
        max_bytes=limits.MAX_APPROVAL_BYTES,
    )
    _check_subject(plan, site_id, stop.plan_digest, stop.site_id)
    return stop


def check_approvals(plan: StudyPlan, approvals: Sequence[SignedDocument]) -> ApprovalResult:
    """Say who approved this plan.

    A second valid approval of the same site changes nothing.
    """
    approved: set[str] = set()
    invalid: dict[str, ErrorCode] = {}
    for signed in approvals:
        try:
            approved.add(open_approval(plan, signed).site_id)
        except CohortiumError as error:
            invalid[_label(plan, signed)] = error.code
    missing = tuple(sorted(set(plan.site_ids) - approved))
    return ApprovalResult(tuple(sorted(approved)), missing, invalid)


def check_stops(plan: StudyPlan, stops: Sequence[SignedDocument]) -> StopResult:
    """Say who stopped this plan."""
    stopped: set[str] = set()
    invalid: dict[str, ErrorCode] = {}
    for signed in stops:
        try:
            stopped.add(open_stop(plan, signed).site_id)
        except CohortiumError as error:
            invalid[_label(plan, signed)] = error.code
    return StopResult(tuple(sorted(stopped)), invalid)


def _approver(plan: StudyPlan, signed: SignedDocument) -> str:
    for site in plan.sites:
        if site.approval_key == signed.signer:
            return site.site_id
    raise TrustError(
        ErrorCode.APPROVER_WRONG,
        "The document is not signed by an approval key of the plan.",
        hint="Only the steward's approval key counts, not the site's identity key.",
    )


def _label(plan: StudyPlan, signed: SignedDocument) -> str:
    for site in plan.sites:
        if site.approval_key == signed.signer:
            return site.site_id
    return signed.signer


def _check_subject(plan: StudyPlan, site_id: str, plan_digest: str, named_site: str) -> None:
    if plan_digest != plan.digest():
        raise TrustError(ErrorCode.APPROVAL_OTHER_PLAN, "The document is for another plan.")
    if named_site != site_id:
        raise TrustError(ErrorCode.APPROVER_WRONG, "The document names another site's steward.")
