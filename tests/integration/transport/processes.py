"""The child processes of the transport tests, each started as ``python processes.py ROLE DIR``."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))


def _append(path: Path, line: dict[str, object]) -> None:
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def _tap(home: Path, config: dict[str, object]) -> Path | None:
    return home / "tap.bin" if config["tap"] else None


class Egress:
    """The product's own gate and manifest around a site's database, for the benchmark.

    The tests use plain files instead, which they can read and break.
    """

    def __init__(self, home: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from schemas.signing import public_hex
        from site_node.db import Database
        from site_node.egress.gate import Gate, Manifest
        from site_node.governance.audit import Audit

        path = home / "site.db"
        identity = Ed25519PrivateKey.from_private_bytes(b"transport test identity, 32 byte")
        database = Database(path, create=not path.exists())
        self.manifest = Manifest(database, public_hex(identity))
        self.gate = Gate(
            database=database,
            audit=Audit(database, home.name, identity, home / "witness"),
            identity=identity,
            site_id=home.name,
            is_charged=lambda _charge: False,
        )

    def release(self, body: bytes) -> object:
        """Let a body go by the one way that needs no study."""
        from site_node.governance.inbox import Outgoing

        digest = hashlib.sha256(body).hexdigest()
        return self.gate.release_document(Outgoing(digest, "approval", "", body))


def coordinator_gateway(home: Path) -> None:
    from coordinator.gateway import (
        CoordinatorGatewaySettings,
        Received,
        SitePin,
        serve_gateway,
    )

    config = json.loads((home / "gateway-config.json").read_text())

    def pins() -> dict[str, SitePin]:
        raw = json.loads((home / "pins.json").read_text())
        return {key: SitePin(*value) for key, value in raw.items()}

    def documents(site_id: str, call: str, body: bytes) -> bytes:
        return json.dumps({"site": site_id, "call": call, "n": len(body)}).encode()

    def record(each: Received) -> None:
        _append(
            home / "received.jsonl",
            {"site": each.site_id, "path": each.path, "n": each.n_bytes, "tls": each.tls_version},
        )

    settings = CoordinatorGatewaySettings(
        certificate=home / "gateway.crt",
        key=home / "gateway.key",
        client_ca=home / "ca.crt",
        superlink_address=config["superlink"],
        superlink_ca=home / "ca.crt",
        wake_dir=home / "wake",
        listen_port=config.get("port", 0),
        status_file=home / "gateway.json",
        tap_file=_tap(home, config),
    )
    asyncio.run(serve_gateway(settings, pins=pins, documents=documents, record=record))


def site_gateway(home: Path) -> None:
    from site_node.flower.launch import LocalTls
    from site_node.gateway import GatewayClient, Sent, SiteGatewaySettings, serve_gateway

    config = json.loads((home / "gateway-config.json").read_text())
    local = LocalTls(home)

    egress = Egress(home) if config["egress"] else None

    def is_listed(object_id: str) -> bool:
        if egress is not None:
            return egress.manifest.is_listed(object_id)
        return (home / "manifest" / object_id).exists()

    def record(sent: Sent) -> None:
        if egress is not None:
            egress.manifest.record(sent.path, sent.n_bytes, sent.object_id)
            return
        if (home / "audit-broken").exists():
            from schemas.errors import ErrorCode, InternalError

            raise InternalError(ErrorCode.AUDIT_UNAVAILABLE, "The audit log cannot be written.")
        _append(
            home / "sent.jsonl",
            {"path": sent.path, "n": sent.n_bytes, "id": sent.object_id, "at": sent.at},
        )

    async def courier(client: GatewayClient) -> None:
        await asyncio.sleep(0.1)
        answer = await client.documents_pull(b'{"have":[]}')
        (home / "courier.json").write_bytes(answer)
        await asyncio.Event().wait()

    settings = SiteGatewaySettings(
        upstream_url=config["upstream"],
        upstream_ca=home / "ca.crt",
        client_certificate=home / "site.crt",
        client_key=home / "site.key",
        listen_certificate=local.certificate,
        listen_key=local.key,
        node_public_key_pem=(home / "node.pub.pem").read_bytes(),
        wake_dir=home / "wake",
        listen_port=config.get("port", 0),
        status_file=home / "gateway.json",
        tap_file=_tap(home, config),
    )
    asyncio.run(serve_gateway(settings, is_listed=is_listed, record=record, background=[courier]))


def _die_at_piece(number: int) -> None:
    """End this process in the middle of its next answer."""
    from site_node.flower.pieces import BodyObjects

    cut, asked = BodyObjects.content, []

    def content(self: BodyObjects, object_id: str) -> bytes:
        asked.append(object_id)
        if len(asked) == number:
            os._exit(9)
        return cut(self, object_id)

    BodyObjects.content = content  # type: ignore[method-assign]


def executor(home: Path) -> None:
    from schemas.errors import ErrorCode, InternalError, PolicyDenied
    from schemas.limits import PIECE_BYTES
    from site_node.flower.executor import (
        ExecutorSettings,
        OutgoingObject,
        OutgoingReply,
        run_executor,
    )
    from site_node.flower.launch import LocalTls

    config = json.loads((home / "executor-config.json").read_text())
    (home / "manifest").mkdir(exist_ok=True)
    egress = Egress(home) if config["egress"] else None
    prepared: list[bytes] = []

    def let_go(body: bytes) -> OutgoingReply:
        return OutgoingReply(body, egress.release(body) if egress else None)

    def measure(word: bytes, body: bytes) -> OutgoingReply:
        """Answer the benchmark: what is big goes one way, and its hash the other."""
        if word == b"prepare":
            prepared[:] = [os.urandom(int(body.split(b"|")[1]))]
            body = prepared[0]
        elif word == b"send":
            return let_go(prepared[0])
        return let_go(hashlib.sha256(body).hexdigest().encode("ascii"))

    def handle(body: bytes) -> OutgoingReply:
        word = body[:64].split(b"|", 1)[0]
        if egress is not None:
            return measure(word, body)
        if word == b"raise":
            raise ValueError("PATIENT-CANARY-8812")
        if word == b"explode":
            raise RuntimeError("PATIENT-CANARY-8812")
        if word == b"deny":
            raise PolicyDenied(ErrorCode.PLAN_STOPPED, "Stopped.", detail="PATIENT-CANARY-8812")
        if word == b"big":
            return OutgoingReply(os.urandom(300_000))
        if word == b"slow":
            time.sleep(float(body.split(b"|")[1]))
        if word == b"die":
            os._exit(9)
        if word == b"die-sending":
            _die_at_piece(9)
            return OutgoingReply(os.urandom(12 * PIECE_BYTES))
        return OutgoingReply(b"echo:" + body, reference=word.decode("ascii", "replace"))

    def register(reply: OutgoingReply, objects: list[OutgoingObject]) -> None:
        if reply.reference == "unwritable":
            raise InternalError(ErrorCode.AUDIT_UNAVAILABLE, "The audit log cannot be written.")
        if egress is not None:
            egress.gate.manifest(reply.reference, objects)  # type: ignore[arg-type]
            return
        listed = objects[:-1] if reply.reference == "unlisted" else objects
        if reply.reference == "unlisted-piece":  # all but the second piece
            listed = [each for each in objects if each is not objects[2]]
        for each in listed:
            (home / "manifest" / each.id).touch()

    def refuse(code: ErrorCode) -> OutgoingReply:
        return let_go(b"refusal:" + str(code.value).encode())

    settings = ExecutorSettings(
        runtime_address=config["runtime"],
        ca_path=LocalTls(home).ca,
        secret_path=home / "secret",
        state_dir=home / "executor",
        wake_dir=home / "wake",
        allowed_bundles=lambda: frozenset(json.loads((home / "bundles.json").read_text())),
        deadline_seconds=config.get("deadline", 60.0),
    )
    run_executor(settings, handle, register, refuse)


if __name__ == "__main__":
    {
        "coordinator-gateway": coordinator_gateway,
        "site-gateway": site_gateway,
        "executor": executor,
    }[sys.argv[1]](Path(sys.argv[2]))
