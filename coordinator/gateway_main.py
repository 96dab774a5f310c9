"""What runs in the gateway process? The outward listener for enrolled sites' nodes."""

from __future__ import annotations

import argparse
import asyncio
import threading
from pathlib import Path
from typing import Final

from coordinator.config import Home, load
from coordinator.db import Database
from coordinator.documents import Documents
from coordinator.enrolment import Enrolment
from coordinator.files import read_ports, server_files
from coordinator.gateway import CoordinatorGatewaySettings, Received, SitePin, serve_gateway
from coordinator.logs import configure, event
from coordinator.pki import Authority
from schemas.errors import CohortiumError

_WRITE_SECONDS: Final = 1.0


class Counter:
    """Adds up what each site sends and writes it down now and then, not once a message."""

    def __init__(self, database: Database, every_seconds: float = _WRITE_SECONDS) -> None:
        self._database = database
        self._every_seconds = every_seconds
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write_now_and_then, daemon=True)
        self._thread.start()

    def add(self, received: Received) -> None:
        """Count one body."""
        with self._lock:
            count = self._counts.setdefault((received.site_id, received.path), [0, 0])
            count[0] += 1
            count[1] += received.n_bytes

    def close(self) -> None:
        """Write what is left."""
        self._ending.set()
        self._thread.join()

    def _write_now_and_then(self) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(self._every_seconds)
            with self._lock:
                counts, self._counts = self._counts, {}
            try:
                self._database.tally_transport(counts)
            except CohortiumError as error:
                event("gateway.count_lost", code=error.code.value)


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="coordinator.gateway_main")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--tap", type=Path, help="test beds only: keep a copy of what arrives")
    options = parser.parse_args(arguments)
    configure()
    home = Home(options.home)
    config, ports, files = load(home), read_ports(home), server_files(home)
    database = Database(home.database)
    enrolment, documents = Enrolment(database), Documents(database)

    def pins() -> dict[str, SitePin]:
        return {
            site.certificate_sha256: SitePin(site.site_id, site.node_key)
            for site in enrolment.sites()
        }

    def answer(site_id: str, call: str, body: bytes) -> bytes:
        if call == "pull":
            return documents.pull(site_id, body)
        return documents.push(site_id, body)

    settings = CoordinatorGatewaySettings(
        certificate=files.certificate,
        key=files.key,
        client_ca=Authority(home.authority).ca_path,
        superlink_address=f"127.0.0.1:{ports['superlink']}",
        superlink_ca=Authority(home.authority).ca_path,
        wake_dir=home.run,
        listen_host=config.gateway_bind,
        listen_port=ports["gateway"],
        status_file=home.run / "gateway.json",
        tap_file=options.tap,
    )
    counter = Counter(database)
    asyncio.run(serve_gateway(settings, pins=pins, documents=answer, record=counter.add))
    counter.close()


if __name__ == "__main__":
    main()
