"""Which secrets does one site hold for one attempt, and how long does each of them live?

    masks           from the cohort to the upload           spent by the first vector
    group secret    from the cohort until the keys are      opens and checks the attempt's sum
                    erased
    mask shares,    recoverable training only: from the     signing a list of survivors destroys
    pair seeds      cohort to the answer to UNMASK          what that list does not let out

The last line is the either-or rule made of memory instead of conditions: after the one signature
there is a share *or* a seed for each site, never both, and after the one answer neither.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.keys import Attempt, PairMask
from schemas.secagg.messages import SurvivorList


class RecoverySecrets:
    """What a member of a recoverable attempt can hand out once, to unmask one sum (SECAGG-14).

    Args:
        shares: this site's Shamir share of each member's self-mask secret, 32 bytes each.
        seeds: the seed of the pair mask with each other member, 48 bytes each.

    Attributes:
        upload_hash: hash of what this site sent; empty until it has sent.
        signed: the one list of survivors this site signed, with its signature.
    """

    __slots__ = ("_seeds", "_shares", "signed", "upload_hash")

    def __init__(self, shares: Mapping[str, bytes], seeds: Mapping[str, bytes]) -> None:
        self._shares: dict[str, bytes] | None = dict(shares)
        self._seeds: dict[str, bytes] = dict(seeds)
        self.upload_hash = ""
        self.signed: tuple[SurvivorList, str] | None = None

    def __repr__(self) -> str:
        return "RecoverySecrets(<secret>)"

    @property
    def is_spent(self) -> bool:
        """Whether the secrets were handed out or erased."""
        return self._shares is None

    def settle(self, survivors: SurvivorList, signature: str) -> None:
        """Remember the one list signed, and forget what it does not allow to be revealed.

        A share of a lost site, or a seed with a survivor, is of no honest use from here on: gone,
        it cannot be asked for under another list.
        """
        if self.signed is not None or self._shares is None:
            raise ValueError("an attempt has one list of survivors")
        self.signed = (survivors, signature)
        kept = survivors.uploads.keys()
        self._shares = {site: share for site, share in self._shares.items() if site in kept}
        self._seeds = {site: seed for site, seed in self._seeds.items() if site not in kept}

    def spend(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Hand out shares of survivors and seeds with the lost, and forget both.

        Raises:
            ProtocolError: they were handed out before, or erased.
        """
        if self.signed is None:
            raise ValueError("nothing is handed out before a list of survivors is signed")
        if self._shares is None:
            raise ProtocolError(
                ErrorCode.RECOVERY_DONE,
                "This site has answered for this attempt already, or has forgotten its secrets.",
                hint="The attempt stays charged; open the next one.",
            )
        handed = self._shares, self._seeds
        self.erase()
        return handed

    def erase(self) -> None:
        """Forget shares and seeds; what was signed is remembered."""
        self._shares, self._seeds = None, {}


class CohortKeys:
    """One site's secrets for one attempt; made by `join_cohort` or `observe_cohort`.

    Args:
        site_id: whose secrets these are.
        roster: the cohort, sorted.
        attempt: what they are bound to.
        group: the group secret, 32 bytes.
        masks: every mask of this site's upload; ``None`` for one that only looks.
        fewest: fewest contributors a sum of this attempt may have; all of the roster by default.
        recovery: what unmasks the sum when members are lost; recoverable training only.

    Attributes:
        site_id: as above, likewise ``roster``, ``attempt`` and ``fewest``.
    """

    __slots__ = ("_group", "_masks", "_recovery", "attempt", "fewest", "roster", "site_id")

    def __init__(
        self,
        site_id: str,
        roster: tuple[str, ...],
        attempt: Attempt,
        group: bytes,
        masks: tuple[PairMask, ...] | None,
        *,
        fewest: int | None = None,
        recovery: RecoverySecrets | None = None,
    ) -> None:
        self.site_id = site_id
        self.roster = roster
        self.attempt = attempt
        self.fewest = len(roster) if fewest is None else fewest
        self._group: bytes | None = group
        self._masks = masks
        self._recovery = recovery

    def __repr__(self) -> str:
        return f"CohortKeys({self.site_id}, {len(self.roster)} sites, <secret>)"

    @property
    def transcript_hash(self) -> str:
        """The hash of every signed READY of the cohort."""
        return self.attempt.transcript_hash

    @property
    def is_blind(self) -> bool:
        """Whether the coordinator must not read the sum: everything without noise of its own."""
        return self.attempt.kind == "evaluate"

    @property
    def wants_upload_hash(self) -> bool:
        """Whether `note_upload` is to be called when the vector is masked."""
        recovery = self._recovery
        return recovery is not None and not recovery.upload_hash and not recovery.is_spent

    def erase(self) -> None:
        """Forget every secret; the keys are of no use afterwards."""
        self._group = None
        self._masks = None
        if self._recovery is not None:
            self._recovery.erase()

    def group(self) -> bytes:
        """Return the group secret.

        Raises:
            ProtocolError: the secrets were erased.
        """
        if self._group is None:
            raise _spent()
        return self._group

    def spend_masks(self) -> tuple[PairMask, ...]:
        """Hand out the masks of the upload, the self-mask among them, and forget them.

        Raises:
            ProtocolError: they were used before, or this site is not a member of the cohort.
        """
        if self._masks is None:
            raise _spent()
        masks, self._masks = self._masks, None
        return masks

    def note_upload(self, upload_hash: str) -> None:
        """Remember the hash of the masked update, 64 hex digits: only it may be a survivor's."""
        if self._recovery is None or not self.wants_upload_hash or self._masks is not None:
            raise ValueError("one upload is noted per recoverable attempt, after it was masked")
        self._recovery.upload_hash = upload_hash

    def recovery(self) -> RecoverySecrets:
        """Return what can unmask this attempt's sum.

        Raises:
            ProtocolError: the attempt is atomic or blind, or this site only looks on.
        """
        if self._recovery is None:
            raise ProtocolError(
                ErrorCode.RECOVERY_NOT_OFFERED,
                "This attempt is not one whose sum this site can help to unmask.",
                hint="Only training of a plan in recoverable mode survives the loss of a member.",
            )
        return self._recovery

    @property
    def signed_survivors(self) -> tuple[str, ...]:
        """The survivors on the list this site signed, sorted; empty before it signed one."""
        if self._recovery is None or self._recovery.signed is None:
            return ()
        return tuple(sorted(self._recovery.signed[0].uploads))


def _spent() -> ProtocolError:
    return ProtocolError(
        ErrorCode.SECRETS_SPENT,
        "The secrets of this attempt were used or erased.",
        hint="A new attempt with fresh keys is needed; the old one stays charged.",
    )
