"""Whose keys are these? Other hospitals' identity cards, and which a steward has confirmed.

The coordinator has no say here: a card comes as a file from the other hospital, and counts only
after a person compared its fingerprint with that hospital over another channel.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.canonical import parse
from schemas.errors import ErrorCode, TrustError
from schemas.identity import (
    IdentityCard,
    fingerprint,
    fingerprint_words,
    open_card,
    parse_card_file,
)
from schemas.ids import format_time
from schemas.limits import MAX_CARD_BYTES
from schemas.signing import SignedDocument
from site_node.clock import Clock, utc_now
from site_node.db import Database
from site_node.governance.audit import Audit, AuditWord, Recording

if TYPE_CHECKING:
    import sqlite3

    from schemas.governance.study import PlanSite, StudyPlan


@dataclass(frozen=True, slots=True)
class Peer:
    """One other hospital as known here."""

    card: IdentityCard
    fingerprint: str
    imported_at: str
    confirmed_at: str | None

    @property
    def words(self) -> str:
        """Give the fingerprint in six words, to read out on the telephone."""
        return fingerprint_words(self.fingerprint)


@dataclass(frozen=True, slots=True)
class PeerCheck:
    """What this hospital knows about one other hospital named in a plan."""

    site_id: str
    name: str
    fingerprint: str
    problem: ErrorCode | None


class Peers:
    """Import, confirm and compare the other hospitals' cards."""

    def __init__(
        self, database: Database, audit: Audit, own_site_id: str, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._audit = audit
        self._own_site_id = own_site_id
        self._clock = clock

    def import_card(self, raw: bytes, *, replace: bool = False) -> tuple[Peer, Recording]:
        """Store another hospital's card from the bytes of its file; it is not confirmed yet.

        Args:
            raw: the file a hospital exported with ``card export``.
            replace: put it in the place of an older card; the confirmation is then void.

        Raises:
            TrustError: not a card signed by its own key, the site's own card, or a different
                card than the one known and ``replace`` is not set.
        """
        card = parse_card_file(raw)
        if card.site_id == self._own_site_id:
            raise TrustError(
                ErrorCode.CARD_SITE_MISMATCH,
                "This card carries this hospital's own site id.",
                hint="Import the cards of the other hospitals.",
            )
        known = self.get(card.site_id)
        mark = fingerprint(card)
        if known is not None and known.fingerprint != mark and not replace:
            raise TrustError(
                ErrorCode.PEER_EXISTS,
                f"Another card of {card.site_id} is known here already.",
                hint="Ask that hospital whether it changed its keys. If it did: "
                "`peers import FILE --replace`, then confirm the new fingerprint.",
            )
        signed = parse(SignedDocument, raw.strip(), max_bytes=MAX_CARD_BYTES)
        now = format_time(self._clock())
        with self._audit.recording(
            AuditWord.PEER_IMPORTED, peer=card.site_id, fingerprint=mark
        ) as recording:
            recording.connection.execute(
                "INSERT INTO peers (site_id, card, fingerprint, imported_at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (site_id) DO UPDATE SET card = excluded.card, "
                "confirmed_at = CASE WHEN fingerprint = excluded.fingerprint "
                "THEN confirmed_at END, "
                "fingerprint = excluded.fingerprint, imported_at = excluded.imported_at",
                (card.site_id, signed.canonical(), mark, now),
            )
        peer = self.get(card.site_id)
        assert peer is not None  # written in the transaction above
        return peer, recording

    def confirm(self, site_id: str, stated_fingerprint: str) -> tuple[Peer, Recording]:
        """Note that a steward compared this fingerprint with the other hospital.

        Args:
            site_id: the hospital.
            stated_fingerprint: the 64 hex characters it read out or sent; colons, spaces and
                capitals do not matter. Words alone are too short to confirm by.

        Raises:
            TrustError: no card of that hospital is known, or it has another fingerprint.
        """
        peer = self.get(site_id)
        if peer is None:
            raise TrustError(
                ErrorCode.PEER_UNKNOWN,
                f"No identity card of {site_id} is known here.",
                hint="Ask that hospital for its card file, then `peers import FILE`.",
            )
        plain = "".join(c for c in stated_fingerprint.lower() if c not in ": \t-")
        if not hmac.compare_digest(plain.encode(), peer.fingerprint.encode()):
            raise TrustError(
                ErrorCode.FINGERPRINT_MISMATCH,
                f"The card of {site_id} does not have the fingerprint you gave.",
                hint="Do not approve any plan with this hospital. Ask it by telephone to read out "
                "the 64 characters of `cohortium-site card show`, and where the card file came "
                "from.",
            )
        now = format_time(self._clock())
        with self._audit.recording(
            AuditWord.PEER_CONFIRMED, peer=site_id, fingerprint=peer.fingerprint
        ) as recording:
            recording.connection.execute(
                "UPDATE peers SET confirmed_at = ? WHERE site_id = ?", (now, site_id)
            )
        return Peer(peer.card, peer.fingerprint, peer.imported_at, now), recording

    def get(self, site_id: str) -> Peer | None:
        """Give one known hospital, or None."""
        row = self._database.row("SELECT * FROM peers WHERE site_id = ?", site_id)
        return None if row is None else _peer(row)

    def all(self) -> tuple[Peer, ...]:
        """Give every known hospital by site id."""
        return tuple(_peer(row) for row in self._database.rows("SELECT * FROM peers ORDER BY 1"))

    def checks(self, plan: StudyPlan) -> tuple[PeerCheck, ...]:
        """Compare every other hospital of a plan with the confirmed cards."""
        others: Iterable[PlanSite] = (s for s in plan.sites if s.site_id != self._own_site_id)
        return tuple(self._check(site) for site in others)

    def _check(self, site: PlanSite) -> PeerCheck:
        peer = self.get(site.site_id)
        if peer is None:
            return PeerCheck(site.site_id, site.name, "", ErrorCode.PEER_UNKNOWN)
        card = peer.card
        problem: ErrorCode | None = None
        if not site.has_keys_of(card):
            problem = ErrorCode.PEER_KEY_SUBSTITUTED
        elif peer.confirmed_at is None:
            problem = ErrorCode.PEER_UNCONFIRMED
        return PeerCheck(site.site_id, site.name, peer.fingerprint, problem)


def _peer(row: sqlite3.Row) -> Peer:
    # The signature and fingerprint are checked on every read: the row is only a file on disk.
    card = open_card(parse(SignedDocument, row["card"], max_bytes=MAX_CARD_BYTES))
    if fingerprint(card) != row["fingerprint"] or card.site_id != row["site_id"]:
        raise TrustError(
            ErrorCode.CARD_INVALID,
            "A stored identity card was changed.",
            hint="Run `cohortium-site doctor`; import and confirm the card again.",
        )
    return Peer(card, row["fingerprint"], row["imported_at"], row["confirmed_at"])
