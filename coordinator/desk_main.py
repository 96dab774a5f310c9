"""What runs in the desk process? The HTTPS API for people's commands, and the read-only page."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Final

from coordinator.api.app import Desk, make_app
from coordinator.clock import system_clock
from coordinator.config import Home, load
from coordinator.db import Database
from coordinator.enrolment import Enrolment
from coordinator.files import authority_of, read_ports, server_files, write_json
from coordinator.flower.bundle import bundle_sha256
from coordinator.flower.control import Control
from coordinator.listeners import page_server, serve_all, tls_server
from coordinator.logs import configure, event
from coordinator.pki import Authority, issue_site
from coordinator.web.app import make_page
from schemas.errors import CohortiumError, ErrorCode, TransportError

_SUPERLINK_SECONDS: Final = 60.0


def register_all(control: Control, enrolment: Enrolment) -> None:
    """Make every enrolled site known to a SuperLink that has just begun with empty memory.

    Raises:
        TransportError: the SuperLink does not answer in time.
    """
    until = time.monotonic() + _SUPERLINK_SECONDS
    while not control.is_ready():
        if time.monotonic() > until:
            raise TransportError(
                ErrorCode.TRANSPORT_UNREACHABLE, "The SuperLink did not start in time."
            )
        time.sleep(0.1)
    for site in enrolment.sites():
        node_id = control.register_node(site.node_key, name=site.site_id)
        if node_id != site.node_id:
            enrolment.set_node_id(site.site_id, node_id)


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="coordinator.desk_main")
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args(arguments).home)
    configure()
    config, ports, files = load(home), read_ports(home), server_files(home)
    database = Database(home.database)
    certificates = Authority(home.authority)
    control = Control(f"127.0.0.1:{ports['superlink']}", certificates.ca_path)
    try:
        register_all(control, Enrolment(database))
    except CohortiumError as error:
        event("desk.not_started", code=error.code.value)
        raise SystemExit(error.exit_code) from None

    def issue(csr_pem: str, site_id: str) -> str:
        return issue_site(certificates, csr_pem, site_id, now=system_clock())

    def register(node_key: str, site_id: str) -> int:
        return control.register_node(node_key, name=site_id)

    desk = Desk(
        database=database,
        authority=authority_of(home, config),
        issue=issue,
        register=register,
        bundle_sha256=bundle_sha256(),
    )
    api = tls_server(
        make_app(desk),
        certificate=files.certificate,
        key=files.key,
        host=config.api_bind,
        port=ports["api"],
    )
    page = page_server(make_page(database, config.name), ports["page"])
    write_json(home.run / "desk.json", {"ready": True})
    asyncio.run(serve_all([api, page]))


if __name__ == "__main__":
    main()
