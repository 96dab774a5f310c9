"""Does one process wake another, however deep the folder is?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator.gateway import wake as coordinators
from site_node.gateway import wake as sites


@pytest.mark.parametrize("wake", [sites, coordinators])
@pytest.mark.parametrize("depth", [1, 12])
def test_a_word_arrives(wake, depth: int, tmp_path: Path) -> None:
    path = tmp_path.joinpath(*["a-long-folder-name"] * depth) / "wake.sock"
    with wake.WakeListener(path) as listener:
        assert wake.notify(path, "ab12")
        assert wake.notify(path, "gone 7")
        assert listener.wait(5.0) == ["ab12", "gone 7"]
        assert listener.drain() == []
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


@pytest.mark.parametrize("wake", [sites, coordinators])
def test_without_a_listener_the_caller_is_told(wake, tmp_path: Path) -> None:
    assert not wake.notify(tmp_path / "nobody.sock", "x")
    left = tmp_path / "left.sock"
    listener = wake.WakeListener(left)
    listener._socket.close()  # as after a crash: the name stays, nobody listens
    assert not wake.notify(left, "x")
    with wake.WakeListener(left):
        assert wake.notify(left, "x")


@pytest.mark.parametrize("wake", [sites, coordinators])
def test_an_event_loop_hears_words(wake, tmp_path: Path) -> None:
    async def run() -> list[str]:
        heard: list[str] = []
        done = asyncio.Event()

        def on_word(word: str) -> None:
            heard.append(word)
            done.set()

        loop = asyncio.get_running_loop()
        with wake.WakeListener(tmp_path / "loop.sock") as listener:
            listener.attach(loop, on_word)
            wake.notify(tmp_path / "loop.sock", "requests")
            await asyncio.wait_for(done.wait(), 5)
            listener.detach(loop)
        return heard

    assert asyncio.run(run()) == ["requests"]
