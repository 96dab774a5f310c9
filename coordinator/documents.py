"""Which documents does a site get from the coordinator, and which does it hand in?

A site sees only studies whose plan names it. Nothing here is trusted by a site because it came
from here: plans, approvals and results carry signatures that the site checks itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator
from typing import Final, Literal

from coordinator.db import Database
from coordinator.lifecycle import StudyState
from coordinator.studies import Studies, StudyRecord
from schemas.canonical import parse, sha256_hex
from schemas.documents import (
    MAX_PULL_BYTES,
    MAX_PUSH_BYTES,
    CarriedDocument,
    PulledKind,
    PullRequest,
    PullResponse,
    PushRequest,
    PushResponse,
    SignedResult,
)
from schemas.errors import ErrorCode, ProtocolError

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024  # what is left over comes with the next pull


class Documents:
    """The two calls a site's courier makes through the gateway."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._studies = Studies(database)

    def handle(self, site_id: str, call: Literal["pull", "push"], body: bytes) -> bytes:
        """Answer one call of an authenticated site."""
        return self.pull(site_id, body) if call == "pull" else self.push(site_id, body)

    def pull(self, site_id: str, body: bytes) -> bytes:
        """Return the documents that the site does not have yet.

        Args:
            site_id: the site as the gateway authenticated it.
            body: canonical `PullRequest`.
        """
        have = set(parse(PullRequest, body, max_bytes=MAX_PULL_BYTES).have)
        chosen: list[CarriedDocument] = []
        size = 0
        for record in self._studies.all():
            if site_id not in record.plan.site_ids or record.state is StudyState.REPLACED:
                continue
            for kind, raw in self._bodies(record, site_id, have):
                digest = sha256_hex(raw)
                if digest in have:
                    continue
                text = base64.b64encode(raw).decode("ascii")
                size += len(text)
                if chosen and size > MAX_ANSWER_BYTES:
                    break
                chosen.append(
                    CarriedDocument(kind=kind, study_id=record.study_id, sha256=digest, body=text)
                )
        return PullResponse(documents=tuple(chosen)).canonical()

    def push(self, site_id: str, body: bytes) -> bytes:
        """Store a site's approval or stop; the same one again changes nothing.

        Args:
            site_id: the site as the gateway authenticated it.
            body: canonical `PushRequest`.

        Raises:
            TrustError: its signer is not the approval key that the plan pins for this site.
            ProtocolError: it is not what it says, or of another site or plan.
        """
        request = parse(PushRequest, body, max_bytes=MAX_PUSH_BYTES)
        try:
            raw = base64.b64decode(request.body, validate=True)
        except binascii.Error:
            raise ProtocolError(
                ErrorCode.MESSAGE_MALFORMED, "A document handed in is not base64."
            ) from None
        if request.kind == "approval":
            study = self._studies.add_approval(raw, from_site=site_id)
        else:
            study = self._studies.add_stop(raw, from_site=site_id)
        self._db.tally(site_id, study, request.kind, len(raw))
        return PushResponse().canonical()

    def _bodies(
        self, record: StudyRecord, site_id: str, have: Collection[str]
    ) -> Iterator[tuple[PulledKind, bytes]]:
        yield "plan", record.signed_plan.canonical()
        model = record.plan.model
        # Where a seed gives them, every site derives the weights itself. Those of a file can be
        # long: they are read only for a site that lacks them.
        if model.initialisation == "file" and model.initial_weights_sha256 not in have:
            yield "weights", self._studies.weights(record.digest)
        for approver, approval in self._studies.approvals(record.digest).items():
            if approver != site_id:
                yield "approval", approval.canonical()
        released = self._studies.release(record.digest)
        if released is not None:
            result = SignedResult(
                plan_digest=record.digest,
                release=base64.b64encode(released.body).decode("ascii"),
                signatures=dict(released.signatures),
            )
            yield "result", result.canonical()
