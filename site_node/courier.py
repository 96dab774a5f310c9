"""How do plans come in and approvals go out? A small task inside the gateway's process.

It asks the coordinator for documents this site does not have and hands over the steward's signed
statements. What comes is verified by ``Inbox``; what goes was listed by the egress gate first.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Final, Literal, Protocol

from schemas.canonical import parse, sha256_hex
from schemas.documents import (
    MAX_HAVE,
    CarriedDocument,
    PullRequest,
    PullResponse,
    PushRequest,
    SignedResult,
)
from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TransportError
from schemas.limits import MAX_FRAME_BYTES, MAX_RELEASE_BYTES
from schemas.signing import Context, is_valid, public_hex
from site_node.governance.inbox import RESULT
from site_node.logs import event

if TYPE_CHECKING:
    from site_node.context import SiteContext

_MAX_BACKOFF_SECONDS: Final = 30.0
_BUSY_FACTOR: Final = 0.25  # ask sooner again after something came or went


class DocumentCalls(Protocol):
    """The two calls of the gateway's connection that the courier uses."""

    async def documents_pull(self, body: bytes) -> bytes:
        """Ask for documents."""

    async def documents_push(self, body: bytes) -> bytes:
        """Hand one document over."""


class Courier:
    """Carries documents for one site."""

    def __init__(self, site: SiteContext) -> None:
        self._site = site
        self._refused: set[str] = set()

    async def run(self, calls: DocumentCalls) -> None:
        """Carry until cancelled; an unreachable coordinator only makes it wait longer."""
        pause = self._site.config.service.pull_seconds
        while True:
            try:
                moved = await self.carry_once(calls)
                pause = self._site.config.service.pull_seconds
                if moved:
                    pause *= _BUSY_FACTOR
            except TransportError as error:
                event("courier.waiting", code=error.code.value, seconds=pause)
                pause = min(2 * pause, _MAX_BACKOFF_SECONDS)
            except CohortiumError as error:
                event("courier.failed", code=error.code.value)
                pause = min(2 * pause, _MAX_BACKOFF_SECONDS)
            except Exception as error:  # noqa: BLE001 - the task's edge: it must not end silently
                event("courier.failed", code="internal.unexpected", kind=type(error).__name__)
                pause = min(2 * pause, _MAX_BACKOFF_SECONDS)
            await asyncio.sleep(pause)

    async def carry_once(self, calls: DocumentCalls) -> int:
        """Hand over what waits, then fetch what is new.

        Returns:
            How many documents moved.

        Raises:
            TransportError: the coordinator cannot be reached; everything stays queued.
            ProtocolError: its answer is not what was agreed.
        """
        moved = 0
        for outgoing in self._site.inbox.waiting():
            self._site.gate.release_document(outgoing)
            body = base64.b64encode(outgoing.body).decode("ascii")
            kind: Literal["approval", "stop"] = "stop" if outgoing.kind == "stop" else "approval"
            await calls.documents_push(PushRequest(kind=kind, body=body).canonical())
            self._site.inbox.mark_sent(outgoing)
            event("document.sent", kind=outgoing.kind, plan=outgoing.plan_digest)
            moved += 1
        have = sorted({*self._site.inbox.have(), *self._refused})[:MAX_HAVE]
        answer = await calls.documents_pull(PullRequest(have=tuple(have)).canonical())
        for document in parse(PullResponse, answer, max_bytes=MAX_FRAME_BYTES).documents:
            moved += self._take(document)
        return moved

    def _take(self, document: CarriedDocument) -> bool:
        try:
            body = base64.b64decode(document.body, validate=True)
            if sha256_hex(body) != document.sha256:
                raise ProtocolError(
                    ErrorCode.DOCUMENT_MALFORMED, "A document is not the one it is called."
                )
            inbox = self._site.inbox
            is_new = inbox.receive(document.kind, document.study_id, body) is not None
            if is_new and document.kind == RESULT:
                self._settle(body)
        except binascii.Error:
            code = ErrorCode.DOCUMENT_MALFORMED
        except CohortiumError as error:
            if error.code is ErrorCode.AUDIT_UNAVAILABLE:
                raise
            code = error.code
        else:
            event("document.received", kind=document.kind, study=document.study_id)
            return is_new
        # Kept out of the next request, so that one bad document does not come every two seconds.
        self._refused.add(document.sha256)
        event("document.refused", kind=document.kind[:40], code=code.value)
        return False

    def _settle(self, body: bytes) -> None:
        """Give back unopened attempts of a study whose result this very site has signed."""
        from schemas.evaluation import Release  # loads numpy; most rounds of the courier need none

        result = parse(SignedResult, body, max_bytes=4 * MAX_RELEASE_BYTES)
        own = result.signatures.get(self._site.config.site_id, "")
        released = base64.b64decode(result.release, validate=True)
        identity = public_hex(self._site.keys.identity)
        if is_valid(identity, Context.RELEASE, released, own):
            # Which study ends is said by the signed bytes, not by what is wrapped around them.
            release = parse(Release, released, max_bytes=MAX_RELEASE_BYTES)
            self._site.ledger.settle(release.plan_digest)
