"""How does the output folder remember input files without naming them?

By keyed digests (HMAC-SHA-256, 160 bits): a list of all possible file names is of no use without
the hospital's key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from deid.batch.sources import Stamp


class Marks:
    """Give the keyed digests that stand for inputs.

    Args:
        secret: the hospital's secret.
        project: the project of the pseudonyms.
    """

    __slots__ = ("_key",)

    def __init__(self, secret: bytes, project: str) -> None:
        label = b"cohortium/v1/deid/state\x00" + project.encode("utf-8", "surrogateescape")
        self._key = hmac.new(secret, label, hashlib.sha256).digest()

    def __repr__(self) -> str:
        return "Marks(…)"

    def run(self) -> str:
        """Give the mark of the key and project."""
        return self._mark(b"run", b"")

    def path(self, relative: str) -> str:
        """Give the mark of an input's relative path."""
        return self._mark(b"path", os.fsencode(relative))

    def stamp(self, stamp: Stamp) -> str:
        """Give the mark of a size and times."""
        return self._mark(b"stamp", repr(stamp).encode("ascii"))

    def content(self, raw: bytes) -> str:
        """Give the mark of a file's bytes."""
        return self._mark(b"content", raw)

    def _mark(self, purpose: bytes, raw: bytes) -> str:
        mac = hmac.new(self._key, purpose + b"\x00", hashlib.sha256)
        mac.update(raw)
        return base64.b32encode(mac.digest()[:20]).decode("ascii")  # 160 bits: no padding
