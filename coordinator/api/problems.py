"""Which HTTP answer stands for which error? RFC 9457 problems, keyed by our stable codes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.logs import get_logger
from schemas.errors import (
    BudgetExceeded,
    CohortiumError,
    ConfigError,
    DataRejected,
    ErrorCode,
    InternalError,
    PolicyDenied,
    ProtocolError,
    TransportError,
    TrustError,
)

_BY_CODE: Final[Mapping[ErrorCode, int]] = {
    ErrorCode.TOKEN_INVALID: 401,
    ErrorCode.PLAN_UNKNOWN: 404,
    ErrorCode.STUDY_UNKNOWN: 404,
    ErrorCode.STUDY_NO_RESULT: 404,
    ErrorCode.STUDY_NO_MODEL: 404,
    ErrorCode.TRANSPORT_PATH_FORBIDDEN: 404,
    ErrorCode.STUDY_EXISTS: 409,
    ErrorCode.STUDY_STATE: 409,
    ErrorCode.DOCUMENT_TOO_LARGE: 413,
    ErrorCode.TRANSPORT_TOO_LARGE: 413,
}
_BY_CLASS: Final[tuple[tuple[type[CohortiumError], int], ...]] = (
    (ConfigError, 400),
    (TrustError, 403),
    (PolicyDenied, 403),
    (BudgetExceeded, 403),
    (DataRejected, 422),
    (ProtocolError, 422),
    (TransportError, 503),
    (InternalError, 500),
)


def status_of(error: CohortiumError) -> int:
    """Return the HTTP status of an error: by its code, else by its class."""
    known = _BY_CODE.get(error.code)
    if known is not None:
        return known
    return next((status for cls, status in _BY_CLASS if isinstance(error, cls)), 500)


def problem(error: CohortiumError) -> Response:
    """Return the problem document: code, public sentence and hint; never the local detail."""
    status = status_of(error)
    body = {
        "type": f"urn:cohortium:problem:{error.code.value}",
        "title": error.sentence,
        "status": status,
        "code": error.code.value,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
    return Response(json.dumps(body), status_code=status, media_type="application/problem+json")


def unexpected() -> InternalError:
    """Return the one answer to whatever nobody foresaw."""
    return InternalError(ErrorCode.INTERNAL_UNEXPECTED, "Something went wrong at the coordinator.")


class Edge:
    """The one place where anything unexpected in a request ends; its text stays here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever escapes becomes ``internal.unexpected``."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except CohortiumError as error:
            if not started:
                await problem(error)(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - the process edge of every HTTP request
            get_logger().error("request.failed", code=type(error).__name__)
            if not started:
                await problem(unexpected())(scope, receive, send)


async def read_limited(request: Request, max_bytes: int) -> bytes:
    """Read a request's body; stop as soon as it is larger than allowed.

    Raises:
        TransportError: larger than ``max_bytes`` (code ``transport.too_large``).
    """
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > max_bytes:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise _too_large()
        parts.append(part)
    return b"".join(parts)


def _too_large() -> TransportError:
    return TransportError(
        ErrorCode.TRANSPORT_TOO_LARGE, "The request's body is larger than this path allows."
    )
