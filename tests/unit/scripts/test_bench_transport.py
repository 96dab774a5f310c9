"""Does the transport benchmark read memory and CPU right, and refuse a wrong answer?"""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from scripts import bench_transport
from scripts.bench_transport import Bench, WrongAnswer, cpu_seconds, memory_mib, reset_peak, show


def test_the_peak_is_the_kernels_and_begins_anew() -> None:
    pid = os.getpid()
    reset_peak(pid)
    before = memory_mib(pid, "VmHWM")
    taken = bytes(b"x" * 64_000_000)
    peak = memory_mib(pid, "VmHWM")
    assert peak >= before + 50
    del taken
    reset_peak(pid)
    assert memory_mib(pid, "VmHWM") < peak - 30
    assert cpu_seconds(pid) > 0


class Fleet:
    """A fleet of one honest or forgetful site."""

    def __init__(self, *, is_honest: bool) -> None:
        self._is_honest = is_honest
        self._body = b""

    def exchange(self, requests, *, timeout_seconds, is_enough=None):
        import hashlib

        (body,) = requests.values()
        if body.startswith(b"prepare|"):
            self._body = body = os.urandom(int(body.split(b"|")[1]))
        elif body == b"send|":
            answer = self._body if self._is_honest else b"else"
            return {7: bench_transport.Reply(answer)}
        is_true = self._is_honest or body is self._body
        sha256 = hashlib.sha256(body if is_true else b"else").hexdigest()
        return {7: bench_transport.Reply(sha256.encode())}


@pytest.mark.parametrize("direction", ["down", "up"])
def test_what_arrived_is_compared_with_what_was_sent(direction: str) -> None:
    deployment = SimpleNamespace(sites=[SimpleNamespace(node_id=7, children={})], children={})
    bench = Bench(deployment, Fleet(is_honest=True))  # type: ignore[arg-type]
    measured = bench.measure(direction, 3_000_000)
    assert (measured.n_pieces, measured.sites, measured.repeats) == (2, 1, 3)
    assert list(measured.peak_rss_mib) == ["runner"]
    report = {"results": [bench_transport.asdict(measured)]}
    assert f"3 MB {direction}" in show(report)
    with pytest.raises(WrongAnswer):
        Bench(deployment, Fleet(is_honest=False)).measure(direction, 1000)  # type: ignore[arg-type]
