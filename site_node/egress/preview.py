"""What will leave this hospital if the plan is approved? Kinds, counts and bytes, computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schemas.limits import MAX_RELEASE_BYTES
from schemas.secagg.keys import SHARE_BYTES
from schemas.secagg.messages import Ready, SignedReady
from schemas.wire import Confirmation, ReadyReply, Refusal, Unmasking, Upload, encode

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan

_HASH: Final = "f" * 64
_SIGNATURE: Final = "f" * 128
_PAIR_SEED: Final = "f" * 96
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
        mechanism: of an update, what its attempts are charged as; else empty.
    """

    kind: str
    what: str
    at_most: int
    bytes_each: int
    mechanism: str = ""

    @property
    def bytes_total(self) -> int:
        """Largest sum of all of them."""
        return self.at_most * self.bytes_each


def what_leaves(plan: StudyPlan) -> tuple[Leaving, ...]:
    """List every kind of thing that may leave a hospital under a plan, with its largest size."""
    from schemas.evaluation import evaluation_length

    attempts = plan.attempts
    ready = _longest_ready(plan)
    evaluation = len(_longest_upload(plan, None)) + _WORD_BYTES * evaluation_length(
        plan.evaluation.bins
    )
    announcements = len(encode(ReadyReply.model_construct(ready=ready, blobs=(), **_READY_REPLY)))
    lines = [
        *_updates(plan, len(_longest_upload(plan, ready))),
        Leaving(
            "masked-evaluation",
            "counts of test patients by score, under a mask the coordinator can never take off; "
            "repeated only with exactly the same hospitals",
            1 + plan.training.retry_cap,
            evaluation,
        ),
        *_recovery(plan),
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


def largest(plan: StudyPlan, kind: str, mechanism: str = "") -> int:
    """Give the most bytes that one answer of a kind may have; 0 if the plan does not list it.

    Args:
        plan: the approved plan.
        kind: the plan's word.
        mechanism: of an update, what its attempt is charged as.
    """
    sizes = [
        line.bytes_each
        for line in what_leaves(plan)
        if line.kind == kind and line.mechanism in ("", mechanism)
    ]
    return max(sizes, default=0)


def _updates(plan: StudyPlan, header: int) -> tuple[Leaving, ...]:
    """List the sums of a preparation, if there is one, and of training."""
    mask = "under a mask that only the sum of all hospitals takes off"
    what = f"sum of clipped gradients of this hospital's training patients, with noise, {mask}"
    if plan.training.is_local:
        what = (
            "change of the model by steps on clipped gradients of this hospital's training "
            f"patients, each step with noise of its own, {mask}"
        )
    first, last = plan.sum_terms(0), plan.sum_terms(plan.preparation_rounds)
    lines = [
        Leaving(
            "masked-update",
            what,
            plan.training.attempts,
            header + _WORD_BYTES * last.words,
            last.mechanism,
        )
    ]
    if plan.preparation is not None:
        counted = "counts, sums and histograms of values of this hospital's training patients"
        preparation = Leaving(
            "masked-update",
            f"before training: {counted}, each patient's part bounded, with noise, {mask}",
            plan.preparation.attempts,
            header + _WORD_BYTES * first.words,
            first.mechanism,
        )
        lines.insert(0, preparation)
    return tuple(lines)


def _recovery(plan: StudyPlan) -> tuple[Leaving, ...]:
    """List what leaves so that a sum survives the loss of a hospital; nothing in atomic mode."""
    if not plan.is_recoverable:
        return ()
    attempts = plan.attempts
    lost = plan.dropouts_allowed(len(plan.sites))
    return (
        Leaving(
            "survivor-confirmation",
            "a signature under the list of hospitals whose update of one attempt arrived; it says "
            "who took part, nothing about patients. This hospital signs one list an attempt",
            attempts,
            _longest_confirmation(plan),
        ),
        Leaving(
            "unmasking",
            "keys that take the masks off one sum of at least "
            f"{plan.fewest_summed} hospitals: for each that arrived one part of its second mask's "
            f"key, of which {plan.survivor_threshold} parts are needed; for each lost one (at most "
            f"{lost}) the key shared with it. Never both for one hospital, never before "
            f"{plan.survivor_threshold} hospitals signed the same list, once an attempt",
            attempts,
            _longest_unmasking(plan),
        ),
    )


_READY_REPLY: Final[dict[str, Any]] = {"message": "ready", "version": 1}
_REFUSAL: Final[dict[str, Any]] = {"message": "refusal", "version": 1, "blobs": ()}
_BIG_STEP: Final = 999_999


def _longest_ready(plan: StudyPlan) -> SignedReady:
    longest = max(plan.site_ids, key=len)
    shares = dict.fromkeys(plan.site_ids, "f" * (2 * SHARE_BYTES))
    ready = Ready.model_construct(
        version=2,
        plan_digest=_HASH,
        kind="evaluate",
        round=_BIG_STEP,
        attempt=_BIG_STEP,
        site_id=longest,
        model_hash=_HASH,
        last_sum_hash=_HASH,
        ledger_head=_HASH,
        ledger_charges=_BIG_STEP,
        ephemeral_key=_HASH,
        self_mask_commitment=_HASH,
        group_shares=shares,
        mask_shares=shares if plan.is_recoverable else {},
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
    digits = len(str(_WORD_BYTES * plan.longest_vector))
    return encode(upload) + b" " * digits


def _longest_confirmation(plan: StudyPlan) -> int:
    confirmation = Confirmation.model_construct(
        message="confirmation",
        version=1,
        plan_digest=_HASH,
        round=_BIG_STEP,
        attempt=_BIG_STEP,
        site_id=max(plan.site_ids, key=len),
        signature=_SIGNATURE,
        blobs=(),
    )
    return len(encode(confirmation))


def _longest_unmasking(plan: StudyPlan) -> int:
    """Count the bytes when every hospital takes part and the most are lost."""
    kept = len(plan.sites) - plan.dropouts_allowed(len(plan.sites))
    survivors, lost = plan.site_ids[:kept], plan.site_ids[kept:]
    unmasking = Unmasking.model_construct(
        message="unmasking",
        version=1,
        plan_digest=_HASH,
        round=_BIG_STEP,
        attempt=_BIG_STEP,
        site_id=max(plan.site_ids, key=len),
        shares=dict.fromkeys(survivors, _HASH),
        seeds=dict.fromkeys(lost, _PAIR_SEED),
        blobs=(),
    )
    return len(encode(unmasking))
