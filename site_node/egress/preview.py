"""What will leave this hospital if the plan is approved? Kinds, counts and bytes, computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schemas.limits import MAX_RELEASE_BYTES
from schemas.secagg.keys import SHARE_BYTES
from schemas.secagg.messages import Ready, SignedReady
from schemas.wire import ReadyReply, Refusal, Upload, encode

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan

_HASH: Final = "f" * 64
_SIGNATURE: Final = "f" * 128
_WORD_BYTES: Final = 4
_LONGEST_CODE: Final = "x" * 64
NEVER_LEAVES: Final = (
    "rows of any table, images, free text, and any file derived from one of them",
    "names, resident registration numbers, chart numbers, dates; nor their pseudonyms",
    "this hospital's own gradients, loss, patient counts or metrics in a readable form",
    "findings about the quality of this hospital's data (they stay here as counts)",
    "the pseudonym secret, the store's keys, and every private key",
)


@dataclass(frozen=True, slots=True)
class Leaving:
    """One kind of thing that leaves.

    Attributes:
        kind: the plan's word for it.
        what: the same in plain words.
        at_most: how often it may leave.
        bytes_each: largest size of one, with its signed header.
    """

    kind: str
    what: str
    at_most: int
    bytes_each: int

    @property
    def bytes_total(self) -> int:
        """Largest sum of all of them."""
        return self.at_most * self.bytes_each


def what_leaves(plan: StudyPlan) -> tuple[Leaving, ...]:
    """List every kind of thing that may leave a hospital under a plan, with its largest size."""
    from schemas.evaluation import evaluation_length

    attempts = plan.training.attempts
    ready = _longest_ready(plan)
    update = len(_longest_upload(plan, ready)) + _WORD_BYTES * plan.model.parameters
    evaluation = len(_longest_upload(plan, None)) + _WORD_BYTES * evaluation_length(
        plan.evaluation.bins
    )
    announcements = len(encode(ReadyReply.model_construct(ready=ready, blobs=(), **_READY_REPLY)))
    lines = [
        Leaving(
            "masked-update",
            "sum of clipped gradients of this hospital's training patients, with noise, under a "
            "mask that only the sum of all hospitals takes off",
            attempts,
            update,
        ),
        Leaving(
            "masked-evaluation",
            "counts of test patients by score, under a mask the coordinator can never take off; "
            "repeated only with exactly the same hospitals",
            1 + plan.training.retry_cap,
            evaluation,
        ),
        Leaving(
            "model-hash",
            "signed statements: ready for a round, and the hash of the model held here",
            attempts + plan.training.retry_cap + 3,
            announcements,
        ),
        Leaving(
            "release",
            "the result of all hospitals together, identical at each of them, signed here: "
            "scalars to three decimals and a thinned ROC curve",
            1 + plan.training.retry_cap,
            MAX_RELEASE_BYTES,
        ),
        Leaving(
            "refusal",
            "an error code instead of an answer, never a text",
            attempts + plan.training.retry_cap,
            len(encode(Refusal.model_construct(code=_LONGEST_CODE, **_REFUSAL))),
        ),
    ]
    # A refusal's code leaves whether or not the plan lists it: there is no other way to say no.
    return tuple(line for line in lines if line.kind in (*plan.outputs, "refusal"))


_READY_REPLY: Final[dict[str, Any]] = {"message": "ready", "version": 1}
_REFUSAL: Final[dict[str, Any]] = {"message": "refusal", "version": 1, "blobs": ()}
_BIG_STEP: Final = 999_999


def _longest_ready(plan: StudyPlan) -> SignedReady:
    longest = max(plan.site_ids, key=len)
    ready = Ready.model_construct(
        version=1,
        plan_digest=_HASH,
        kind="evaluate",
        round=_BIG_STEP,
        attempt=_BIG_STEP,
        site_id=longest,
        model_hash=_HASH,
        last_sum_hash=_HASH,
        ledger_head=_HASH,
        ephemeral_key=_HASH,
        group_shares=dict.fromkeys(plan.site_ids, "f" * (2 * SHARE_BYTES)),
    )
    return SignedReady.model_construct(ready=ready, signature=_SIGNATURE)


def _longest_upload(plan: StudyPlan, following: SignedReady | None) -> bytes:
    """Encode the largest header an upload can have; its words are added by the caller."""
    upload = Upload.model_construct(
        message="upload",
        version=1,
        plan_digest=_HASH,
        kind="evaluate",
        round=_BIG_STEP,
        attempt=_BIG_STEP,
        tag="f" * 16,
        next_ready=following,
        blobs=(),
    )
    digits = len(str(_WORD_BYTES * plan.model.parameters))
    return encode(upload) + b" " * digits
