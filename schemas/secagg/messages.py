"""What does a site say before it takes part in an attempt?

READY is one signed statement of what the site is ready for, what it believes (model, last sum, its
ledger), a fresh key, and its part of the group secret sealed for each possible member; in
recoverable mode also shares of its self-mask. A list of survivors is the only other statement that
sites sign in an attempt. The rest are words and numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from schemas.canonical import Document
from schemas.ids import HexBytes32, HexBytes64, SiteId
from schemas.limits import MAX_SITES
from schemas.secagg.keys import SHARE_BYTES, frame

Kind = Literal["train", "evaluate"]
Step = Annotated[int, Field(ge=0, le=1_000_000)]
"""A round or an attempt; the plan bounds both far below."""

SealedShare = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{2 * SHARE_BYTES}}}$")]
"""32 bytes under AES-256-GCM, in hexadecimal."""

NO_COMMITMENT: Final = "0" * 64
"""``self_mask_commitment`` where there is no self-mask."""

NO_SUM: Final = "0" * 64
"""``last_sum_hash`` before there is a sum."""


class ReadyHeader(Document):
    """What is said in the open; every sealed share is bound to it."""

    version: Literal[2]  # 1 had no self-mask
    plan_digest: HexBytes32
    kind: Kind
    round: Step
    attempt: Step
    site_id: SiteId
    model_hash: HexBytes32
    last_sum_hash: HexBytes32
    ledger_head: HexBytes32
    ledger_charges: Step  # training attempts charged under this plan so far
    ephemeral_key: HexBytes32
    self_mask_commitment: HexBytes32  # recoverable training only, else `NO_COMMITMENT`


class Ready(ReadyHeader):
    """A header with sealed shares for each site that may be a member.

    No field has a default: what is signed is written out, and its absence is an error of its own.

    ``group_shares`` hold the contribution to the group secret, ``mask_shares`` one Shamir share
    each of the self-mask (recoverable training only, otherwise empty).
    """

    group_shares: Annotated[dict[SiteId, SealedShare], Field(max_length=MAX_SITES)]
    mask_shares: Annotated[dict[SiteId, SealedShare], Field(max_length=MAX_SITES)]

    def header(self) -> ReadyHeader:
        """Return the part that the shares are bound to."""
        return ReadyHeader(**self.model_dump(exclude={"group_shares", "mask_shares"}))


class SignedReady(Document):
    """A READY under its site's identity key (Context.READY)."""

    ready: Ready
    signature: HexBytes64


class SurvivorList(Document):
    """Whose uploads of one attempt are to be summed; signed with Context.SURVIVORS.

    ``uploads`` maps each survivor to the `upload_hash` of what it sent.
    """

    version: Literal[2] = 2
    plan_digest: HexBytes32
    round: Step
    attempt: Step
    transcript_hash: HexBytes32
    uploads: Annotated[dict[SiteId, HexBytes32], Field(min_length=1, max_length=MAX_SITES)]


def transcript_hash(readies: Iterable[SignedReady]) -> str:
    """Return the hash that stands for one cohort: every signed READY, in the order of site names.

    Returns:
        64 hex digits. The order of the argument does not matter; any other change does.
    """
    ordered = sorted(readies, key=lambda signed: signed.ready.site_id)
    label = b"cohortium/v2/secagg/transcript"
    return hashlib.sha256(frame((label, *(signed.canonical() for signed in ordered)))).hexdigest()


class UploadHash:
    """The hash by which survivors name one masked update, taken while its words pass.

    SHA-256 of ``frame("cohortium/v2/secagg/upload", words, tag₈)``, all little-endian. The tag
    comes last because it is known last.

    Args:
        length: number of words that will come.
    """

    __slots__ = ("_left", "_sha")

    def __init__(self, length: int) -> None:
        self._left = 4 * length
        start = frame((b"cohortium/v2/secagg/upload",)) + self._left.to_bytes(4, "big")
        self._sha = hashlib.sha256(start)

    def update(self, words: bytes | memoryview) -> None:
        """Take the next words, as the bytes that travel."""
        with memoryview(words) as view:
            self._left -= view.nbytes
            self._sha.update(view)

    def finish(self, tag: int) -> str:
        """Return the hash, 64 hex digits, once all words have passed."""
        if self._left:
            raise ValueError("an upload has exactly the words it announced")
        self._sha.update(frame((tag.to_bytes(8, "little"),)))
        return self._sha.hexdigest()


def roster_hash(roster: Iterable[str]) -> str:
    """Return the hash that stands for a set of sites, whatever they said (64 hex digits)."""
    label = b"cohortium/v2/secagg/roster"
    return hashlib.sha256(frame((label, *(site.encode() for site in sorted(roster))))).hexdigest()
