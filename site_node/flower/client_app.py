"""How do the executor and this hospital's rounds meet?

The executor knows Flower and no study; `SiteRounds` knows the study and no Flower. Between them
stands one rule: only a `Released` of the egress gate becomes an answer, and its objects are put on
the signed manifest before the first one is pushed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import ErrorCode, InternalError
from site_node.egress.released import Released
from site_node.flower.executor import OutgoingObject, OutgoingReply
from site_node.round import SiteRounds

if TYPE_CHECKING:
    from site_node.context import SiteContext


class ClientApp:
    """The handler, registrar and refuser that `run_executor` needs."""

    def __init__(self, site: SiteContext) -> None:
        """Serve `site`."""
        self._site = site
        self._rounds = SiteRounds(site)

    def handle(self, body: bytes) -> OutgoingReply:
        """Answer one request."""
        return _reply(self._rounds.answer(body))

    def refuse(self, code: ErrorCode) -> OutgoingReply:
        """Answer with a code and nothing else."""
        return _reply(self._rounds.refuse(code))

    def register(self, reply: OutgoingReply, objects: list[OutgoingObject]) -> None:
        """Put every object of an answer on the egress manifest, durably.

        Raises:
            InternalError: EGRESS_NOT_LISTED for an answer that did not come from the gate.
        """
        if not isinstance(reply.reference, Released):
            raise InternalError(
                ErrorCode.EGRESS_NOT_LISTED, "An answer did not pass the egress gate."
            )
        self._site.gate.manifest(reply.reference, objects)


def _reply(released: Released) -> OutgoingReply:
    return OutgoingReply(body=released.body, reference=released)
