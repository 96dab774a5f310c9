"""How does a vendor's or researcher's machine talk to the coordinator? TLS 1.3, one pinned CA."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from unicodedata import category

import httpx

from coordinator.client.home import Access
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

_SECONDS: Final = 30.0
_BYTES_PER_SECOND: Final = 1_000_000  # what a busy coordinator takes in of a vendor's weights
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co"})  # as names and texts of a plan refuse
_BY_EXIT: Final[Mapping[int, type[CohortiumError]]] = {
    cls.exit_code: cls
    for cls in (
        ConfigError,
        TrustError,
        PolicyDenied,
        DataRejected,
        BudgetExceeded,
        ProtocolError,
        TransportError,
        InternalError,
    )
}


class Client:
    """One connection to a coordinator's API."""

    def __init__(self, access: Access) -> None:
        context = ssl.create_default_context(cadata=access.ca_pem)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._http = httpx.Client(
            base_url=access.api_url,
            verify=context,
            timeout=_SECONDS,
            headers={"authorization": f"Bearer {access.token}"},
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str) -> dict[str, Any]:
        """Fetch a JSON object.

        Raises:
            TransportError: the coordinator cannot be reached.
            CohortiumError: it refused; class, code, sentence and hint are its own.
        """
        return _object(self._call("GET", path))

    def get_bytes(self, path: str) -> tuple[bytes, str]:
        """Fetch a file and the model hash stated beside it."""
        answer = self._call("GET", path)
        return answer.content, answer.headers.get("x-model-hash", "")

    def post(self, path: str, body: bytes = b"") -> dict[str, Any]:
        """Send a body and return the JSON object of the answer."""
        return _object(self._call("POST", path, body))

    def _call(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        seconds = _SECONDS + len(body or b"") / _BYTES_PER_SECOND
        try:
            answer = self._http.request(method, path, content=body, timeout=seconds)
        except httpx.TransportError as error:
            raise TransportError(
                ErrorCode.TRANSPORT_UNREACHABLE,
                "The coordinator cannot be reached, or is not the one of the access file.",
                hint="Is it being served? Ask the operator: cohortium-coordinator status",
                detail=type(error).__name__,
            ) from None
        if answer.status_code >= 400:
            raise _refusal(answer)
        return answer


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _not_understood()
    plain: dict[str, Any] = _printable(found)
    return plain


def _printable(value: Any) -> Any:
    """Give a JSON value without characters that would steer a terminal; they become ``?``."""
    if isinstance(value, str):
        return "".join("?" if category(c) in _UNPRINTABLE else c for c in value)
    if isinstance(value, list):
        return [_printable(each) for each in value]
    if isinstance(value, dict):
        return {str(_printable(key)): _printable(each) for key, each in value.items()}
    return value


def _refusal(answer: httpx.Response) -> CohortiumError:
    try:
        problem = answer.json()
        cls = _BY_EXIT[problem["exit_code"]]
        sentence, hint = _printable(str(problem["title"])), _printable(str(problem["hint"]))
        return cls(ErrorCode(problem["code"]), sentence, hint=hint)
    except (ValueError, KeyError, TypeError):
        return _not_understood()


def _not_understood() -> TransportError:
    return TransportError(
        ErrorCode.TRANSPORT_RESPONSE_INVALID, "The coordinator's answer cannot be understood."
    )
