"""What may be handed to the transport? Only a ``Released``, and only the gate can make one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Released:
    """One body the gate let go; it is on disk as such before this value exists.

    Attributes:
        id: number of the row in the site's list of released bodies.
        kind: the plan's word for this kind of output.
        plan_digest: the plan it answers for; empty for a refusal outside any plan.
        body: exactly these bytes may leave.
    """

    id: int
    kind: str
    plan_digest: str
    body: bytes
    _seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse to be made by anybody but the gate."""
        if self._seal is not _SEAL:
            raise TypeError("only site_node.egress.gate makes a Released")


def _release(id: int, kind: str, plan_digest: str, body: bytes) -> Released:
    """Make the sealed value; for ``site_node.egress.gate`` alone (a test looks for others)."""
    return Released(id, kind, plan_digest, body, _SEAL)
