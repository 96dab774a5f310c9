"""What do the benchmarks measure, and do they say so when a goal is missed?"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from scripts import bench, bench_cores, bench_secagg
from scripts.bench_cores import streaming, two_processes
from scripts.bench_peer import MOD_RANGE, flwr_masking
from scripts.bench_protocol import Handshake, simulate
from scripts.bench_report import FIELDS, goals, update_line
from scripts.bench_timing import Goal, interleaved

ENTRY = {
    "d",
    "streams",
    "mask_vs_aes_ctr",
    "mask_vs_flwr",
    "upload_bytes",
    "quantisation_rms",
    "recover_cpu_seconds",
}


# --- choosing -------------------------------------------------------------------------------


def test_a_name_that_is_none_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["speed"]) == 2
    assert "secagg" in capsys.readouterr().err


def test_no_name_is_a_mistake_and_help_is_none() -> None:
    assert bench.main([]) == 2
    assert bench.main(["--help"]) == 0


def test_only_what_exists_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    announced = [line.split()[0] for line in lines if line.startswith("    ")]
    assert announced == list(bench.available()) and {"secagg", "transport"} <= set(announced)
    for name in announced:
        assert callable(importlib.import_module(f"scripts.bench_{name}").main)


def test_a_benchmark_is_announced_once_its_module_has_a_main(tmp_path: Path) -> None:
    (tmp_path / "bench_parts.py").write_text('"""Helpers."""\n')
    assert bench.available(tmp_path) == {}
    module = '"""How dear?\n\nMore."""\n\ndef main(arguments):\n    return 0\n'
    (tmp_path / "bench_privacy.py").write_text(module)
    assert bench.available(tmp_path) == {"privacy": "How dear?"}


@pytest.mark.parametrize("status", [None, 0, 1])
def test_a_benchmark_gets_its_own_options(
    monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    seen: list[object] = []
    part = ModuleType("scripts.bench_transport")
    part.main = lambda arguments: (seen.append(arguments), status)[1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scripts.bench_transport", part)
    monkeypatch.setattr(bench, "available", lambda: {"transport": "How long?"})
    monkeypatch.setattr(os, "environ", {})
    assert bench.main(["transport", "--quick"]) == (status or 0)
    assert seen == [["--quick"]]
    assert os.environ["OMP_NUM_THREADS"] == "1"


# --- timing ---------------------------------------------------------------------------------


def test_tasks_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def task(name: str) -> Callable[[], Callable[[], None]]:
        def prepare() -> Callable[[], None]:
            order.append(f"prepare {name}")
            return lambda: order.append(name)

        return prepare

    cost = interleaved({"a": task("a"), "b": task("b")}, repeats=2)
    assert order == ["prepare a", "a", "prepare b", "b"] * 3
    assert set(cost) == {"a", "b"} and all(seconds >= 0 for seconds in cost.values())


def test_what_takes_longer_costs_more() -> None:
    cost = interleaved(
        {
            "short": lambda: lambda: sum(range(10_000)),
            "long": lambda: lambda: sum(range(400_000)),
        },
        repeats=5,
    )
    assert cost["long"] > 4 * cost["short"] > 0


@pytest.mark.parametrize(
    ("measured", "at_least", "is_met"),
    [(0.6, True, True), (0.59, True, False), (0.6, False, True), (0.61, False, False)],
)
def test_a_goal_is_met_on_one_side(measured: float, at_least: bool, is_met: bool) -> None:
    goal = Goal("ratio", measured, 0.6, at_least)
    assert goal.is_met == is_met == goal.document()["met"]
    assert ("MISSED" in goal.line()) != is_met


# --- what is compared -----------------------------------------------------------------------


@pytest.mark.parametrize("streams", [1, 4])
def test_the_peer_is_masked_by_its_own_functions(
    monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    drawn: list[list[np.ndarray]] = []

    def drawing(seed: bytes, num_range: int, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
        drawn.append([np.full(shape, 1000 ** len(drawn)) for shape in shapes])
        return drawn[-1]

    monkeypatch.setattr("scripts.bench_peer.pseudo_rand_gen", drawing)
    _, masked = flwr_masking(np.arange(5), streams)()
    assert len(drawn) == streams
    signs = [1, *(1 if place % 2 else -1 for place in range(streams - 1))]
    total = sum(sign * mask[1] for sign, mask in zip(signs, drawn, strict=True))
    assert np.array_equal(masked, (np.arange(5) + total) % MOD_RANGE)


def test_aes_makes_every_byte_of_every_stream() -> None:
    calls: list[int] = []

    class Counting:
        def update_into(self, source: memoryview, target: memoryview) -> None:
            assert len(source) == len(target)
            calls.append(len(source))

    run = bench_secagg.aes_ctr(100, 3, 32)
    assert run.__closure__ is not None
    cells = dict(zip(run.__code__.co_freevars, run.__closure__, strict=True))
    cells["ciphers"].cell_contents[:] = [Counting()] * 3
    run()
    assert sum(calls) == 300


@pytest.mark.parametrize("n_vectors", [3, 5, 10, 16])
def test_quantisation_is_as_fine_as_promised(n_vectors: int) -> None:
    assert 1e-10 < bench_secagg.quantisation_rms(n_vectors, 20_000) < 2e-9


def test_an_entry_says_everything_and_the_sum_is_exact() -> None:
    entry = bench_secagg.measure(3000, 5)
    assert entry.keys() >= ENTRY
    assert entry["sum_is_exact"] is True
    assert 4 * 3000 < entry["upload_bytes"] <= 4 * 3000 + 512
    assert all(entry[name] > 0 for name in ENTRY)


def test_copies_stand_in_for_uploads_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_secagg, "DISTINCT_WORDS", 10)
    work = bench_secagg.Work.of(2000, 5)
    assert len({id(upload.words) for upload in work.uploads.values()}) == 1
    assert work.is_exact() is None
    bench_secagg.interleaved(work.server_tasks(), 1)


def test_a_handshake_serves_vectors_of_any_length() -> None:
    handshake = Handshake.of(4)
    assert set(handshake.revealed) == set(handshake.survivors) == set(handshake.roster[:-1])
    for length in (1, 10):
        assert len(handshake.upload(handshake.roster[0], np.arange(length)).words) == length


def test_a_simulation_loses_one_site_and_opens_the_sum_of_the_rest() -> None:
    found = simulate(5, 50, maximum_dropouts=1)
    assert found["sum_is_exact"] is True
    steps = {"ready", "cohort", "mask", "confirm", "unmask", "check"}
    assert set(found["cpu_seconds_per_site"]) == steps
    assert found["cohort_bytes"] > 5 * found["ready_bytes"] - 1000


def test_streaming_needs_no_memory_for_the_vector() -> None:
    found = streaming(16_000_000, streams=2)
    assert found["cpu_seconds"] > 0
    assert found["peak_growth_mib"] < 24  # the vector would be 122 as integers and 61 as words


Damage = Callable[[np.ndarray, list[tuple[int, bytes]], int], None]


def test_two_processes_give_the_words_of_one() -> None:
    found = two_processes(100_003, 3, repeats=1)
    assert found["words_are_the_same"] is True
    assert found["speedup_of_two"] > 0


def idle(words: np.ndarray, keys: list[tuple[int, bytes]], start: int) -> None:
    """Mask nothing."""


def idle_second(words: np.ndarray, keys: list[tuple[int, bytes]], start: int) -> None:
    if not start:
        apply_streams(words, keys, start)


def from_the_beginning(words: np.ndarray, keys: list[tuple[int, bytes]], start: int) -> None:
    """Use the same key stream in both halves."""
    apply_streams(words, keys, 0)


def only_adding(words: np.ndarray, keys: list[tuple[int, bytes]], start: int) -> None:
    apply_streams(words, [(1, key) for _, key in keys], start)


apply_streams = bench_cores._apply


@pytest.mark.parametrize("damage", [idle, idle_second, from_the_beginning, only_adding])
def test_two_processes_that_mask_otherwise_are_found_out(
    monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    monkeypatch.setattr(bench_cores, "_apply", damage)  # the second process is a fork of this one
    found = two_processes(100_003, 3, repeats=1)
    assert found["words_are_the_same"] is False
    (goal,) = goals([], {"sites": 3, "sum_is_exact": True}, [found])[1:]
    assert not goal.is_met


# --- the report -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_met", [True, False])
def test_the_list_is_written_and_a_missed_goal_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    is_met: bool,
) -> None:
    entry = bench_secagg.measure(500, 5) | {
        "mask_vs_aes_ctr": 0.7 if is_met else 0.5,
        "mask_vs_flwr": 8.0,
        "server_sum_vs_numpy_add": 1.0,
    }
    simulation = {"sites": 20, "sum_is_exact": True}
    monkeypatch.setattr(bench_secagg, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(bench_secagg, "measure", lambda _d, _streams: entry)
    monkeypatch.setattr(bench_secagg, "simulate", lambda *_a, **_o: simulation)
    both = {"d": 1, "words_are_the_same": True}
    monkeypatch.setattr(bench_secagg, "two_processes", lambda *_a, **_o: both)
    monkeypatch.setattr(bench_secagg, "quantisation_rms", lambda _n, _d: 1e-9)
    out = tmp_path / "new" / "secagg.json"
    assert bench_secagg.main(["--quick", "--out", str(out)]) == (0 if is_met else 1)
    assert ("MISSED" in capsys.readouterr().out) != is_met
    listed = [{name: entry[name] for name in ENTRY}] * 2
    assert json.loads(out.read_text()) == listed
    details = json.loads((tmp_path / "new" / "secagg_details.json").read_text())
    assert all(goal["met"] for goal in details["goals"]) == is_met
    assert details["measured"] == [entry, entry]
    assert [each["vs_aes_ctr"] for each in details["whole_update"]] == [
        entry["update_vs_aes_ctr"]
    ] * 2
    bench_secagg.main(["--quick", "--json", "--out", str(out)])
    assert json.loads(capsys.readouterr().out) == listed


def test_the_list_has_exactly_the_fields_that_were_promised() -> None:
    assert set(FIELDS) == ENTRY


@pytest.mark.parametrize(
    ("ratio", "times", "below"), [(0.6, 6.0, 0), (0.59, 6.0, 1), (0.5, 5.0, 2)]
)
def test_a_whole_update_slower_than_its_masks_may_be_is_said_to_be(
    ratio: float, times: float, below: int
) -> None:
    """The tag is no part of the goals, and no secret either."""
    line = update_line(
        {
            "d": 10,
            "streams": 5,
            "update_vs_aes_ctr": ratio,
            "hashed_update_vs_aes_ctr": 0.7,
            "update_vs_flwr": times,
        }
    )
    assert line.count("(below)") == below
