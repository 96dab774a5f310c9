"""What runs as the executor process? Our own code only, torch loaded once, loopback only."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from site_node.context import open_site
from site_node.gateway_main import LOCAL_TLS, SECRET, WAKE
from site_node.logs import configure_logs, event


def main(home: Path, runtime_port: int) -> None:
    """Serve until SIGTERM; started by ``cohortium-site serve``."""
    from site_node.flower.executor import ExecutorSettings, run_executor
    from site_node.flower.launch import LocalTls, check_environment

    check_environment(os.environ)
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    site = open_site(home)
    configure_logs(site.config.site_id, "executor")

    import torch

    import site_node.training.dp_sgd  # noqa: F401 - loaded now, so that no round waits for it
    from site_node.flower.client_app import ClientApp

    torch.set_num_threads(1)
    client = ClientApp(site)
    settings = ExecutorSettings(
        runtime_address=f"127.0.0.1:{runtime_port}",
        ca_path=LocalTls(site.folders.state / LOCAL_TLS).ca,
        secret_path=site.folders.state / SECRET,
        state_dir=site.folders.state / "executor",
        wake_dir=site.folders.state / WAKE,
        allowed_bundles=site.approvals.approved_bundles,
        deadline_seconds=site.config.service.task_deadline_seconds,
    )
    parent = os.getppid()

    def should_stop() -> bool:
        return ended.is_set() or os.getppid() != parent

    event("executor.started")
    run_executor(settings, client.handle, client.register, client.refuse, should_stop=should_stop)
    event("executor.ended")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
