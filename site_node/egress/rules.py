"""Which rules must every answer keep before it may leave? One small function each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.canonical import Document
from schemas.errors import CohortiumError, ErrorCode, PolicyDenied
from schemas.evaluation import evaluation_length
from schemas.limits import MAX_RELEASE_BYTES
from schemas.wire import FinalReply, Frame, ReadyReply, ReleaseReply, Upload
from site_node.egress.preview import what_leaves

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan
    from site_node.governance.ledger import ChargeRef

UPDATE, EVALUATION = "masked-update", "masked-evaluation"
MODEL_HASH, RELEASE, REFUSAL = "model-hash", "release", "refusal"
MASKED: Final = frozenset({UPDATE, EVALUATION})
WORD_BYTES: Final = 4

_MESSAGES: Final[dict[str, tuple[type[Document], ...]]] = {
    UPDATE: (Upload,),
    EVALUATION: (Upload,),
    MODEL_HASH: (ReadyReply, FinalReply),  # READY carries the hash of the model it starts from
    RELEASE: (ReleaseReply,),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer before the gate, read back from its bytes.

    Attributes:
        kind: what the caller says it is.
        frame: what its bytes say it is.
        n_bytes: the size of the whole body.
        contributors: hospitals behind the sum it belongs to.
        charge: the durable charge of its attempt, if it has one.
        charge_is_durable: whether that charge stands in the ledger or journal on disk.
        is_stopped: whether the steward stopped the plan.
        was_released: whether a masked answer of this attempt was released before.
    """

    kind: str
    plan: StudyPlan
    plan_digest: str
    site_id: str
    frame: Frame
    n_bytes: int
    contributors: int
    charge: ChargeRef | None
    charge_is_durable: bool
    is_stopped: bool
    was_released: bool


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
    """An upload names the plan under which it is released, a release names this site."""
    header = candidate.frame.header
    wrong = isinstance(header, Upload) and header.plan_digest != candidate.plan_digest
    wrong |= isinstance(header, ReleaseReply) and header.site_id != candidate.site_id
    if wrong:
        raise _denied(
            ErrorCode.EGRESS_KIND_REFUSED, "The output belongs to another plan or another site."
        )


def size_exact(candidate: Candidate) -> None:
    """Masked words have exactly the plan's length, and nothing is larger than `plan show` said."""
    sizes = [len(blob) for blob in candidate.frame.blobs]
    if candidate.kind == UPDATE:
        fits = sizes == [WORD_BYTES * candidate.plan.model.parameters]
    elif candidate.kind == EVALUATION:
        fits = sizes == [WORD_BYTES * evaluation_length(candidate.plan.evaluation.bins)]
    elif candidate.kind == RELEASE:
        fits = len(sizes) == 1 and 0 < sizes[0] <= MAX_RELEASE_BYTES
    else:
        fits = sizes == []
    promised = {line.kind: line.bytes_each for line in what_leaves(candidate.plan)}
    if not fits or candidate.n_bytes > promised.get(candidate.kind, 0):
        raise _denied(ErrorCode.EGRESS_SIZE_WRONG, "The output has not exactly the expected size.")


def enough_contributors(candidate: Candidate) -> None:
    """A sum has at least the plan's minimum of hospitals behind it."""
    if candidate.kind == MODEL_HASH:
        return
    if candidate.contributors < candidate.plan.cohort_minimum:
        raise _denied(ErrorCode.EGRESS_TOO_FEW, "Too few hospitals stand behind the output.")


def charged(candidate: Candidate) -> None:
    """A masked answer has a durable charge for exactly its attempt."""
    header, charge = candidate.frame.header, candidate.charge
    if candidate.kind not in MASKED or not isinstance(header, Upload):
        return
    if (
        charge is None
        or not candidate.charge_is_durable
        or (charge.plan_digest, charge.kind, charge.round, charge.attempt)
        != (candidate.plan_digest, header.kind, header.round, header.attempt)
    ):
        raise _denied(ErrorCode.EGRESS_NOT_CHARGED, "The output has no charge in the ledger.")


def only_once(candidate: Candidate) -> None:
    """A masked answer of one attempt leaves once; a second one would halve the noise."""
    if candidate.was_released:
        raise _denied(ErrorCode.EGRESS_ALREADY_RELEASED, "This attempt was answered before.")


RULES: Final[tuple[Rule, ...]] = (
    not_stopped,
    kind_allowed,
    for_this_plan,
    size_exact,
    enough_contributors,
    charged,
    only_once,
)


def first_broken(candidate: Candidate) -> CohortiumError | None:
    """Give the refusal of the first rule that is broken, or None."""
    for rule in RULES:
        try:
            rule(candidate)
        except CohortiumError as error:
            return error
    return None
