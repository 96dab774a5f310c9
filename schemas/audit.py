"""Is this audit log complete and unchanged since it was written?

Every event carries the hash of the one before it. A signed checkpoint of the head, kept elsewhere,
makes a cut-off end visible too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from schemas import limits
from schemas.canonical import Document, HexBytes32, sha256_hex
from schemas.errors import ErrorCode
from schemas.ids import EventName, SiteId, Timestamp

GENESIS: Final = "0" * 64
"""What the first event names as its predecessor."""

_PREFIX: Final = b"cohortium/v1/audit-event\x00"

AttributeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
AttributeText = Annotated[str, StringConstraints(max_length=300)]


class AuditEvent(Document):
    """One fact: names, digests and counts, never data."""

    version: Literal[1] = 1
    index: Annotated[int, Field(ge=0)]  # 0, 1, 2, ...
    time: Timestamp
    event: EventName
    plan_digest: HexBytes32 | None
    attributes: Annotated[
        dict[AttributeName, AttributeText | int], Field(max_length=limits.MAX_AUDIT_ATTRIBUTES)
    ]
    previous: HexBytes32


class AuditCheckpoint(Document):
    """The head of a log at one moment; sealed with ``Context.AUDIT`` by the identity key."""

    version: Literal[1] = 1
    site_id: SiteId
    index: Annotated[int, Field(ge=0)]
    head: HexBytes32
    time: Timestamp


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What a walk along the chain found.

    Attributes:
        count: Events that verify, from the first.
        head: Hash of the last of them; ``GENESIS`` for none.
        broken_at: Index at which the first event does not fit; ``None``: the chain is whole.
        reason: Why it does not fit; ``None`` likewise.
    """

    count: int
    head: str
    broken_at: int | None = None
    reason: ErrorCode | None = None

    @property
    def ok(self) -> bool:
        """Whether every event fits."""
        return self.broken_at is None


def chain(previous: str, event: AuditEvent) -> str:
    """Give the head after an event: SHA-256 over a prefix, the previous head and the event.

    Raises:
        ValueError: The event names another predecessor.
    """
    if event.previous != previous:
        raise ValueError("the event does not follow this head")
    return sha256_hex(_PREFIX + bytes.fromhex(previous) + event.canonical())


def verify_chain(
    events: Iterable[AuditEvent], *, checkpoints: Iterable[AuditCheckpoint] = ()
) -> VerificationResult:
    """Walk a log from its first event and say whether every event fits.

    Time may stand still but not run backwards; a set-back clock is recorded by an event of its
    own kind, ``clock.set_back``, which may carry an earlier time.

    Args:
        events: All events in order.
        checkpoints: Heads known from elsewhere (signatures checked by the caller); a log that
            ends before one of them, or has another head there, is broken.
    """
    expected: dict[int, set[str]] = {}
    for checkpoint in checkpoints:
        expected.setdefault(checkpoint.index, set()).add(checkpoint.head)
    head, count, last_time = GENESIS, 0, ""
    for event in events:
        broken = (
            event.index != count
            or event.previous != head
            or (event.time < last_time and event.event != "clock.set_back")
        )
        following = head if broken else chain(head, event)
        if broken or not expected.pop(count, {following}) <= {following}:
            return VerificationResult(count, head, count, ErrorCode.AUDIT_BROKEN)
        head, count, last_time = following, count + 1, event.time
    if expected:
        return VerificationResult(count, head, count, ErrorCode.AUDIT_BROKEN)
    return VerificationResult(count, head)
