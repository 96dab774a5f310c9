"""The child processes of the transport tests, each started as ``python processes.py ROLE DIR``."""

from __future__ import annotations

import asyncio
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
        tap_file=home / "tap.bin",
    )
    asyncio.run(serve_gateway(settings, pins=pins, documents=documents, record=record))


def site_gateway(home: Path) -> None:
    from site_node.flower.launch import LocalTls
    from site_node.gateway import GatewayClient, Sent, SiteGatewaySettings, serve_gateway

    config = json.loads((home / "gateway-config.json").read_text())
    local = LocalTls(home)

    def is_listed(object_id: str) -> bool:
        return (home / "manifest" / object_id).exists()

    def record(sent: Sent) -> None:
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
        tap_file=home / "tap.bin",
    )
    asyncio.run(serve_gateway(settings, is_listed=is_listed, record=record, background=[courier]))


def executor(home: Path) -> None:
    from schemas.errors import ErrorCode, InternalError, PolicyDenied
    from site_node.flower.executor import (
        ExecutorSettings,
        OutgoingObject,
        OutgoingReply,
        run_executor,
    )
    from site_node.flower.launch import LocalTls

    config = json.loads((home / "executor-config.json").read_text())
    (home / "manifest").mkdir(exist_ok=True)

    def handle(body: bytes) -> OutgoingReply:
        word = body.split(b"|", 1)[0]
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
        return OutgoingReply(b"echo:" + body, reference=word.decode("ascii", "replace"))

    def register(reply: OutgoingReply, objects: list[OutgoingObject]) -> None:
        if reply.reference == "unwritable":
            raise InternalError(ErrorCode.AUDIT_UNAVAILABLE, "The audit log cannot be written.")
        listed = objects[:-1] if reply.reference == "unlisted" else objects
        for each in listed:
            (home / "manifest" / each.id).touch()

    def refuse(code: ErrorCode) -> OutgoingReply:
        return OutgoingReply(b"refusal:" + str(code.value).encode())

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
