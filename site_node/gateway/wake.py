"""How do the executor and the site gateway wake each other without polling?

Both run on the same machine and one knows first what the other waits for: the gateway sees
that a message has arrived whole, the executor knows that its answer is ready. A datagram on
a Unix socket in the site's own folder says so. It carries a message id and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_MAX_DATAGRAM_BYTES = 512
_MAX_SUN_PATH_BYTES = 100  # Linux allows 107; a margin for the terminator


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Yield an address for ``path`` that fits a Unix socket's 108 bytes.

    A long directory is opened and named by its descriptor, so the depth of the
    installation folder does not matter.
    """
    if len(os.fsencode(path)) <= _MAX_SUN_PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def notify(path: Path, word: str) -> bool:
    """Wake the listener at ``path`` with one word.

    Returns:
        True if a listener took the word. False means nobody listens, and the
        caller must fall back to looking by itself.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
        try:
            with _address(path) as address:
                out.sendto(word.encode("ascii"), address)
        except OSError:
            return False
    return True


class WakeListener:
    """One end that is woken; a word carries a hint, never data that is trusted.

    A wrong or forged word makes the listener look once more, nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with _address(path) as address:
            self._socket.bind(address)
        path.chmod(0o600)

    def drain(self) -> list[str]:
        """Return the words that have arrived, without waiting."""
        words: list[str] = []
        while True:
            try:
                words.append(self._socket.recv(_MAX_DATAGRAM_BYTES).decode("ascii", "replace"))
            except OSError:
                return words

    def wait(self, timeout_seconds: float) -> list[str]:
        """Wait for at most ``timeout_seconds`` and return the words that came."""
        select.select([self._socket], [], [], max(0.0, timeout_seconds))
        return self.drain()

    def attach(self, loop: asyncio.AbstractEventLoop, heard: Callable[[str], None]) -> None:
        """Call ``heard`` in ``loop`` with every word from now on."""

        def on_readable() -> None:
            for word in self.drain():
                heard(word)

        loop.add_reader(self._socket.fileno(), on_readable)

    def detach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop calling back in ``loop``."""
        loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        """Close the socket and remove its name."""
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
