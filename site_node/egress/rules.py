"""Which rules must every answer keep before it may leave? One small function each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.canonical import Document
from schemas.errors import CohortiumError, ErrorCode, PolicyDenied
from schemas.evaluation import evaluation_length
from schemas.limits import MAX_RELEASE_BYTES
from schemas.wire import (
    Confirmation,
    FinalReply,
    Frame,
    ReadyReply,
    ReleaseReply,
    Unmasking,
    Upload,
)
from site_node.egress.preview import largest

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from site_node.governance.ledger import ChargeRef

UPDATE, EVALUATION = "masked-update", "masked-evaluation"
CONFIRMATION, UNMASKING = "survivor-confirmation", "unmasking"
MODEL_HASH, RELEASE, REFUSAL = "model-hash", "release", "refusal"
ONE_ATTEMPT: Final = frozenset({UPDATE, EVALUATION, CONFIRMATION, UNMASKING})
WORD_BYTES: Final = 4

_MESSAGES: Final[dict[str, tuple[type[Document], ...]]] = {
    UPDATE: (Upload,),
    EVALUATION: (Upload,),
    CONFIRMATION: (Confirmation,),
    UNMASKING: (Unmasking,),
    MODEL_HASH: (ReadyReply, FinalReply),  # READY carries the hash of the model it starts from
    RELEASE: (ReleaseReply,),
}
_AFTER: Final = {CONFIRMATION: UPDATE, UNMASKING: CONFIRMATION}
AttemptReply = Upload | Confirmation | Unmasking


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer before the gate, read back from its bytes.

    Attributes:
        kind: what the caller says it is.
        frame: what its bytes say it is.
        n_bytes: the size of the whole body.
        sha256: the hash of the whole body.
        contributors: hospitals behind the sum it belongs to.
        charge: the durable charge of its attempt, if it has one.
        charge_is_durable: whether that charge stands in the ledger or journal on disk.
        is_stopped: whether the steward stopped the plan.
        released_before: kind → hashes of the bodies released before for this very attempt.
    """

    kind: str
    plan: StudyPlan
    plan_digest: str
    site_id: str
    frame: Frame
    n_bytes: int
    sha256: str
    contributors: int
    charge: ChargeRef | None
    charge_is_durable: bool
    is_stopped: bool
    released_before: Mapping[str, frozenset[str]]


Rule = Callable[[Candidate], None]


def _denied(code: ErrorCode, sentence: str) -> PolicyDenied:
    return PolicyDenied(code, sentence, hint="Nothing was sent. See `cohortium-site audit show`.")


def not_stopped(candidate: Candidate) -> None:
    """Nothing leaves for a stopped plan."""
    if candidate.is_stopped:
        raise _denied(ErrorCode.EGRESS_STOPPED, "The study was stopped here.")


def kind_allowed(candidate: Candidate) -> None:
    """The plan lists the kind, and the bytes are a message of that kind for that plan."""
    kind, header = candidate.kind, candidate.frame.header
    allowed = kind in candidate.plan.outputs and isinstance(header, _MESSAGES.get(kind, ()))
    if isinstance(header, Upload):
        expected = "train" if kind == UPDATE else "evaluate"
        allowed = allowed and header.kind == expected
    if not allowed:
        raise _denied(
            ErrorCode.EGRESS_KIND_REFUSED, "This kind of output is not allowed by the plan."
        )


def for_this_plan(candidate: Candidate) -> None:
    """What belongs to an attempt names the plan it is released under; what is signed, this site."""
    header = candidate.frame.header
    wrong = isinstance(header, AttemptReply) and header.plan_digest != candidate.plan_digest
    signed = ReleaseReply | Confirmation | Unmasking
    wrong |= isinstance(header, signed) and header.site_id != candidate.site_id
    if wrong:
        raise _denied(
            ErrorCode.EGRESS_KIND_REFUSED, "The output belongs to another plan or another site."
        )


def size_exact(candidate: Candidate) -> None:
    """Masked words have exactly the plan's length, and nothing is larger than `plan show` said."""
    plan, header, mechanism = candidate.plan, candidate.frame.header, ""
    sizes = [len(blob) for blob in candidate.frame.blobs]
    if candidate.kind == UPDATE and isinstance(header, Upload):
        terms = plan.sum_terms(header.round)
        mechanism, fits = terms.mechanism, sizes == [WORD_BYTES * terms.words]
    elif candidate.kind == EVALUATION:
        fits = sizes == [WORD_BYTES * evaluation_length(plan.evaluation.bins)]
    elif candidate.kind == RELEASE:
        fits = len(sizes) == 1 and 0 < sizes[0] <= MAX_RELEASE_BYTES
    else:
        fits = sizes == []
    if not fits or candidate.n_bytes > largest(plan, candidate.kind, mechanism):
        raise _denied(ErrorCode.EGRESS_SIZE_WRONG, "The output has not exactly the expected size.")


def enough_contributors(candidate: Candidate) -> None:
    """A sum has at least as many hospitals behind it as the plan asks for."""
    plan, header = candidate.plan, candidate.frame.header
    if candidate.kind == MODEL_HASH:
        return
    summed_blindly = candidate.kind in (EVALUATION, RELEASE)
    fewest = plan.cohort_minimum if summed_blindly else plan.fewest_summed
    contributors = candidate.contributors
    if isinstance(header, Unmasking):
        contributors = min(contributors, len(header.shares))
    if contributors < fewest:
        raise _denied(ErrorCode.EGRESS_TOO_FEW, "Too few hospitals stand behind the output.")


def charged(candidate: Candidate) -> None:
    """What belongs to an attempt has a durable charge for exactly that attempt."""
    header, charge = candidate.frame.header, candidate.charge
    if not isinstance(header, AttemptReply):
        return
    what = header.kind if isinstance(header, Upload) else "train"
    if (
        charge is None
        or not candidate.charge_is_durable
        or (charge.plan_digest, charge.kind, charge.round, charge.attempt)
        != (candidate.plan_digest, what, header.round, header.attempt)
    ):
        raise _denied(ErrorCode.EGRESS_NOT_CHARGED, "The output has no charge in the ledger.")


def only_once(candidate: Candidate) -> None:
    """Each kind leaves once in an attempt: a second upload would halve the noise.

    A second list of survivors would let two sums be told apart; the same one may be repeated.
    """
    before = candidate.released_before.get(candidate.kind, frozenset())
    repeated = candidate.kind == CONFIRMATION and candidate.sha256 in before
    if candidate.kind in ONE_ATTEMPT and before and not repeated:
        raise _denied(ErrorCode.EGRESS_ALREADY_RELEASED, "This attempt was answered before.")


def in_order(candidate: Candidate) -> None:
    """Nothing is unmasked before this site's own upload and its own signature have left."""
    earlier = _AFTER.get(candidate.kind)
    if earlier is not None and not candidate.released_before.get(earlier):
        raise _denied(ErrorCode.EGRESS_TOO_EARLY, "The step before this one was not released here.")


def never_both(candidate: Candidate) -> None:
    """What unmasks a sum holds one secret about each hospital, and few of the lost.

    A share of its self-mask and a pair seed of the same hospital together would help to open it.
    """
    plan, header = candidate.plan, candidate.frame.header
    if not isinstance(header, Unmasking):
        return
    survivors, lost = set(header.shares), set(header.seeds)
    cohort = survivors | lost
    if (
        survivors & lost
        or candidate.site_id in lost
        or not cohort <= set(plan.site_ids)
        or len(lost) > plan.dropouts_allowed(len(cohort))
    ):
        raise _denied(
            ErrorCode.EGRESS_UNMASKS_MORE, "The answer would unmask more than the plan's one sum."
        )


RULES: Final[tuple[Rule, ...]] = (
    not_stopped,
    kind_allowed,
    for_this_plan,
    never_both,
    size_exact,
    enough_contributors,
    charged,
    only_once,
    in_order,
)


def first_broken(candidate: Candidate) -> CohortiumError | None:
    """Give the refusal of the first rule that is broken, or None."""
    for rule in RULES:
        try:
            rule(candidate)
        except CohortiumError as error:
            return error
    return None
