"""Which paths does the coordinator's API have, who may call them, and how large may a body be?"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import FastAPI, Request, Response
from pydantic import StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from coordinator.api.problems import Edge, problem, read_limited, unexpected
from coordinator.db import Database
from coordinator.enrolment import Authority, Enrolment, IssueCertificate, RegisterNode
from coordinator.overview import Overview
from coordinator.studies import Studies
from schemas.canonical import Document, parse
from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TransportError
from schemas.limits import MAX_ENROLMENT_BYTES, MAX_PLAN_BYTES, MAX_WEIGHTS_BYTES
from schemas.signing import SignedDocument

MAX_SEALED_ENROLMENT_BYTES: Final = 2 * MAX_ENROLMENT_BYTES  # base64 around the request
MAX_PROPOSAL_BYTES: Final = MAX_WEIGHTS_BYTES * 4 // 3 + 2 * MAX_PLAN_BYTES  # in base64
_STRICT_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Proposal(Document):
    """What a vendor sends: the sealed plan and, where it names a file, the initial weights."""

    plan: SignedDocument
    weights: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything the API needs; made once per process."""

    database: Database
    authority: Authority
    issue: IssueCertificate
    register: RegisterNode
    bundle_sha256: str


def make_app(desk: Desk) -> ASGIApp:
    """Build the API over ``desk``; nothing but these paths answers."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    enrolment = Enrolment(desk.database)
    studies = Studies(desk.database)
    overview = Overview(desk.database)

    def token(request: Request) -> str:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        return value if scheme.lower() == "bearer" else ""

    @app.exception_handler(CohortiumError)
    def refused(_request: Request, error: CohortiumError) -> Response:
        return problem(error)

    @app.exception_handler(Exception)
    def failed(_request: Request, _error: Exception) -> Response:
        return problem(unexpected())  # the exception goes on to `Edge`, which logs its type

    @app.exception_handler(HTTPException)
    def no_such_path(_request: Request, _error: HTTPException) -> Response:
        return problem(
            TransportError(
                ErrorCode.TRANSPORT_PATH_FORBIDDEN, "This path or method does not exist here."
            )
        )

    @app.post("/v1/enrol")
    async def enrol(request: Request) -> Response:
        raw = await read_limited(request, MAX_SEALED_ENROLMENT_BYTES)
        answer = await run_in_threadpool(
            enrolment.accept, raw, desk.authority, issue=desk.issue, register=desk.register
        )
        return _json(answer.canonical())

    @app.get("/v1/info")
    def info(request: Request) -> dict[str, Any]:
        enrolment.role_of(token(request))
        return {
            "name": desk.authority.name,
            "app_bundle_sha256": desk.bundle_sha256,
            "time": desk.database.now(),
        }

    @app.get("/v1/sites")
    def sites(request: Request) -> dict[str, Any]:
        enrolment.role_of(token(request))
        enrolled = enrolment.sites()
        return {
            "sites": [
                {**view.model_dump(mode="json"), "card": site.card.model_dump(mode="json")}
                for site, view in zip(enrolled, overview.enrolled(enrolled), strict=True)
            ]
        }

    @app.post("/v1/studies")
    async def propose(request: Request) -> Response:
        await run_in_threadpool(enrolment.check_may_write, token(request))
        raw = await read_limited(request, MAX_PROPOSAL_BYTES)
        record = await run_in_threadpool(_propose, studies, raw, desk.bundle_sha256)
        view = await run_in_threadpool(overview.study, record.study_id)
        return _json(view.model_dump_json().encode("utf-8"), status=201)

    @app.post("/v1/studies/{study_id}/start")
    def start(request: Request, study_id: str) -> dict[str, Any]:
        enrolment.check_may_write(token(request))
        studies.start_with_approved(studies.by_name(study_id).digest)
        return overview.study(study_id).model_dump(mode="json")

    @app.get("/v1/studies")
    def list_studies(request: Request) -> dict[str, Any]:
        enrolment.role_of(token(request))
        return {"studies": [view.model_dump(mode="json") for view in overview.studies()]}

    @app.get("/v1/studies/{study_id}")
    def show_study(request: Request, study_id: str) -> dict[str, Any]:
        enrolment.role_of(token(request))
        return overview.study(study_id).model_dump(mode="json")

    @app.get("/v1/studies/{study_id}/results")
    def results(request: Request, study_id: str) -> dict[str, Any]:
        enrolment.role_of(token(request))
        record = studies.by_name(study_id)
        stored = studies.release(record.digest)
        if stored is None:
            raise ProtocolError(
                ErrorCode.STUDY_NO_RESULT,
                "The study has no result yet.",
                hint="Run: cohortium study watch STUDY",
            )
        return {
            "plan": record.signed_plan.model_dump(mode="json"),
            "release": base64.b64encode(stored.body).decode("ascii"),
            "signatures": dict(stored.signatures),
            "released_at": stored.received_at,
            "study": overview.study(study_id).model_dump(mode="json"),
        }

    @app.get("/v1/studies/{study_id}/model")
    def model(request: Request, study_id: str) -> Response:
        enrolment.role_of(token(request))
        stored = studies.model(studies.by_name(study_id).digest)
        if stored is None:
            raise ProtocolError(
                ErrorCode.STUDY_NO_MODEL,
                "The study has no final model yet.",
                hint="Run: cohortium study watch STUDY",
            )
        return Response(
            stored[1],
            media_type="application/octet-stream",
            headers={**_STRICT_HEADERS, "x-model-hash": stored[0]},
        )

    return Edge(app)


def _propose(studies: Studies, raw: bytes, bundle_sha256: str) -> Any:
    proposal = parse(Proposal, raw, max_bytes=MAX_PROPOSAL_BYTES)
    try:
        weights = base64.b64decode(proposal.weights, validate=True)
    except binascii.Error:
        raise ProtocolError(
            ErrorCode.MESSAGE_MALFORMED, "The initial weights are not base64."
        ) from None
    return studies.propose(proposal.plan.canonical(), weights, bundle_sha256=bundle_sha256)


def _json(raw: bytes, status: int = 200) -> Response:
    return Response(raw, status, media_type="application/json", headers=_STRICT_HEADERS)
