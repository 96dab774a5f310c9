"""Where do random bytes come from?  From outside: the caller injects them."""

from __future__ import annotations

from typing import Protocol


class Entropy(Protocol):
    """A source of random bytes; ``os.urandom`` in production.

    Anything that protects a person takes one of these as an argument and nothing else random.
    """

    def __call__(self, n_bytes: int, /) -> bytes:
        """Give ``n_bytes`` bytes that nobody can predict."""
        ...
