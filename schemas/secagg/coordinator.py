"""What does the coordinator do with updates it cannot read?

It adds them. The pair masks cancel, and what is left is the sum, in clear for training (it
carries the noise of all sites) and under the group's blinding streams for evaluation. In
recoverable mode the survivors' self-masks and the pair masks with the lost are left over; the
survivors' answers let the coordinator take off exactly these (`recover_sum`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ErrorCode, ProtocolError, TrustError
from schemas.governance.study import StudyPlan
from schemas.secagg import shamir
from schemas.secagg.cohort import has_self_masks, share_points
from schemas.secagg.field import PRIME
from schemas.secagg.keys import (
    PairMask,
    frame,
    pair_sign,
    self_mask_commitment,
    self_mask_seed,
)
from schemas.secagg.masking import MaskedSum, MaskedUpdate
from schemas.secagg.messages import Ready, SignedReady, SurvivorList, UploadHash
from schemas.secagg.recovery import Revealed
from schemas.secagg.streams import MaskStreams, chunks
from schemas.signing import Context, is_valid

WORD_BYTES = 4


def add_masked(uploads: Mapping[str, MaskedUpdate], roster: Sequence[str]) -> MaskedSum:
    """Add one update of every member: words modulo 2^32, tags modulo 2^61 - 1.

    Args:
        uploads: one update per site, all of the same length.
        roster: the cohort; every member and nobody else must have sent.

    Raises:
        ProtocolError: a member is missing or strange, or an update has another form.
    """
    if not roster or set(uploads) != set(roster) or len(set(roster)) != len(roster):
        raise ProtocolError(
            ErrorCode.ATTEMPT_SITE_LEFT,
            "Not exactly the members of the cohort have sent an update.",
            hint="The attempt is void and stays charged; open the next one.",
        )
    return _added(uploads)


class RunningSum:
    """Updates added up as they come in; none of them is kept.

    Attributes:
        sites: whose updates are in it, in the order they came.
    """

    __slots__ = ("_tag", "_words", "sites")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._words: NDArray[np.uint32] | None = None
        self._tag = 0
        self.sites: list[str] = []

    def add(self, site: str, update: MaskedUpdate) -> None:
        """Add one site's update: words modulo 2^32, tags modulo 2^61 - 1.

        Raises:
            ProtocolError: VECTOR_SHAPE for an update of another form than the first; nothing of
                it is added then.
            ValueError: this site's update is in the sum already.
        """
        if site in self.sites:
            raise ValueError("an update is added once")
        words = np.zeros(update.words.shape, np.uint32) if self._words is None else self._words
        if update.words.shape != words.shape or not 0 <= update.tag < PRIME:
            raise ProtocolError(
                ErrorCode.VECTOR_SHAPE, "A site's update has another form.", detail=site
            )
        words += update.words
        self._words = words
        self._tag = (self._tag + update.tag) % PRIME
        self.sites.append(site)

    def total(self, roster: Iterable[str]) -> MaskedSum:
        """Give the sum, once exactly the members of ``roster`` are in it; without a copy.

        Raises:
            ProtocolError: ATTEMPT_SITE_LEFT when a member is missing or a stranger is in it.
        """
        if self._words is None or sorted(self.sites) != sorted(roster):
            raise ProtocolError(
                ErrorCode.ATTEMPT_SITE_LEFT,
                "Not exactly the members of the cohort have sent an update.",
                hint="The attempt is void and stays charged; open the next one.",
            )
        return MaskedSum(self._words, self._tag)


def recover_sum(
    plan: StudyPlan,
    readies: Iterable[SignedReady],
    uploads: Mapping[str, MaskedUpdate],
    revealed: Mapping[str, Revealed],
) -> MaskedSum:
    """Add the survivors' updates and take off what their cancelling masks leave (SECAGG-15).

    Args:
        plan: the study, in recoverable mode.
        readies: the whole cohort's signed READYs, checked on arrival.
        uploads: one update per survivor, exactly those on the confirmed list.
        revealed: answers to UNMASK, by survivor. If somebody was lost every survivor's is needed,
            since only it has its pair seeds; else any tau of them do.

    Raises:
        ProtocolError: SURVIVORS_* when the survivors do not fit cohort and plan, VECTOR_SHAPE for
            an update of another form, RECOVERY_FAILED when the answers do not suffice.
    """
    masks = _left_over(plan, readies, uploads.keys(), revealed)
    return _take_off(_added(uploads), masks)


def unmask_sum(
    plan: StudyPlan,
    readies: Iterable[SignedReady],
    masked: RunningSum,
    revealed: Mapping[str, Revealed],
) -> MaskedSum:
    """Take off what `recover_sum` does, from updates that were added as they came (SECAGG-15).

    Args:
        plan: the study, in recoverable mode.
        readies: the whole cohort's signed READYs, checked on arrival.
        masked: the updates of exactly the confirmed survivors; its words are changed in place, so
            it is of no use afterwards.
        revealed: answers to UNMASK, by survivor, as for `recover_sum`.

    Raises:
        ProtocolError: as `recover_sum`; then nothing was changed.
    """
    masks = _left_over(plan, readies, set(masked.sites), revealed)
    return _take_off(masked.total(masked.sites), masks)


def check_confirmation(plan: StudyPlan, survivors: SurvivorList, site: str, signature: str) -> None:
    """Make sure that a survivor signed this very list.

    Raises:
        ProtocolError: the site is not on the list.
        TrustError: the signature is not by its pinned key over the list.
    """
    if site not in survivors.uploads or site not in plan.site_ids:
        raise ProtocolError(
            ErrorCode.SURVIVORS_STRANGER, "A confirmation is not of a survivor.", detail=site
        )
    key = plan.site(site).identity_key
    if not is_valid(key, Context.SURVIVORS, survivors.canonical(), signature):
        raise TrustError(
            ErrorCode.SIGNATURE_INVALID, "A site's confirmation is not of this list.", detail=site
        )


def upload_hash(update: MaskedUpdate) -> str:
    """Return the hash by which survivors name one update (64 hex digits; SECAGG-13)."""
    sent = UploadHash(len(update.words))
    for part in chunks(len(update.words)):
        sent.update(words_to_bytes(update.words[part]))
    return sent.finish(update.tag)


def sum_hash(summed: MaskedSum) -> str:
    """Return the hash by which sites compare what sum they were given (64 hex digits)."""
    start = frame((b"cohortium/v2/secagg/sum", summed.tag.to_bytes(8, "little")))
    size = WORD_BYTES * len(summed.words)
    sha = hashlib.sha256(start + size.to_bytes(4, "big"))  # a frame of three, without a copy
    for part in chunks(len(summed.words)):
        sha.update(words_to_bytes(summed.words[part]))
    return sha.hexdigest()


def words_to_bytes(words: NDArray[np.uint32]) -> memoryview:
    """Show the words as they travel, four bytes each, little-endian; a view, not a copy."""
    return np.ascontiguousarray(words, dtype="<u4").view(np.uint8).data


def words_from_bytes(raw: bytes | memoryview, length: int) -> NDArray[np.uint32]:
    """Read exactly ``length`` words; what is returned looks at ``raw`` and cannot be changed.

    Raises:
        ProtocolError: the bytes are more or fewer.
    """
    if len(raw) != length * WORD_BYTES:
        raise ProtocolError(
            ErrorCode.MESSAGE_LENGTH_WRONG, "A vector does not have the length the plan fixes."
        )
    return np.frombuffer(raw, dtype="<u4").astype(np.uint32, copy=False)


def _added(uploads: Mapping[str, MaskedUpdate]) -> MaskedSum:
    """Add updates of one form."""
    running = RunningSum()
    for site, upload in uploads.items():
        running.add(site, upload)
    return running.total(uploads)


def _left_over(
    plan: StudyPlan,
    readies: Iterable[SignedReady],
    survivors: Set[str],
    revealed: Mapping[str, Revealed],
) -> list[PairMask]:
    """Derive the masks that do not cancel in the sum of the survivors' updates."""
    cohort = {signed.ready.site_id: signed.ready for signed in readies}
    _check_survivors(plan, cohort, survivors | revealed.keys(), len(survivors))
    if not revealed.keys() <= survivors:
        raise ProtocolError(ErrorCode.SURVIVORS_STRANGER, "An answer is not of a survivor.")
    lost = sorted(cohort.keys() - survivors)
    masks = _self_masks(plan, cohort, sorted(survivors), revealed)
    for site in sorted(survivors) if lost else ():
        masks.extend(_pair_masks(site, lost, revealed.get(site)))
    return masks


def _take_off(masked: MaskedSum, masks: Sequence[PairMask]) -> MaskedSum:
    """Subtract masks from a sum; its words are changed in place."""
    MaskStreams((-mask.sign, mask.stream_key) for mask in masks).apply(masked.words)
    tag = masked.tag - sum(mask.sign * mask.tag_mask for mask in masks)
    return MaskedSum(masked.words, tag % PRIME)


def _check_survivors(
    plan: StudyPlan, cohort: Mapping[str, Ready], named: Iterable[str], survivors: int
) -> None:
    """Refuse what no honest site would have confirmed, before anything is computed."""
    if not cohort or not all(has_self_masks(plan, ready.kind) for ready in cohort.values()):
        raise ProtocolError(
            ErrorCode.RECOVERY_NOT_OFFERED, "Only training in recoverable mode can be unmasked."
        )
    if not cohort.keys() >= set(named):
        raise ProtocolError(
            ErrorCode.SURVIVORS_STRANGER, "A survivor is not a member of the cohort."
        )
    if survivors < len(cohort) - plan.dropouts_allowed(len(cohort)):
        raise ProtocolError(
            ErrorCode.SURVIVORS_TOO_FEW,
            "More hospitals are lost than the plan allows in one sum.",
            hint="The attempt is void and stays charged; open the next one.",
        )


def _self_masks(
    plan: StudyPlan,
    cohort: Mapping[str, Ready],
    survivors: Sequence[str],
    revealed: Mapping[str, Revealed],
) -> list[PairMask]:
    """Combine every survivor's self-mask secret and derive its mask."""
    answers = _Answers(plan, revealed)
    masks = []
    for site in survivors:
        ready = cohort[site]
        secret = answers.secret_of(ready)
        masks.append(PairMask.of(self_mask_seed(secret, ready.header().canonical()), 1))
    return masks


class _Answers:
    """The survivors' shares, with those that gave a bad one moved to the end of the queue."""

    def __init__(self, plan: StudyPlan, revealed: Mapping[str, Revealed]) -> None:
        self._points = share_points(plan)
        self._threshold = plan.survivor_threshold
        self._revealed = revealed
        self._queue = sorted(revealed)
        self._weights: dict[tuple[str, ...], tuple[int, ...]] = {}

    def secret_of(self, ready: Ready) -> bytes:
        """Return the self-mask secret that fits the commitment in ``ready``.

        The first tau shares are tried, then the same without one of them at a time, each
        replaced by the next in the queue: so any one site that answers wrongly is found. Only
        the commitment says that a secret is right; a wrong share looks like any other.
        """
        given = {
            site: share
            for site in self._queue
            if (share := _share(self._revealed[site], ready.site_id)) is not None
        }
        queue = tuple(given)
        first = queue[: self._threshold]
        for left_out in ("", *first):
            chosen = tuple(site for site in queue if site != left_out)[: self._threshold]
            if len(chosen) < self._threshold:
                break
            secret = shamir.combine(self._weights_of(chosen), [given[site] for site in chosen])
            if self._fits(ready, secret):
                if left_out:  # it may have lied about the others too: ask it last
                    self._queue.remove(left_out)
                    self._queue.append(left_out)
                return secret
        raise ProtocolError(
            ErrorCode.RECOVERY_FAILED,
            "The shares of a site's self-mask do not give the secret it committed to.",
            hint="The attempt is void and stays charged; open the next one.",
            detail=ready.site_id,
        )

    def _weights_of(self, sites: tuple[str, ...]) -> tuple[int, ...]:
        if sites not in self._weights:
            self._weights[sites] = shamir.weights_at_zero([self._points[s] for s in sites])
        return self._weights[sites]

    @staticmethod
    def _fits(ready: Ready, secret: bytes) -> bool:
        expected = self_mask_commitment(
            secret, ready.plan_digest, ready.site_id, ready.ephemeral_key
        )
        return hmac.compare_digest(expected, ready.self_mask_commitment)


def _share(revealed: Revealed, owner: str) -> int | None:
    """Read one share, if it was given and is a number of the field."""
    try:
        return shamir.read_element(bytes.fromhex(revealed.shares[owner]))
    except (KeyError, ValueError):
        return None


def _pair_masks(site: str, lost: Sequence[str], revealed: Revealed | None) -> list[PairMask]:
    """Return what ``site`` added (sign 1) or subtracted (sign -1) for each lost member."""
    try:
        if revealed is None:
            raise KeyError(site)
        return [
            PairMask.of(bytes.fromhex(revealed.seeds[gone]), pair_sign(site, gone)) for gone in lost
        ]
    except (KeyError, ValueError):
        raise ProtocolError(
            ErrorCode.RECOVERY_FAILED,
            "A survivor did not give the seeds it shares with the lost sites.",
            hint="The attempt is void and stays charged; open the next one.",
            detail=site,
        ) from None
