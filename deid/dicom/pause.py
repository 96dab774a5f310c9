"""Why does the garbage collector rest while one file is cleaned?

A file makes thousands of short-lived objects and hardly a cycle among them. The collector would
walk the whole heap, word lists and tables included, every few hundred objects: a tenth of all
time, for nothing. It is due again between two files.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the cyclic garbage collector off; on again afterwards if it was on before."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
