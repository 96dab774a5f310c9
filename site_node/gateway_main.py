"""What runs as the gateway process? Egress forwarding and the courier, over one connection."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from site_node.context import open_site
from site_node.courier import Courier
from site_node.enrol import AUTHORITY, CERTIFICATE, read_enrolment
from site_node.flower.launch import LocalTls, node_key_pem
from site_node.gateway import GatewayClient, Sent, SiteGatewaySettings, serve_gateway
from site_node.logs import configure_logs, event

LOCAL_TLS, WAKE, GATEWAY_STATUS, SECRET = "tls", "run", "gateway.json", "executor.secret"
_PARENT_CHECK_SECONDS = 1.0


async def _end_with_parent(_client: GatewayClient) -> None:
    """End this process when the service that started it is gone, however it went."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def main(home: Path, listen_port: int) -> None:
    """Serve until SIGTERM; started by ``cohortium-site serve``."""
    site = open_site(home)
    configure_logs(site.config.site_id, "gateway")
    enrolment = read_enrolment(site)
    folders, keys = site.folders, site.folders.keys
    local = LocalTls(folders.state / LOCAL_TLS)
    tap = site.config.debug.unsafe_plaintext_tap
    settings = SiteGatewaySettings(
        upstream_url=enrolment.gateway_url,
        upstream_ca=keys / AUTHORITY,
        client_certificate=keys / CERTIFICATE,
        client_key=keys / "tls.key",
        listen_certificate=local.certificate,
        listen_key=local.key,
        node_public_key_pem=node_key_pem(site.keys.node_public_der_hex),
        wake_dir=folders.state / WAKE,
        listen_port=listen_port,
        status_file=folders.state / GATEWAY_STATUS,
        tap_file=Path(tap) if tap else None,
    )
    manifest = site.manifest

    def record(sent: Sent) -> None:
        manifest.record(sent.path, sent.n_bytes, sent.object_id)

    event("gateway.started")
    try:
        asyncio.run(
            serve_gateway(
                settings,
                is_listed=manifest.is_listed,
                record=record,
                background=[Courier(site).run, _end_with_parent],
            )
        )
    finally:
        manifest.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
