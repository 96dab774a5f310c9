"""Is this result what the hospitals signed? Checked here, not taken on the coordinator's word."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.canonical import build, parse
from schemas.errors import ConfigError, ErrorCode, TransportError, TrustError
from schemas.evaluation import Release
from schemas.governance.study import StudyPlan, open_plan
from schemas.limits import MAX_RELEASE_BYTES
from schemas.models import model_hash, read_final
from schemas.preparation import PreparedDocument, prepare
from schemas.signing import Context, SignedDocument, is_valid


@dataclass(frozen=True, slots=True)
class CheckedResult:
    """A release whose signatures all hold."""

    plan: StudyPlan
    release: Release
    signed_by: tuple[str, ...]
    released_at: str


def check_result(
    answer: Mapping[str, Any], study_id: str, plan_hash: str | None = None
) -> CheckedResult:
    """Verify plan, release and every roster site's signature.

    The hospitals' keys are those of the plan, and the plan comes from the coordinator, which could
    have invented both. Only a hash that a hospital or the vendor gave rules that out.

    Args:
        answer: the API's JSON object.
        study_id: the study that was asked for.
        plan_hash: the plan's hash as its hospitals approved it, if the reader knows it.

    Raises:
        TrustError: a signature is missing or does not hold, or the release is of another study.
        TransportError: the answer is not a result at all.
    """
    try:
        signed = build(SignedDocument, answer["plan"])
        body = base64.b64decode(answer["release"], validate=True)
        signatures = {str(site): str(value) for site, value in answer["signatures"].items()}
        released_at = str(answer["released_at"])
    except (KeyError, TypeError, AttributeError, binascii.Error, ConfigError):
        raise TransportError(
            ErrorCode.TRANSPORT_RESPONSE_INVALID, "The coordinator's answer is not a result."
        ) from None
    plan = open_plan(signed)
    release = parse(Release, body, max_bytes=MAX_RELEASE_BYTES)
    keys = {site.site_id: site.identity_key for site in plan.sites}
    if (
        plan.study_id != study_id
        or release.study_id != study_id
        or release.plan_digest != plan.digest()
        or len(set(release.roster)) < plan.cohort_minimum
    ):
        raise TrustError(ErrorCode.RELEASE_MISMATCH, "The result is of another study or plan.")
    if plan_hash is not None and plan_hash.strip().lower() != plan.digest():
        raise TrustError(
            ErrorCode.RELEASE_MISMATCH,
            "The result is of a plan with another hash than the one you gave.",
            hint="Ask a hospital of the study: `cohortium-site plan show` prints the hash.",
        )
    if set(signatures) != set(release.roster) or not set(release.roster) <= set(keys):
        raise TrustError(
            ErrorCode.RELEASE_UNSIGNED,
            "The result is not signed by exactly the sites of its roster.",
        )
    for site_id, signature in signatures.items():
        if not is_valid(keys[site_id], Context.RELEASE, body, signature):
            raise TrustError(
                ErrorCode.SIGNATURE_INVALID, "A hospital's signature on the result does not hold."
            )
    return CheckedResult(plan, release, tuple(sorted(signatures)), released_at)


def check_model(raw: bytes, plan: StudyPlan, expected_hash: str) -> PreparedDocument | None:
    """Refuse a model file that is not the one the hospitals signed.

    Returns:
        The constants by which the model's inputs are prepared, where the plan itself does not
        hold them; they follow from the sum in the file, which the hash covers.

    Raises:
        TrustError: the file's numbers have another hash.
        ProtocolError: the file does not have the plan's layout.
    """
    flat, prepared = read_final(plan, raw)
    if model_hash(flat, prepared) != expected_hash:
        raise TrustError(
            ErrorCode.FINAL_MISMATCH, "The model file is not the one the hospitals signed."
        )
    return None if plan.preparation is None else prepare(plan, prepared).document(plan)
