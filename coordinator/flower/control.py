"""How are nodes made known to the SuperLink, and a study's run begun?

Flower's control API has no authentication of its own; it is spoken here only, on loopback.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    RegisterNodeRequest,
    StartRunRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from schemas.errors import ErrorCode, TransportError


@dataclass(frozen=True, slots=True)
class Control:
    """The SuperLink's control API at one address."""

    address: str
    ca_path: Path

    def is_ready(self) -> bool:
        """Return whether the SuperLink answers."""
        try:
            with self._client() as client:
                client.ListNodes(ListNodesRequest())
        except httpx.HTTPError:
            return False
        return True

    def register_node(self, node_key: str, *, name: str) -> int:
        """Make a site's node key known and return its node id; repeating it is harmless.

        Args:
            node_key: the P-384 public key, hex of its SPKI DER, as on the identity card.
            name: the site's id, for Flower's own log.

        Raises:
            TransportError: the SuperLink is away or refuses the key.
        """
        pem = node_key_pem(node_key)
        try:
            with self._client() as client:
                known = {
                    bytes(node.public_key): int(node.node_id)
                    for node in client.ListNodes(ListNodesRequest()).nodes_info
                }
                if pem in known:
                    return known[pem]
                answer = client.RegisterNode(RegisterNodeRequest(public_key=pem, name=name))
        except httpx.HTTPError as error:
            raise _away(error) from error
        if not answer.HasField("node_id"):
            raise TransportError(
                ErrorCode.NODE_UNKNOWN,
                "The SuperLink did not accept a node key.",
                hint="Enrol the site again.",
            )
        return int(answer.node_id)

    def start_run(self, bundle: bytes) -> int:
        """Begin a run with ``bundle`` and return its id.

        Raises:
            TransportError: the SuperLink is away or refuses the bundle.
        """
        digest = hashlib.sha256(bundle).hexdigest()
        try:
            with self._client() as client:
                answer = client.StartRun(StartRunRequest(fab=Fab(hash_str=digest, content=bundle)))
        except httpx.HTTPError as error:
            raise _away(error) from error
        if not answer.HasField("run_id"):
            raise TransportError(
                ErrorCode.TRANSPORT_RESPONSE_INVALID,
                "The SuperLink did not begin the run.",
                hint="See the SuperLink's log.",
            )
        return int(answer.run_id)

    def _client(self) -> ControlHttpClient:
        return ControlHttpClient.from_server_address(
            self.address,
            insecure=False,
            root_certificates=self.ca_path.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )


def node_key_pem(spki_der_hex: str) -> bytes:
    """Return the PEM form, as Flower keeps it, of a node key given as hex of its DER."""
    public = serialization.load_der_public_key(bytes.fromhex(spki_der_hex))
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _away(error: httpx.HTTPError) -> TransportError:
    return TransportError(
        ErrorCode.TRANSPORT_UNREACHABLE,
        "The SuperLink cannot be reached.",
        hint="See the coordinator's status; it is started again by itself.",
        detail=type(error).__name__,
    )
