"""How does the runner speak to the SuperLink's Runtime API?"""

from __future__ import annotations

from pathlib import Path

import httpx
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime import RuntimeHttpClient

_ACQUIRE_METHOD = "/flwr.proto.Runtime/AcquireTask"


class TaskToken:
    """Sign AcquireTask with the shared secret and every other call with the task's token."""

    def __init__(self, secret: bytes) -> None:
        self._acquire = SuperExecAuthHttpInterceptor(
            master_secret=secret, protected_methods=frozenset({_ACQUIRE_METHOD})
        )
        self.token = ""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the header that fits the call."""
        if context.rpc_method == _ACQUIRE_METHOD or not self.token:
            return self._acquire.intercept(context, call_next)
        return RuntimeTokenHttpInterceptor(self.token).intercept(context, call_next)


def runtime_client(address: str, ca_path: Path, token: TaskToken) -> RuntimeHttpClient:
    """Return a client without Flower's retries, which answer a 401 by interrupting us."""
    return RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=False,
        root_certificates=ca_path.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor("flwr-serverapp"), token],
        retry_invoker=None,
    )
