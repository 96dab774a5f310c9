"""What is handed to Flower as the app of a study's run?

A bundle without code. Flower insists on one; sites compare its SHA-256 with the approved plan
and never open it. Built by hand, uncompressed and with a fixed date, so that every machine
gets the same bytes; a test compares its files with those of flwr's own builder.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Final

_APP: Final = Path(__file__).parent / "app"
_FILES: Final = ("pyproject.toml", "LICENSE")
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def build_bundle() -> bytes:
    """Return the bundle's bytes, the same on every machine."""
    out = io.BytesIO()
    manifest: list[str] = []
    with zipfile.ZipFile(out, "w") as archive:
        for name in _FILES:
            content = (_APP / name).read_bytes()
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
            manifest.append(f"{name},{hashlib.sha256(content).hexdigest()},{len(content) * 8}")
        archive.writestr(zipfile.ZipInfo(".info/CONTENT", _DATE), "\n".join(manifest))
    return out.getvalue()


def bundle_sha256() -> str:
    """Return the SHA-256 (hex) of the bundle, as it stands in a plan."""
    return hashlib.sha256(build_bundle()).hexdigest()
