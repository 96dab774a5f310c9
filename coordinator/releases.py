"""May this result be taken? Only the bytes that every site of the evaluation's roster signed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from schemas.errors import ErrorCode, ProtocolError, TrustError
from schemas.evaluation import Release
from schemas.governance.study import StudyPlan
from schemas.signing import Context, is_valid


def check_belongs(
    plan: StudyPlan,
    release: Release,
    *,
    finals: Mapping[str, str],
    evaluated: Collection[tuple[str, ...]],
    model_hash: str | None,
) -> None:
    """Refuse a release of another plan, model or roster.

    Args:
        plan: the study's plan.
        release: what the sites derived.
        finals: site id -> the final model hash it signed.
        evaluated: the rosters of the evaluation's attempts.
        model_hash: hash of the stored final model, if there is one.

    Raises:
        ProtocolError: it does not belong here (code ``release.mismatch``).
    """
    fits = (
        release.plan_digest == plan.digest()
        and release.study_id == plan.study_id
        and release.roster == tuple(sorted(finals))
        and len(finals) >= plan.cohort_minimum
        and set(evaluated) == {release.roster}
        and release.model_hash == model_hash
        and set(finals.values()) == {release.model_hash}
    )
    if not fits:
        raise ProtocolError(
            ErrorCode.RELEASE_MISMATCH,
            "The result does not belong to this study's model and evaluation roster.",
        )


def check_signatures(
    plan: StudyPlan, release: Release, body: bytes, signatures: Mapping[str, str]
) -> None:
    """Refuse a release that is not signed by exactly its roster.

    Args:
        plan: its identity keys are the only ones that count.
        release: the parsed ``body``.
        body: the bytes as they came.
        signatures: site id -> signature over ``body`` (context release).

    Raises:
        TrustError: a roster site's signature is missing or does not hold, or a stranger's is
            among them.
    """
    if set(signatures) != set(release.roster):
        raise TrustError(
            ErrorCode.RELEASE_UNSIGNED,
            "The result is not signed by exactly the sites of its roster.",
        )
    for site_id in release.roster:
        key = plan.site(site_id).identity_key
        if not is_valid(key, Context.RELEASE, body, signatures[site_id]):
            raise TrustError(
                ErrorCode.SIGNATURE_INVALID, "A site's signature on the result does not hold."
            )
