"""What runs in the runner process? One approved study after another, over the SuperLink."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path
from types import FrameType

from coordinator.config import Home
from coordinator.db import Database
from coordinator.files import read_ports, server_files, write_json
from coordinator.flower.bundle import build_bundle
from coordinator.flower.control import Control
from coordinator.flower.fleet import Fleet, FleetSettings
from coordinator.logs import configure
from coordinator.pki import Authority
from coordinator.runner import Runner
from coordinator.studies import Studies


def main(arguments: list[str] | None = None) -> None:
    """Run studies until told to stop."""
    parser = argparse.ArgumentParser(prog="coordinator.runner_main")
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args(arguments).home)
    configure()
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    ports = read_ports(home)
    address = f"127.0.0.1:{ports['superlink']}"
    ca = Authority(home.authority).ca_path
    control = Control(address, ca)
    while not control.is_ready():
        if stopping.wait(0.2):
            return
    database = Database(home.database)
    fleet = Fleet(FleetSettings(address, ca, server_files(home).superlink_secret, home.run))
    write_json(home.run / "runner.json", {"ready": True})
    Runner(
        studies=Studies(database),
        database=database,
        control=control,
        fleet=fleet,
        bundle=build_bundle(),
        should_stop=stopping.is_set,
    ).run_forever()


if __name__ == "__main__":
    main()
