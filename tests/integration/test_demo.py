"""`make demo` on a terminal: result, summary, page until Ctrl-C, and no process left."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import httpx
import psutil
import pytest

STUDY_KEYS = {
    "sites", "steps", "attempts", "epsilon", "delta", "unit", "adjacency", "t", "accountant",
    "hospitals_per_patient", "epsilon_two_hospitals", "privacy", "privacy_reading",
    "test_auroc", "test_auroc_ci", "test_auroc_bound", "baseline_pooled_no_dp_auroc",
    "baseline_central_dp_auroc", "round_seconds_median", "cpu_seconds_per_site_per_round",
    "bytes_out_per_site_per_round", "parameters",
}  # fmt: skip
TOP_KEYS = {
    "studies", "processes", "tls", "identifiers_found_outside_raw",
    "identifier_positive_control_found", "seconds_total", "peak_rss_mib", "versions",
}  # fmt: skip


def own_terminal() -> None:
    """Make standard input the new process's terminal, and Ctrl-C mean what it means there.

    A shell starts what it puts into the background with interrupts ignored, and tests inherit it.
    """
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_until(terminal: int, pattern: str, seconds: float) -> str:
    """Read the terminal until a line matches."""
    until, seen = time.monotonic() + seconds, ""
    os.set_blocking(terminal, False)
    while time.monotonic() < until:
        try:
            seen += os.read(terminal, 65536).decode("utf-8", errors="replace")
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:  # the other end is closed
            break
        if re.search(pattern, seen):
            return seen
    raise AssertionError(f"the terminal never showed {pattern}:\n{seen[-3000:]}")


@pytest.mark.timeout(400)
def test_the_demo_on_a_terminal(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "scripts.demo", "--study", "heart", "--root", str(root)]
    demo = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=own_terminal,
    )
    os.close(theirs)
    try:
        shown = read_until(ours, r"The page: (http://\S+)", 330)
        page = re.search(r"The page: (http://\S+)", shown)
        assert page is not None
        with httpx.Client(trust_env=False) as client:
            answer = client.get(page.group(1))
        assert answer.status_code == 200
        assert "heart" in answer.text
        os.write(ours, b"\x03")
        os.set_blocking(ours, True)
        assert demo.wait(60) == 0
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
        os.close(ours)
    left = [
        p
        for p in psutil.process_iter(["cmdline"])
        if str(root) in " ".join(p.info["cmdline"] or [])
    ]
    assert left == []
    summary = json.loads((root / "summary.json").read_text())
    assert set(summary) >= TOP_KEYS
    heart = summary["studies"]["heart"]
    assert set(heart) == STUDY_KEYS
    assert heart["test_auroc"] >= 0.86
    assert heart["epsilon"] <= 1.0
    assert heart["delta"] <= 1e-5
    assert summary["identifiers_found_outside_raw"] == 0
    assert summary["identifier_positive_control_found"] is True
    assert summary["tls"] == "TLSv1.3"
    assert summary["processes"] >= 21
